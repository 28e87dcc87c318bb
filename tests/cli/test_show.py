"""What is printed: JSON that every reader takes, tables aligned in both languages, colours only where wanted."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.cli import show
from backlit.cli.options import Answer

COLOUR = re.compile(r"\x1b\[[\d;]*m")
PAINT = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[\d;]+)m")


class Screen(io.TextIOWrapper):
    """A stream with an encoding, which may be a terminal."""

    def __init__(self, encoding="utf-8", *, terminal=False):
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    @property
    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


def strict(text):
    """The value of standard JSON, which has neither NaN nor Infinity."""

    def refused(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refused)


def shown(monkeypatch, *parts, **settings):
    screen = Screen(**settings)
    monkeypatch.setattr(sys, "stdout", screen)
    show.answer(Answer({}, parts), as_json=False)
    return screen.text


def width(text):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


# --- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, 1),
        (1.5, 1.5),
        (float("nan"), None),
        (-float("inf"), None),
        ([float("inf"), {"a": float("nan")}], [None, {"a": None}]),
        ((1, (2, 3)), [1, [2, 3]]),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (Path("a") / "b", "a/b"),
        (True, True),
        (None, None),
        (np.float64(0.1), 0.1),
        (np.float64("nan"), None),
        (np.float32(0.5), 0.5),
        (np.float32("inf"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        ("δ · 误差", "δ · 误差"),
    ],
)
def test_any_value_is_standard_json(value, wanted):
    assert strict(show.dumps(value)) == wanted
    assert strict(show.dumps({"x": [value]})) == {"x": [wanted]}
    assert type(strict(show.dumps(value))) is type(wanted)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_every_json_value_comes_back_but_for_numbers_that_are_none(value):
    def told(v):
        if isinstance(v, dict):
            return {k: told(x) for k, x in v.items()}
        if isinstance(v, list):
            return [told(x) for x in v]
        return None if isinstance(v, float) and not np.isfinite(v) else v

    assert strict(show.dumps(value)) == told(value)


def test_chinese_stays_readable():
    assert "误差" in show.dumps({"a": "误差"})


def test_an_error_is_json_where_results_are(capsys):
    show.error({"code": "BL1"}, "[BL1] text", as_json=True)
    out, err = capsys.readouterr()
    assert (strict(out), err) == ({"error": {"code": "BL1"}}, "")
    show.error({"code": "BL1"}, "[BL1] text", as_json=False)
    assert capsys.readouterr() == ("", "[BL1] text\n")


def test_json_and_text_are_never_mixed(capsys):
    answer = Answer({"a": 1}, ("text", show.table(["c"], [("x",)])))
    show.answer(answer, as_json=True)
    assert strict(capsys.readouterr().out) == {"a": 1}
    show.answer(answer, as_json=False)
    out = capsys.readouterr().out
    assert out.startswith("text\n")
    assert "{" not in out


# --- what a stream can say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", "δ = 误差"), ("ascii", "? = ??"), ("latin-1", "? = ??"), ("gbk", "δ = 误差"), ("cp437", "δ = ??")],
)
def test_what_the_encoding_lacks_becomes_a_question_mark(monkeypatch, encoding, said):
    assert shown(monkeypatch, "δ = 误差", encoding=encoding).splitlines() == [said]
    errors = Screen(encoding)
    monkeypatch.setattr(sys, "stderr", errors)
    show.note("δ = 误差")
    assert errors.text.splitlines() == [said]


def test_a_stream_without_an_encoding(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    show.line("δ")
    assert stream.getvalue() == "δ\n"


# --- tables ---------------------------------------------------------------------------------------------------------

ROWS = {
    "en": (["layer", "shape", "norm"], [("dense1", "[3, 4]", "0.5"), ("a", "[]", "12345.678")]),
    "zh": (["层", "形状", "范数"], [("第一层全连接", "[3, 4]", "0.5"), ("层", "[]", "12345.678")]),
    "markup": (["[bold]x[/]", ":smile:", "n"], [("[red]y", "a]b", "1"), ("[/]", "[[", "22")]),
}


@pytest.mark.parametrize("rows", ROWS)
def test_a_table_is_aligned(monkeypatch, rows):
    columns, body = ROWS[rows]
    lines = [
        line.rstrip() for line in shown(monkeypatch, show.table(columns, body, left=2)).splitlines() if line.strip()
    ]
    cells = [columns, *body]
    printed = [line for line in lines if set(line.strip()) - set("─ ")]
    assert len(printed) == len(cells)
    for line, row in zip(printed, cells, strict=True):
        assert all(cell in line for cell in row)
    ends = {width(line) for line in printed}
    assert len(ends) == 1, "numbers end in one column"
    starts = {width(line[: line.index(row[1])]) for line, row in zip(printed, cells, strict=True)}
    assert len(starts) == 1, "words begin in one column"


def test_words_may_stand_last(monkeypatch):
    table = show.table(["a", "n", "w"], [("x", "1", "long words"), ("y", "100", "w")], words=1)
    printed = [line for line in shown(monkeypatch, table).splitlines() if line.strip()[:2] in ("x ", "y ")]
    assert len({line.index(w) for line, w in zip(printed, ("long", "w"), strict=True)}) == 1


def test_a_table_without_rows(monkeypatch):
    assert "layer" in shown(monkeypatch, show.table(["layer", "n"], []))


def test_a_wide_table_is_not_cut_where_nobody_looks(monkeypatch):
    assert "x" * 150 in shown(monkeypatch, show.table(["a"], [("x" * 150,)]))


@pytest.mark.parametrize(
    ("terminal", "variables", "painted"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"NO_COLOR": "1"}, False),
    ],
)
def test_colours_only_where_they_are_wanted(monkeypatch, terminal, variables, painted):
    from rich.text import Text

    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color", "COLUMNS": "80"} | variables).items():
        monkeypatch.setenv(name, value)
    text = shown(monkeypatch, Text("all well", style="green"), terminal=terminal)
    assert bool(PAINT.search(text)) == painted
    assert COLOUR.sub("", text).strip() == "all well"


def test_numbers_in_tables_are_not_highlighted(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not PAINT.search(shown(monkeypatch, show.table(["n"], [("3.5",)]), terminal=True))
