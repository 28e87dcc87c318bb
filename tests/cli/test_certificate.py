"""backlit check RUN --certificate: every rule of a saved run judged, and the judgement kept beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from backlit.core import oracles
from backlit.rules.base import REGISTRY
from cli.running import TINY, called, data_of


@pytest.fixture(autouse=True)
def _own_routes_only(monkeypatch):
    """What the other programs say is the subject of their own tests."""
    monkeypatch.setattr(oracles, "PROVIDERS", {})


def stored():
    return json.loads(Path("runs/moons/certificate.json").read_text("utf-8"))


def test_it_is_written_into_the_run(capsys):
    called(capsys, "train", "moons", *TINY)
    found = data_of(capsys, "check", "runs/moons", "--certificate")
    assert found == stored()
    assert found["verdict"] == "ok"
    assert [row["node"] for row in found["rules"]][-1] == "loss"
    assert set(found["sha256"]) == {"parameters", "graph", "data"}


def test_nothing_is_written_unasked(capsys):
    called(capsys, "train", "moons", *TINY)
    called(capsys, "check", "runs/moons")
    assert not Path("runs/moons/certificate.json").exists()


@pytest.mark.parametrize(
    ("lang", "word", "route"),
    [("en", "certified: every gradient is ok", "complex step"), ("zh", "通过：所有梯度正确", "复步长法")],
)
def test_it_speaks(capsys, lang, word, route):
    called(capsys, "train", "moons", *TINY)
    out, _ = called(capsys, "check", "runs/moons", "--certificate", "--lang", lang)
    assert word in out.splitlines()[-1]
    assert route in out
    assert "dense1.z" in out


@pytest.mark.parametrize("more", [(), ("--certificate",)])
def test_a_wrong_rule_is_named_and_the_exit_code_is_1(capsys, monkeypatch, more):
    called(capsys, "train", "moons", *TINY)
    right = REGISTRY["relu"]
    half = dataclasses.replace(right, backward=lambda xp, dy, *, y: 0.5 * right.backward(xp, dy, y=y))
    monkeypatch.setitem(REGISTRY, "relu", half)
    out, _ = called(capsys, "check", "runs/moons", *more, code=1)
    assert "0.5 times the right gradient" in " ".join(out.split())
    if more:
        assert stored()["findings"][0]["mistake"] == "factor"
