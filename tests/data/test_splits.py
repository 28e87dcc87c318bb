"""Splits: disjoint, complete, of the size asked for, in proportion, and the same from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.core.errors import InputError
from backlit.data.splits import Parts, amount, at_most, draw, last, random_parts


@given(st.integers(3, 120), st.integers(0, 3), st.integers(1, 6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_split_is_a_partition(total, seed, kinds, stratified):
    labels = np.arange(total) % kinds if stratified else None
    parts = random_parts(total, test=0.2, validation=0.1, seed=seed, name="x", labels=labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(total))
    assert len(parts.test) == max(1, round(0.2 * total))
    assert len(parts.validation) == max(1, round(0.1 * total))
    assert all((np.diff(rows) > 0).all() for rows in parts)


@given(st.lists(st.integers(0, 4), min_size=20, max_size=200), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_classes_give_in_proportion(labels, seed):
    labels = np.array(labels)
    count = len(labels) // 5
    rest, taken = draw(np.arange(len(labels)), count, seed, "x", labels)
    for kind in np.unique(labels):
        share = (labels == kind).sum() * count / len(labels)
        assert abs((labels[taken] == kind).sum() - share) <= 1
        assert (labels[rest] == kind).any(), "each class can be learned"


def test_a_draw_depends_on_seed_and_name_alone():
    rows = np.arange(50)
    first = draw(rows, 10, 0, "a")[1]
    assert np.array_equal(first, draw(rows, 10, 0, "a")[1])
    assert not np.array_equal(first, draw(rows, 10, 1, "a")[1])
    assert not np.array_equal(first, draw(rows, 10, 0, "b")[1])


def test_the_last_rows():
    rest, taken = last(np.arange(5), 2)
    assert (rest.tolist(), taken.tolist()) == ([0, 1, 2], [3, 4])
    rest, taken = last(np.arange(5), 0)
    assert (rest.tolist(), taken.tolist()) == ([0, 1, 2, 3, 4], [])


@pytest.mark.parametrize(("wish", "count"), [(0.25, 25), (0.001, 1), (0.0, 0), (0, 0), (7, 7), (np.int64(7), 7)])
def test_an_amount_is_a_fraction_or_a_number(wish, count):
    assert amount(wish, 100, "test_fraction", "x") == count


@pytest.mark.parametrize("wish", [-1, -0.1, 1.0, 2.5, float("nan"), float("inf"), True, "3"])
def test_what_is_no_amount(wish):
    with pytest.raises(InputError, match="test_fraction cannot be") as caught:
        amount(wish, 100, "test_fraction", "x")
    assert repr(wish) in str(caught.value)


@pytest.mark.parametrize("wish", [100, 200, 0.999])
def test_something_must_be_left(wish):
    with pytest.raises(InputError, match="too few samples"):
        amount(wish, 100, "test_fraction", "x")


def test_test_and_validation_together_leave_something():
    with pytest.raises(InputError, match="too few samples"):
        random_parts(10, test=0.5, validation=0.5, seed=0, name="x", labels=None)


def test_size_limits_the_training_rows_only():
    parts = Parts(np.arange(80), np.arange(80, 90), np.arange(90, 100))
    fewer = at_most(parts, 20, 3, "x", np.arange(100) % 4)
    assert set(fewer.train) < set(parts.train)
    assert np.bincount(fewer.train % 4).tolist() == [5, 5, 5, 5]
    assert fewer.validation is parts.validation
    assert fewer.test is parts.test
    assert at_most(parts, 80, 3, "x", None) is at_most(parts, None, 3, "x", None) is parts


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "ten"])
def test_a_size_is_a_number_from_1(size):
    with pytest.raises(InputError, match="size cannot be"):
        at_most(Parts(np.arange(8), np.arange(0), np.arange(0)), size, 0, "x", None)
