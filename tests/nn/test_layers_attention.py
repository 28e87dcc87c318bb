"""Embeddings, positions, attention and blocks: shapes, names, options, what they refuse, what they learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.engines import reference

RNG = np.random.default_rng(3)
N, T, D, V = 4, 6, 8, 11
IDS = RNG.integers(0, V, (N, T))


def sequence_model(*layers, causal=True):
    made = layers or (bl.TransformerBlock(2, causal=causal),)
    return bl.Sequential(bl.Embedding(V, D), bl.PositionalEmbedding(T), *made, bl.Dense(V))


# --- ids stay integers ----------------------------------------------------------------------------------------------


def test_an_embedding_takes_rows_of_its_table():
    model = bl.Sequential(bl.Embedding(V, D)).build((T,))
    E = model.params["embedding1.E"]
    assert E.shape == (V, D)
    assert model.predict(IDS).tolist() == [[E[i].tolist() for i in row] for row in IDS]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, bool])
def test_ids_of_any_integer_type_are_kept_as_integers(kind):
    model = bl.Sequential(bl.Embedding(V, D)).build((T,))
    given = model.arrays(IDS.astype(kind))[0]
    assert model.dtypes == ("int64",)
    assert given.dtype == np.int64
    assert np.array_equal(given, IDS.astype(kind))
    assert given.dtype == next(iter(model.graph(model.batch_of(3)).values.values())).dtype


def test_only_inputs_that_are_looked_up_are_integers():
    model = bl.Model(lambda ids, x: bl.Concatenate()(bl.Embedding(V, D)(ids[:, 1:]), x))
    model.build(((T,), (T - 1, 2)))
    assert model.dtypes == ("int64", "float32")
    assert [a.dtype.name for a in model.arrays((IDS, np.ones((N, T - 1, 2), int)))] == ["int64", "float32"]


def test_a_large_id_is_not_rounded():
    """2²⁴ + 1 has no float32: were ids cast on the way, the row before would be taken."""
    ids = np.array([[2**24 + 1]])
    model = bl.Sequential(bl.Embedding(2**24 + 2, 1, init=0.0)).build((1,))
    model.params["embedding1.E"][2**24 + 1] = 5.0
    assert model.predict(ids).item() == 5.0


def test_floats_are_no_ids():
    with pytest.raises(InputError, match="BL171"):
        sequence_model().build((T,)).predict(IDS + 0.0)


@pytest.mark.parametrize(("bad", "shown"), [(V, "= 11"), (-1, "= -1")])
def test_an_id_out_of_range_is_refused_by_place(bad, shown):
    model, ids = sequence_model().build((T,)), IDS.copy()
    ids[2, 3] = bad
    for use in (model.predict, lambda X: bl.value_and_grad(model, X, IDS, loss="softmax_cross_entropy")):
        with pytest.raises(InputError, match="BL170") as caught:
            use(ids)
        assert f"indices[2, 3] {shown}" in str(caught.value)
        assert "embedding1.a" in str(caught.value)


def test_ids_that_a_model_computes_are_judged_too():
    model = bl.Model(lambda ids: bl.Embedding(V, D)(bl.ops.concatenate(ids[:, 1:], ids[:, :1], axis=1))).build((T,))
    with pytest.raises(InputError, match="BL170"):
        model.predict(np.full((1, T), V))


def test_an_array_function_refuses_what_a_model_refuses():
    with pytest.raises(InputError, match="BL170"):
        bl.ops.embedding(np.array([3]), np.ones((3, 2)))


def test_rows_that_were_not_taken_have_no_gradient():
    model = sequence_model().build((T,))
    _, grads = bl.value_and_grad(model, IDS, IDS, loss="softmax_cross_entropy")
    taken = np.isin(np.arange(V), IDS)
    assert np.array_equal(grads["embedding1.E"].any(axis=1), taken)
    assert not taken.all()


# --- positions ------------------------------------------------------------------------------------------------------


def test_a_shorter_sequence_uses_the_first_positions():
    model = bl.Sequential(bl.PositionalEmbedding(T)).build((3, D))
    x = RNG.normal(size=(N, 3, D)).astype("float32")
    np.testing.assert_array_equal(model.predict(x), x + model.params["positions1.P"][:3])


def test_a_sequence_longer_than_the_table_is_refused():
    with pytest.raises(InputError, match="BL330") as caught:
        bl.Sequential(bl.PositionalEmbedding(4)).build((5, D))
    assert "T ≤ 4" in str(caught.value)
    assert "positions1" in str(caught.value)


@pytest.mark.parametrize(
    "layer", [bl.PositionalEmbedding(4), bl.SinusoidalPositions(), bl.MultiHeadAttention(2)], ids=repr
)
def test_a_row_of_features_is_no_sequence(layer):
    with pytest.raises(InputError, match="BL331"):
        bl.Sequential(layer).build((D,))


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_sinusoidal_positions_by_the_formula(width):
    model = bl.Sequential(bl.SinusoidalPositions()).build((T, width), dtype="float64")
    found = model.predict(np.zeros((1, T, width)))[0]
    for t in range(T):
        for c in range(width):
            angle = t / 10000.0 ** (2 * (c // 2) / width)
            assert found[t, c] == pytest.approx(math.cos(angle) if c % 2 else math.sin(angle), abs=1e-15)
    assert not model.params


# --- attention ------------------------------------------------------------------------------------------------------


def test_parameters_are_named_by_their_part():
    model = bl.Sequential(bl.TransformerBlock(2), bl.TransformerBlock(2)).build((T, D))
    parts = ["norm1.gamma", "norm1.beta", "attention.Wqkv", "attention.bqkv", "attention.Wo", "attention.bo",
             "norm2.gamma", "norm2.beta", "mlp1.W", "mlp1.b", "mlp2.W", "mlp2.b"]  # fmt: skip
    assert list(model.params) == [f"block{i}.{part}" for i in (1, 2) for part in parts]
    assert model.params["block1.attention.Wqkv"].shape == (3 * D, D)
    assert model.params["block1.mlp1.W"].shape == (4 * D, D)


def test_a_part_of_a_block_can_be_frozen():
    model = bl.Sequential(bl.TransformerBlock(2)).build((T, D)).freeze("block1.attention")
    assert model.frozen == tuple(n for n in model.params if ".attention." in n)
    assert model.unfreeze("block1").frozen == ()


def test_a_block_used_twice_shares_its_parameters():
    block = bl.TransformerBlock(2)
    model = bl.Sequential(block, block).build((T, D))
    assert {n.split(".")[0] for n in model.params} == {"block1"}
    trace = bl.trace(model, np.ones((1, T, D)), np.ones((1, T, D)), loss="mse")
    assert {"block1.attention.a", "block1@2.attention.a"} <= set(trace)


def test_without_biases():
    model = bl.Sequential(bl.MultiHeadAttention(2, bias=False)).build((T, D))
    assert list(model.params) == ["attention1.Wqkv", "attention1.Wo"]


def test_weights_are_a_distribution_over_what_may_be_seen():
    model = sequence_model().build((T,))
    trace = bl.trace(model, IDS, IDS, loss="softmax_cross_entropy")
    weights = trace["block1.attention.weights"]
    assert weights.shape == (N, 2, T, T)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-6)
    assert not np.triu(weights, k=1).any()


def test_the_future_changes_nothing_in_a_causal_model():
    model, later = sequence_model().build((T,)), IDS.copy()
    later[:, 4:] = (later[:, 4:] + 1) % V
    before, after = model.predict(IDS), model.predict(later)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any()


def test_what_is_hidden_changes_nothing():
    model = bl.Model(lambda x, mask: bl.TransformerBlock(2)(x, mask=mask)).build(((T, D), (T,)))
    x, mask = RNG.normal(size=(1, T, D)), np.ones((1, T))
    mask[0, 4:] = 0
    other = x.copy()
    other[0, 4:] = 100.0
    np.testing.assert_array_equal(model.predict((x, mask))[:, :4], model.predict((other, mask))[:, :4])


def test_attention_does_not_care_for_the_order_of_what_it_sees():
    model = bl.Model(bl.MultiHeadAttention(2)).build(((T, D), (5, D)), dtype="float64")
    x, memory = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, 5, D))
    turned = memory[:, [3, 0, 4, 1, 2]]
    np.testing.assert_allclose(model.predict((x, memory)), model.predict((x, turned)), rtol=1e-12)


@pytest.mark.parametrize("heads", [3, 16])
def test_heads_share_the_width_equally(heads):
    with pytest.raises(InputError, match="BL172") as caught:
        bl.Sequential(bl.TransformerBlock(heads)).build((T, D))
    assert "block1.attention.a" in str(caught.value)
    assert str(D) in str(caught.value)


@pytest.mark.parametrize("make", [lambda: bl.MultiHeadAttention(0), lambda: bl.TransformerBlock(2, mlp_ratio=0),
                                  lambda: bl.TransformerBlock(2, dropout=1.0), lambda: bl.Embedding(0, 3),
                                  lambda: bl.PositionalEmbedding(-1), lambda: bl.SinusoidalPositions(0.5)])  # fmt: skip
def test_options_out_of_range(make):
    with pytest.raises(InputError, match="BL303"):
        make()


MASKED = bl.Model(lambda x, mask: bl.MultiHeadAttention(2)(x, mask=mask))


@pytest.mark.parametrize("use", ["predict", "gradients", "fit"])
def test_a_mask_that_hides_everything_is_refused(use):
    model = MASKED.build(((T, D), (T,)))
    x, mask = np.ones((N, T, D)), np.ones((N, T))
    mask[2] = 0
    uses = {
        "predict": lambda: model.predict((x, mask)),
        "gradients": lambda: bl.value_and_grad(model, (x, mask), x, loss="mse"),
        "fit": lambda: bl.fit(model, ((x, mask), x), loss="mse", epochs=1, progress=False),
    }
    with pytest.raises(InputError, match="BL175") as caught:
        uses[use]()
    assert "mask[2]" in str(caught.value)


def test_a_mask_that_is_computed_from_ids_is_judged_too():
    def model(ids):
        return bl.TransformerBlock(2)(bl.Embedding(V, D)(ids), mask=ids != 0)

    built, ids = bl.Model(model).build((T,)), IDS.copy()
    ids[:, 0] = 1
    assert np.isfinite(built.predict(ids)).all()
    ids[1] = 0
    with pytest.raises(InputError, match="BL175"):
        built.predict(ids)


def test_padding_on_the_left_of_a_causal_sequence_is_no_nan():
    """The first query sees only itself, which is padding: its output is the projection's bias, and all is finite."""
    model = bl.Model(lambda x, mask: bl.MultiHeadAttention(2, causal=True)(x, mask=mask)).build(((T, D), (T,)))
    x, mask = RNG.normal(size=(N, T, D)), np.ones((N, T))
    mask[:, 0] = 0
    trace = bl.trace(model, (x, mask), x, loss="mse")
    assert not trace["attention1.weights"][:, :, 0].any()
    assert all(np.isfinite(g).all() for g in trace.grads.values())


