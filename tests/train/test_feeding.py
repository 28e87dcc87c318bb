"""What steps are fed with: the same bits however and whenever they are prepared, and never a whole copy."""

from __future__ import annotations

import signal
import threading
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import FileError, InputError
from backlit.core.events import StepDone
from backlit.core.i18n import use_language
from backlit.data.augment import Augmentation
from backlit.data.fingerprints import fingerprint
from backlit.data.mapped import blocks, is_mapped
from backlit.train.batches import Batches
from backlit.train.feeding import Feed, workers_for
from backlit.train.loading import Loader
from backlit.train.step import Samples
from train.problems import labelled, mlp, without_seconds

EVERY = [bl.augment.Crop(1), bl.augment.Flip(), bl.augment.CutOut(2), bl.augment.Rotate(20.0), bl.augment.MixUp(0.4)]


def pictures(samples=14, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, 5, 4, 1)).astype(np.float32), rng.integers(0, 3, samples)


def model():
    return bl.Sequential(bl.Flatten(), bl.Dense(6, "relu"), bl.Dropout(0.2), bl.Dense(3)).build((5, 4, 1), seed=1)


def trained(run_dir=None, data=None, **changes):
    settings = {
        "loss": "softmax_cross_entropy",
        "epochs": 3,
        "batch_size": 4,
        "validation": pictures(6, seed=1),
        "augment": EVERY,
        "seed": 3,
        "progress": False,
        "run_dir": run_dir,
    }
    return bl.fit(changes.pop("model", None) or model(), data or pictures(), **settings | changes)


def bits(run):
    return fingerprint(run.model.params | run.model.state)


class Seen(Augmentation):
    """Keeps each batch as it leaves, by step and part."""

    def __init__(self):
        object.__setattr__(self, "batches", {})

    def apply(self, draw, batch):
        self.batches[draw.step, draw.part] = tuple(None if a is None else a.copy() for a in batch)
        return batch


# --- replay and resume ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_done_again_sees_the_batch_it_saw(tmp_path, workers, accumulate):
    seen = Seen()
    run = trained(tmp_path, augment=[*EVERY, seen], workers=workers, accumulate=accumulate, snapshot_every=3)
    live, again = dict(seen.batches), bl.open_run(tmp_path, data=pictures(), validation=pictures(6, seed=1))
    assert again.settings.augment[:-1] == (*EVERY[:-1], bl.augment.MixUp(0.4, classes=3))
    object.__setattr__(again.settings, "augment", again.settings.augment[:-1])
    from backlit.train.replay import replay

    for step in range(1, run.step + 1):
        for part, samples in enumerate(replay(again, step).parts):
            x, y, _ = live[step, part]
            assert samples.inputs[0].tobytes() == x.tobytes()
            assert samples.target.tobytes() == y.tobytes()
    trace = again.at(run.step, part=accumulate - 1 if len(live) % 2 == 0 else 0)
    assert trace["x"].tobytes() in {x.tobytes() for x, *_ in live.values()}


def test_every_stretch_of_an_augmented_run_leads_where_it_led(tmp_path):
    run = trained(tmp_path, snapshot_every=2)
    assert all(same for _, same in run.verify())
    reopened = bl.open_run(tmp_path, data=pictures(), validation=pictures(6, seed=1))
    assert all(same for _, same in reopened.verify())


def test_an_interrupted_run_ends_where_the_uninterrupted_one_does(tmp_path):
    whole = trained()

    def stop(event):
        return "stop" if isinstance(event, StepDone) and event.step == 6 else None

    first = trained(tmp_path, callbacks=[stop])
    assert first.reason == "stopped"
    with pytest.raises(FileError, match="augment"):
        trained(tmp_path, resume=True, augment=EVERY[:2])
    record = (tmp_path / "run.json").read_text("utf-8")
    (tmp_path / "run.json").write_text(record.replace('"reason": "stopped"', '"reason": "interrupted"'), "utf-8")
    longer = trained(tmp_path, resume=True, epochs=3)
    assert longer.step in (6, whole.step)
    half = trained(tmp_path, overwrite=True, epochs=1)
    assert half.step == 4
    rest = trained(tmp_path, resume=True)
    assert rest.step == whole.step
    assert bits(rest) == bits(whole)


