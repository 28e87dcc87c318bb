"""Early stopping, convergence, and the learning rate over a run."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backlit as bl
from backlit.core.events import EpochDone
from backlit.train import metrics
from backlit.train.stopping import better_sign
from train.problems import Recorder, labelled, linear, mlp, valued


def observe_all(rule, values, name="val_loss", sign=-1):
    """What is known after each of the values."""
    seen, told = {}, []
    for value in values:
        seen = rule.observe(seen, {name: value}, sign)
        told.append(seen)
    return told


def test_patience_counts_epochs_without_improvement():
    told = observe_all(bl.EarlyStopping(patience=2), [3.0, 2.0, 2.5, 1.9, 1.95, 1.9, 5.0])
    assert [t["improved"] for t in told] == [True, True, False, True, False, False, False]
    assert [t["waited"] for t in told] == [0, 0, 1, 0, 1, 2, 3]
    assert [t["stop"] for t in told] == [False] * 5 + [True, True]


def test_an_improvement_must_exceed_min_delta():
    told = observe_all(bl.EarlyStopping(min_delta=0.5), [3.0, 2.75, 2.5, 2.25])
    assert [t["improved"] for t in told] == [True, False, False, True]  # each against the best, 3.0


def test_a_metric_that_is_better_when_larger():
    told = observe_all(bl.EarlyStopping("val_accuracy", patience=1), [0.5, 0.7, 0.6], "val_accuracy", 1)
    assert [t["stop"] for t in told] == [False, False, True]


def test_nan_is_no_improvement():
    told = observe_all(bl.EarlyStopping(patience=2), [math.nan, 1.0, math.nan, math.nan])
    assert [t["improved"] for t in told] == [False, True, False, False]
    assert told[-1]["stop"]


def test_the_metric_says_which_way_is_better():
    mine = metrics.Metric("errors", lambda out, y, w: np.zeros(2), lambda sums: 0.0, better=-1)
    hits = metrics.Metric("hits", lambda out, y, w: np.zeros(2), lambda sums: 0.0)
    chosen = (*metrics.get(["accuracy", "top7", "mae"]), mine, hits)
    watched = ["val_accuracy", "top7", "val_mae", "errors", "val_hits", "val_loss", "loss", "gradient_norm"]
    assert [better_sign(name, chosen) for name in watched] == [1, 1, -1, -1, 1, -1, -1, -1]


@pytest.mark.parametrize("name", ["patience", "min_delta"])
@pytest.mark.parametrize("value", [-1, math.nan, "5", True])
def test_early_stopping_checks_its_options(name, value):
    with pytest.raises(bl.BacklitError, match=rf"EarlyStopping: {name}"):
        bl.EarlyStopping(**{name: value})


@pytest.mark.parametrize("options", [{"patience": 0}, {"loss_tolerance": -1e-3}, {"gradient_tolerance": "small"}])
def test_converged_checks_its_options(options):
    with pytest.raises(bl.BacklitError, match=next(iter(options))):
        bl.Converged(**options)


# --- in a run -------------------------------------------------------------------------------------------------------


def run(model=None, data=None, **changes):
    settings = {"loss": "softmax_cross_entropy", "optimizer": bl.SGD(0.5), "epochs": 60, "batch_size": 5}
    return bl.fit(model or mlp(), data or labelled(), **settings | {"progress": False} | changes)


def overfitting(**changes):
    """Validation labels that training moves away from, sooner or later."""
    X, y = labelled(10, seed=1)
    y = np.where(np.arange(10) < 6, y, (y + 1) % 3)
    return run(validation=(X, y), optimizer=bl.Adam(0.1), seed=2, **changes)


def snapshots_of_epochs():
    kept = []

    def keep(event):
        if isinstance(event, EpochDone):
            kept.append({name: p.copy() for name, p in model.params.items()})

    model = mlp()
    return model, kept, keep


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_restores_the_best_epoch_bit_for_bit(patience):
    model, kept, keep = snapshots_of_epochs()
    found = overfitting(model=model, early_stopping=bl.EarlyStopping(patience=patience), callbacks=[keep])
    losses = found.history["val_loss"]
    best = int(np.argmin(losses))
    assert found.reason == "early_stopping"
    assert len(losses) == best + 1 + patience < 60
    assert kept[best].keys() == found.model.params.keys()
    for name, p in kept[best].items():
        assert found.model.params[name].tobytes() == p.tobytes(), name
    assert any(not np.array_equal(p, kept[-1][name]) for name, p in kept[best].items())


def test_the_best_epoch_is_restored_when_the_epochs_run_out():
    model, kept, keep = snapshots_of_epochs()
    found = overfitting(model=model, early_stopping=bl.EarlyStopping(patience=99), epochs=30, callbacks=[keep])
    best = int(np.argmin(found.history["val_loss"]))
    assert found.reason == "epochs"
    assert best < 29
    assert all(np.array_equal(found.model.params[name], p) for name, p in kept[best].items())


def test_the_last_epoch_is_kept_where_that_was_asked_for():
    model, kept, keep = snapshots_of_epochs()
    found = overfitting(model=model, early_stopping=bl.EarlyStopping(patience=2, restore_best=False), callbacks=[keep])
    assert found.reason == "early_stopping"
    assert all(np.array_equal(found.model.params[name], p) for name, p in kept[-1].items())


def test_running_statistics_are_restored_with_the_parameters():
    model, states = bl.Sequential(bl.Dense(5, "tanh"), bl.BatchNorm(), bl.Dense(3)), []

    def keep(event):
        if isinstance(event, EpochDone):
            states.append({name: s.copy() for name, s in model.state.items()})

    found = overfitting(model=model, early_stopping=bl.EarlyStopping(patience=2), callbacks=[keep])
    best = int(np.argmin(found.history["val_loss"]))
    assert best < len(states) - 1
    assert all(np.array_equal(found.model.state[name], s) for name, s in states[best].items())


def test_early_stopping_on_accuracy_and_as_true():
    found = overfitting(early_stopping=bl.EarlyStopping("val_accuracy", patience=2))
    accuracy = found.history["val_accuracy"]
    assert len(accuracy) == int(np.argmax(accuracy)) + 3
    assert overfitting(early_stopping=True).reason == "early_stopping"
    assert overfitting(early_stopping=False, epochs=2).reason == "epochs"


def test_early_stopping_on_a_metric_of_ones_own():
    def miss(out, y, w):
        return np.array([np.sum(w * (out.argmax(axis=1) != y)), np.sum(w)])

    share = metrics.Metric("missed", miss, lambda sums: float(sums[0] / sums[1]), better=-1)
    found = overfitting(metrics=[share], early_stopping=bl.EarlyStopping("val_missed", patience=2))
    assert len(found.history["val_missed"]) == int(np.argmin(found.history["val_missed"])) + 3


def test_until_converged_stops_when_the_loss_stands_still():
    X, y = valued()
    found = run(
        linear(outputs=2), (X, y), loss="mse", optimizer=bl.SGD(0.2), epochs=2000, until="converged", batch_size=14
    )
    losses = np.array(found.history["loss"])
    still = np.abs(np.diff(losses)) <= 1e-4 * losses[1:]
    first = next(i for i in range(2, len(still)) if still[i - 2 : i + 1].all())
    assert found.reason == "converged"
    assert len(losses) == first + 2 < 2000
    least = np.linalg.lstsq(np.c_[X, np.ones(14)], y, rcond=None)[0]
    optimum = np.mean((np.c_[X, np.ones(14)] @ least - y) ** 2)
    assert losses[-1] == pytest.approx(optimum, rel=0.05)


def test_until_the_gradient_is_flat():
    X, y = valued()
    flat = bl.Converged(loss_tolerance=None, gradient_tolerance=1e-6, patience=2)
    found = run(linear(outputs=2), (X, y), loss="mse", optimizer=bl.SGD(0.2), epochs=5000, until=flat, batch_size=14)
    norms = found.history["gradient_norm"]
    assert found.reason == "converged"
    assert norms[-1] <= 1e-6
    assert norms[-2] <= 1e-6 < norms[-3]
    least = np.linalg.lstsq(np.c_[X, np.ones(14)], y, rcond=None)[0]
    np.testing.assert_allclose(found.model.params["dense1.W"], least[:4].T, atol=1e-5)


def test_a_still_epoch_alone_is_not_convergence():
    rule, seen, stops = bl.Converged(patience=2), {}, []
    for loss in [1.0, 1.0, 0.5, 0.5, 0.5]:
        seen = rule.observe(seen, {"loss": loss, "gradient_norm": 1.0})
        stops.append(seen["stop"])
    assert stops == [False, False, False, False, True]


def test_neither_test_of_convergence_never_stops():
    assert run(until=bl.Converged(None, None), optimizer=bl.SGD(1e-9), epochs=8).reason == "epochs"


# --- schedules ------------------------------------------------------------------------------------------------------


def rates(schedule, **changes):
    recorder = Recorder()
    found = run(optimizer=bl.SGD(schedule), callbacks=[recorder], epochs=6, **changes)
    return found.history["learning_rate"], [e.learning_rate for e in recorder.events if hasattr(e, "learning_rate")]


def test_a_step_decay_is_seen_in_history():
    assert rates(bl.StepDecay(0.4, every=2, factor=0.5))[0] == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1]


def test_history_holds_the_rate_of_the_last_step_of_each_epoch():
    epochs, steps = rates(bl.Warmup(bl.Constant(0.6), 6, start=1e-6))
    assert len(steps) == 18
    assert epochs == steps[2::3]
    assert steps[:7] == pytest.approx([0.6 * k / 6 for k in range(7)], abs=1e-6)


def test_a_cosine_ends_with_the_run():
    steps = rates(bl.Cosine(0.5))[1]
    assert steps == pytest.approx([0.25 * (1 + math.cos(math.pi * k / 18)) for k in range(18)])


def test_reduce_on_plateau_is_seen_in_history():
    """A loss that cannot fall: the rate is cut after each patience + 1 epochs without an improvement."""
    X = np.ones((14, 4))
    y = np.arange(14) % 2
    plateau = bl.ReduceOnPlateau(1e-9, factor=0.5, patience=1, eps=0.0)
    model = bl.Sequential(bl.Dense(2, init="zeros")).build((4,), dtype="float64")
    found = run(model, (X, y), optimizer=bl.SGD(plateau), epochs=7, batch_size=14)
    assert found.history["learning_rate"] == [1e-9 * 0.5**k for k in (0, 0, 0, 1, 1, 2, 2)]


def test_a_plateau_of_validation_loss_unless_told():
    """Validation gets worse while the training loss falls: only the default, val_loss, cuts the rate."""
    for metric, cut in ((None, True), ("val_loss", True), ("loss", False)):
        found = overfitting_rates(bl.ReduceOnPlateau(0.05, factor=0.5, patience=0, metric=metric))
        assert (found[-1] < found[0]) == cut, metric


def overfitting_rates(schedule):
    X, y = labelled()
    return run(data=(X, y), validation=(X, (y + 1) % 3), optimizer=bl.SGD(schedule), epochs=5).history["learning_rate"]
