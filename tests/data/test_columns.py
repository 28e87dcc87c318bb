"""Cells and columns by themselves: what is missing, what is a number, and what a column becomes for the model."""

from __future__ import annotations

import json
import math
from statistics import fmean, median, pstdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from backlit.data.cells import MISSING, decimal_mark, is_missing, number, numbers, ordered
from backlit.data.columns import (
    MOST_CATEGORIES,
    CategoryColumn,
    NumberColumn,
    column_from_dict,
    column_to_dict,
    fit_column,
    mixed,
    read_numbers,
)
from backlit.data.remarks import Remark
from backlit.data.table import Table


def table(cells, name="c"):
    """A table of one column, as it stands below a header line."""
    array = np.empty((len(cells), 1), dtype=object)
    array[:, 0] = cells
    return Table((name,), array, np.arange(2, len(cells) + 2), "t.csv")


# --- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["", "  ", "\t", "NA", "na", "N/A", "#N/A", "NaN", " nan ", "?", "NULL", "Null"])
def test_missing(cell):
    assert is_missing(cell)
    assert decimal_mark([cell]) is None


@pytest.mark.parametrize("cell", ["0", "-", "none", "no", ".", "n.a.", "nano", "??", "missing", "inf"])
def test_not_missing(cell):
    assert not is_missing(cell)


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=80, deadline=None)
def test_a_number_that_was_printed_is_read(value):
    assert number(repr(value)) == value
    assert number(f"  {value!r}\n") == value
    assert number(repr(value).replace(".", ","), ",") == value


@given(st.integers(-(10**15), 10**15))
@settings(max_examples=80, deadline=None)
def test_thousands_are_understood_in_both_conventions(value):
    text = f"{value:,}"
    assert number(text) == value
    assert number(text.replace(",", "."), ",") == value
    assert number(f"{text}.25") == float(f"{value}.25")
    assert number(f"{text.replace(',', '.')},25", ",") == float(f"{value}.25")


@pytest.mark.parametrize(
    "cell",
    [
        "0x10",
        "1e",
        "--1",
        "1 000",
        "1,00",
        ",5",
        "1,,000",
        "1.2.3",
        "٣x",
        "1_0",
        "nan",
        "-inf",
        "1e400",
        "1,000,00",
        "5%",
        "$5",
    ],
)
def test_what_is_no_number(cell):
    assert number(cell) is None


@pytest.mark.parametrize(
    ("cells", "wanted", "bad"),
    [
        ([], [], None),
        (["1", "", "2"], [1, math.nan, 2], None),
        (["?", "NA"], [math.nan] * 2, None),
        (["1", "x", "y"], [1, math.nan, math.nan], 1),
        (["x"], [math.nan], 0),
        (["", "1.5", "1,5"], [math.nan, 1.5, math.nan], 2),
    ],
)
def test_numbers_and_the_first_that_is_none(cells, wanted, bad):
    values, found = numbers(cells)
    np.testing.assert_array_equal(values, np.array(wanted, float))
    assert found == bad


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["1"], "."),
        (["1,234", "5"], "."),  # thousands before decimals
        (["1,5", "2"], ","),
        (["1.234", "1,5"], ","),
        (["1.234,5"], ","),
        (["1,234.5", "1.234,5"], None),
        (["x", "1"], None),
        ([], None),
        (["-1", "NA", "1e3"], "."),
    ],
)
def test_the_mark_that_fits_every_cell(cells, mark):
    assert decimal_mark(cells) == mark


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["b", "a", "B"], ("B", "a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["x", "2", "10", "x"], ("2", "10", "x")),
        (["1.0", "1"], ("1", "1.0")),
        ([], ()),
    ],
)
def test_order_is_by_size_then_by_text(values, wanted):
    assert ordered(values) == ordered(reversed(values)) == wanted


# --- columns of numbers ---------------------------------------------------------------------------------------------

VALUES = st.lists(st.none() | st.floats(-1e6, 1e6).map(lambda v: round(v, 3)), min_size=2, max_size=20)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_the_figures_of_a_column_are_those_of_the_statistics_module(values):
    there = [v for v in values if v is not None]
    if len(set(there)) < 2:
        return
    column = NumberColumn.fit(table(["" if v is None else repr(v) for v in values]), "c", ".")
    filled = [median(there) if v is None else v for v in values]
    assert column.median == pytest.approx(median(there), rel=1e-12)
    assert column.mean == pytest.approx(fmean(filled), rel=1e-9, abs=1e-9)
    assert column.std == pytest.approx(pstdev(filled), rel=1e-9, abs=1e-9)


def test_a_missing_value_is_encoded_as_the_training_median():
    column = NumberColumn("c", ".", median=4.0, mean=2.0, std=0.5)
    assert column.encode(table(["2", "", "3", "?"])).tolist() == [[0], [4], [2], [4]]
    assert column.features == ("c",)
    assert column.about() == ()


def test_the_comma_of_training_is_the_comma_afterwards():
    """1.234 is one thousand where the comma was the decimal mark in training."""
    column = NumberColumn("c", ",", median=0.0, mean=0.0, std=1.0)
    assert column.encode(table(["1,5", "1.234", "1.234,5"])).tolist() == [[1.5], [1234], [1234.5]]


