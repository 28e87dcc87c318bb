"""The CSV reader by itself: cells, lines, delimiters, quotes, headers; and tables as values."""

from __future__ import annotations

import csv
import gzip
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.core.errors import FileError, InputError
from backlit.data.table import Table, parse_csv, read_csv, unpacked

SMALL = parse_csv(b"a,b,c\n1,x,\n2,y,z\n3,,w\n", "t.csv")


def cells(found):
    return found.cells.tolist()


# --- reading --------------------------------------------------------------------------------------------------------


def test_names_cells_and_lines():
    assert SMALL.names == ("a", "b", "c")
    assert cells(SMALL) == [["1", "x", ""], ["2", "y", "z"], ["3", "", "w"]]
    assert SMALL.lines.tolist() == [2, 3, 4]
    assert (len(SMALL), SMALL.where, SMALL.has_header) == (3, "t.csv", True)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,b\n1,2\n3,4\n", [2, 3]),
        ("a,b\n\n1,2\n\n\n3,4", [3, 6]),
        ("a,b\r\n1,2\r\n3,4\r\n", [2, 3]),
        ('a,b\n"one\ntwo",2\n3,4\n', [3, 4]),
        ("\ufeffa,b\n1,2\n3,4\n", [2, 3]),
        ('a,b\n1,"two\n\n\nfive"\n3,4\n', [5, 6]),
    ],
)
def test_rows_know_the_line_they_end_in(text, lines):
    found = parse_csv(text.encode(), "t", header=True)
    assert found.lines.tolist() == lines
    assert found.names == ("a", "b")


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('",;\t\n'), max_size=6)
ROWS = st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=6))


@given(ROWS, st.sampled_from(",;\t"))
@settings(max_examples=80, deadline=None)
def test_what_the_csv_module_quotes_is_read_back(rows, delimiter):
    rows = [[cell.lstrip(" ") for cell in row] for row in rows]  # blanks after a delimiter are skipped
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    found = parse_csv(stream.getvalue().encode(), "t", header=False, delimiter=delimiter)
    assert cells(found) == rows


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("a,b\n1,2\n", ["1", "2"]),
        ("a;b\n1;2\n", ["1", "2"]),
        ("a\tb\n1\t2\n", ["1", "2"]),
        ("a;b\n1,5;2,5\n", ["1,5", "2,5"]),  # the comma is the decimal mark
        ("a\tb\n1,5\t2;5\n", ["1,5", "2;5"]),
        ("a,b\nx;y,2\n", ["x;y", "2"]),
        ('a,b\n"x;y",2\n', ["x;y", "2"]),
        ("a, b\n1, 2\n", ["1", "2"]),
        ("only\n1\n", ["1"]),
    ],
)
def test_the_delimiter_is_found_out(text, row):
    assert cells(parse_csv(text.encode(), "t", header=True))[0] == row


def test_the_delimiter_that_was_named_is_taken():
    assert cells(parse_csv(b"a,b;c,d\n1,2;3,4\n", "t", delimiter=",", header=True)) == [["1", "2;3", "4"]]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("1,2\n3,4\n", False),
        ("year,2001\nx,5\n", False),
        ("a,b\n1,\n2,3\n", True),
        ("2001,2002\n1,2\n", False),
        ("only\n1\n", True),
        ("word\nother\nthird\n", True),
        ("word\nother\nword\n", False),
        ("NA,b\n1,2\n", True),
    ],
)
def test_whether_the_first_row_names_columns(text, header):
    found = parse_csv(text.encode(), "t")
    assert found.has_header is header
    assert len(found) == len(text.splitlines()) - header


@pytest.mark.parametrize(
    ("known", "header"), [((), True), (("b",), True), (("b", "other"), True), (("z",), False), (("A",), False)]
)
def test_names_known_from_training_decide(known, header):
    assert parse_csv(b" a , b \n1,2\n", "t", known=known).has_header is header


def test_columns_without_a_name_get_their_number():
    assert parse_csv(b"a,,c\n1,2,3\n", "t", header=True).names == ("a", "column2", "c")
    assert parse_csv(b"1,2\n", "t", header=False).names == ("column1", "column2")


