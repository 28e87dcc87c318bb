"""Ctrl-C and --resume: a run that was interrupted ends, byte for byte, where the uninterrupted one ends."""

from __future__ import annotations

import json
import random
import shlex
import signal
import time
from pathlib import Path

import pytest

from cli.running import called, finished, start

WORDS = ("train", "moons", "--size", "400", "--hidden", "16", "--batch-size", "8", "--dropout", "0.1", "--quiet")


def snapshots(place):
    return sorted(Path(place, "snapshots").glob("*.safetensors"))


def rows(place):
    """The lines of metrics.jsonl, but for the time they took."""
    lines = Path(place, "metrics.jsonl").read_text("utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def same(one, other):
    assert snapshots(one)[-1].name == snapshots(other)[-1].name
    assert snapshots(one)[-1].read_bytes() == snapshots(other)[-1].read_bytes()
    assert rows(one) == rows(other)


@pytest.mark.parametrize("steps", [1, 37, 61])
def test_from_the_middle_of_an_epoch(capsys, steps):
    """An epoch has 30 steps. What came after a snapshot is taken away, as if the machine had died there."""
    words = (*WORDS, "--epochs", "4", "--snapshot-every", "1")
    called(capsys, *words, "--out", "whole")
    called(capsys, *words, "--out", "cut")
    for path in snapshots("cut"):
        if int(path.stem.split("-")[1]) > steps:
            path.unlink()
    called(capsys, *words, "--out", "cut", "--resume")
    same("cut", "whole")


def test_more_epochs_are_more_of_the_same_where_the_rate_does_not_depend_on_them(capsys):
    words = (*WORDS, "--schedule", "constant")
    called(capsys, *words, "--epochs", "3", "--out", "whole")
    called(capsys, *words, "--epochs", "2", "--out", "grown")
    called(capsys, *words, "--epochs", "3", "--out", "grown", "--resume")
    same("grown", "whole")


def test_another_run_is_not_taken_for_this_one(capsys):
    called(capsys, *WORDS, "--epochs", "1")
    _, err = called(capsys, *WORDS, "--epochs", "1", "--lr", "0.5", "--resume", code=2)
    assert "BL404" in err
    assert "learning_rate" in err


def interrupted(tmp_path, place, delay):
    process = start(*WORDS, "--epochs", "100", "--out", place, cwd=tmp_path)
    while not snapshots(tmp_path / place):
        time.sleep(0.01)
        assert process.poll() is None, process.stderr.read()
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""
    return err


def test_ctrl_c_at_a_random_moment(tmp_path):
    delay = random.uniform(0.0, 0.4)
    err = interrupted(tmp_path, "cut", delay)
    step = int(snapshots(tmp_path / "cut")[-1].stem.split("-")[1])
    assert f"step {step} " in err
    command = shlex.split(err.strip().splitlines()[-1].split(": ", 1)[1])
    assert command[0] == "backlit"
    assert finished(*command[1:], cwd=tmp_path).returncode == 0
    assert finished(*WORDS, "--epochs", "100", "--out", "whole", cwd=tmp_path).returncode == 0
    assert step < 3000, delay
    same(tmp_path / "cut", tmp_path / "whole")


def test_ctrl_c_in_chinese_and_as_json(tmp_path):
    process = start(*WORDS, "--epochs", "2000", "--json", "--lang", "zh", cwd=tmp_path)
    while not snapshots(tmp_path / "runs" / "moons"):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "继续训练" in err
    found = json.loads(out)
    assert found["reason"] == "interrupted"
    assert found["resume"].endswith("--out runs/moons --resume")
