"""Models of sequences: every layer by kernels, loss and gradients as the interpreter has them."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit import optim
from backlit.engines import reference
from backlit.graph import functions
from backlit.nn import losses

pytest.importorskip("numba")

from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors


def padded(layer):
    """A model of sequences that token 0 pads at the end."""

    def stage(x):
        return bl.Dense(11)(layer(bl.Embedding(11, 7)(x), functions.apply("not_equal", x, 0)))

    return lambda _: bl.Model(stage)


def begun(x):
    """A decoder that begins with what an encoder has come to."""
    e = bl.Embedding(11, 7)(x)
    return bl.Dense(11)(bl.LSTM(5)(e, state=(bl.GRU(5, return_sequences=False)(e), bl.Dense(5)(e[:, 0]))))


def gated(x):
    """Products, quotients, means and maxima over axes, as people write them down."""
    h = bl.Dense(9)(bl.Embedding(11, 7)(x))
    centred = h - h.mean(axis=-1, keepdims=True)
    gate = bl.Dense(9, "sigmoid")(h.mean(axis=1))
    top = functions.apply("max", h, axis=1, keepdims=True)
    return bl.Dense(11)(centred / (1.0 + centred * centred) * functions.reshape(gate, (gate.shape[0], 1, 9)) + top)


MODELS = {
    "lstm": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.LSTM(9), bl.Dense(11)),
    "gru": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.GRU(9), bl.Dense(11)),
    "rnn": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.RNN(9), bl.Dense(11)),
    "rnn, relu": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.RNN(9, activation="relu"), bl.Dense(11)),
    "two gru": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.GRU(5), bl.GRU(6), bl.Dense(11)),
    "attention": lambda _: bl.Sequential(bl.Embedding(11, 8), bl.MultiHeadAttention(2), bl.Dense(11)),
    "causal": lambda _: bl.Sequential(bl.Embedding(11, 8), bl.MultiHeadAttention(2, causal=True), bl.Dense(11)),
    "both directions": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.LSTM(5, bidirectional=True), bl.Dense(11)),
    "two layers in both directions": lambda _: bl.Sequential(
        bl.Embedding(11, 7), bl.GRU(4, layers=2, bidirectional=True), bl.Dense(11)
    ),
    "in stretches": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.LSTM(5, truncate=4), bl.Dense(11)),
    "padded lstm": padded(bl.LSTM(5, bidirectional=True)),
    "padded gru": padded(bl.GRU(5)),
    "padded rnn": padded(bl.RNN(5)),
    "begun": lambda _: bl.Model(begun),
    "gated": lambda _: bl.Model(gated),
    "root mean squares": lambda _: bl.Sequential(bl.Embedding(11, 7), bl.Dense(8, "gelu"), bl.RMSNorm(), bl.Dense(11)),
    "convolved": lambda _: bl.Sequential(bl.Embedding(11, 6), bl.Conv1D(6, 3, groups=3), bl.GroupNorm(2), bl.Dense(11)),
    "blocks": lambda steps: bl.Sequential(
        bl.Embedding(11, 8),
        bl.PositionalEmbedding(steps),
        *[bl.TransformerBlock(2, causal=True) for _ in range(2)],
        bl.LayerNorm(),
        bl.Dense(11),
    ),
}
SIZES = [(3, 5), (1, 1), (9, 40)]
"""(sequences, steps): the last with more rows than a small product has."""


def step(model, x, y, dtype, threads):
    """(program, its loss, its gradients, the interpreter's loss and gradients) of one step."""
    model.build(x.shape[1:], seed=1, dtype=dtype)
    loss = losses.get("softmax_cross_entropy")
    graph = model.graph(((x.shape, x.dtype.name),), training=True, loss=loss, target=(y.shape, y.dtype.name))
    vectors, data = Vectors.of(graph, optim.SGD(1.0), dtype), {"x": x, "y": y}
    vectors.load(model.params, model.state, {n: {} for n in graph.trainable})
    program = Program(graph, optim.SGD(1.0), None, vectors, threads=threads)
    leaves = reference.leaves(graph, dict(model.params) | dict(model.state) | data)
    values, want = reference.value_and_grad(graph, leaves, graph.trainable)
    found = program.run(data, np.arange(len(x)), np.zeros(1), 1).losses[0]
    gradients = {n: vectors.views[f"d {n}"] for n in graph.trainable}
    return program, (found, gradients), (float(values[graph.outputs[0]]), want)


def test_whole_numbers_that_a_node_makes():
    """They lie among numbers of the model's kind; what reads them is done by its rule."""
    model = bl.Model(lambda x: bl.Dense(11)(bl.Embedding(11, 7)(x[:, ::-1])))
    x, y = np.random.default_rng(5).integers(0, 11, (2, 3, 5))
    program, (loss, _), (want, _) = step(model, x, y, "float32", 1)
    assert loss == pytest.approx(want, rel=1e-5)
    assert {name.split("_")[0] for name in program.low.closures} == {"embedding1"}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize(("sequences", "steps"), SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_the_interpreters(name, sequences, steps, dtype, tolerance, threads):
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 11, (2, sequences, steps))
    x[:, 0] = np.maximum(x[:, 0], 1)
    x[::2, steps // 2 + 1 :] = 0
    program, (loss, gradients), (want_loss, want) = step(MODELS[name](steps), x, y, dtype, threads)
    assert not program.low.closures, "every line is a kernel's"
    assert loss == pytest.approx(want_loss, rel=tolerance)
    for parameter, gradient in gradients.items():
        scale = float(np.abs(want[parameter]).max())
        np.testing.assert_allclose(gradient, want[parameter], rtol=0, atol=tolerance * scale, err_msg=parameter)


def moved_ids(ids):
    """Token ids that come out of nodes: sliced and turned round."""
    table = bl.Embedding(11, 7)
    return bl.Dense(11)(table(ids[:, 1:]) + table(ids[:, :-1][:, ::-1]) + bl.Embedding(11, 7)(ids[:, :1]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whole_numbers_that_nodes_make_stay_whole(dtype):
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 11, (4, 6)), rng.integers(0, 11, (4, 5))
    program, (loss, gradients), (want_loss, want) = step(bl.Model(moved_ids), x, y, dtype, 2)
    assert program.whole
    assert {a.dtype.name for a in program.whole.values()} == {"int64"}
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    assert loss == pytest.approx(want_loss, rel=tolerance)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, want[name], atol=tolerance * np.abs(want[name]).max(), err_msg=name)
