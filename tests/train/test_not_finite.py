"""A number that is not finite stops the run, says where, and leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import NumericError
from backlit.core.events import StepDone
from train.problems import labelled, mlp, valued


def exploding(model=None, **changes):
    """Steps so long that the second forward pass overflows float32."""
    X, y = valued()
    settings = {"loss": "mse", "optimizer": bl.SGD(1e25), "epochs": 3, "batch_size": 7, "shuffle": False}
    return bl.fit(model, (X, y), **settings | {"progress": False} | changes)


def test_it_names_the_step_the_node_and_the_entry():
    model = bl.Sequential(bl.Dense(2))
    with pytest.raises(NumericError) as caught:
        exploding(model)
    text = str(caught.value)
    assert caught.value.code == "BL401"
    assert "step 2: loss is not finite" in text
    assert "loss = inf" in text
    assert "lower the learning rate" in text
    assert text.endswith("last good snapshot: -")


def test_the_model_is_as_it_was_before_the_bad_step():
    model, seen = bl.Sequential(bl.Dense(2)), {}

    def keep(event):
        if isinstance(event, StepDone):
            seen[event.step] = {name: p.copy() for name, p in model.params.items()}

    with pytest.raises(NumericError):
        exploding(model, callbacks=[keep])
    assert list(seen) == [1]
    assert all(np.array_equal(p, seen[1][name]) for name, p in model.params.items())
    assert all(np.isfinite(p).all() for p in model.params.values())


def test_it_names_the_last_good_snapshot(tmp_path):
    with pytest.raises(NumericError, match=r"last good snapshot: .*step-00000001\.safetensors$"):
        exploding(bl.Sequential(bl.Dense(2)), run_dir=tmp_path, snapshot_every=1)
    found = bl.open_run(tmp_path)
    assert found.step == 1
    assert all(np.isfinite(p).all() for p in found.model.params.values())


def test_the_first_node_that_overflows_is_named():
    def f(x):
        h = bl.Dense(3, name="first")(x)
        return bl.Dense(2, name="last")(bl.ops.exp(h * 1e3, name="blast"))

    X, y = valued()
    with pytest.raises(NumericError, match="blast is not finite") as caught:
        bl.fit(bl.Model(f), (X, y), loss="mse", progress=False)
    assert "step 1" in str(caught.value)


def test_a_gradient_is_named_where_the_loss_is_finite():
    """The slope of √ at 0 is infinite, and times 0 not a number."""

    def f(x):
        return bl.ops.sqrt(bl.Dense(2)(x) * 0.0)

    X, y = valued()
    model = bl.Model(f).build((4,))
    before = dict(model.params)
    with pytest.raises(NumericError, match=r"∂L/∂\S+ is not finite"):
        bl.fit(model, (X, y), loss="mse", progress=False)
    assert all(np.array_equal(p, before[name]) for name, p in model.params.items())


def test_a_parameter_that_the_update_made_infinite():
    X, y = labelled()
    model = mlp(dtype="float32")
    before = dict(model.params)
    with pytest.raises(NumericError, match=r"step 1: dense\d\.\w is not finite"):
        bl.fit(model, (X, y), loss="softmax_cross_entropy", optimizer=bl.SGD(1e300), progress=False)
    assert all(np.array_equal(p, before[name]) for name, p in model.params.items())


def test_later_parts_of_a_step_are_looked_at_too():
    """With accumulation the second part is the bad one."""
    X = np.ones((4, 4))
    X[3] = 1e38
    model = bl.Sequential(bl.Dense(2, init=1.0)).build((4,))
    with pytest.raises(NumericError, match=r"step 1: dense1\.z is not finite"):
        bl.fit(model, (X, np.zeros((4, 2))), loss="mse", batch_size=2, accumulate=2, shuffle=False, progress=False)


def test_a_loss_weighed_to_nothing_is_no_error():
    X, y = valued()
    w = np.zeros(14)
    w[:7] = 1.0
    found = bl.fit(
        bl.Sequential(bl.Dense(2)), (X, y), loss="mse", batch_size=7, shuffle=False, sample_weight=w, progress=False
    )
    assert np.isfinite(found.history["loss"]).all()