def test_a_mask_of_another_shape():
    with pytest.raises(InputError, match="BL174"):
        bl.Model(lambda x, mask: bl.MultiHeadAttention(2)(x, mask=mask)).build(((T, D), (T + 1,)))


def test_causal_attention_to_another_sequence():
    with pytest.raises(InputError, match="BL173"):
        bl.Model(bl.MultiHeadAttention(2, causal=True)).build(((T, D), (T + 1, D)))


@pytest.mark.parametrize(
    "layer", [bl.MultiHeadAttention(2), bl.TransformerBlock(2), bl.TransformerDecoderBlock(2)], ids=repr
)
def test_the_number_of_inputs(layer):
    with pytest.raises(InputError, match="BL314"):
        bl.Model(lambda x: layer(x, x, x)).build((T, D))


def test_a_decoder_needs_something_to_look_at():
    with pytest.raises(InputError, match="BL314"):
        bl.Sequential(bl.TransformerDecoderBlock(2)).build((T, D))


def test_a_decoder_sees_no_future_but_all_of_memory():
    model = bl.Model(bl.TransformerDecoderBlock(2)).build(((T, D), (5, 3)))
    x, memory = RNG.normal(size=(1, T, D)), RNG.normal(size=(1, 5, 3))
    later, other = x.copy(), memory.copy()
    later[:, -1] += 1.0
    other[:, -1] += 1.0
    base = model.predict((x, memory))
    np.testing.assert_array_equal(base[:, :-1], model.predict((later, memory))[:, :-1])
    assert (base[:, 0] != model.predict((x, other))[:, 0]).any()
    assert model.params["decoder1.cross.Wkv"].shape == (2 * D, 3)


