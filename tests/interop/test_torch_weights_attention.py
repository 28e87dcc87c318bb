"""Weights of PyTorch's attention and transformer layers: the same outputs and gradients, and training goes on."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError

load = bl.interop.from_torch_state_dict
N, T, S, D, HEADS, V = 3, 5, 4, 8, 2, 11
RNG = np.random.default_rng(3)


def state(**shapes):
    return {name.replace("__", "."): RNG.normal(size=shape) for name, shape in shapes.items()}


ATTENTION = state(a__in_proj_weight=(3 * D, D), a__in_proj_bias=3 * D, a__out_proj__weight=(D, D), a__out_proj__bias=D)


def test_the_projection_of_self_attention_is_taken_as_it_is():
    model = load(bl.Sequential(bl.MultiHeadAttention(HEADS)).build((T, D), dtype="float64"), ATTENTION)
    assert model.params["attention1.Wqkv"].tolist() == ATTENTION["a.in_proj_weight"].tolist()
    assert model.params["attention1.bo"].tolist() == ATTENTION["a.out_proj.bias"].tolist()


def test_attention_to_another_sequence_shares_it_out():
    model = load(bl.Model(bl.MultiHeadAttention(HEADS)).build(((T, D), (S, D)), dtype="float64"), ATTENTION)
    assert model.params["attention1.Wq"].tolist() == ATTENTION["a.in_proj_weight"][:D].tolist()
    assert model.params["attention1.Wkv"].tolist() == ATTENTION["a.in_proj_weight"][D:].tolist()
    assert model.params["attention1.bkv"].tolist() == ATTENTION["a.in_proj_bias"][D:].tolist()


def test_keys_of_another_width_have_projections_of_their_own():
    given = state(a__q_proj_weight=(D, D), a__k_proj_weight=(D, 6), a__v_proj_weight=(D, 6), a__out_proj__weight=(D, D))
    layer = bl.MultiHeadAttention(HEADS, bias=False)
    model = load(bl.Model(layer).build(((T, D), (S, 6)), dtype="float64"), given)
    np.testing.assert_array_equal(model.params["attention1.Wkv"][:D], given["a.k_proj_weight"])
    np.testing.assert_array_equal(model.params["attention1.Wkv"][D:], given["a.v_proj_weight"])


def test_a_block_of_another_width_is_refused():
    with pytest.raises(InputError, match="attention1"):
        load(bl.Sequential(bl.MultiHeadAttention(HEADS)).build((T, 2 * D)), ATTENTION)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def theirs_and_ours(torch):
    """A small GPT, in PyTorch and here, with PyTorch's weights."""

    class GPT(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = torch.nn.Embedding(V, D), torch.nn.Embedding(T, D)
            options = {"dropout": 0.0, "activation": "gelu", "norm_first": True, "batch_first": True}
            self.blocks = torch.nn.ModuleList(
                torch.nn.TransformerEncoderLayer(D, HEADS, 4 * D, **options) for _ in range(2)
            )
            self.norm, self.head = torch.nn.LayerNorm(D), torch.nn.Linear(D, V)

        def forward(self, ids):
            hidden = ~torch.ones(T, T, dtype=torch.bool).tril()
            h = self.tokens(ids) + self.positions(torch.arange(T))
            for block in self.blocks:
                h = block(h, src_mask=hidden)
            return self.head(self.norm(h))

    torch.manual_seed(0)
    blocks = [bl.TransformerBlock(HEADS, causal=True) for _ in range(2)]
    ours = bl.Sequential(bl.Embedding(V, D), bl.PositionalEmbedding(T), *blocks, bl.LayerNorm(), bl.Dense(V))
    theirs = GPT()
    return theirs, load(ours.build((T,)), theirs.state_dict())


@pytest.mark.torch
def test_a_small_gpt_gives_the_same_outputs_and_gradients(torch):
    theirs, ours = theirs_and_ours(torch)
    ids, labels = RNG.integers(0, V, (N, T)), RNG.integers(0, V, (N, T))
    logits = theirs(torch.tensor(ids))
    np.testing.assert_allclose(ours.predict(ids), logits.detach().numpy(), atol=1e-6, rtol=1e-5)
    torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.tensor(labels).reshape(-1)).backward()
    _, grads = bl.value_and_grad(ours, ids, labels, loss="softmax_cross_entropy")
    wanted = [p.grad.numpy() for n, p in theirs.named_parameters() if n in ("tokens.weight", "positions.weight")]
    for name, want in zip(("embedding1.E", "positions1.P"), wanted, strict=True):
        np.testing.assert_allclose(grads[name], want, atol=1e-6, rtol=1e-4)
    first = theirs.blocks[0].self_attn.in_proj_weight.grad.numpy()
    np.testing.assert_allclose(grads["block1.attention.Wqkv"], first, atol=1e-6, rtol=1e-4)


@pytest.mark.torch
def test_it_trains_on(torch):
    _, ours = theirs_and_ours(torch)
    ids = RNG.integers(0, V, (20, T))
    options = {"loss": "softmax_cross_entropy", "optimizer": bl.Adam(1e-2), "engine": "reference", "progress": False}
    run = bl.fit(ours, (ids, ids), epochs=5, batch_size=5, **options)
    assert run.history["loss"][-1] < 0.8 * run.history["loss"][0]


@pytest.mark.torch
def test_a_decoder_layer_gives_the_same_outputs(torch):
    theirs = torch.nn.TransformerDecoderLayer(
        D, HEADS, 4 * D, dropout=0.0, activation="gelu", norm_first=True, batch_first=True
    )
    ours = bl.Model(bl.TransformerDecoderBlock(HEADS)).build(((T, D), (S, D)))
    load(ours, theirs.state_dict())
    x, memory = (RNG.normal(size=(N, k, D)).astype("float32") for k in (T, S))
    hidden = ~torch.ones(T, T, dtype=torch.bool).tril()
    want = theirs(torch.tensor(x), torch.tensor(memory), tgt_mask=hidden).detach().numpy()
    np.testing.assert_allclose(ours.predict((x, memory)), want, atol=1e-6, rtol=1e-5)
