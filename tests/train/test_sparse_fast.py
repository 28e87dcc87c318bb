"""A sparse table on the fast engine: the reference engine's runs, by rows, and bit for bit themselves."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.train import engine as engines
from train.problems import without_seconds

pytest.importorskip("numba")

V, D, N, T = 30, 4, 21, 3
RNG = np.random.default_rng(2)
IDS, Y = RNG.integers(0, 20, (N, T)), RNG.normal(size=(N, T, 2))
TABLE = "embedding1.E"


def one_table():
    return bl.Sequential(bl.Embedding(V, D, sparse=True), bl.Dense(2, "tanh"))


def read_twice(ids):
    """A table that is read in two places, a plain one, and a sparse one that stays as it is."""
    table, plain = bl.Embedding(V, D, sparse=True), bl.Embedding(V, D)
    still = bl.Embedding(V, D, sparse=True, trainable=False)
    return bl.Dense(2)(table(ids) * plain(ids) + table(ids[:, :1]) + still(ids))


def fit(engine, net=one_table, **changes):
    options = {"loss": "mse", "optimizer": bl.Adam(0.01), "epochs": 3, "batch_size": 4, "engine": engine}
    model = net().build((T,), dtype=changes.pop("dtype", "float64"))
    return bl.fit(model, (IDS, Y), **options | {"progress": False} | changes)


CASES = {
    "adam": {},
    "nadam": {"optimizer": bl.NAdam(0.01)},
    "momentum": {"optimizer": bl.SGD(0.1, momentum=0.9, l1=0.01)},
    "decay": {"optimizer": bl.AdamW(0.01)},
    "plain": {"optimizer": bl.SGD(0.1)},
    "clipped": {"clip": bl.ClipByGlobalNorm(0.01)},
    "clipped each": {"clip": bl.ClipByNorm(0.01)},
    "clipped entries": {"clip": bl.ClipByValue(0.001)},
    "accumulated": {"accumulate": 3},
    "read twice": {"net": lambda: bl.Model(read_twice)},
    "read twice, accumulated": {"net": lambda: bl.Model(read_twice), "accumulate": 2},
    "two threads": {"threads": "2"},
}


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_the_reference_does(case, monkeypatch):
    options = dict(CASES[case])
    monkeypatch.setenv("BACKLIT_THREADS", options.pop("threads", "1"))
    fast, reference = fit("fast", **options), fit("reference", **options)
    for name, p in reference.model.params.items():
        np.testing.assert_allclose(fast.model.params[name], p, rtol=1e-11, atol=1e-12, err_msg=name)
    for name, values in without_seconds(reference.history).items():
        np.testing.assert_allclose(fast.history[name], values, rtol=1e-11, err_msg=name)
    for name, column in reference.recording.items():
        np.testing.assert_allclose(fast.recording[name], column, rtol=1e-9, atol=1e-12, err_msg=name)


def test_it_is_another_algorithm_than_the_whole_table_s():
    plain = fit("fast", lambda: bl.Sequential(bl.Embedding(V, D), bl.Dense(2, "tanh")))
    assert not np.allclose(fit("fast").model.params[TABLE], plain.model.params[TABLE], atol=1e-4)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_row_that_was_never_read_stays_bit_for_bit(tmp_path, accumulate):
    first = one_table().build((T,), dtype="float32").params[TABLE]
    run = fit("fast", dtype="float32", optimizer=bl.AdamW(0.1), accumulate=accumulate, run_dir=tmp_path)
    read = np.isin(np.arange(V), IDS)
    assert np.array_equal((run.model.params[TABLE] != first).any(axis=1), read)
    assert all(same for _, same in run.verify())


def test_resumed_it_ends_where_the_uninterrupted_run_ends(tmp_path):
    whole = fit("fast", epochs=4)
    fit("fast", epochs=2, run_dir=tmp_path)
    resumed = fit("fast", epochs=4, run_dir=tmp_path, resume=True)
    for name, p in whole.model.params.items():
        assert np.array_equal(resumed.model.params[name], p)


def test_only_a_table_that_costs_more_than_the_step_is_the_reference_engine_s():
    def choose(rows):
        model = bl.Sequential(bl.Embedding(rows, 64, sparse=True), bl.Dense(100)).build((20,))
        graph = model.graph(model.batch_of(1), training=True)
        return engines.chosen(graph, batch_size=32, steps=10**7, accumulate=1)

    assert choose(1000) == ("fast", "")
    chosen, reason = choose(10**6)
    assert chosen == "reference"
    assert TABLE in reason
    assert "\n" not in reason
