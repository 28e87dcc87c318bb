"""Attention and transformer blocks against PyTorch with copied weights, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl

pytestmark = pytest.mark.torch
N, T, S, D, HEADS, V = 3, 5, 4, 8, 2, 11
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(module.float32)


def padding(lengths, size):
    return (np.arange(size) < np.array(lengths)[:, None]).astype(float)


def copy_attention(params, prefix, module, *, cross=False):
    """Ours into PyTorch's module; gives {our name: PyTorch's parameter and the rows of it}."""
    rows = {"Wqkv": slice(None)} if not cross else {"Wq": slice(0, D), "Wkv": slice(D, None)}
    pairs = {f"{prefix}.{n}": (module.in_proj_weight, r) for n, r in rows.items()}
    pairs |= {f"{prefix}.b{n[1:]}": (module.in_proj_bias, r) for n, r in rows.items()}
    pairs |= {
        f"{prefix}.Wo": (module.out_proj.weight, slice(None)),
        f"{prefix}.bo": (module.out_proj.bias, slice(None)),
    }
    return copied(params, pairs)


def copied(params, pairs):
    import torch

    with torch.no_grad():
        for name, (theirs, rows) in pairs.items():
            theirs[rows] = torch.tensor(params[name])
    return pairs


def copy_block(params, prefix, layer):
    pairs = copy_attention(params, f"{prefix}.attention", layer.self_attn)
    modules = {"norm1": layer.norm1, "norm2": layer.norm2, "mlp1": layer.linear1, "mlp2": layer.linear2}
    if hasattr(layer, "multihead_attn"):
        pairs |= copy_attention(params, f"{prefix}.cross", layer.multihead_attn, cross=True)
        modules["norm3"] = layer.norm3
    for part, module in modules.items():
        names = ("gamma", "beta") if part.startswith("norm") else ("W", "b")
        pairs |= {
            f"{prefix}.{part}.{n}": (p, slice(None)) for n, p in zip(names, (module.weight, module.bias), strict=True)
        }
    return copied(params, pairs)


def shaken(model):
    """Every parameter away from its start, so that biases and gammas count."""
    rng = np.random.default_rng(1)
    model.params = {n: p + 0.1 * rng.normal(size=p.shape) for n, p in model.params.items()}
    return model


def judge(model, X, y, pairs, output, *, rtol=1e-10):
    """Loss and gradients of the mean square against PyTorch's ``output``."""
    import torch

    loss = ((output - torch.tensor(y)) ** 2).mean()
    loss.backward()
    np.testing.assert_allclose(model.predict(X), output.detach().numpy(), rtol=rtol, atol=rtol)
    value, grads = bl.value_and_grad(model, X, y, loss="mse")
    assert value == pytest.approx(loss.item(), rel=rtol)
    for name, gradient in grads.items():
        theirs, rows = pairs[name]
        want = theirs.grad[rows].numpy()
        np.testing.assert_allclose(gradient, want, rtol=rtol, atol=rtol * np.abs(want).max(), err_msg=name)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_self_attention_is_pytorchs(torch, causal, masked):
    layer = bl.MultiHeadAttention(HEADS, causal)
    model = bl.Model(lambda x, m: layer(x, mask=m)) if masked else bl.Sequential(layer)
    model.build(((T, D), (T,)) if masked else (T, D), dtype="float64")
    theirs = torch.nn.MultiheadAttention(D, HEADS, batch_first=True)
    pairs = copy_attention(shaken(model).params, "attention1", theirs)
    x, y, mask = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, T, D)), padding([5, 2, 3], T)
    X = torch.tensor(x)
    hidden = ~torch.ones(T, T, dtype=torch.bool).tril() if causal else None
    output, weights = theirs(
        X, X, X, key_padding_mask=torch.tensor(mask == 0) if masked else None, attn_mask=hidden,
        average_attn_weights=False,
    )  # fmt: skip
    given = (x, mask) if masked else x
    judge(model, given, y, pairs, output)
    trace = bl.trace(model, given, y, loss="mse")
    np.testing.assert_allclose(trace["attention1.weights"], weights.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_attention_to_another_sequence_is_pytorchs(torch):
    layer, mask = bl.MultiHeadAttention(HEADS), padding([4, 1, 2], S)
    model = bl.Model(lambda x, memory, m: layer(x, memory, mask=m)).build(((T, D), (S, D), (S,)), dtype="float64")
    theirs = torch.nn.MultiheadAttention(D, HEADS, batch_first=True)
    pairs = copy_attention(shaken(model).params, "attention1", theirs, cross=True)
    x, memory, y = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, S, D)), RNG.normal(size=(N, T, D))
    M = torch.tensor(memory)
    output, _ = theirs(torch.tensor(x), M, M, key_padding_mask=torch.tensor(mask == 0))
    judge(model, (x, memory, mask), y, pairs, output)


def test_a_mask_for_each_query_is_pytorchs(torch):
    mask = np.array([[[1, 0, 1], [0, 1, 0], [1, 1, 1]]] * N, float)
    model = bl.Model(lambda x, m: bl.MultiHeadAttention(HEADS)(x, mask=m)).build(((3, D), (3, 3)), dtype="float64")
    theirs = torch.nn.MultiheadAttention(D, HEADS, batch_first=True)
    pairs = copy_attention(shaken(model).params, "attention1", theirs)
    x, y = RNG.normal(size=(N, 3, D)), RNG.normal(size=(N, 3, D))
    X = torch.tensor(x)
    output, _ = theirs(X, X, X, attn_mask=torch.tensor(mask == 0).repeat_interleave(HEADS, dim=0))
    judge(model, (x, mask), y, pairs, output)


