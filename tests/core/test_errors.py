"""Errors say what is wrong in both languages, keep their code, and travel between processes."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from backlit.core.errors import BacklitError, FileError, GraphError, InputError, NumericError, UnknownNameError
from backlit.core.i18n import use_language


@pytest.fixture
def width():
    return InputError("linear_features", where="dense1", want=64, expected="x[…, 64]", got="x[8, 63]")


def test_the_message_stands_in_four_lines(width):
    problem, expected, got, fix = str(width).splitlines()
    assert problem == "[BL101] dense1: the last axis of its input must hold 64 features"
    assert expected.split() == ["expected:", "x[…,", "64]"]
    assert got.split() == ["got:", "x[8,", "63]"]
    assert fix.split()[0] == "fix:"
    assert "64 columns" in fix


def test_the_same_error_speaks_chinese(width):
    with use_language("zh"):
        problem, expected, got, fix = str(width).splitlines()
    assert problem == "[BL101] dense1：输入的最后一维应有 64 个特征"
    assert expected.strip() == "应为： x[…, 64]"
    assert got.strip() == "实为： x[8, 63]"
    assert fix.strip().startswith("对策：")
    assert str(width).startswith("[BL101] dense1: the last axis")


def test_columns_of_values_are_aligned(width):
    starts = {line.index(value) for line, value in zip(str(width).splitlines()[1:3], ("x[…", "x[8"), strict=True)}
    assert len(starts) == 1


def test_as_dict_holds_every_part_and_is_json(width):
    found = json.loads(json.dumps(width.as_dict()))
    assert list(found) == ["code", "problem", "expected", "got", "fix"]
    assert (found["code"], found["expected"], found["got"]) == ("BL101", "x[…, 64]", "x[8, 63]")


def test_the_catalogue_may_give_expected_and_got():
    error = UnknownNameError("unknown_name", kind="loss", name="msee", known="mse, mae", nearest="mse")
    assert error.part("expected") == "one of mse, mae"
    assert error.part("got") == "'msee'"


def test_a_part_that_nobody_gives_is_left_out():
    error = InputError("linear_features", where="dense1", want=3, got="x[2]")
    assert error.part("expected") == ""
    assert "expected:" not in str(error)


def test_at_fills_in_the_place_once():
    error = InputError("linear_features", want=3, expected="x[…, 3]", got="x[2]")
    assert str(error).startswith("[BL101] ?: ")
    assert error.at("dense2") is error
    assert str(error).startswith("[BL101] dense2: ")
    assert str(error.at("dense7")).startswith("[BL101] dense2: ")


def test_at_keeps_a_place_that_is_named(width):
    assert "dense1" in str(width.at("elsewhere"))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_survives_copying_and_pickling(width, duplicate):
    again = duplicate(width)
    assert type(again) is InputError
    assert (again.key, again.code, again.values, str(again)) == (width.key, width.code, width.values, str(width))


def test_pickling_keeps_a_place_filled_in_later():
    error = InputError("linear_features", want=3, expected="x[…, 3]", got="x[2]").at("dense2")
    assert "dense2" in str(pickle.loads(pickle.dumps(error)))


def test_the_code_comes_from_the_catalogue_not_the_class():
    assert GraphError("linear_features").code == InputError("linear_features").code == "BL101"


def test_an_unknown_key_is_a_mistake_of_the_raiser():
    with pytest.raises(KeyError, match="no_such_key"):
        InputError("no_such_key")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InputError, ValueError),
        (GraphError, ValueError),
        (UnknownNameError, LookupError),
        (NumericError, ArithmeticError),
        (FileError, BacklitError),
    ],
)
def test_each_kind_is_caught_as_the_builtin_it_is_one_of(kind, builtin):
    with pytest.raises(builtin):
        raise kind("linear_features")
    assert issubclass(kind, BacklitError)
