"""backlit explain and trace: past steps of a run on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from backlit.cli.explain import HALF, bar
from backlit.cli.jobs import reopened
from backlit.glass.trace import Trace
from backlit.train.rundir import RunDir
from cli.running import called, data_of, write_csv

SMALL = ("--size", "150", "--hidden", "8", "--epochs", "2", "--batch-size", "50", "--quiet")


@pytest.fixture
def digits(capsys):
    called(capsys, "train", "digits", *SMALL, "--out", "run")
    return "run"


# --- explain --------------------------------------------------------------------------------------------------------


def test_a_weight_is_walked_to_the_loss_and_to_the_pixel(capsys, digits):
    out, _ = called(capsys, "explain", digits, "dense1.W[3,20]")
    titles = re.findall(r"╭─ (\S+)", out)
    assert [t.split("[")[0] for t in titles] == [
        "Δdense1.W", "∂dense1.W", "dense1.δ", "∂dense1.a", "dense2.δ", "loss", "x",
    ]  # fmt: skip
    assert "m_hat = m / (1 - beta1**t)" in out
    assert "is the pixel in row 2, column 4 of training image" in out
    assert "7 numbers computed again from their operands: all equal bit for bit" in out
    assert "│██████████" in out or "██████████│" in out


def test_the_numbers_are_those_of_the_step(capsys, digits):
    found = data_of(capsys, "explain", digits, "Δdense2.W[4,1]", "--step", 3)
    run, job = reopened(Path(digits))
    trace = run.at(3)
    assert found["ok"] is True
    assert (found["step"], found["loss"]) == (3, trace.loss)
    assert found["samples"] == trace.notes["samples"]
    assert found["up"][0]["value"] == float(trace.explain("Δdense2.W[4,1]").value)
    assert found["up"][1]["entry"] == "∂dense2.W[4,1]"
    assert found["up"][1]["value"] == float(trace.grad("dense2.W")[4, 1])
    assert all(receipt["recomputed_equal"] for receipt in found["up"] + found["down"])
    n, pixel = map(int, re.findall(r"\d+", found["end"]["entry"]))
    sample = found["samples"][n]
    assert job.data.features[pixel] == "pixel[{},{}]".format(
        *re.findall(r"row (\d+), column (\d+)", found["end"]["name"])[0]
    )
    assert f"training image {sample} (class {job.data.train[1][sample]})" in found["end"]["name"]
    assert found["down"][-1]["value"] == float(job.data.train[0][sample, pixel])


def test_names_may_ask_for_anything(capsys, digits):
    for entry in ("∂dense1.W[0,0]", "dense1.delta[0,3]", "dense2.z[1,1]", "value dense1.b[2]", "loss"):
        assert data_of(capsys, "explain", digits, entry)["ok"] is True
    assert data_of(capsys, "explain", digits, "∂dense1.W[0,0]")["up"][0]["entry"] == "∂dense1.W[0,0]"


def test_depth_bounds_the_walk(capsys, digits):
    found = data_of(capsys, "explain", digits, "dense1.W[3,20]", "--depth", 2)
    assert len(found["up"]) == 2


def test_it_speaks_chinese(capsys, digits):
    out, _ = called(capsys, "explain", digits, "dense2.W[1,1]", "--lang", "zh")
    assert "沿链式法则到损失" in out
    assert "全部逐位相等" in out
    assert re.search(r"第 \d+ 行、第 \d+ 列的像素", out)


def test_columns_of_a_table_are_named(capsys, tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"{a:.3f}", f"{b:.3f}", f"{2 * a - b:.3f}"] for a, b in rng.normal(size=(80, 2))]
    write_csv(tmp_path / "t.csv", [["width", "height", "area"], *rows])
    called(capsys, "train", "t.csv", "--hidden", "4", "--epochs", "2", "--quiet", "--out", "run")
    found = data_of(capsys, "explain", "run", "loss")
    assert re.search(r"is '(width|height)' of training sample \d+$", found["end"]["name"])


def test_class_weights_are_part_of_the_data(capsys):
    called(capsys, "train", "digits", *SMALL, "--class-weight", "balanced", "--out", "run")
    assert data_of(capsys, "explain", "run", "dense1.W[0,20]")["ok"] is True


@pytest.mark.parametrize(
    ("value", "most", "shown"),
    [
        (1.0, 1.0, " " * HALF + "│" + "█" * HALF),
        (-1.0, 1.0, "█" * HALF + "│" + " " * HALF),
        (0.5, 1.0, " " * HALF + "│█████     "),
        (0.0, 1.0, " " * HALF + "│" + " " * HALF),
        (0.0, 0.0, " " * HALF + "│" + " " * HALF),
        (float("nan"), float("nan"), " " * HALF + "│" + " " * HALF),
    ],
)
def test_bars_go_left_for_negative_numbers(value, most, shown):
    assert bar(value, most) == shown


# --- trace ----------------------------------------------------------------------------------------------------------


def test_a_step_as_a_table_and_in_a_file(capsys, digits, tmp_path):
    out, _ = called(capsys, "trace", digits, "--step", 2, "--out", tmp_path / "step.safetensors")
    assert "step 2 of run" in out
    assert all(name in out for name in ("dense1.W", "dense1.z", "dense2.z", "loss"))
    again = Trace.load(tmp_path / "step.safetensors")
    assert again.step == 2
    assert again.diff(reopened(Path(digits))[0].at(2)) == []
    assert again.explain("Δdense1.W[0,0]").ok


def test_one_layer(capsys, digits):
    found = data_of(capsys, "trace", digits, "--layer", "dense2")
    assert [row["name"] for row in found["values"]] == ["dense2.W", "dense2.b", "dense2.z"]
    assert found["step"] == 6
    assert float(found["values"][0]["gradient_norm"]) > 0


# --- what cannot be shown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("explain", "run", "dens1.W[0,0]"), "BL0", r"dense1\.W"),
        (("explain", "run", "dense1.W[99,0]"), "BL903", r"dense1\.W\[0…7, 0…63\]"),
        (("explain", "run", "dense1.W"), "BL903", r"0…7"),
        (("explain", "run", "dense1.W[x]"), "BL902", "whole numbers"),
        (("explain", "run", "∂y[0]"), "BL901", "no gradient"),
        (("explain", "run", "Δx[0,0]"), "BL904", "no update"),
        (("explain", "run", "loss", "--step", "7"), "BL430", "1 <= step <= 6"),
        (("trace", "run", "--step", "7"), "BL430", "1 <= step <= 6"),
        (("trace", "run", "--layer", "dence1"), "BL0", "dense1"),
        (("trace", "nowhere"), "BL4", "nowhere"),
        (("explain", "run", "loss", "--step", "0"), "BL7", "--step"),
    ],
)
def test_mistakes_are_told(capsys, digits, words, code, says):
    _, err = called(capsys, *words, code=2)
    assert err.startswith(f"[{code}") or code in ("BL0", "BL4"), err
    assert re.search(says, err)
    assert "Traceback" not in err


def test_changed_data_are_refused_unless_forced(capsys, tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"{a:.3f}", f"{b:.3f}", f"{a - b:.3f}"] for a, b in rng.normal(size=(60, 2))]
    write_csv(tmp_path / "t.csv", [["a", "b", "c"], *rows])
    called(capsys, "train", "t.csv", "--hidden", "4", "--epochs", "2", "--quiet", "--out", "run")
    rows[3][0] = "0.123"
    write_csv(tmp_path / "t.csv", [["a", "b", "c"], *rows])
    for words in (("explain", "run", "loss"), ("trace", "run")):
        _, err = called(capsys, *words, code=2)
        assert "BL712" in err
        assert "--force" in err
        called(capsys, *words, "--force")


def test_a_damaged_snapshot_and_a_newer_run_are_told(capsys, digits):
    place = RunDir(Path(digits))
    first = place.snapshots()[0]
    whole = first.read_bytes()
    first.write_bytes(whole[:100])
    assert "damaged" in called(capsys, "explain", digits, "loss", "--step", 1, code=2)[1]
    first.write_bytes(whole)
    record = json.loads(place.record.read_text())
    place.record.write_text(json.dumps(record | {"format": 99}))
    assert "newer version" in called(capsys, "trace", digits, code=2)[1]


def test_a_run_made_in_python_is_told_apart(capsys):
    X = np.random.default_rng(0).normal(size=(20, 3))
    bl.fit(bl.Sequential(bl.Dense(1)), (X, X[:, :1]), loss="mse", epochs=1, run_dir="py", progress=False)
    assert "BL711" in called(capsys, "explain", "py", "loss", code=2)[1]