@pytest.mark.parametrize("masked", [False, True])
def test_the_block_is_pytorchs_encoder_layer(torch, masked):
    block = bl.TransformerBlock(HEADS, mlp_ratio=3)
    model = bl.Model(lambda x, m: block(x, mask=m)) if masked else bl.Sequential(block)
    model.build(((T, D), (T,)) if masked else (T, D), dtype="float64")
    theirs = torch.nn.TransformerEncoderLayer(
        D, HEADS, 3 * D, dropout=0.0, activation="gelu", norm_first=True, batch_first=True
    )
    pairs = copy_block(shaken(model).params, "block1", theirs)
    x, y, mask = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, T, D)), padding([5, 2, 3], T)
    output = theirs(torch.tensor(x), src_key_padding_mask=torch.tensor(mask == 0) if masked else None)
    judge(model, (x, mask) if masked else x, y, pairs, output)


def test_the_decoder_block_is_pytorchs_decoder_layer(torch):
    block, mask, memory_mask = bl.TransformerDecoderBlock(HEADS), padding([5, 2, 3], T), padding([4, 1, 2], S)
    model = bl.Model(lambda x, memory, m, mm: block(x, memory, mask=m, memory_mask=mm))
    model.build(((T, D), (S, D), (T,), (S,)), dtype="float64")
    theirs = torch.nn.TransformerDecoderLayer(
        D, HEADS, 4 * D, dropout=0.0, activation="gelu", norm_first=True, batch_first=True
    )
    pairs = copy_block(shaken(model).params, "decoder1", theirs)
    x, memory, y = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, S, D)), RNG.normal(size=(N, T, D))
    output = theirs(
        torch.tensor(x), torch.tensor(memory), tgt_mask=~torch.ones(T, T, dtype=torch.bool).tril(),
        tgt_key_padding_mask=torch.tensor(mask == 0), memory_key_padding_mask=torch.tensor(memory_mask == 0),
    )  # fmt: skip
    judge(model, (x, memory, mask, memory_mask), y, pairs, output)


def test_gradients_through_eight_blocks_are_pytorchs(torch):
    """Token ids to logits, the loss averaged over all positions that are not ignored."""
    layers = [
        bl.Embedding(V, D),
        bl.PositionalEmbedding(T),
        *(bl.TransformerBlock(HEADS, causal=True) for _ in range(8)),
    ]
    model = shaken(bl.Sequential(*layers, bl.LayerNorm(), bl.Dense(V)).build((T,), dtype="float64"))
    blocks = [
        torch.nn.TransformerEncoderLayer(
            D, HEADS, 4 * D, dropout=0.0, activation="gelu", norm_first=True, batch_first=True
        )
        for _ in range(8)
    ]
    table, norm, head = torch.nn.Embedding(V, D), torch.nn.LayerNorm(D), torch.nn.Linear(D, V)
    places = torch.nn.Parameter(torch.zeros(T, D))
    theirs = {"embedding1.E": table.weight, "positions1.P": places, "dense1.W": head.weight, "dense1.b": head.bias}
    theirs |= {"layernorm1.gamma": norm.weight, "layernorm1.beta": norm.bias}
    pairs = copied(model.params, {name: (parameter, slice(None)) for name, parameter in theirs.items()})
    for i, block in enumerate(blocks, start=1):
        pairs |= copy_block(model.params, f"block{i}", block)
    ids, labels = RNG.integers(0, V, (N, T)), RNG.integers(0, V, (N, T))
    labels[0, 3:] = -1
    h = table(torch.tensor(ids)) + places
    for block in blocks:
        h = block(h, src_mask=~torch.ones(T, T, dtype=torch.bool).tril())
    logits = head(norm(h))
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.tensor(labels).reshape(-1), ignore_index=-1)
    loss.backward()
    value, grads = bl.value_and_grad(model, ids, labels, loss=bl.SoftmaxCrossEntropy(ignore=-1))
    assert value == pytest.approx(loss.item(), rel=1e-12)
    assert grads.keys() == pairs.keys()
    for name, gradient in grads.items():
        want = pairs[name][0].grad[pairs[name][1]].numpy()
        np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-9 * np.abs(want).max(), err_msg=name)


def test_a_tied_table_gets_the_gradients_of_both_uses(torch):
    def tied(ids):
        table = bl.Embedding(V, D)
        return table.logits(bl.Dense(D, "tanh")(table(ids)))

    model = bl.Model(tied).build((T,), dtype="float64")
    assert list(model.params) == ["embedding1.E", "dense1.W", "dense1.b"]
    ids, labels = RNG.integers(0, V, (N, T)), RNG.integers(0, V, (N, T))
    E, W, b = (torch.tensor(p, requires_grad=True) for p in model.params.values())
    logits = torch.nn.functional.linear(torch.tanh(torch.nn.functional.linear(E[torch.tensor(ids)], W, b)), E)
    torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.tensor(labels).reshape(-1)).backward()
    _, grads = bl.value_and_grad(model, ids, labels, loss="softmax_cross_entropy")
    for name, theirs in zip(grads, (E, W, b), strict=True):
        np.testing.assert_allclose(grads[name], theirs.grad.numpy(), rtol=1e-10, atol=1e-13, err_msg=name)
