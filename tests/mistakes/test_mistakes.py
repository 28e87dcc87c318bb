"""Mistakes that users make: each gives an error that teaches, in both languages, and damages nothing."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from backlit.core import files
from backlit.core.errors import BacklitError, FileError, GraphError, InputError, NumericError, UnknownNameError
from backlit.core.i18n import LANGUAGES, use_language
from backlit.train.rundir import RunDir
from mistakes.table import TABLE, Mistake, X, Y, built, changed, fit, mlp, resume, with_model, with_run

CHINESE = re.compile(r"[\u4e00-\u9fff]")
KINDS = {InputError: ValueError, GraphError: ValueError, UnknownNameError: LookupError, NumericError: ArithmeticError}


def contents(place):
    return {p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def raised_by(mistake, place):
    with pytest.raises(BacklitError) as caught:
        mistake.make(place)
    return caught.value


def numbers(error):
    """All numbers of a message but those of its remedy, whose examples may differ."""
    text = " ; ".join(error.part(part) for part in ("problem", "expected", "got"))
    return sorted(re.findall(r"\d+(?:\.\d+)?", text))


@pytest.mark.parametrize("mistake", TABLE, ids=lambda m: m.what)
def test_a_mistake(mistake, tmp_path):
    mistake.before(tmp_path)
    held = contents(tmp_path)
    error = raised_by(mistake, tmp_path)
    assert type(error) is mistake.error
    assert error.code == mistake.code
    assert isinstance(error, KINDS.get(mistake.error, Exception))
    assert contents(tmp_path) == held, "what was there before must be as it was"
    for lang in LANGUAGES:
        with use_language(lang):
            check_text(error, mistake, lang)
    with use_language("en"):
        english = numbers(error)
    with use_language("zh"):
        assert numbers(error) == english
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def check_text(error, mistake, lang):
    text, fix = str(error), error.part("fix")
    for fragment in mistake.says:
        assert fragment in text, (lang, fragment, text)
    for fragment in mistake.advises:
        assert fragment in fix, (lang, fragment, fix)
    for part in ("problem", "expected", "got", "fix"):
        said = error.part(part)
        assert said.strip(), (lang, part)
        assert "{" not in said.replace("{label", "").replace("{标签", ""), (lang, said)
        assert "\n" not in said, (lang, part)
    assert text.startswith(f"[{mistake.code}] ")
    assert len(text.splitlines()) == 4, text
    assert "?" not in error.part("problem"), "the place must be named"
    assert bool(CHINESE.search(error.part("problem"))) == (lang == "zh"), error.part("problem")
    assert bool(CHINESE.search(fix)) == (lang == "zh"), fix


def test_the_table_is_long_enough_and_says_each_thing_once():
    names = [m.what for m in TABLE]
    assert len(TABLE) >= 100
    assert len(set(names)) == len(names)
    assert len({m.code for m in TABLE}) >= 45


def test_every_mistake_is_made_before_training_starts(tmp_path):
    """A bad option must not be met after an hour: none of these makes a run directory."""
    for options in (
        {"early_stopping": True},
        {"metrics": ["acuracy"]},
        {"clip": 1.0},
        {"notes": {"a": X}},
        {"seed": "x"},
    ):
        with pytest.raises(BacklitError):
            fit(run_dir=tmp_path / "run", **options)
    for data in ((X, Y + 1), (changed(X, (19, 0), np.nan), Y)):
        with pytest.raises(BacklitError):
            fit(data=data, run_dir=tmp_path / "run")
        with pytest.raises(BacklitError):
            fit(validation=data, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mistake_leaves_the_model_usable():
    model = built()
    before = {name: p.copy() for name, p in model.params.items()}
    for data in ((X[:, :3], Y), (X, Y + 9), (X.T, Y)):
        with pytest.raises(InputError):
            fit(model, data)
    assert all(np.array_equal(p, before[name]) for name, p in model.params.items())
    assert fit(model).step == 1


def test_resuming_where_there_is_no_run_begins_one(tmp_path):
    """Not a mistake: the same command begins a run and goes on with it."""
    assert fit(run_dir=tmp_path / "run", resume=True).step == 1
    assert fit(run_dir=tmp_path / "run", resume=True).step == 1


# --- disks ----------------------------------------------------------------------------------------------------------


def failing(number):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_saving_a_model(tmp_path, monkeypatch, number):
    with_model(tmp_path)
    held = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(number))
    row = Mistake(
        "", lambda p: bl.save(mlp().build((4,), seed=9), p / "m.safetensors"), FileError, "BL601", ("m.safetensors",)
    )
    error = raised_by(row, tmp_path)
    assert contents(tmp_path) == held
    size = len(held[Path("m.safetensors")])
    for lang in LANGUAGES:
        with use_language(lang):
            check_text(error, row, lang)
            assert f"{size:,}" in str(error)
    monkeypatch.undo()
    assert bl.load(tmp_path / "m.safetensors").built


@pytest.mark.parametrize("attempt", range(1, 9))
def test_a_full_disk_at_any_write_of_a_run(tmp_path, monkeypatch, attempt):
    """Whatever was whole before is whole after, no half file is left, and the run goes on when there is space again."""
    written, sync = [], os.fsync

    def full(descriptor):
        written.append(descriptor)
        if len(written) >= attempt:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    whole = fit(epochs=3, seed=2, batch_size=8, run_dir=tmp_path / "whole")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError) as caught:
        fit(epochs=3, seed=2, batch_size=8, run_dir=tmp_path / "run")
    assert caught.value.code == "BL601"
    monkeypatch.undo()
    assert not list((tmp_path / "run").rglob("*.part"))
    for path in RunDir(tmp_path / "run").snapshots().values():
        files.read_tensors(path)
    resumed = fit(epochs=3, seed=2, batch_size=8, run_dir=tmp_path / "run", resume=True)
    assert all(p.tobytes() == whole.model.params[name].tobytes() for name, p in resumed.model.params.items())
    assert resumed.history["loss"] == whole.history["loss"]


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    with_model(tmp_path)
    held = contents(tmp_path)
    monkeypatch.setattr(Path, "open", failing(errno.EACCES))
    row = Mistake(
        "", lambda p: bl.save(built(), p / "m.safetensors"), FileError, "BL602", ("m.safetensors", "Permission denied")
    )
    error = raised_by(row, tmp_path)
    monkeypatch.undo()
    assert contents(tmp_path) == held
    for lang in LANGUAGES:
        with use_language(lang):
            check_text(error, row, lang)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_really_may_not_be_written_to(tmp_path):
    with_run(tmp_path)
    held = contents(tmp_path)
    (tmp_path / "run").chmod(0o500)
    try:
        for call in (lambda: bl.save(built(), tmp_path / "run" / "m.safetensors"), lambda: resume(tmp_path, epochs=9)):
            with pytest.raises(FileError, match="BL602"):
                call()
    finally:
        (tmp_path / "run").chmod(0o700)
    assert contents(tmp_path) == held


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs rights that are not here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    small = mlp().build((4,))
    bl.save(small, small_disk / "m.safetensors")
    large = mlp(bl.Dense(4096), bl.Dense(3)).build((4,))
    with pytest.raises(FileError) as caught:
        bl.save(large, small_disk / "m.safetensors")
    assert caught.value.code == "BL601"
    assert sorted(p.name for p in small_disk.iterdir()) == ["m.safetensors"]
    again = bl.load(small_disk / "m.safetensors")
    assert all(np.array_equal(p, again.params[name]) for name, p in small.params.items())
    with pytest.raises(FileError, match="the disk is full"):
        fit(epochs=500, run_dir=small_disk / "run", batch_size=20)
    assert bl.open_run(small_disk / "run").step > 0
