"""The run directory: what is in it, what is read back, and what a damaged one says."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest

import backlit as bl
from backlit.core import files
from backlit.core.errors import FileError
from backlit.train.rundir import RunDir
from train.problems import Recorder, full_run, labelled, mlp, valued, without_seconds


def steps_kept(folder):
    return list(RunDir(folder).snapshots())


# --- contents -------------------------------------------------------------------------------------------------------


def test_the_files_of_a_run(tmp_path):
    full_run(tmp_path / "r", early_stopping=None)
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "metrics.jsonl",
        "recording.safetensors",
        "run.json",
        "snapshots",
    ]
    assert steps_kept(tmp_path / "r") == [0, 2, 4, 6, 8, 10, 12]


def test_run_json_says_what_was_done(tmp_path):
    found = full_run(tmp_path, notes={"why": "a test", "tries": [1, 2]})
    record = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert list(record) == ["format", "settings", "model", "data", "environment", "notes", "result"]
    settings = record["settings"]
    assert settings["loss"] == {
        "name": "softmax_cross_entropy",
        "label_smoothing": 0.0,
        "ignore": None,
        "class_weights": None,
    }
    assert settings["optimizer"]["name"] == "nadam"
    assert settings["optimizer"]["learning_rate"]["name"] == "reduce_on_plateau"
    assert settings["clip"] == {"name": "clip_by_global_norm", "limit": 1.0}
    assert settings["early_stopping"] == {"monitor": "val_loss", "patience": 4, "min_delta": 0.0, "restore_best": True}
    plain = {"epochs": 6, "batch_size": 4, "seed": 3, "shuffle": True, "accumulate": 2, "converged": None}
    assert plain.items() <= settings.items()
    assert settings["metrics"] == ["accuracy", "top2"]
    assert [layer["kind"] for layer in record["model"]["recipe"]["layers"]] == [
        "Dense",
        "BatchNorm",
        "Dropout",
        "Dense",
    ]
    assert record["data"]["samples"] == 14
    assert len(record["data"]["train"]) == len(record["data"]["validation"]) == 64
    assert {"backlit", "numpy", "python", "threads", "cores"} <= record["environment"].keys()
    assert record["notes"] == {"why": "a test", "tries": [1, 2]}
    assert record["result"] == {"reason": found.reason, "step": found.step, "seconds": sum(found.history["seconds"])}
    assert found.record == {name: value for name, value in record.items() if name != "format"}


def test_metrics_jsonl_has_a_line_an_epoch(tmp_path):
    found = full_run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == len(found.history["loss"])
    assert {name: [row[name] for row in rows] for name in rows[0]} == found.history


def test_a_figure_that_is_not_finite_is_null_there_and_nan_here(tmp_path):
    X, _ = valued()
    data = X, np.ones((14, 2))  # no variance, no R²
    found = bl.fit(mlp(outputs=2), data, loss="mse", epochs=2, progress=False, run_dir=tmp_path)
    assert all(math.isnan(v) for v in found.history["r2"])
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line, parse_constant=pytest.fail)["r2"] is None
    assert all(math.isnan(v) for v in bl.open_run(tmp_path).history["r2"])


def test_the_tensors_of_a_snapshot(tmp_path):
    full_run(tmp_path, early_stopping=None, epochs=1, snapshot_every=1)
    arrays, header = files.read_tensors(RunDir(tmp_path).snapshots()[1])
    params = ["dense1.W", "dense1.b", "batchnorm1.gamma", "batchnorm1.beta", "dense2.W", "dense2.b"]
    want = {f"params/{p}" for p in params} | {f"slots/{p}:{s}" for p in params for s in ("m", "v", "mu_product")}
    want |= {f"state/batchnorm1.running_{s}" for s in ("mean", "var")}
    want |= {f"sums/{s}" for s in ("loss", "gradient_norm", "learning_rate", "accuracy", "top2")}
    assert set(arrays) == want
    assert header["step"] == 1
    assert header["format"] == 1
    assert header["schedule"] == {"learning_rate": 0.05, "best": None, "bad": 0, "cooldown": 0}
    assert arrays["params/dense1.W"].shape == (6, 4)
    assert arrays["sums/loss"].dtype == np.float64


def test_the_last_snapshot_is_the_last_state_and_beside_it_the_best(tmp_path):
    found = full_run(tmp_path)
    assert found.reason == "early_stopping"
    arrays, header = files.read_tensors(list(RunDir(tmp_path).snapshots().values())[-1])
    assert header["reason"] == "early_stopping"
    assert np.array_equal(arrays["best/dense1.W"], found.model.params["dense1.W"])
    assert not np.array_equal(arrays["params/dense1.W"], found.model.params["dense1.W"])


# --- reading back ---------------------------------------------------------------------------------------------------


def test_a_run_is_read_back(tmp_path):
    found = full_run(tmp_path)
    again = bl.open_run(tmp_path)
    assert again.history == found.history
    assert (again.step, again.reason, again.dir) == (found.step, found.reason, tmp_path)
    assert again.record["result"] == found.record["result"]
    assert list(again.model.params) == list(found.model.params)
    for name, a in (again.model.params | again.model.state).items():
        assert a.tobytes() == (found.model.params | found.model.state)[name].tobytes(), name
    X = labelled()[0]
    assert np.array_equal(again.model.predict(X), found.model.predict(X))


def test_a_run_of_a_function_is_read_with_the_function(tmp_path):
    def f(x):
        return bl.Dense(3)(x)

    found = bl.fit(bl.Model(f), labelled(), loss="softmax_cross_entropy", epochs=1, progress=False, run_dir=tmp_path)
    with pytest.raises(bl.BacklitError, match="model=your_model"):
        bl.open_run(tmp_path)
    again = bl.open_run(tmp_path, model=bl.Model(f))
    assert np.array_equal(again.model.params["dense1.W"], found.model.params["dense1.W"])


def test_a_run_directory_may_be_a_string_and_deep(tmp_path):
    found = full_run(str(tmp_path / "a" / "b"), epochs=1)
    assert bl.open_run(str(tmp_path / "a" / "b")).step == found.step


# --- the budget of snapshots ----------------------------------------------------------------------------------------


def test_the_first_and_the_last_snapshot_are_kept_and_sparse_ones_between(tmp_path):
    bl.fit(mlp(), labelled(), loss="softmax_cross_entropy", epochs=1, progress=False, run_dir=tmp_path / "one")
    size = max(p.stat().st_size for p in RunDir(tmp_path / "one").snapshots().values())
    recorder = Recorder(lambda event: None)
    bl.fit(
        mlp(), labelled(), loss="softmax_cross_entropy", epochs=32, batch_size=14, progress=False,
        run_dir=tmp_path / "r", snapshot_mb=5.5 * size / 1e6, callbacks=[recorder],
    )  # fmt: skip
    kept = steps_kept(tmp_path / "r")
    assert kept[0] == 0
    assert kept[-1] == 32
    assert 4 <= len(kept) <= 6
    assert sum(p.stat().st_size for p in RunDir(tmp_path / "r").snapshots().values()) <= 5.5 * size
    gaps = np.diff(kept)
    assert gaps.max() <= 4 * 32 / (len(kept) - 1)
    assert len(recorder.kinds()) > 64  # all were written, most were dropped


def test_two_are_kept_however_small_the_budget(tmp_path):
    full_run(tmp_path, snapshot_mb=1e-9, early_stopping=None)
    assert steps_kept(tmp_path) == [0, 12]


def test_snapshots_every_few_steps(tmp_path):
    full_run(tmp_path, early_stopping=None, epochs=3, snapshot_every=5)
    assert steps_kept(tmp_path) == [0, 2, 4, 5, 6]


# --- what is refused ------------------------------------------------------------------------------------------------


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_is_not_overwritten_unless_asked(tmp_path):
    full_run(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(FileError, match="a run is already here") as caught:
        full_run(tmp_path, epochs=1)
    assert caught.value.code == "BL403"
    assert contents(tmp_path) == before
    found = full_run(tmp_path, overwrite=True, epochs=1)
    assert steps_kept(tmp_path) == [0, 2]
    assert bl.open_run(tmp_path).history == found.history
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_mistake_leaves_the_run_that_was_to_be_replaced(tmp_path):
    full_run(tmp_path)
    before = contents(tmp_path)
    for wrong in ({"batch_size": 0}, {"loss": "mze"}, {"class_weight": [1]}, {"sample_weight": [1.0]}):
        with pytest.raises(bl.BacklitError):
            full_run(tmp_path, overwrite=True, **wrong)
    assert contents(tmp_path) == before


def test_no_run_here(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileError, match="no run in this folder") as caught:
        bl.open_run(tmp_path)
    assert "notes.txt" in str(caught.value)
    with pytest.raises(FileError, match="nothing"):
        bl.open_run(tmp_path / "absent")


def test_a_cut_snapshot_names_the_one_before(tmp_path):
    full_run(tmp_path)
    *_, older, last = RunDir(tmp_path).snapshots().values()
    whole = last.read_bytes()
    for data in (b"", whole[:7], whole[: len(whole) // 2], whole[:-1], b"\xff" * len(whole)):
        last.write_bytes(data)
        with pytest.raises(FileError, match="cut or damaged") as caught:
            bl.open_run(tmp_path)
        assert str(older) in str(caught.value)
    last.unlink()
    assert bl.open_run(tmp_path).step == int(older.stem[5:])


def test_a_cut_only_snapshot_is_damaged(tmp_path):
    full_run(tmp_path, epochs=1)
    for path in RunDir(tmp_path).snapshots().values():
        path.write_bytes(path.read_bytes()[:-3])
    RunDir(tmp_path).snapshots()[2].unlink()
    with pytest.raises(FileError, match="BL605"):
        bl.open_run(tmp_path)


@pytest.mark.parametrize("part", ["params", "state", "slots", "sums", "best", "header"])
def test_one_flipped_bit_is_a_damaged_snapshot(tmp_path, part):
    full_run(tmp_path, snapshot_every=1, epochs=2)
    *_, older, last = list(RunDir(tmp_path).snapshots().values())[:-1]  # in the middle of an epoch: there are sums
    RunDir(tmp_path).snapshots()[4].unlink()
    whole = bytearray(last.read_bytes())
    whole[place_of(whole, part)] ^= 1
    last.write_bytes(whole)
    with pytest.raises(FileError, match="cut or damaged") as caught:
        bl.open_run(tmp_path)
    error = caught.value
    assert str(last) in str(error)
    assert str(older) in error.part("fix")
    assert error.part("expected").startswith(f"{part}: sha256 ")
    assert error.part("got").startswith(f"{part}: sha256 ")
    assert error.part("got") != error.part("expected")


def place_of(whole, part):
    """Where in the file a byte of the first array of a group is, or the digit of the step."""
    length = int.from_bytes(whole[:8], "little")
    if part == "header":
        return whole.index(b'\\"step\\": ') + len(b'\\"step\\": ')
    tensors = json.loads(whole[8 : 8 + length])
    return 8 + length + min(t["data_offsets"][0] for name, t in tensors.items() if name.startswith(f"{part}/"))


def test_the_hashes_are_those_of_names_types_shapes_and_bytes(tmp_path):
    full_run(tmp_path, epochs=1)
    arrays, header = files.read_tensors(RunDir(tmp_path).snapshots()[2])
    digest = hashlib.sha256()
    for name in sorted(n.removeprefix("params/") for n in arrays if n.startswith("params/")):
        a = arrays[f"params/{name}"]
        digest.update(f"{name}|{a.dtype.str}|{a.shape}|".encode() + a.tobytes())
    assert header["sha256"]["params"] == digest.hexdigest()
    assert header["sha256"].keys() == {"params", "state", "slots", "sums", "best", "header"}


def test_a_snapshot_of_a_newer_version(tmp_path):
    full_run(tmp_path, epochs=1)
    last = RunDir(tmp_path).snapshots()[2]
    arrays, header = files.read_tensors(last)
    files.write_tensors(last, arrays, header | {"format": 2})
    with pytest.raises(FileError, match="newer version") as caught:
        bl.open_run(tmp_path)
    assert "format <= 1" in str(caught.value)
    assert "format 2" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": 1}', '{"settings": {}, "model": {}}', "\x00"])
def test_a_damaged_run_json(tmp_path, text):
    full_run(tmp_path, epochs=1)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FileError, match=r"run\.json: the file is damaged"):
        bl.open_run(tmp_path)
    with pytest.raises(FileError, match=r"run\.json: the file is damaged"):
        full_run(tmp_path, epochs=1, resume=True)


def test_a_run_json_of_a_newer_version(tmp_path):
    full_run(tmp_path, epochs=1)
    record = files.read_json(tmp_path / "run.json")
    files.write_json(tmp_path / "run.json", record | {"format": 7})
    with pytest.raises(FileError, match=r"run\.json: it was written by a newer version"):
        bl.open_run(tmp_path)


def test_a_run_without_snapshots(tmp_path):
    full_run(tmp_path, epochs=1)
    for path in RunDir(tmp_path).snapshots().values():
        path.unlink()
    for call in (lambda: bl.open_run(tmp_path), lambda: full_run(tmp_path, epochs=1, resume=True)):
        with pytest.raises(FileError, match="no snapshot to go on from"):
            call()


def test_files_of_other_names_are_no_snapshots(tmp_path):
    found = full_run(tmp_path, epochs=1)
    for name in ("step-best.safetensors", "step-.safetensors", ".step-00000009.safetensors.part", "copy.safetensors"):
        (tmp_path / "snapshots" / name).write_bytes(b"mine")
    assert bl.open_run(tmp_path).step == found.step
    full_run(tmp_path, epochs=1, overwrite=True)
    assert (tmp_path / "snapshots" / "step-best.safetensors").read_bytes() == b"mine"


def test_cut_and_odd_lines_of_metrics_are_left_out(tmp_path):
    found = full_run(tmp_path)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'[]\n\xff\xfe\n{"epoch": 7, "ste')
    assert without_seconds(bl.open_run(tmp_path).history) == without_seconds(found.history)