def test_augmentation_changes_training_and_nothing_else(tmp_path):
    plain, augmented = trained(augment=None), trained(tmp_path)
    assert bits(plain) != bits(augmented)
    assert "augment" not in plain.record["settings"]
    assert [a["kind"] for a in augmented.record["settings"]["augment"]] == [type(a).__name__ for a in EVERY]
    assert plain.record["data"] == augmented.record["data"]
    X, y = pictures(6, seed=1)
    loss, _ = bl.value_and_grad(augmented.model, X, y, loss="softmax_cross_entropy", training=False)
    assert augmented.history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)


def test_accumulated_mini_batches_are_augmented_as_one_batch():
    X, y = pictures()
    samples, kinds = Samples((X,), y), tuple(EVERY[:4])
    (whole,) = Feed(samples, Batches(14, 8, 0), kinds, 0).of_step(2)
    parts = Feed(samples, Batches(14, 4, 0, accumulate=2), kinds, 0).of_step(2)
    assert np.concatenate([p.inputs[0] for p in parts]).tobytes() == whole.inputs[0].tobytes()


def test_the_same_kind_twice_draws_twice():
    X, y = pictures()
    (once,), (twice,) = (
        Feed(Samples((X,), y), Batches(14, 14, 0), (bl.augment.Flip(),) * n, 0).of_step(1) for n in (1, 2)
    )
    (plain,) = Feed(Samples((X,), y), Batches(14, 14, 0)).of_step(1)
    assert len({s.inputs[0].tobytes() for s in (once, twice, plain)}) == 3


# --- the loader -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_a_loader_changes_no_bit(workers):
    one, other = trained(workers=0), trained(workers=workers)
    assert bits(one) == bits(other)
    assert without_seconds(one.history) == without_seconds(other.history)


def test_a_loader_gives_any_step_in_any_order_and_reads_ahead():
    X, y = pictures()
    feed = Feed(Samples((X,), y), Batches(14, 4, 0), tuple(EVERY[:2]), 0)
    with Loader(feed, 12) as loader:
        for step in (1, 2, 3, 7, 8, 2, 12, 1):
            (found,), (want,) = loader.of_step(step), feed.of_step(step)
            assert found.inputs[0].tobytes() == want.inputs[0].tobytes()
            assert found.target.tobytes() == want.target.tobytes()
        assert loader.of_step(5)
        assert {6, 7} <= loader._coming.keys()
        assert max(loader._coming) <= 12


@dataclass(frozen=True)
class Slow(Augmentation):
    def apply(self, draw, batch):
        time.sleep(0.002)
        return batch


def test_the_threads_end_with_the_run():
    trained(augment=[Slow()], epochs=1)
    deadline = time.monotonic() + 5
    while any("backlit-loader" in t.name for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [t.name for t in threading.enumerate() if "backlit-loader" in t.name]


@dataclass(frozen=True)
class Broken(Augmentation):
    at: int = 5

    def apply(self, draw, batch):
        if draw.step == self.at:
            raise OSError("the disk is gone")
        return batch


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("lang", "said"), [("en", "mini-batch 0 of step 5"), ("zh", "第 5 步的第 0 个小批量")])
def test_an_error_while_preparing_says_where(workers, lang, said):
    net = model()
    with use_language(lang), pytest.raises(OSError, match="the disk is gone") as caught:
        trained(model=net, augment=[Broken()], workers=workers)
    index = next(iter(Batches(14, 4, 3).of_step(5)))
    assert said in "".join(caught.value.__notes__)
    assert str(index.tolist()) in "".join(caught.value.__notes__)
    assert any("apply" in str(entry.name) for entry in caught.traceback), "the place in the user's code"


def test_ctrl_c_stops_after_a_step_with_a_loader(tmp_path):
    def interrupt(event):
        if isinstance(event, StepDone) and event.step == 5:
            signal.raise_signal(signal.SIGINT)

    run = trained(tmp_path, callbacks=[interrupt], workers=1)
    assert run.interrupted
    assert run.step == 5
    rest = trained(tmp_path, resume=True, workers=1)
    assert bits(rest) == bits(trained(workers=0))