def test_a_cell_that_is_no_number_is_named_with_its_line():
    with pytest.raises(InputError) as caught:
        read_numbers(table(["1", "", "three", "four"]), "c", ".")
    assert caught.value.key == "data_cell_number"
    for words in ("t.csv", "line 4", "'three'"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1", "2"], []),
        (["1", "", "?"], ["2 missing values become the training median 7"]),
        (["1,000", "2"], ["'1,000' is read as 1000"]),
        (["", "12,500.25"], ["'12,500.25' is read as 12500.25", "1 missing values"]),
    ],
)
def test_what_is_said_of_a_column_of_numbers(cells, said):
    found = [r.text() for r in NumberColumn("c", ".", 7.0, 0.0, 1.0).remarks(table(cells))]
    assert len(found) == len(said)
    assert all(words in text for words, text in zip(said, found, strict=True))


# --- columns of categories ------------------------------------------------------------------------------------------


def test_categories_are_distinct_stripped_and_ordered():
    column = CategoryColumn.fit(table([" b", "a ", "b", "NA", "", "10", "9"]), "c")
    assert column.categories == ("9", "10", "a", "b")
    assert column.features == ("c=9", "c=10", "c=a", "c=b")


@given(st.lists(st.sampled_from(["u", " u ", "v", "w", "", "NA", "new"]), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_one_hot_by_a_loop(cells):
    column = CategoryColumn("c", ("u", "v", "w"))
    found = column.encode(table(cells))
    assert found.dtype == np.float64
    assert found.tolist() == [[float(cell.strip() == c) for c in "uvw"] for cell in cells]


def test_what_is_said_of_categories():
    column = CategoryColumn("c", ("u", "v"))
    assert list(column.remarks(table(["u", " v "]))) == []
    said = [r.text() for r in column.remarks(table(["z", "", "x", "z", "y", "w", "NA"]))]
    assert said == [
        "Column 'c': 2 missing values belong to no category (all zeros).",
        "Column 'c': 5 rows have a category not seen in training (w, x, y); all zeros.",
    ]
    with use_language("zh"):
        assert "2 个类别" in column.about()[0].text()


# --- which of them a column becomes ---------------------------------------------------------------------------------

FITTED = {
    "numbers": (["1", "2", "3"], ".", NumberColumn),
    "two numbers and missing ones": (["1", "", "2"], ".", NumberColumn),
    "texts": (["a", "b", "a"], None, CategoryColumn),
    "one text or nothing": (["a", "", "a"], None, CategoryColumn),
    "numbers as categories": (["1", "2", "1"], None, CategoryColumn),
    "twenty texts": ([f"t{i}" for i in range(20)], None, CategoryColumn),
    "as many texts as half the rows": ([f"t{i % 30}" for i in range(60)], None, CategoryColumn),
    "a text for nearly every row": ([f"t{i % 31}" for i in range(60)], None, "note_too_many"),
    "twenty-one texts in as many rows": ([f"t{i}" for i in range(21)], None, "note_too_many"),
    "as many categories as there may be": ([f"t{i % MOST_CATEGORIES}" for i in range(1000)], None, CategoryColumn),
    "one category more": ([f"t{i % (MOST_CATEGORIES + 1)}" for i in range(1000)], None, "note_too_many"),
    "one number": (["5", "5", "5"], ".", "note_constant"),
    "one number in two spellings": (["5", "5.0", "5"], ".", "note_constant"),
    "one number that is no binary fraction": (["0.1", "0.10"] * 6, ".", "note_constant"),
    "one number or nothing": (["0.1"] * 12 + [""], ".", "note_constant"),
    "one text": (["a", "a ", " a"], None, "note_constant"),
    "nothing": (["", "NA", "?"], None, "note_constant"),
}


@pytest.mark.parametrize("what", FITTED)
def test_what_a_column_becomes(what):
    cells, decimal, wanted = FITTED[what]
    found = fit_column(table(cells), "c", decimal)
    if isinstance(wanted, str):
        assert isinstance(found, Remark)
        assert (found.key, found.values["name"]) == (wanted, "c")
    else:
        assert type(found) is wanted


@pytest.mark.parametrize("shift", [0.0, 0.1, 1e5 + 0.1, -1e-3])
def test_whatever_differs_is_a_column(shift):
    found = fit_column(table([repr(shift), repr(shift + 1.0)] * 3), "c", ".")
    assert isinstance(found, NumberColumn)
    assert found.std == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("cells", "line"),
    [(["1", "2", "x"], 4), (["x", "1", "2"], 2), (["1", "x"], None), (["a", "b", "1"], None), (["1", "2", "3"], None)],
)
def test_a_stray_text_among_numbers_is_pointed_at(cells, line):
    found = list(mixed(table(cells), "c"))
    assert [r.values["line"] for r in found] == ([] if line is None else [line])


@pytest.mark.parametrize(
    "column", [NumberColumn("n", ",", 1.5, -0.1, 1e-3), CategoryColumn("c", ("a", "ü", "10")), CategoryColumn("c", ())]
)
def test_columns_survive_json(column):
    again = column_from_dict(json.loads(json.dumps(column_to_dict(column))))
    assert again == column
    assert type(again) is type(column)


def test_the_words_for_missing_are_lower_case():
    """They are compared with cells whose case is folded."""
    assert {word.casefold() for word in MISSING} == set(MISSING)
