"""Tables in text and HTML, and numbers as people read them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from backlit.core.tables import amount, bar, html_table, text_table, width

ROWS = [["name", "count", "share"], ["dense1.W", "7", "1 %"], ["b", "12345", "99 %"]]


def test_numbers_stand_to_the_right_below_their_heads():
    assert text_table(ROWS) == [
        "name      count  share",
        "────────  ─────  ─────",
        "dense1.W      7    1 %",
        "b         12345   99 %",
    ]


def test_the_columns_named_stand_to_the_left():
    lines = text_table(ROWS, left={1, 2})
    assert lines[2] == "dense1.W  7      1 %"
    assert lines[3] == "       b  12345  99 %"


def test_a_line_ends_with_its_last_character():
    assert all(line == line.rstrip() for line in text_table([["a", "b"], ["1", ""], ["22", "x"]], left={0, 1}))


def test_a_table_of_heads_alone_is_its_heads():
    assert text_table([["a", "bb"]]) == ["a  bb", "─  ──"]


def test_rows_of_different_lengths_are_a_mistake():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        text_table([["a", "b"], ["1"]])


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("δ·W", 3), ("层", 2), ("层1", 3), ("（全）", 6), ("█▏", 2)])
def test_width(text, columns):
    assert width(text) == columns


def test_every_line_of_a_chinese_table_is_as_wide():
    lines = text_table([["名称", "数目", "备注栏"], ["dense1", "3", "无"], ["层", "10000", "全部"]], left=())
    assert len({width(line) for line in lines}) == 1


def test_html_keeps_every_cell_and_escapes_it():
    rows = [["<name>", "a & b"], ['x[0,"1"]', "<script>alert(1)</script>"], ["δ", "1 < 2"]]
    text = html_table(rows)
    table = ET.fromstring(text)
    assert "<script>" not in text
    assert [["".join(c.itertext()) for c in r] for r in table.iter("tr")] == rows
    assert [c.tag for c in table.find("thead/tr")] == ["th", "th"]
    assert {c.tag for r in table.findall("tbody/tr") for c in r} == {"td"}


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "", "0"),
        (1, "B", "1 B"),
        (999.4, "", "999"),
        (999.5, "", "1 k"),
        (1000, "", "1 k"),
        (1049, "B", "1.05 kB"),
        (99_950, "B", "100 kB"),
        (999_499, "", "999 k"),
        (999_500, "", "1 M"),
        (10**6, "FLOP", "1 MFLOP"),
        (10**9, "B", "1 GB"),
        (1.5e12, "B", "1.5 TB"),
        (2e15, "", "2 P"),
        (3e18, "", "3 E"),
        (0.25, "s", "0.25 s"),
    ],
)
def test_amounts(number, unit, text):
    assert amount(number, unit) == text


def test_an_amount_read_back_is_the_number_to_three_digits():
    factors = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    for power in range(160):
        number = 1.37**power / 8
        if number < 9e17:
            digits, _, prefix = amount(number).partition(" ")
            assert float(digits) * factors[prefix] == pytest.approx(number, rel=5.1e-3)


@pytest.mark.parametrize(
    ("share", "cells", "text"),
    [
        (0.0, 4, ""),
        (1.0, 4, "████"),
        (0.25, 4, "█"),
        (1 / 32, 4, "▏"),
        (0.5 + 7 / 32, 4, "██▉"),
        (1.7, 3, "███"),
        (-0.2, 3, ""),
        (0.004, 12, ""),
        (0.006, 12, "▏"),
    ],
)
def test_bars(share, cells, text):
    assert bar(share, cells) == text


def test_a_longer_share_has_no_shorter_bar():
    weight = {c: i for i, c in enumerate(" ▏▎▍▌▋▊▉█")}
    sizes = [sum(weight[c] for c in bar(k / 200)) for k in range(201)]
    assert sizes == sorted(sizes)
    assert sizes == [round(12 * 8 * k / 200) for k in range(201)]
