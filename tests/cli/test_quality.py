"""The jobs of benchmarks/quality.py on a part of the training data and the whole test part, each with its threshold."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from backlit.data.sources import folders
from cli.running import environment

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "quality.py"


def _script():
    spec = importlib.util.spec_from_file_location("quality", SCRIPT)
    found = sys.modules["quality"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


quality = _script()
REDUCED = {
    "digits": (600, 60, 0.93),
    "mnist": (4_000, 10, 0.92),
    "fashion_mnist": (4_000, 10, 0.81),
    "california_housing": (3_000, 40, 0.68),
    "wine_quality": (800, 40, 0.60),
    "bike_sharing": (4_000, 20, 100.0),
}
"""Training samples, epochs, and what is to be reached with them."""
SLOW = {"mnist", "fashion_mnist"}


def test_every_job_is_tried_here():
    assert REDUCED.keys() == quality.JOBS.keys()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in REDUCED])
def test_a_reduced_job_reaches_its_threshold(name, tmp_path, monkeypatch):
    size, epochs, required = REDUCED[name]
    if name != "digits" and not any((folder / name).is_dir() for folder in folders()):
        pytest.skip(f"{name} is not here: set BACKLIT_DATA")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    job = dataclasses.replace(quality.JOBS[name], required=required)
    outcome = quality.run(job, tmp_path, "--size", str(size), "--epochs", str(epochs))
    assert outcome.ok, outcome.figure
    assert outcome.figure == outcome.result["test"][job.metric]


def outcome_of(metric, figure, required, better=1):
    result = {"test": {metric: figure}, "last_epoch": {"epoch": 20}, "parameters": 1234}
    return quality.Outcome(quality.Quality("train moons", metric, required, better), result, 3.4)


@pytest.mark.parametrize(
    ("outcome", "ok"),
    [
        (outcome_of("accuracy", 0.97, 0.97), True),
        (outcome_of("accuracy", 0.969, 0.97), False),
        (outcome_of("rmse", 99.0, 100.0, -1), True),
        (outcome_of("rmse", 101.0, 100.0, -1), False),
    ],
)
def test_the_table_says_whether_a_requirement_is_met(outcome, ok):
    assert outcome.ok is ok
    cells = [cell.strip() for cell in outcome.row().strip("|").split("|")]
    assert cells[:3] == ["moons", "`backlit train moons`", "1,234"]
    assert cells[5].startswith("**" if ok else "✗")
    assert cells[6:] == ["20", "3"]


def test_the_table_names_the_machine():
    text = quality.table([outcome_of("accuracy", 0.98, 0.97)])
    assert "NumPy" in text
    assert "98.00%" in text
    assert "≥ 97.00%" in text
