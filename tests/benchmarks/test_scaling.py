"""Scaling curves and whole jobs: what is computed from what the processes tell."""

from __future__ import annotations

import json
import math
import re
import sys
import xml.etree.ElementTree as ET

import pytest

ROWS = [("a", 8, 0.001, 1e8), ("b", 8, 0.01, 2e8), ("a", 64, 0.002, 1e8), ("b", 64, 0.1, 3e8)]


def test_a_plot_is_a_picture_with_a_curve_for_each_peer_and_points_in_proportion():
    import scaling

    root = ET.fromstring(scaling.plotted("batch", ROWS))
    assert root.tag.endswith("svg")
    curves = [e for e in root.iter() if e.get("class") == "curve"]
    assert len(curves) == 4  # two peers, time and memory
    (x1, y1), (x2, y2) = (map(float, p.split()) for p in curves[1].get("d")[1:].split("L"))
    (_, z1), (_, z2) = (map(float, p.split()) for p in curves[0].get("d")[1:].split("L"))
    assert x2 > x1
    assert (y1 - y2) / (z1 - z2) == pytest.approx(math.log(10) / math.log(2), abs=0.02)  # by logarithms


def test_the_table_has_a_row_for_each_point():
    import scaling

    lines = scaling.table("batch", ROWS).splitlines()
    assert lines[0] == "| batch | a | b |"
    assert lines[2:] == ["| 8 | 1 ms, 100 MB | 10 ms, 200 MB |", "| 64 | 2 ms, 100 MB | 100 ms, 300 MB |"]


def test_rows_have_the_size_of_the_file_beside_them():
    import scaling

    found = [("backlit.fit", 10, 0.001, 5e7), ("the file", 10, 0.0, 3e7)]
    assert scaling.table("rows", found).splitlines()[2] == "| 10 | 30 MB | 1 ms, 50 MB |"
    assert [line.label for line in scaling.curves(found, 2, 1.0)] == ["backlit.fit"]
    assert [line.label for line in scaling.curves(found, 3, 1.0)] == ["backlit.fit", "the file"]


def test_axes_not_asked_for_stay(tmp_path, monkeypatch):
    import scaling

    (tmp_path / "scaling.json").write_text(json.dumps({"width": ROWS}), "utf-8")
    monkeypatch.setattr(scaling, "grown", lambda *_: ROWS)
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--axis", "depth", "--out", str(tmp_path)])
    scaling.main()
    text = (tmp_path / "scaling.md").read_text("utf-8")
    assert re.findall(r"^## (\w+)", text, re.MULTILINE) == ["width", "depth"]
    assert (tmp_path / "scaling-depth.svg").exists()


@pytest.mark.slow
def test_rows_of_a_mapped_file_are_not_held(tmp_path):
    """160 MB of data cost no more memory of the process's own than 31 MB."""
    import scaling

    small, large = (scaling.epoch_of(count, tmp_path)["own_bytes"] for count in (10_000, 51_000))
    assert large - small < 40_000_000


def job(peer, seconds, epochs, accuracy=0.98):
    import whole

    return whole.Job(peer, seconds, epochs, accuracy)


def test_a_whole_job_has_to_reach_the_accuracy_and_an_epoch_to_be_twice_as_fast():
    import whole

    ours = job("backlit", [2.0, 2.0], [0.1, 0.1])
    assert whole.ok([ours, job("torch", [4.0, 5.0], [0.3, 0.2])])
    assert not whole.ok([ours, job("torch", [1.9, 1.9], [0.3, 0.2])])
    assert not whole.ok([ours, job("torch", [4.0, 4.0], [0.19, 0.19])])
    assert not whole.ok([ours, job("torch", [4.0, 4.0], [0.3, 0.3], 0.9749)])
    assert not whole.ok([job("backlit", [2.0], [0.1], 0.9749), job("torch", [4.0], [0.3])])


def test_the_rows_of_whole_jobs_show_ratios_and_what_failed():
    import whole

    ours, failed = job("backlit", [2.0], [0.1]), whole.Job("jax", failed="no jax")
    assert "| 2 s | 1.00 | 100 ms | 1.00 |" in ours.row(ours)
    assert "| 4 s | 2.00 | 300 ms | 3.00 |" in job("torch", [4.0], [0.3]).row(ours)
    assert "not measured: no jax" in failed.row(ours)


def test_seconds_of_epochs_come_from_the_script_or_from_the_run_directory(tmp_path):
    import whole

    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 3.0}\n{"step": 2}\n{"seconds": 2.0}\n', "utf-8")
    assert whole.epochs_of({"seconds": [1.0, 2.0]}, tmp_path) == [1.0, 2.0]
    assert whole.epochs_of({"seconds": 9.0}, tmp_path) == [3.0, 2.0]
    assert whole.epochs_of({}, tmp_path) == [3.0, 2.0]


def test_the_scripts_see_every_sample_once_an_epoch_and_the_rate_falls_to_nothing(monkeypatch):
    monkeypatch.syspath_prepend(str(__import__("pathlib").Path(__file__).parents[2] / "benchmarks" / "peers"))
    import mnist
    import numpy as np

    rows = list(mnist.batches(np.random.default_rng(0)))
    assert sorted(np.concatenate(rows)) == list(range(50_000))
    assert (len(rows), len(rows[-1])) == (391, 80)
    assert [mnist.rate(t, 100) for t in (1, 51, 101)] == pytest.approx([2e-3, 1e-3, 0.0])
