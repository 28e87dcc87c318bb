"""`backlit derive`: the derivation of a run's network, or of the one that training would make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from cli.running import TINY, called, data_of

SMALL = ("--size", "100", "--hidden", "8")


def test_markdown_on_standard_output(capsys):
    text, _ = called(capsys, "derive", "moons", "--hidden", "4")
    assert text.startswith("# Backpropagation in this network, derived")
    assert r"\mathbf{z}^{(1)} &= \mathbf{W}^{(1)}\,\mathbf{a}^{(0)} + \mathbf{b}^{(1)}" in text
    assert "SGD" in text


def test_of_a_run_with_its_own_settings_and_numbers(capsys):
    called(capsys, "train", "digits", *TINY, "--optimizer", "adam", "--batchnorm", "--out", "run")
    found = data_of(capsys, "derive", "run", "--samples", "3")
    assert found["worst"] < 1e-5
    assert "`Adam`" in found["markdown"]
    assert "$N = 3$" in found["markdown"]
    b = next(e for e in found["entries"] if e["name"] == "dense2.z")
    assert np.isfinite(b["stored"])
    assert {e["name"] for e in found["entries"]} >= {f"∂{n}" for n in bl.open_run("run").model.params}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_files(capsys, lang):
    said, _ = called(capsys, "derive", "digits", *SMALL, "--out", "d.md", "--lang", lang)
    assert said.startswith("d.md")
    text = Path("d.md").read_text("utf-8")
    assert ("误差项" in text) == (lang == "zh")
    called(capsys, "derive", "digits", *SMALL, "--html", "--lang", lang)
    page = Path("derivation.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert (f'lang="{lang}"' in page) or lang == "zh"


def test_the_page_of_a_run_lies_in_its_folder(capsys):
    called(capsys, "train", "digits", *TINY, "--out", "run")
    assert data_of(capsys, "derive", "run", "--html")["file"] == str(Path("run") / "derivation.html")
    assert (Path("run") / "derivation.html").stat().st_size < 1_000_000


def test_what_does_not_exist_is_refused(capsys):
    called(capsys, "derive", "no/such/run", code=2)
    called(capsys, "derive", "moons", "--samples", "0", code=2)
    _, error = called(capsys, "derive", "moons", "--optimizer", "adamm", code=2)
    assert "adam" in error
