"""Kernels of sequences against their definitions in NumPy."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_sequences
from engines.kernel_calls import close, untested, wide

TABLES = [(1, 1, 1), (5, 3, 7), (40, 11, 33), (0, 2, 3)]
"""(places, rows of the table, columns)."""


def test_every_kernel_is_tested_here():
    assert not untested(kernels_sequences, __file__)


@pytest.mark.parametrize(("n", "size"), [(1, 1), (3, 17), (6, 64), (0, 5)])
def test_one_vector_added_to_every_row(run, draw, n, size):
    a, b, y = draw(n, size), draw(size), np.full((n, size), nan, draw.dtype)
    run("add_rows", n, a, b, y)
    assert np.array_equal(y, a + b)


def test_a_sum_may_take_the_place_of_what_is_added_to(run, draw):
    a, b = draw(4, 9), draw(9)
    want = a + b
    run("add_rows", 4, a, b, a)
    assert np.array_equal(a, want)


@pytest.mark.parametrize("integers", ["int64", "int32", "uint8"])
@pytest.mark.parametrize(("places", "rows", "columns"), TABLES)
def test_rows_of_a_table(run, draw, places, rows, columns, integers):
    indices, E = draw.integers(0, rows, places).astype(integers), draw(rows, columns)
    y = np.full((places, columns), nan, draw.dtype)
    run("embedding", places, indices, E, y)
    assert np.array_equal(y, E[indices])


@pytest.mark.parametrize(("places", "rows", "columns"), TABLES)
def test_gradient_of_a_table(run, draw, places, rows, columns):
    """Rows that were taken several times get the sum, rows that were not get 0, whatever lay there."""
    indices, d, dE = draw.integers(0, rows, places), draw(places, columns), np.full((rows, columns), nan, draw.dtype)
    run("embedding_grad", columns, d, indices, dE)
    chosen = np.arange(rows)[:, None] == indices
    close(dE, chosen.astype(np.float64) @ wide(d)[0], draw.dtype)
    assert not dE[~chosen.any(axis=1)].any()


def test_rows_that_were_read_are_marked(run):
    read = np.array([0, 1, 0, 0, 0])
    run("mark_rows", 4, np.array([3, 0, 3, 3]), read)
    assert read.tolist() == [1, 1, 0, 1, 0]