def test_threads_where_there_is_something_to_prepare():
    X, y = pictures()
    plain = Feed(Samples((X,), y), Batches(14, 4))
    assert workers_for(None, plain) == 0
    assert workers_for(None, Feed(Samples((X,), y), Batches(14, 4), (bl.augment.Flip(),))) == 1
    assert workers_for(None, Feed(Samples((X,), y, dtypes=("float32",)), Batches(14, 4))) == 1
    assert workers_for(2, plain) == 2
    for wrong in (-1, True, "many", 1.5):
        with pytest.raises(InputError, match="workers"):
            workers_for(wrong, plain)


# --- memory-mapped files --------------------------------------------------------------------------------------------


def stored(path, X):
    np.save(path, X)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_a_mapped_file_trains_as_the_array_in_memory(tmp_path, dtype):
    X, y = pictures()
    X = (np.abs(X) * 50).astype(dtype)
    path = stored(tmp_path / "X.npy", X)
    settings = {"augment": EVERY[:3], "validation": None}
    in_memory = trained(data=(X, y), **settings)
    for given in (path, str(path), np.load(path, mmap_mode="r"), np.load(path, mmap_mode="r")[:]):
        run = trained(data=(given, y), **settings)
        assert bits(run) == bits(in_memory)
        assert is_mapped(run.data.train.inputs[0])
        assert run.record["data"] == in_memory.record["data"], "the same fingerprint"
    assert run.at(5)["x"].tobytes() == in_memory.at(5)["x"].tobytes()


def test_a_mapped_run_goes_on_and_is_opened_again(tmp_path):
    X, y = pictures()
    path, held = stored(tmp_path / "X.npy", X), stored(tmp_path / "V.npy", pictures(6, seed=1)[0])
    data, validation = (path, y), (held, pictures(6, seed=1)[1])
    whole = trained()
    trained(tmp_path / "run", data=data, validation=validation, epochs=2)
    assert bits(trained(tmp_path / "run", data=data, validation=validation, resume=True)) == bits(whole)
    opened = bl.open_run(tmp_path / "run", data=data, validation=validation)
    assert all(same for _, same in opened.verify())


def test_no_whole_copy_is_ever_made(tmp_path):
    """16 MB of bytes would be 64 MB as float32; training, validation and fingerprints take less than that."""
    rows = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.uint8, (4000, 4096))
    rows[:] = np.random.default_rng(0).integers(0, 255, (4000, 1), np.uint8)
    rows.flush()
    y = np.arange(4000) % 3
    net = bl.Sequential(bl.Dense(3)).build((4096,))
    tracemalloc.start()
    try:
        bl.fit(
            net, (tmp_path / "X.npy", y), loss="softmax_cross_entropy", epochs=1, batch_size=64, progress=False,
            validation=(np.load(tmp_path / "X.npy", mmap_mode="r"), y), optimizer=bl.SGD(1e-6),
        )  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48e6, f"{peak / 1e6:.0f} MB"


def test_prediction_reads_a_file_a_batch_at_a_time(tmp_path):
    X = (np.random.default_rng(0).random((4000, 1024)) * 255).astype(np.uint8)
    path, net = stored(tmp_path / "X.npy", X), bl.Sequential(bl.Dense(3)).build((1024,))
    want = net.predict(X)
    tracemalloc.start()
    try:
        for given in (path, np.load(path, mmap_mode="r")):
            assert net.predict(given, batch_size=256).tobytes() == net.predict(X[:], batch_size=256).tobytes()
        np.testing.assert_allclose(want, net.predict(path), rtol=1e-5)
        tracemalloc.reset_peak()
        net.predict(path, batch_size=256)
        assert tracemalloc.get_traced_memory()[1] < 4e6, "a quarter of the whole"
    finally:
        tracemalloc.stop()


