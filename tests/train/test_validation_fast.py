"""Validation by the fast engine: the reference engine's figures for the same parameters, and no change of training."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.train import step
from train.problems import everything, labelled, without_seconds

pytest.importorskip("numba")

X, Y = labelled(samples=53)
XV, YV = labelled(samples=3000, seed=1)  # a thousand and a thousand and a rest


def trained(engine="fast", **changes):
    settings = {"loss": "softmax_cross_entropy", "optimizer": bl.SGD(0.05), "epochs": 3, "batch_size": 8, "seed": 1}
    settings |= {"engine": engine, "progress": False, "validation": (XV, YV), "metrics": ["accuracy", "top2"]}
    model = everything().build((4,), dtype=changes.pop("dtype", "float64"))
    return bl.fit(model, (X, Y), **settings | changes)


LOSSES = [
    "softmax_cross_entropy",
    bl.SoftmaxCrossEntropy(label_smoothing=0.1, ignore=1),
    bl.SoftmaxCrossEntropy(class_weights=(0.2, 1.0, 3.0)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_figures_are_those_of_the_reference_engine(loss, accumulate, threads, monkeypatch):
    monkeypatch.setenv("BACKLIT_THREADS", str(threads))
    options = {"loss": loss, "accumulate": accumulate}
    fast, reference = trained(**options), trained("reference", **options)
    for name, values in without_seconds(reference.history).items():
        np.testing.assert_allclose(fast.history[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_outputs_are_the_programs(monkeypatch):
    """The interpreter is asked for what comes after the model alone."""
    walked, inner = [], step.reference.forward
    monkeypatch.setattr(
        step.reference, "forward", lambda g, env: walked.append([n.rule for n in g.nodes]) or inner(g, env)
    )
    run = trained(epochs=1)
    assert walked == [["softmax_cross_entropy"]] * 3
    assert np.isfinite(run.history["val_loss"]).all()


def test_validation_of_a_file(tmp_path):
    np.save(tmp_path / "x.npy", XV.astype("float32"))
    mapped = trained(validation=(tmp_path / "x.npy", YV))
    held = trained(validation=(XV.astype("float32"), YV))
    assert without_seconds(mapped.history) == without_seconds(held.history)


def test_validating_changes_no_bit_of_training():
    with_it, without = trained(dtype="float32"), trained(dtype="float32", validation=None)
    for name, p in without.model.params.items():
        assert np.array_equal(with_it.model.params[name], p)
    assert with_it.history["loss"] == without.history["loss"]


def test_the_best_epoch_is_the_one_that_was_measured(tmp_path):
    stopping = bl.EarlyStopping(patience=2)
    run = trained(epochs=12, early_stopping=stopping, optimizer=bl.SGD(0.5), run_dir=tmp_path)
    best = min(run.history["val_loss"])
    loss = bl.value_and_grad(run.model, XV, YV, loss="softmax_cross_entropy", training=False)[0]
    assert loss == pytest.approx(best, rel=1e-12)
    assert all(same for _, same in run.verify())


def test_compiling_for_validation_is_announced(monkeypatch):
    from backlit.engines.fast.forward import Forward

    monkeypatch.setattr(Forward, "waiting", lambda _: 3)
    heard = []
    trained(epochs=1, callbacks=[heard.append])
    texts = [e.text for e in heard if type(e).__name__ == "Notice"]
    assert texts.count("compiling 3 kernels, once") == 2
