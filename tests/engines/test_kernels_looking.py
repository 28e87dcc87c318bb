"""What the recording sees of a step: each number by its definition, and as the interpreter has it."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl

pytest.importorskip("numba")

from backlit.engines.fast import kernels_looking
from engines.kernel_calls import untested

STEPS, COLUMNS = 4, 3


def test_every_kernel_is_tested_here():
    assert not untested(kernels_looking, __file__)


def looked(run, name, *arguments, start=0.0):
    into = np.full((STEPS, COLUMNS), start)
    run(name, 1, *arguments, into, 1, step=2)
    assert np.count_nonzero(into - start) <= 1  # nothing but [2, 1] is touched
    return into[2, 1]


@pytest.mark.parametrize("size", [0, 1, 1003])
def test_squares_are_summed_in_float64(run, draw, size):
    x = draw(size) * 1e-22
    assert looked(run, "look_squares", x) == pytest.approx(float(np.sum(np.square(x, dtype=np.float64))), rel=1e-12)


def test_squares_are_added_to_what_is_there(run, draw):
    assert looked(run, "look_squares", draw(1) * 0 + 3, start=2.0) == 11.0


def test_a_change_is_that_to_the_part_of_what_was_put_aside(run, draw):
    before, x = draw(20), draw(7)
    want = np.sum(np.square(x.astype(np.float64) - before[5:12].astype(np.float64)))
    eps = float(np.finfo(draw.dtype).eps)
    assert looked(run, "look_change", x, before, 5) == pytest.approx(want, rel=8 * eps)


def test_units_that_are_nowhere_above_0_are_dead(run, draw):
    y = np.maximum(draw(9, 6), 0)
    y[:, [1, 4]] = 0
    y[8, 4] = 1e-30
    assert looked(run, "look_dead", y) == 1


def test_a_unit_that_is_not_a_number_is_not_called_dead(run, draw):
    assert looked(run, "look_dead", np.full((3, 2), np.nan, draw.dtype)) == 0


@pytest.mark.parametrize(("rule", "slope"), [("tanh", lambda y: 1 - y * y), ("sigmoid", lambda y: 4 * y * (1 - y))])
def test_units_whose_mean_slope_is_small_are_flat(run, draw, rule, slope):
    from backlit.engines.fast.looking import SLOPES

    y = np.tanh(draw(50, 8) * 3) if rule == "tanh" else 1 / (1 + np.exp(-6 * draw(50, 8)))
    y[:, 2] = 1 - 1e-3
    want = np.count_nonzero(slope(y.astype(np.float64)).mean(axis=0) < 0.05)
    assert want >= 1
    assert looked(run, "look_flat", y, *SLOPES[rule], 0.05) == want


# --- whole recordings -------------------------------------------------------------------------------------------------

NETS = {
    "activations": lambda: (bl.Dense(16, "relu"), bl.Dense(8, "tanh"), bl.Dense(5, "sigmoid"), bl.Dense(3)),
    "dropout": lambda: (bl.Dense(16, "relu"), bl.Dropout(0.3), bl.Dense(3)),
    "norm": lambda: (bl.Dense(16), bl.LayerNorm(), bl.GELU(), bl.Dense(3)),
    "residual": lambda: (bl.Dense(6, "relu"), bl.Residual(bl.Dense(6, "tanh")), bl.Dense(3)),
    "images": lambda: (bl.Reshape((2, 3, 1)), bl.Conv2D(4, 2, activation="relu"), bl.Flatten(), bl.Dense(3)),
}


def recording(net, engine, **options):
    X = np.random.default_rng(0).normal(size=(103, 6)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 3, 103)
    settings = {"loss": "softmax_cross_entropy", "epochs": 3, "batch_size": 10, "progress": False}
    return bl.fit(bl.Sequential(*net()), (X, y), engine=engine, **settings | options).recording


@pytest.mark.parametrize("name", NETS)
def test_a_recording_is_the_interpreter_s(name):
    fast, plain = (recording(NETS[name], engine) for engine in ("fast", "reference"))
    assert fast.keys() == plain.keys()
    assert np.array_equal(fast["step"], plain["step"])
    for column, numbers in plain.items():
        np.testing.assert_allclose(fast[column], numbers, rtol=2e-3, atol=1e-6, err_msg=column)


def test_a_normalisation_whose_relu_has_taken_its_place_has_a_delta_but_no_output():
    layers = bl.Dense(16, bias=False), bl.BatchNorm(), bl.ReLU(), bl.Dense(3)
    fast, plain = (recording(lambda: layers, engine) for engine in ("fast", "reference"))
    assert np.isnan(fast["batchnorm1.a"]).all()
    for column in plain.keys() - {"batchnorm1.a"}:
        np.testing.assert_allclose(fast[column], plain[column], rtol=2e-3, atol=1e-6, err_msg=column)


def test_recording_changes_no_bit_of_the_run():
    X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    runs = [
        bl.fit(bl.Sequential(bl.Dense(8, "relu"), bl.Dense(1)), (X, X[:, :1]), loss="mse", epochs=3, engine="fast",
               record=record, progress=False)
        for record in (True, False)
    ]  # fmt: skip
    for name, array in runs[0].model.params.items():
        assert np.array_equal(array, runs[1].model.params[name])