def test_a_bad_number_in_a_file_is_named(tmp_path):
    X, y = pictures()
    X[9, 1, 2, 0] = np.nan
    with pytest.raises(InputError) as caught:
        trained(data=(stored(tmp_path / "X.npy", X), y))
    assert "[9, 1, 2, 0]" in str(caught.value)
    big = X.astype(np.float64)
    big[9, 1, 2, 0] = 1e200
    with pytest.raises(InputError) as caught:
        trained(data=(stored(tmp_path / "X.npy", big), y))
    assert caught.value.key == "too_large"


def test_files_that_are_none(tmp_path):
    _, y = pictures()
    with pytest.raises(FileError) as caught:
        trained(data=(tmp_path / "absent.npy", y))
    assert caught.value.key == "mapped_missing"
    (tmp_path / "text.npy").write_text("x, y")
    with pytest.raises(FileError) as caught:
        trained(data=(str(tmp_path / "text.npy"), y))
    assert caught.value.key == "mapped_file"


def test_blocks_are_the_rows_in_order(monkeypatch):
    X = np.arange(60.0).reshape(20, 3)
    monkeypatch.setattr("backlit.data.mapped.BLOCK", 100)
    parts = list(blocks(X))
    assert [start for start, _ in parts] == [0, 4, 8, 12, 16]
    assert np.array_equal(np.concatenate([b for _, b in parts]), X)
    assert fingerprint([X]) == fingerprint([np.asfortranarray(X)])
    assert fingerprint([X.astype(np.float32)]) == fingerprint([X], ["float32"]) != fingerprint([X])
    many = list(blocks(np.zeros((3, 500))))
    assert [len(b) for _, b in many] == [1, 1, 1]


def test_what_is_mapped(tmp_path):
    X = np.load(stored(tmp_path / "X.npy", np.ones((4, 3))), mmap_mode="r")
    assert is_mapped(X)
    assert is_mapped(np.asarray(X)[1:])
    assert not is_mapped(X + 1)
    assert not is_mapped([1, 2])


# --- what does not fit ----------------------------------------------------------------------------------------------


def refused(data, augment, net=None, **options):
    with pytest.raises(InputError) as caught:
        trained(model=net, data=data, augment=augment, validation=None, **options)
    return caught.value


def test_augmentations_that_do_not_fit_the_data():
    X, y = labelled()
    assert refused((X, y), bl.augment.Flip(), mlp()).key == "augment_images"
    assert refused(pictures(), [bl.augment.Crop(1, target=True)]).key == "augment_target"
    assert refused(pictures(), "flip").key == "augment_kind"
    ignoring = bl.SoftmaxCrossEntropy(ignore=2)
    assert refused(pictures(), bl.augment.MixUp(), loss=ignoring).key == "augment_mixup"
    two = bl.Model(lambda a, b: bl.Dense(3)(a) + bl.Dense(3)(b)).build(((4,), (4,)))
    assert refused(((X, X), y), bl.augment.MixUp(), two).key == "augment_inputs"


@pytest.mark.parametrize("augment", [None, EVERY])
def test_the_fast_engine_is_fed_the_same(tmp_path, augment):
    pytest.importorskip("numba")
    X, y = pictures()
    data = (stored(tmp_path / "X.npy", X), y)
    net = [bl.Sequential(bl.Flatten(), bl.Dense(6, "relu"), bl.Dense(3)).build((5, 4, 1), seed=1) for _ in "12"]
    slow = trained(model=net[0], data=data, augment=augment)
    fast = trained(tmp_path / "run", model=net[1], data=data, augment=augment, engine="fast")
    for name, array in slow.model.params.items():
        np.testing.assert_allclose(fast.model.params[name], array, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(fast.history["loss"], slow.history["loss"], rtol=1e-4)
    assert fast.at(5)["x"].tobytes() == slow.at(5)["x"].tobytes()


def test_mix_up_of_values_keeps_their_kind():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 4))
    run = bl.fit(
        mlp(outputs=2), (X, X[:, :2]), loss="mse", augment=bl.augment.MixUp(), epochs=2, progress=False, batch_size=4
    )
    assert run.record["settings"]["augment"] == [{"kind": "MixUp", "alpha": 0.2, "classes": None}]
    assert run.at(3)["y"].shape == (4, 2)
