"""fit: what it reports, what it tells listeners, what it trains."""

from __future__ import annotations

import itertools
import signal
import threading

import numpy as np
import pytest

import backlit as bl
from backlit.core.events import EpochDone, RunEnded, RunStarted, StepDone
from train.problems import Recorder, everything, labelled, linear, mlp, valued


def run(model=None, data=None, **changes):
    settings = {"loss": "softmax_cross_entropy", "epochs": 3, "batch_size": 4, "progress": False}
    return bl.fit(model or mlp(), data or labelled(), **settings | changes)


# --- history --------------------------------------------------------------------------------------------------------


def test_the_figures_of_an_epoch():
    found = run(validation=labelled(6, seed=1))
    keys = [
        "epoch",
        "step",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "gradient_norm",
        "seconds",
    ]
    assert list(found.history) == keys
    assert found.history["epoch"] == [1, 2, 3]
    assert found.history["step"] == [4, 8, 12]
    assert found.step == 12
    assert all(len(values) == 3 for values in found.history.values())
    assert all(s >= 0 for s in found.history["seconds"])


def test_without_validation_there_are_no_figures_of_it():
    assert not [name for name in run().history if name.startswith("val_")]


def test_the_loss_of_an_epoch_is_that_of_its_samples():
    """At a rate so small that nothing moves, it is the loss of the whole, the smaller last batch by its size."""
    X, y = labelled()
    model = mlp()
    z = model.predict(X)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    w = np.linspace(0, 3, 14)
    for weights, counted in ((None, np.ones(14)), (w, w)):
        found = run(model, (X, y), optimizer=bl.SGD(1e-12), epochs=1, sample_weight=weights)
        assert found.history["loss"][0] == pytest.approx(
            -np.sum(counted * log_p[range(14), y]) / counted.sum(), rel=1e-8
        )
        hits = z.argmax(axis=1) == y
        assert found.history["accuracy"][0] == pytest.approx(np.sum(counted * hits) / counted.sum(), rel=1e-12)