@pytest.mark.parametrize(
    ("data", "key", "values"),
    [
        (b"", "data_csv_empty", {}),
        (b"\n \n"[:1], "data_csv_empty", {}),
        (b"a,b\n1,2\n3\n", "data_csv_ragged", {"line": 3, "want": 2, "count": 1}),
        (b"a,b\n1,2\n\n3,4,5\n", "data_csv_ragged", {"line": 4, "want": 2, "count": 3}),
        (b'a,b\n"1\n\n,2\n', "data_csv_malformed", {"line": 4}),
        (b'a,b\n"1"x,2\n', "data_csv_malformed", {"line": 2}),
        (b"a,b\n1,\xff\n", "data_csv_encoding", {"line": 2, "byte": 0xFF}),
        (b"a\xe4,b\n1,2\n", "data_csv_encoding", {"line": 1, "byte": 0xE4}),
        (b"a, a \n1,2\n", "data_csv_duplicate", {"name": "a"}),
        (b"column2,\n1,2\n", "data_csv_duplicate", {"name": "column2"}),
    ],
)
def test_faults_tell_the_place(data, key, values):
    with pytest.raises(FileError) as caught:
        parse_csv(data, "mine.csv")
    assert caught.value.key == key
    assert {name: caught.value.values[name] for name in values} == values
    assert "mine.csv" in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_gzip_and_plain_bytes(size):
    data = b"0123456789" * size
    assert unpacked(gzip.compress(data), "t") == data
    assert unpacked(data, "t") == data


def test_gzip_damaged_anywhere_is_noticed():
    """Past the two bytes that tell gzip from text; the time and the like in its head are free."""
    packed = gzip.compress(b"a,b\n1,2\n" * 9, mtime=0)
    for at in [2, *range(10, len(packed))]:
        broken = packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]
        with pytest.raises(FileError, match="damaged"):
            unpacked(broken, "t.csv.gz")
    for size in range(2, len(packed)):
        with pytest.raises(FileError, match="damaged"):
            unpacked(packed[:size], "t.csv.gz")


def test_reading_a_file_and_its_packed_twin(write):
    text = "a,b\n1,ü\n"
    plain, packed = read_csv(write(text)), read_csv(write(gzip.compress(text.encode()), "t.csv.gz"))
    assert (plain.names, cells(plain)) == (packed.names, cells(packed)) == (("a", "b"), [["1", "ü"]])
    assert packed.where.endswith("t.csv.gz")


# --- tables as values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "kept"),
    [([2, 0], [2, 0]), (np.array([True, False, True]), [0, 2]), (slice(1, None), [1, 2]), (np.array([], int), [])],
)
def test_rows_are_taken_with_their_lines(rows, kept):
    found = SMALL[rows]
    assert cells(found) == [cells(SMALL)[i] for i in kept]
    assert found.lines.tolist() == [i + 2 for i in kept]
    assert (found.names, found.where) == (SMALL.names, SMALL.where)


def test_columns_are_taken_by_name():
    assert SMALL.column("b").tolist() == ["x", "y", ""]
    with pytest.raises(InputError) as caught:
        SMALL.column("bb")
    assert caught.value.key == "data_columns_absent"
    assert "bb" in caught.value.part("expected")
    assert "a, b, c (b" in caught.value.part("got")


@pytest.mark.parametrize(("names", "left"), [((), "abc"), (("b",), "ac"), (("a", "c"), "b"), (("z",), "abc")])
def test_columns_are_left_out_by_name(names, left):
    found = SMALL.without(names)
    assert found.names == tuple(left)
    assert all(found.column(n).tolist() == SMALL.column(n).tolist() for n in left)
    assert SMALL.names == ("a", "b", "c"), "the table itself is as it was"


def test_a_table_is_not_changed_by_what_is_made_of_it():
    rows = SMALL[np.array([0, 1])]
    rows.cells[0, 0] = "changed"
    assert SMALL.cells[0, 0] == "1"
    assert isinstance(rows, Table)
