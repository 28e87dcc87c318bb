"""Sequences of whole numbers in training: ids stay integers, positions that are ignored do not count, runs repeat."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.nn import losses
from backlit.train.inputs import samples_of

N, T, V = 24, 6, 7
IDS = np.random.default_rng(0).integers(1, V, (N, T))
IGNORE = bl.SoftmaxCrossEntropy(ignore=0)


def model(**options):
    return bl.Sequential(
        bl.Embedding(V, 8), bl.PositionalEmbedding(T), bl.TransformerBlock(2, 2, **options), bl.LayerNorm(), bl.Dense(V)
    )


def fit(made=None, data=(IDS, IDS), **changes):
    options = {"loss": "softmax_cross_entropy", "optimizer": bl.Adam(1e-2), "epochs": 2, "batch_size": 5, "seed": 1}
    return bl.fit(made or model(), data, **options | {"engine": "reference", "progress": False} | changes)


def test_ids_reach_the_graph_as_integers():
    made = model()
    found = samples_of(made, (IDS, IDS), losses.get("softmax_cross_entropy"), "train")
    assert [a.dtype.name for a in found.inputs] == ["int64"]
    assert np.array_equal(found.inputs[0], IDS)
    graph = found.graph(made, losses.get("softmax_cross_entropy"), training=True)
    assert graph.values["x"].dtype == "int64"
    assert graph.values["embedding1.a"].dtype == "float32"


def test_a_small_transformer_learns_to_look_back():
    """The next symbol is the one two places before: only attention to the right place can tell."""
    rng = np.random.default_rng(1)
    ids = np.tile(rng.integers(1, V, (200, 2)), (1, 4))
    run = fit(
        bl.Sequential(
            bl.Embedding(V, 16), bl.PositionalEmbedding(7), bl.TransformerBlock(2, 2, causal=True), bl.Dense(V)
        ),
        (ids[:, :-1], ids[:, 1:]),
        epochs=30,
        batch_size=50,
        optimizer=bl.Adam(1e-2),
    )
    hits = run.model.predict(ids[:50, :-1]).argmax(axis=-1) == ids[:50, 1:]
    assert hits[:, 1:].all()
    assert not hits[:, 0].all()
    assert run.history["accuracy"][-1] > 0.85


def test_the_loss_is_the_mean_over_the_positions_that_count():
    y = IDS.copy()
    y[3:, 2:] = 0
    made = model().build((T,), dtype="float64")
    value, _ = bl.value_and_grad(made, IDS, y, loss=IGNORE)
    logits = made.predict(IDS)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    each = [-log_p[n, t, y[n, t]] for n in range(N) for t in range(T) if y[n, t] != 0]
    assert value == pytest.approx(np.mean(each), rel=1e-12)


def test_what_is_ignored_may_be_anything():
    made = model().build((T,), dtype="float64")
    y = IDS.copy()
    y[:, -1] = 0
    one = fit(model().build((T,)), (IDS, y), loss=IGNORE)
    other = fit(model().build((T,)), (IDS, np.where(y == 0, -5, y)), loss=bl.SoftmaxCrossEntropy(ignore=-5))
    assert all(np.array_equal(a, other.model.params[n]) for n, a in one.model.params.items())
    assert made.built


def test_accuracy_counts_positions_that_are_not_ignored():
    y = IDS.copy()
    y[0, :4], y[1:] = 0, 0
    run = fit(data=(IDS, y), loss=IGNORE, validation=(IDS, y), epochs=1)
    right = run.model.predict(IDS)[0, 4:].argmax(axis=-1) == y[0, 4:]
    assert run.history["val_accuracy"][-1] == pytest.approx(right.mean())


def test_accumulated_parts_are_the_whole_batch():
    """Parts with unequal numbers of counted positions are weighted by them."""
    y = IDS.copy()
    y[::3, 1:] = 0
    whole = fit(data=(IDS, y), loss=IGNORE, batch_size=6, epochs=1, optimizer=bl.SGD(0.1))
    parts = fit(data=(IDS, y), loss=IGNORE, batch_size=2, accumulate=3, epochs=1, optimizer=bl.SGD(0.1))
    for name, array in whole.model.params.items():
        np.testing.assert_allclose(parts.model.params[name], array, rtol=1e-4, atol=1e-6, err_msg=name)


def test_classes_of_whole_sequences_may_be_weighted():
    made = bl.Sequential(bl.Embedding(V, 4), bl.Flatten(), bl.Dense(3))
    run = fit(made, (IDS, np.arange(N) % 3), class_weight="balanced")
    assert {p.dtype.name for p in run.model.params.values()} == {"float32"}
    assert np.isfinite(run.history["loss"]).all()


def test_padding_goes_through_training_as_a_second_input():
    mask = np.ones((N, T))
    mask[::2, 4:] = 0
    made = bl.Model(lambda ids, m: bl.Dense(V)(bl.TransformerBlock(2)(bl.Embedding(V, 8)(ids), mask=m)))
    run = fit(made, ((IDS, mask), np.where(mask == 0, 0, IDS)), loss=IGNORE, epochs=20)
    assert run.history["loss"][-1] < 0.5 * run.history["loss"][0]
    assert made.dtypes == ("int64", "float32")


def test_a_run_of_sequences_is_looked_at_resumed_and_repeated(tmp_path):
    made = model(dropout=0.2)
    run = fit(made, run_dir=tmp_path / "run")
    trace = run.at(step=3)
    assert trace["x"].dtype == np.int64
    assert trace.explain("block1.attention.a[0,1,2]").ok
    assert all(equal for _, equal in run.verify())
    again = fit(model(dropout=0.2))
    assert all(np.array_equal(p, again.model.params[n]) for n, p in run.model.params.items())
    longer = fit(model(dropout=0.2), run_dir=tmp_path / "run", resume=True, epochs=3)
    straight = fit(model(dropout=0.2), epochs=3)
    assert all(np.array_equal(p, straight.model.params[n]) for n, p in longer.model.params.items())