def test_dropout_is_in_training_only():
    model = bl.Sequential(bl.TransformerBlock(2, dropout=0.5)).build((T, D))
    shapes = (((N, T, D), "float32"),)
    assert set(model.graph(shapes, training=True).masks) == {"block1.dropout1.mask", "block1.dropout2.mask"}
    assert not model.graph(shapes).masks


def test_the_block_is_the_composition_of_its_parts():
    """By the plain layers, with the block's parameters under their names."""

    def composed(x):
        h = x + bl.MultiHeadAttention(2, name="attention")(bl.LayerNorm(name="norm1")(x))
        hidden = bl.Dense(4 * D, "gelu", name="mlp1")(bl.LayerNorm(name="norm2")(h))
        return h + bl.Dense(D, name="mlp2")(hidden)

    block, plain = bl.Sequential(bl.TransformerBlock(2)).build((T, D)), bl.Model(composed).build((T, D))
    plain.params = {n: block.params[f"block1.{n}"] for n in plain.params}
    x = RNG.normal(size=(N, T, D))
    np.testing.assert_array_equal(block.predict(x), plain.predict(x))


def test_saved_and_loaded(tmp_path):
    model = sequence_model(bl.SinusoidalPositions(), bl.TransformerBlock(2, 3, causal=True, dropout=0.1)).build((T,))
    found = bl.load(bl.save(model, tmp_path / "m.safetensors"))
    assert repr(found) == repr(model)
    np.testing.assert_array_equal(found.predict(IDS), model.predict(IDS))


