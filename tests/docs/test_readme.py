"""What the README shows runs, in both languages, and both show the same code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = {lang: (ROOT / name).read_text("utf-8") for lang, name in (("en", "README.md"), ("zh", "README.zh.md"))}


def code(page):
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)


def without_comments(text):
    return [re.sub(r"\s*#.*", "", line) for line in text.splitlines()]


def test_both_pages_show_the_same_code_and_figures():
    en, zh = (PAGES[lang] for lang in ("en", "zh"))
    assert list(map(without_comments, code(en))) == list(map(without_comments, code(zh)))
    figures = [re.findall(r"\| \*\*([\d.]+)", page) for page in (en, zh)]
    assert figures[0] == figures[1]
    assert len(figures[0]) == 6


@pytest.mark.parametrize("lang", PAGES)
def test_the_tour_runs(lang, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec("\n".join(code(PAGES[lang])), scope)
    assert scope["run"].history["val_accuracy"][-1] > 0.9
    assert np.allclose(scope["bl"].grad(scope["rosenbrock"])(np.array([-1.2, 1.0])), [-215.6, -88.0])
    assert "chain rule by path" in capsys.readouterr().out


def test_the_error_shown_is_the_error_given():
    import backlit as bl

    with pytest.raises(bl.BacklitError) as caught:
        bl.grad(lambda W: np.sum(bl.ops.linear(np.ones((8, 63)), W)))(np.ones((3, 64)))
    shown = re.search(r"\[BL101\].*\n((?:  .*\n)+)", PAGES["en"])[1].splitlines()
    assert str(caught.value).splitlines()[1:] == shown


def test_the_table_is_what_was_measured():
    """The README's figures are those of the last full run, rounded."""
    measured = re.findall(r"\*\*([\d.]+)%?\*\*", (ROOT / "benchmarks/results/quality.md").read_text("utf-8"))
    shown = re.findall(r"\| \*\*([\d.]+)", PAGES["en"])
    for told, full in zip(shown, measured, strict=True):
        decimals = len(told.partition(".")[2])
        assert float(told) == pytest.approx(float(full), abs=0.51 * 10**-decimals)


@pytest.mark.parametrize("lang", PAGES)
def test_the_table_of_speed_is_what_was_measured(lang):
    """Ours, the best peer, the ratio and the memory of every workload, as the report has them, in its order."""
    report = (ROOT / "benchmarks/results/speed.md").read_text("utf-8").split("\n\n")[1]
    measured = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines()[2:]]
    shown = re.search(r"<!-- speed: .*?-->\n(.*?)<!-- /speed -->", PAGES[lang], re.DOTALL)[1].splitlines()[2:]
    told = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown]
    assert [(r[1], r[2], r[3].strip("*✗ "), r[8].split()[0]) for r in measured if r[1] != "–"] == [
        tuple(row[1:]) for row in told
    ]
    assert [re.findall(r"\d+", row[0]) for row in told] == [re.findall(r"\d+", row[0]) for row in measured]
