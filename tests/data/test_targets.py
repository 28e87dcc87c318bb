"""Targets and scales by themselves: which task a target means, how labels are counted, the way back to units."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from backlit.data import Scaler, Target, targets
from backlit.data.targets import FEW, check_task, from_array, from_cells, label, present


def column(cells):
    found = np.empty(len(cells), dtype=object)
    found[:] = cells
    return found


def read_cells(cells, task=None):
    return from_cells(column(cells), np.arange(2, len(cells) + 2), name="y", task=task, where="t.csv")


def read_array(y, task=None):
    return from_array(y, name="y", task=task, where="y")


# --- cells ----------------------------------------------------------------------------------------------------------

CELLS = {
    "texts": (["no", "yes", " no "], None, [0, 1, 0], ("no", "yes")),
    "whole numbers": (["3", "1", "3", "1"] * 5, None, [1, 0, 1, 0] * 5, ("1", "3")),
    "whole numbers with points": (["1.0", "2.0"] * 5, None, [0, 1] * 5, ("1", "2")),
    "thousands": (["1,000", "2,000"] * 5, None, [0, 1] * 5, ("1000", "2000")),
    "fractions": (["0.5", "1.5"] * 5, None, [0.5, 1.5] * 5, None),
    "decimal commas": (["0,5", "1,5"] * 5, None, [0.5, 1.5] * 5, None),
    "fractions as classes": (["0.5", "1.5"] * 5, "classification", [0, 1] * 5, ("0.5", "1.5")),
    "whole numbers as quantities": (["3", "1"] * 5, "regression", [3.0, 1.0] * 5, None),
    "negative labels": (["-1", "1"] * 5, None, [0, 1] * 5, ("-1", "1")),
    "ten before nine as text": (["10", "9", "x"] * 3, None, [1, 0, 2] * 3, ("9", "10", "x")),
}


@pytest.mark.parametrize("what", CELLS)
def test_targets_of_tables(what):
    cells, task, y, classes = CELLS[what]
    found = read_cells(cells, task)
    assert (found.y.tolist(), found.classes) == (y, classes)
    assert found.y.dtype == (np.int64 if classes else np.float64)
    assert len(found.remarks) == (task is None), "a task that was given is not announced"


@pytest.mark.parametrize(
    ("kinds", "rows", "task"),
    [
        (2, 2, "classification"),
        (3, 14, "regression"),
        (3, 15, "classification"),
        (FEW, 5 * FEW, "classification"),
        (FEW, 5 * FEW - 1, "regression"),
        (FEW + 1, 1000, "regression"),
    ],
)
def test_few_kinds_are_classes(kinds, rows, task):
    cells = [str(i % kinds) for i in range(rows)]
    for found in (read_cells(cells), read_array(np.array(cells, int))):
        assert (found.classes is not None) == (task == "classification")
        assert f"taken as a {task}." in found.remarks[0].text()


def test_why_a_task_was_taken_is_said_in_both_languages():
    (said,) = read_cells(["0.5", "1.5", "2.5"]).remarks
    assert said.text() == "The target 'y' is numbers of 3 kinds: taken as a regression."
    with use_language("zh"):
        assert said.text() == "目标“y”是数，共 3 种取值：按回归任务处理。"


def test_a_word_among_quantities_is_named_with_its_line():
    with pytest.raises(InputError) as caught:
        read_cells(["1.5", "2.5", "many", "lots"], "regression")
    assert caught.value.key == "data_target_text"
    assert "line 4" in str(caught.value)
    assert "'many'" in str(caught.value)


# --- arrays ---------------------------------------------------------------------------------------------------------

ARRAYS = {
    "integers": (np.array([7, 5, 7, 5]), None, [1, 0, 1, 0], ("5", "7")),
    "bytes of integers": (np.array([1, 0] * 5, np.uint8), None, [1, 0] * 5, ("0", "1")),
    "truth values": (np.array([True, False]), None, [1, 0], ("False", "True")),
    "texts": (np.array(["b", "a"]), None, [1, 0], ("a", "b")),
    "objects": (column(["b", "a"]), None, [1, 0], ("a", "b")),
    "numbers as objects": (column([2, 1, 2] * 4), None, [1, 0, 1] * 4, ("1", "2")),
    "floats": (np.array([1.0, 2.0]), None, [1.0, 2.0], None),
    "half precision": (np.array([1.5, 2.0], np.float16), None, [1.5, 2.0], None),
    "floats as classes": (np.array([2.0, 1.0]), "classification", [1, 0], ("1", "2")),
    "integers as quantities": (np.array([2, 1]), "regression", [2.0, 1.0], None),
    "several quantities": (np.array([[1, 2], [3, 4]]), None, [[1.0, 2.0], [3.0, 4.0]], None),
    "a list": ([3, 4, 3], None, [0, 1, 0], ("3", "4")),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_targets_of_arrays(what):
    y, task, wanted, classes = ARRAYS[what]
    found = read_array(y, task)
    assert (found.y.tolist(), found.classes) == (wanted, classes)
    assert found.y.dtype == (np.int64 if classes else np.float64)


@pytest.mark.parametrize(
    ("y", "key", "words"),
    [
        (column(["a", "", "b", ""]), "data_not_finite", ["'' at y[1]", "2 such"]),
        (column(["a", None, "b"]), "data_not_finite", ["y[1]", "1 such"]),
        (column([1.0, float("nan")]), "data_not_finite", ["y[1]"]),
        (np.array([1.0, np.nan]), "data_not_finite", ["nan at y[1]"]),
        (np.array([]), "data_empty_batch", ["y[0]"]),
        (np.array([1j, 2j]), "data_array_dtype", ["complex"]),
    ],
)
def test_targets_that_are_none(y, key, words):
    with pytest.raises(InputError) as caught:
        read_array(y)
    assert caught.value.key == key
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("rows", "kinds", "fits"), [(10, 5, True), (10, 6, False), (2, 2, True), (3, 3, False), (1, 1, True)]
)
def test_nearly_a_class_for_each_row_is_no_classification(rows, kinds, fits):
    texts = [f"t{i % kinds}" for i in range(rows)]
    if fits:
        codes, classes = label(texts, "y", "t")
        assert [classes[code] for code in codes] == texts
        return
    with pytest.raises(InputError) as caught:
        label(texts, "y", "t")
    assert caught.value.values["count"] == kinds


@pytest.mark.parametrize("task", ["Classification", "", "sort", 1, True])
def test_tasks_that_there_are_not(task):
    with pytest.raises(InputError, match=r"classification \| regression"):
        check_task(task, "t")


def test_tasks_that_there_are():
    for task in (None, *targets.TASKS):
        check_task(task, "t")


def test_present_is_a_mask():
    found = present(column(["a", "", "NA", "0"]))
    assert found.dtype == bool
    assert found.tolist() == [True, False, False, True]


# --- scales ---------------------------------------------------------------------------------------------------------

ROWS = st.lists(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), min_size=2, max_size=10)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_a_scale_goes_there_and_back(rows):
    X = np.array(rows)
    scaler = Scaler.fit(X)
    scaled = scaler.apply(X)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaler.undo(scaled), X, atol=1e-6 * (1 + np.abs(X - X.mean(axis=0)).max()))
    again = Scaler.from_dict(json.loads(json.dumps(asdict(scaler))))
    assert again == scaler


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 + 0.1, -3.7e-5])
def test_a_constant_column_is_only_shifted(constant):
    scaler = Scaler.fit(np.column_stack([np.full(10, constant), np.arange(10.0)]))
    assert scaler.std[0] == 1.0
    assert np.abs(scaler.apply(np.array([[constant, 0.0]]))[0, 0]) < 1e-6
    assert scaler.apply(np.array([[constant + 1, 0.0]]))[0, 0] == pytest.approx(1.0, rel=1e-6)


def test_large_numbers_keep_their_differences():
    """In float32 1e8 + 1 and 1e8 are one number; their standardised values are not."""
    X = np.array([[1e8], [1e8 + 1], [1e8 + 2]])
    wanted = np.array([-1, 0, 1]) / np.sqrt(2 / 3)
    np.testing.assert_allclose(Scaler.fit(X).apply(X)[:, 0], wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64, bool])
def test_inputs_of_any_kind_are_left_as_they_are(dtype):
    X = np.array([[0, 1], [1, 1]], dtype)
    X.flags.writeable = False
    found = Scaler((1.0, 0.5), (2.0, 0.25)).apply(X)
    assert found.dtype == np.float32
    assert found.tolist() == [[-0.5, 2.0], [0.0, 2.0]]


def test_one_number_stands_for_all_features():
    images = np.full((2, 4, 4, 3), 51, np.uint8)
    found = Scaler((0.0,), (255.0,)).apply(images)
    assert found.shape == images.shape
    assert np.all(found == np.float32(51) / np.float32(255))


# --- what is predicted ----------------------------------------------------------------------------------------------


def test_quantities_are_columns_and_come_back_in_their_shape():
    target = Target.fit("price", None, np.array([10.0, 20.0, 30.0]), "t")
    assert target.encode(np.array([20.0])).tolist() == [[0.0]]
    assert target.to_units(np.zeros((4, 1))).tolist() == [[20.0]] * 4
    assert target.to_units(np.zeros(4, np.float32)).dtype == np.float64


def test_several_quantities_have_a_scale_each():
    y = np.array([[0.0, 100.0], [2.0, 300.0]])
    target = Target.fit("both", None, y, "t")
    assert target.encode(y).tolist() == [[-1, -1], [1, 1]]
    assert target.to_units(np.array([[0, 1]])).tolist() == [[1, 300]]


def test_labels_stay_labels():
    target = Target.fit("kind", ("a", "b"), np.array([0, 1, 1]), "t")
    assert (target.task, target.scaler, target.remarks()) == ("classification", None, ())
    assert target.encode(np.array([1, 0], np.uint8)).dtype == np.int64


@pytest.mark.parametrize("y", [np.zeros(5), np.full((4, 2), 3.5), np.array([7])])
@pytest.mark.parametrize("classes", [None, ("only",)])
def test_there_must_be_something_to_tell_apart(y, classes):
    with pytest.raises(InputError) as caught:
        Target.fit("price", classes, y, "t.csv")
    assert caught.value.key == "data_target_constant"
    assert "'price'" in str(caught.value)


@pytest.mark.parametrize("count", [2, 12, 13, 100])
def test_a_dozen_classes_are_named(count):
    target = Target("kind", tuple(f"c{i}" for i in range(count)))
    text = target.describe()
    assert text.startswith(f"{count} classes: c0, c1")
    assert text.endswith(", …") == (count > 12)
    assert ("c12" in text) is False
    with use_language("zh"):
        assert target.describe().startswith(f"{count} 个类别：c0")


def test_a_quantity_is_described_by_its_scale():
    target = Target("price", None, Scaler((206855.8,), (115395.6,)))
    assert target.describe() == "target: price, mean 206856, standard deviation 115396"
    (said,) = target.remarks()
    assert "206856" in said.text()
    with use_language("zh"):
        assert "均值 206856" in target.describe()


@pytest.mark.parametrize(
    "target", [Target("a", ("x", "y")), Target("b", None, Scaler((1.0, 2.0), (3.0, 4.0))), Target("c", None, None)]
)
def test_targets_survive_json(target):
    assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target