def test_only_what_constants_come_from_is_computed_to_judge_them(monkeypatch):
    model, calls = sequence_model().build((T,)), []
    graph = model.graph(((IDS.shape, "int64"),))
    env = reference.leaves(graph, {"x": IDS} | model.params)
    monkeypatch.setattr(reference, "forward", lambda g, e: calls.append(g.nodes) or dict(e))
    reference.require(graph, env)
    assert calls == [()]


# --- explanations ---------------------------------------------------------------------------------------------------


def traced():
    model = sequence_model().build((T,))
    return bl.trace(model, IDS, IDS, loss="softmax_cross_entropy")


def test_attention_is_explained_by_its_weights():
    trace = traced()
    receipt = trace.explain("block1.attention.a[0,3,5]")
    assert receipt.value == trace["block1.attention.a"][0, 3, 5]
    assert receipt.ok
    weights, v = trace["block1.attention.weights"], trace["block1.attention.v"]
    shown = {str(t.operands[0][0]): t.value for t in receipt.terms}
    for s in range(T):  # column 5 belongs to the second head
        want = float(weights[0, 1, 3, s]) * float(v[0, s, 5])
        assert shown[f"block1.attention.weights[0,1,3,{s}]"] == pytest.approx(want, rel=1e-12)


def test_an_embeddings_gradient_names_the_places_of_its_token():
    trace = traced()
    token = int(IDS[1, 2])
    receipt = trace.explain(f"embedding1.E[{token},5]")
    places = {str(t.operands[0][0]) for t in receipt.terms}
    assert places == {f"∂embedding1.a[{n},{t},5]" for n, t in np.argwhere(token == IDS)}
    assert receipt.value == trace.grad("embedding1.E")[token, 5]


ENTRIES = "∂block1.attention.q[0,3,5] ∂block1.attention.k[1,2,0] ∂block1.attention.v[2,0,7] positions1.P[2,1]"
ENTRIES += " block1.attention.weights[0,1,3,2] block1.attention.Wqkv[3,5] block1.norm1.mean[2,3]"


@pytest.mark.parametrize("entry", ENTRIES.split())
def test_every_step_through_attention_has_a_receipt(entry):
    receipt = traced().explain(entry)
    assert receipt.ok
    assert math.fsum(t.value for t in receipt.terms) == pytest.approx(float(receipt.value), rel=1e-4, abs=1e-9)


def test_a_transformer_has_a_certificate():
    model = sequence_model().build((T,))
    assert bl.check(model, IDS[:2], IDS[:2], loss="softmax_cross_entropy").ok


def test_a_transformer_has_a_derivation_and_a_cost():
    model = sequence_model().build((T,))
    assert "attention" in str(bl.derive(model))
    assert bl.cost(model, batch_size=2)
