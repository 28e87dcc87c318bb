"""A linear layer behind an embedding of few symbols: calculated once for each symbol, recorded as ever."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

import backlit as bl

SYMBOLS = 5


def model():
    return bl.Sequential(bl.Embedding(SYMBOLS, 3), bl.Dense(4, "relu"), bl.LSTM(4), bl.Dense(SYMBOLS))


def listing(places):
    net = bl.Sequential(bl.Embedding(SYMBOLS, 3), bl.Dense(4), bl.Dense(SYMBOLS)).build((places,), seed=0)
    return bl.program(net, 1, loss="softmax_cross_entropy").show()


def test_it_is_done_where_there_are_many_more_places_than_symbols():
    assert "table_of_dense1_z" in listing(4 * SYMBOLS)
    assert "table_of_dense1_z" not in listing(4 * SYMBOLS - 1)


def test_what_is_recorded_is_what_the_reference_run_records():
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, SYMBOLS, (2, 40, 9))
    options = {"loss": "softmax_cross_entropy", "optimizer": bl.SGD(0.1), "epochs": 4, "batch_size": 20, "seed": 0}
    runs = [bl.fit(model(), (x, y), engine=engine, progress=False, **options) for engine in ("fast", "reference")]
    fast, plain = (run.recording for run in runs)
    rows = np.isin(plain["step"], fast["step"])
    for name in fast.keys() - {"step"}:
        np.testing.assert_allclose(fast[name], plain[name][rows], rtol=1e-4, atol=1e-6, err_msg=name)
    for name, value in runs[0].model.params.items():
        np.testing.assert_allclose(value, runs[1].model.params[name], rtol=1e-4, atol=1e-6, err_msg=name)