def test_validation_figures_are_those_of_the_epoch_s_parameters():
    Xv, yv = labelled(9, seed=1)
    found = run(validation=(Xv, yv), epochs=2)
    z = found.model.predict(Xv)
    loss = -np.mean((z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[range(9), yv])
    assert found.history["val_loss"][-1] == pytest.approx(loss, rel=1e-12)
    assert found.history["val_accuracy"][-1] == np.mean(z.argmax(axis=1) == yv)


def test_validation_is_inference():
    """Dropout is off and the running statistics are used."""
    Xv, yv = labelled(9, seed=1)
    found = run(everything(), validation=(Xv, yv))
    z = found.model.predict(Xv).astype(float)
    assert found.history["val_accuracy"][-1] == np.mean(z.argmax(axis=1) == yv)
    loss = -np.mean((z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[range(9), yv])
    assert found.history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


def test_validation_changes_nothing():
    plain, held = run(everything(), seed=4), run(everything(), seed=4, validation=labelled(9, seed=1))
    assert all(np.array_equal(p, held.model.params[name]) for name, p in plain.model.params.items())


def test_the_gradient_norm_is_the_mean_over_steps_before_clipping():
    X, y = labelled()
    model = mlp()
    _, grads = bl.value_and_grad(model, X, y, loss="softmax_cross_entropy")
    norm = np.sqrt(sum(np.sum(g**2) for g in grads.values()))
    clip = bl.ClipByGlobalNorm(1e-6)
    found = run(model, (X, y), optimizer=bl.SGD(1e-12), batch_size=14, epochs=2, clip=clip)
    assert found.history["gradient_norm"] == pytest.approx([norm, norm], rel=1e-9)


def test_ignored_labels_count_in_no_figure():
    X, y = labelled()
    y = np.where(np.arange(14) < 5, -1, y)
    model = mlp()
    hits = model.predict(X[5:]).argmax(axis=1) == y[5:]
    found = run(model, (X, y), loss=bl.SoftmaxCrossEntropy(ignore=-1), optimizer=bl.SGD(1e-12), epochs=1)
    assert found.history["accuracy"] == [pytest.approx(np.mean(hits))]


def test_a_run_shows_its_last_figures():
    found = run(optimizer=bl.SGD(0.1))
    text = repr(found)
    assert text.startswith("Run(step=12, loss ")
    assert f"accuracy {found.history['accuracy'][-1]:.4g}" in text
    assert text.endswith("'epochs')")
    assert repr(bl.Run(found.model)) == "Run(step=0, '')"


# --- events ---------------------------------------------------------------------------------------------------------


def test_events_come_in_order(tmp_path):
    recorder = Recorder()
    run(callbacks=[recorder], epochs=2, batch_size=7, run_dir=tmp_path / "r")
    epoch = ["StepDone", "StepDone", "EpochDone", "SnapshotSaved"]
    assert recorder.kinds() == ["RunStarted", "SnapshotSaved", *epoch, *epoch, "SnapshotSaved", "RunEnded"]


def test_events_hold_the_facts():
    recorder = Recorder()
    found = run(callbacks=[recorder], epochs=2, batch_size=4, accumulate=2, optimizer=bl.SGD(0.25))
    (started,), (ended,) = recorder.of(RunStarted), recorder.of(RunEnded)
    steps, epochs = recorder.of(StepDone), recorder.of(EpochDone)
    assert (started.step, started.steps, started.epochs, started.samples) == (0, 4, 2, 14)
    assert [(s.step, s.epoch, s.samples, s.learning_rate) for s in steps] == [
        (1, 1, 8, 0.25), (2, 1, 6, 0.25), (3, 2, 8, 0.25), (4, 2, 6, 0.25),
    ]  # fmt: skip
    assert [(e.epoch, e.step) for e in epochs] == [(1, 2), (2, 4)]
    assert [e.metrics["loss"] for e in epochs] == found.history["loss"]
    assert found.history["loss"][0] == pytest.approx((8 * steps[0].loss + 6 * steps[1].loss) / 14, rel=1e-12)
    assert (ended.step, ended.reason) == (4, "epochs")


@pytest.mark.parametrize("kind", [StepDone, EpochDone])
def test_a_listener_can_stop_the_run(kind):
    recorder = Recorder(lambda event: "stop" if isinstance(event, kind) and event.epoch == 2 else None)
    found = run(callbacks=[recorder], epochs=9)
    assert found.reason == "stopped"
    assert found.step == (5 if kind is StepDone else 8)
    assert recorder.kinds()[-1] == "RunEnded"
    assert not found.interrupted


@pytest.mark.parametrize("answer", [None, True, "go on", np.zeros(3), np.array(["stop", "stop"]), ["stop"], 0])
def test_other_answers_do_not_stop_it(answer):
    assert run(callbacks=[lambda event: answer]).reason == "epochs"


def test_listeners_are_called_in_order():
    told = []
    run(callbacks=[lambda e: told.append("a"), lambda e: told.append("b")], epochs=1)
    assert told == ["a", "b"] * (len(told) // 2)


@pytest.mark.parametrize("kind", [RunStarted, StepDone, EpochDone, RunEnded])
def test_exceptions_of_listeners_come_through(kind):
    class MineError(Exception):
        pass

    def fail(event):
        if isinstance(event, kind):
            raise MineError

    with pytest.raises(MineError):
        run(callbacks=[fail])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_model_is_up_to_date_when_a_listener_looks():
    model, seen = linear(), []

    def look(event):
        if isinstance(event, StepDone):
            seen.append(model.params["dense1.W"].copy())

    run(model, callbacks=[look], optimizer=bl.SGD(0.1), epochs=1)
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(seen))
    assert np.array_equal(seen[-1], model.params["dense1.W"])


# --- what is trained ------------------------------------------------------------------------------------------------


def test_one_step_of_sgd_by_hand():
    X, y = valued()
    model = linear(outputs=2)
    W, b = model.params["dense1.W"].copy(), model.params["dense1.b"].copy()
    run(model, (X, y), loss="mse", optimizer=bl.SGD(0.1), epochs=1, batch_size=14)
    delta = 2 * (X @ W.T + b - y) / y.size
    np.testing.assert_allclose(model.params["dense1.W"], W - 0.1 * delta.T @ X, rtol=1e-12)
    np.testing.assert_allclose(model.params["dense1.b"], b - 0.1 * delta.sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("clip", "by_hand"),
    [
        (bl.ClipByValue(0.01), lambda g, norm: np.clip(g, -0.01, 0.01)),
        (bl.ClipByNorm(0.01), lambda g, norm: g * 0.01 / (np.linalg.norm(g) + 1e-6)),
        (bl.ClipByGlobalNorm(0.01), lambda g, norm: g * 0.01 / (norm + 1e-6)),
    ],
    ids=["value", "norm", "global norm"],
)
def test_clipping_is_between_the_gradient_and_the_update(clip, by_hand):
    X, y = labelled()
    model = mlp()
    before = dict(model.params)
    _, grads = bl.value_and_grad(model, X, y, loss="softmax_cross_entropy")
    norm = np.sqrt(sum(np.sum(g**2) for g in grads.values()))
    run(model, (X, y), optimizer=bl.SGD(1.0), epochs=1, batch_size=14, clip=clip)
    for name, p in model.params.items():
        np.testing.assert_allclose(p, before[name] - by_hand(grads[name], norm), rtol=1e-9, atol=1e-15)


def test_an_unbuilt_model_is_built_by_the_seed():
    found = run(bl.Sequential(bl.Dense(3)), seed=5, epochs=1, optimizer=bl.SGD(1e-30))
    want = bl.Sequential(bl.Dense(3)).build((4,), seed=5)
    assert np.array_equal(found.model.params["dense1.W"], want.params["dense1.W"])
    assert found.model.params["dense1.W"].dtype == np.float32


def test_a_seed_fixes_everything_and_another_changes_it():
    a, b, c = (run(everything(), seed=s, epochs=2).model.params["dense1.W"] for s in (1, 1, 2))
    assert a.tobytes() == b.tobytes()
    assert not np.array_equal(a, c)


def test_a_seed_of_numpy_is_the_number():
    a, b = (run(everything(), seed=s).model.params["dense2.W"] for s in (7, np.int64(7)))
    assert a.tobytes() == b.tobytes()


def test_a_built_model_goes_on_from_its_parameters():
    model = mlp()
    first = run(model).history["loss"]
    second = run(model).history["loss"]
    assert second[0] < first[0]


def test_two_inputs():
    def two(a, b):
        return bl.Dense(1)(bl.Concatenate()(bl.Dense(4, "tanh")(a), bl.Dense(4, "tanh")(b)))

    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    y = A[:, 0] - B[:, 1]
    model = bl.Model(two)
    found = run(model, ((A, B), y), loss="mse", optimizer=bl.Adam(0.02), epochs=60, validation=((A, B), y))
    assert model.samples == ((3,), (2,))
    assert found.history["val_r2"][-1] > 0.9
    assert model.predict((A, B)).shape == (40, 1)


def test_a_model_from_a_function_with_a_shared_layer():
    shared = bl.Dense(4, "tanh")

    def twice(x):
        return bl.Dense(3)(shared(shared(x)))

    model = bl.Model(twice)
    found = run(model, epochs=30, optimizer=bl.Adam(0.05))
    assert list(model.params) == ["dense1.W", "dense1.b", "dense2.W", "dense2.b"]
    assert found.history["loss"][-1] < 0.5 * found.history["loss"][0]


def test_frozen_parameters_stay():
    model = bl.Sequential(bl.Dense(5, "tanh", trainable=False), bl.Dense(3)).build((4,))
    before = {name: p.copy() for name, p in model.params.items()}
    run(model, optimizer=bl.AdamW(0.1, weight_decay=0.5), clip=bl.ClipByGlobalNorm(1.0))
    moved = {name: not np.array_equal(p, before[name]) for name, p in model.params.items()}
    assert moved == {"dense1.W": False, "dense1.b": False, "dense2.W": True, "dense2.b": True}


def test_regression_takes_a_vector_for_one_output():
    X, y = valued(outputs=1)
    a = run(linear(outputs=1), (X, y[:, 0]), loss="mse")
    b = run(linear(outputs=1), (X, y), loss="mse")
    assert a.history["loss"] == b.history["loss"]
    assert a.history["r2"] == b.history["r2"]
    assert np.array_equal(a.model.params["dense1.W"], b.model.params["dense1.W"])


def test_targets_of_integers_and_booleans_are_numbers_for_a_regression():
    X, _ = valued()
    y = np.arange(14) % 2
    a, b, c = (run(linear(outputs=1), (X, t), loss="mse").history["loss"] for t in (y, y.astype(bool), y.astype(float)))
    assert a == b == c


def test_lists_are_arrays():
    X, y = labelled()
    a, b = run(mlp(), (X.tolist(), y.tolist())), run(mlp(), [X, y])
    assert a.history["loss"] == b.history["loss"]


def test_nothing_given_is_changed():
    X, y = labelled()
    w = np.linspace(1, 2, 14)
    copies = X.copy(), y.copy(), w.copy()
    run(everything(), (X, y), sample_weight=w, class_weight="balanced")
    assert all(np.array_equal(a, b) for a, b in zip((X, y, w), copies, strict=True))


def test_a_last_batch_of_one_sample_with_batchnorm():
    found = run(everything(), batch_size=13, epochs=2)
    assert np.isfinite(found.history["loss"]).all()


def test_in_a_thread():
    """Only the main thread can listen to Ctrl-C; training works in any."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run(seed=3)))
    thread.start()
    thread.join()
    assert found[0].history["loss"] == run(seed=3).history["loss"]


def test_the_handler_of_ctrl_c_is_put_back():
    def mine(*_):
        raise AssertionError

    old = signal.signal(signal.SIGINT, mine)
    try:
        run(epochs=1)
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, old)


def test_a_second_ctrl_c_stops_at_once():
    recorder = Recorder(
        lambda event: isinstance(event, StepDone) and [signal.raise_signal(signal.SIGINT) for _ in "12"]
    )
    with pytest.raises(KeyboardInterrupt):
        run(callbacks=[recorder])
    assert recorder.kinds() == ["RunStarted", "StepDone"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_without_a_run_directory():
    found = run(callbacks=[lambda e: isinstance(e, StepDone) and e.step == 2 and signal.raise_signal(signal.SIGINT)])
    assert found.interrupted
    assert found.reason == "interrupted"
    assert found.step == 2


def test_engines():
    assert run(engine="reference").history["loss"] == run(engine="auto").history["loss"]
