"""Kernels that carry entries to other places, against NumPy's own views."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_movement
from backlit.engines.fast.patterns import pattern, strides
from engines.kernel_calls import untested

VIEWS = {
    "transposed": lambda x: x.transpose(2, 0, 1),
    "axes exchanged": lambda x: x.swapaxes(0, 2),
    "a part": lambda x: x[1:3, :, 2:5],
    "backwards": lambda x: x[::-1, ::2, ::-2],
    "one column": lambda x: x[:, 1, 3],
    "as it is": lambda x: x[:],
    "stretched": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "stretched along the last axis": lambda x: np.broadcast_to(x[..., :1], x.shape),
}


def test_every_kernel_is_tested_here():
    assert not untested(kernels_movement, __file__)


def pattern_of(view, x):
    """The pattern of a view of x."""
    first = (view.__array_interface__["data"][0] - x.__array_interface__["data"][0]) // x.itemsize
    return pattern(first, view.shape, tuple(s // x.itemsize for s in view.strides))


@pytest.mark.parametrize("name", VIEWS)
def test_a_pattern_is_taken_and_put(run, draw, name):
    x = draw(4, 3, 5)
    view = VIEWS[name](x)
    it, y = pattern_of(view, x), np.zeros(view.size, draw.dtype)
    run("take_pattern", it.rows, x.reshape(-1), y, *it.numbers)
    assert np.array_equal(y.reshape(view.shape), view)
    if "stretched" not in name:
        back, want = np.zeros(x.size, draw.dtype), np.zeros_like(x)
        VIEWS[name](want)[...] = view
        run("put_pattern", it.rows, y, back, *it.numbers)
        assert np.array_equal(back.reshape(x.shape), want)


def test_rows_by_their_number(run, draw):
    x, indices, d = draw(2, 4, 3), np.array([3, 0, -1, 3]), draw(2, 4, 3)
    y, dx, want = np.zeros((2, 4, 3), draw.dtype), draw(2, 4, 3), np.zeros_like(x)
    run("take_rows", 8, x, indices, y)
    assert np.array_equal(y, x[:, indices])
    run("take_rows_grad", 3, d, indices, dx)
    np.add.at(want, (slice(None), indices), d)
    assert np.array_equal(dx, want)


def test_a_pattern_has_as_few_axes_as_there_can_be():
    assert pattern(0, (2, 3, 4), strides((2, 3, 4))).sizes == (1, 1, 1, 24)
    assert pattern(0, (1, 1), (1, 1)).sizes == (1, 1, 1, 1)
    assert pattern(0, (2, 2, 2, 2, 2), (1, 2, 4, 8, 16)) is None
