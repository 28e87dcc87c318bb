"""Any CSV: what is found out about it, what is said, and what each fault of a file is answered with."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from backlit.core.errors import FileError, InputError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.data import from_csv, load
from backlit.data.cells import decimal_mark, number, ordered
from backlit.data.table import parse_csv, read_csv

ROWS = 60
PLAIN = "a,b,colour,y\n" + "".join(
    f"{i},{i * i % 7},{('red', 'blue', 'green')[i % 3]},{i * 0.5}\n" for i in range(ROWS)
)


def everything(data):
    """All rows of a data set, in the order of their targets."""
    X, y = (np.concatenate(arrays) for arrays in zip(*data.parts.values(), strict=True))
    order = np.argsort(y[:, 0] if y.ndim == 2 else y, kind="stable")
    return X[order], y[order]


def said(data):
    return "\n".join(data.notes)


def test_a_plain_table(write):
    data = from_csv(write(PLAIN), target="y")
    assert (data.name, data.task, data.classes) == ("table", "regression", None)
    assert data.features == ("a", "b", "colour=blue", "colour=green", "colour=red")
    assert {n: len(y) for n, (_, y) in data.parts.items()} == {"train": 42, "validation": 6, "test": 12}
    X, y = everything(data)
    assert X.dtype == y.dtype == np.float32
    assert np.allclose(data.target.to_units(y)[:, 0], np.arange(ROWS) * 0.5, atol=1e-5)
    assert X[:, 2:].tolist() == [[[0, 0, 1], [1, 0, 0], [0, 1, 0]][i % 3] for i in range(ROWS)]
    ratio = np.diff(X[:, 0].astype(np.float64))
    assert np.allclose(ratio, ratio[0], rtol=1e-3)
    assert abs(data.train[0][:, 0].mean(dtype=np.float64)) < 1e-6
    assert abs(data.train[1].mean(dtype=np.float64)) < 1e-6


@pytest.mark.parametrize(
    "dress",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("red", '"red"'),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.rstrip("\n"),
        lambda text: gzip.compress(text.encode()),
        lambda text: text.replace(",", ";").replace(".", ","),
    ],
    ids=[
        "BOM",
        "CRLF",
        "CR",
        "quotes",
        "spaces",
        "semicolon",
        "tab",
        "blank lines",
        "no end of line",
        "gzip",
        "decimal comma",
    ],
)
def test_the_same_table_in_another_dress(write, dress):
    plain, other = from_csv(write(PLAIN), target="y"), from_csv(write(dress(PLAIN), "b.csv"), target="y")
    assert plain.sha256 == other.sha256
    assert plain.features == other.features


def test_load_opens_files_by_their_ending(write):
    sums = {load(write(PLAIN, name), target="y").sha256 for name in ("t.csv", "t.data", "t.txt")}
    sums.add(load(str(write(gzip.compress(PLAIN.encode()), "t.csv.gz")), target="y").sha256)
    assert sums == {from_csv(write(PLAIN), target="y").sha256}


def test_load_passes_its_options_on(write):
    path = write(PLAIN)
    data = load(path, target="y", validation=0.25, size=20, seed=3, drop=["a"])
    same = from_csv(path, target="y", validation_fraction=0.25, size=20, seed=3, drop=["a"])
    assert data.sha256 == same.sha256
    assert [len(y) for _, y in data.parts.values()] == [20, 15, 12]
    assert "a" not in data.features
    assert "Left out as inputs: a." in said(data)


def test_quoted_cells_may_hold_anything():
    table = parse_csv(b'name,n\n"Smith, ""J""\nof York",1\nplain,2\n', "t")
    assert table.cells.tolist() == [['Smith, "J"\nof York', "1"], ["plain", "2"]]
    assert table.lines.tolist() == [3, 4]


def test_missing_values_become_the_training_median_and_are_said(write):
    words = ["", "NA", "NaN", "?", "null", " n/a "]
    lines = [f"{words[i] if i < 6 else i},{i % 2},{i * 1.5}" for i in range(ROWS)]
    data = from_csv(write("x,z,y\n" + "\n".join(lines)), target="y", test_fraction=0, validation_fraction=0)
    median = float(np.median(np.arange(6, ROWS)))
    assert f"Column 'x': 6 missing values become the training median {median:g}." in data.notes
    X, _ = everything(data)
    assert len(set(X[:6, 0].tolist())) == 1
    filled = np.array([median] * 6 + list(range(6, ROWS)))
    assert np.allclose(X[:, 0], (filled - filled.mean()) / filled.std(), atol=1e-6)


def test_missing_categories_are_all_zeros_and_said(write):
    data = from_csv(write("c,y\n" + "".join(f"{'uv?'[i % 3]},{i}.5\n" for i in range(30))), target="y")
    X, _ = everything(data)
    assert X.tolist() == [[[1, 0], [0, 1], [0, 0]][i % 3] for i in range(30)]
    assert "Column 'c': 10 missing values belong to no category (all zeros)." in data.notes


def test_rows_without_a_target_are_left_out_and_said(write):
    text = "x,y\n" + "".join(f"{i},{'' if i % 4 == 0 else i * 1.5}\n" for i in range(40))
    data = from_csv(write(text), target="y")
    assert sum(len(y) for _, y in data.parts.values()) == 30
    assert "10 rows without a value of 'y' are left out." in data.notes


def test_thousands_and_signs(write):
    text = "x,y\n" + "".join(f'"{i * 1000:,}.5",{i}.25\n' for i in range(40))
    data = from_csv(write(text), target="y", test_fraction=0, validation_fraction=0)
    values = np.arange(40) * 1000 + 0.5
    assert np.allclose(data.train[0][:, 0], (values - values.mean()) / values.std(), atol=1e-6)
    assert "Column 'x': '1,000.5' is read as 1000.5." in data.notes


@pytest.mark.parametrize(
    ("cell", "decimal", "value"),
    [
        ("12", ".", 12.0),
        (" -1.5e3 ", ".", -1500.0),
        ("+.5", ".", 0.5),
        ("1,234", ".", 1234.0),
        ("1,234,567.5", ".", 1234567.5),
        ("12,34", ".", None),
        ("1,2345", ".", None),
        ("1,5", ",", 1.5),
        ("1.234,5", ",", 1234.5),
        ("1.5", ",", None),
        ("1_000", ".", None),
        ("inf", ".", None),
        ("1e999", ".", None),
        ("abc", ".", None),
        ("", ".", None),
    ],
)
def test_numbers_in_cells(cell, decimal, value):
    assert number(cell, decimal) == value


def test_the_decimal_mark_of_a_column():
    assert decimal_mark(["1", "2.5", "NA"]) == "."
    assert decimal_mark(["1", "2,5", ""]) == ","
    assert decimal_mark(["1,5", "2.5"]) is None
    assert decimal_mark(["", "NA"]) is None
    assert ordered(["10", "9", "b", "a", "9"]) == ("9", "10", "a", "b")


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a,b\n1,2\n", True),
        ("1,2\n3,4\n", False),
        ("x,1\ny,2\n", False),
        ("k,v\nx,1\ny,2\n", True),
        ("colour,size\nred,big\nblue,small\nred,small\n", True),
        ("red,big\nblue,small\nred,small\n", False),
        ("e,e\nx,y\n", False),
    ],
)
def test_a_header_is_recognised(text, header):
    assert parse_csv(text.encode(), "t").has_header is header


def test_without_a_header_columns_are_numbered(write):
    data = from_csv(write("\n".join(f"{i},{i % 5},{i / 3}" for i in range(40))))
    assert data.features == ("column1", "column2")
    assert data.target.name == "column3"
    assert "no header line" in said(data)
    assert "the last column, 'column3', is taken" in said(data)
    assert from_csv(write("1,2.5\n" * 3 + "2,3.5\n" * 20), header=True, target="1").features == ("2.5",)


@pytest.mark.parametrize(("target", "name"), [(0, "a"), (-1, "y"), (2, "colour"), ("b", "b")])
def test_the_target_by_name_or_index(write, target, name):
    assert from_csv(write(PLAIN), target=target).target.name == name


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        (["no", "yes"], "classification", ("no", "yes")),
        (["0", "1"], "classification", ("0", "1")),
        (["1.0", "3.0", "10.0"], "classification", ("1", "3", "10")),
        (["0.5", "1.5"], "regression", None),
        ([str(i) for i in range(40)], "regression", None),
        ([str(i) for i in range(21)], "regression", None),
        ([str(i) for i in range(20)], "classification", tuple(str(i) for i in range(20))),
    ],
)
def test_the_task_is_inferred_and_said(write, cells, task, classes):
    text = "x,y\n" + "".join(f"{i},{cells[i % len(cells)]}\n" for i in range(105))
    data = from_csv(write(text), target="y")
    assert (data.task, data.classes) == (task, classes)
    assert f"taken as a {task}." in said(data)
    with use_language("zh"):
        assert {"classification": "分类任务", "regression": "回归任务"}[task] in said(data)
    told = from_csv(write(text), target="y", task=task)
    assert told.sha256 == data.sha256
    assert "taken as" not in said(told)


def test_labels_count_from_0_in_the_order_of_the_classes(write):
    text = "x,y\n" + "".join(f"{i},{'cab'[i % 3]}\n" for i in range(30))
    data = from_csv(write(text), target="y", test_fraction=0, validation_fraction=0, task="classification")
    assert data.train[1].tolist() == [[2, 0, 1][i % 3] for i in range(30)]
    assert data.train[1].dtype == np.int64
    assert data.test is data.validation is None


def test_columns_that_teach_nothing_are_left_out_and_said(write):
    lines = [f"7,same,{i},text number {i},{i}.5" for i in range(ROWS)]
    data = from_csv(write("\n".join(["c,d,x,t,y", *lines])), target="y")
    assert data.features == ("x",)
    for words in ("'c' has one value", "'d' has one value", "'t' has 42 different texts in 42 training rows"):
        assert words in said(data)


def test_a_stray_word_among_numbers_is_said(write):
    lines = [f"{'oops' if i == 11 else i % 7},{i}.5" for i in range(ROWS)]
    assert "is read as text because of 'oops' in line 13" in said(
        from_csv(write("\n".join(["x,y", *lines])), target="y")
    )


def test_numbers_may_be_categories(write):
    data = from_csv(write(PLAIN), target="y", categories=["b"])
    assert data.features[1:5] == ("b=0", "b=1", "b=2", "b=4")


def fault(write, content, **options):
    with pytest.raises((FileError, InputError, UnknownNameError)) as caught:
        from_csv(write(content), **options)
    with use_language("zh"):
        assert "应为" in str(caught.value)
    return caught.value.key, str(caught.value)


GOOD = "x,y\n" + "".join(f"{i},{i}.5\n" for i in range(20))


@pytest.mark.parametrize(
    ("content", "options", "key", "words"),
    [
        ("", {}, "data_csv_empty", ["no data rows"]),
        ("\n\n", {}, "data_csv_empty", []),
        ("a,b\n", {"header": True}, "data_csv_empty", []),
        (GOOD + "1,2,3\n", {}, "data_csv_ragged", ["line 22", "2 cells, separated by ','", "3 cells"]),
        (GOOD + "\n1\n", {}, "data_csv_ragged", ["line 23", "1 cells"]),
        (b"x,y\n1,2\n\xe9,3\n", {}, "data_csv_encoding", ["line 3", "0xe9", "UTF-8"]),
        (GOOD + '"open,3\n', {}, "data_csv_malformed", ["line 22", "quote"]),
        (b"\x1f\x8b\x08\0rubbish", {}, "data_file_corrupt", ["damaged", "gzip"]),
        (gzip.compress(GOOD.encode())[:-9], {}, "data_file_corrupt", ["damaged"]),
        ("x,x,y\n1,2,3\n", {}, "data_csv_duplicate", ["'x'"]),
        (GOOD, {"target": "why"}, "data_column_unknown", ["'why' (target)", "one of x, y", "did you mean"]),
        (GOOD, {"target": 2}, "data_column_unknown", ["'2' (target)"]),
        (GOOD, {"drop": ["z"]}, "data_column_unknown", ["'z' (drop)"]),
        (GOOD, {"categories": ["z"]}, "data_column_unknown", ["'z' (categories)"]),
        ("x,y\n1,\n2,NA\n", {"target": "y"}, "data_target_empty", ["'y'", "2 rows, all missing"]),
        ("y\n" + "1.5\n2.5\n" * 9, {"target": "y", "header": True}, "data_no_features", []),
        ("x,y\n" + "3,1.5\n3,2.5\n" * 9, {"target": "y"}, "data_no_features", ["x"]),
        ("x,y\n" + "1,7.5\n2,7.5\n" * 9, {"target": "y"}, "data_target_constant", ["'y'", "7.5"]),
        ("x,y\n" + "1,no\n2,no\n" * 9, {"target": "y"}, "data_target_constant", []),
        (GOOD + "1,many\n", {"target": "y", "task": "regression"}, "data_target_text", ["line 22", "'many'"]),
        (GOOD, {"target": "y", "task": "classification"}, "data_too_many_classes", ["20 classes", "at most 10"]),
        (GOOD, {"task": "ranking"}, "data_option", ["task cannot be 'ranking'", "classification | regression"]),
        (GOOD, {"test_fraction": 1.5}, "data_option", ["test_fraction cannot be 1.5"]),
        ("x,y\n1,1.5\n2,2.5\n", {"target": "y"}, "data_split_small", ["too few samples"]),
    ],
)
def test_faults(write, content, options, key, words):
    found, text = fault(write, content, **options)
    assert found == key
    assert [word for word in words if word not in text] == []


def test_files_that_are_not_there_or_not_readable(tmp_path, write):
    with pytest.raises(FileError, match=r"nowhere.csv: there is no such file"):
        load(tmp_path / "nowhere.csv")
    with pytest.raises(FileError, match=r"this kind of file cannot be read"):
        load(write("{}", "x.json"))
    with pytest.raises(FileError, match=r"cannot be read"):
        load(tmp_path)
    with pytest.raises(FileError, match=r"no such file"):
        read_csv(tmp_path)


def test_the_error_in_chinese(write):
    with use_language("zh"), pytest.raises(FileError, match="第 22 行"):
        from_csv(write(GOOD + "1,2,3\n"))
