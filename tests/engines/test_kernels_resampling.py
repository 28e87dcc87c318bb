"""Kernels of resampling against the matrices of the rules."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_resampling
from backlit.rules.pooling import overlaps
from backlit.rules.upsample import lines
from engines.kernel_calls import close, untested, wide

SIZES = [(1, 5, 1), (1, 4, 3), (1, 1, 2), (0, 6, 4), (0, 7, 3), (0, 2, 5), (0, 3, 1)]
"""(by lines, n, the factor, or the number of parts)."""


def test_every_kernel_is_tested_here():
    assert not untested(kernels_resampling, __file__)


@pytest.mark.parametrize(("by_lines", "n", "by"), SIZES)
def test_an_axis(run, draw, by_lines, n, by):
    matrix = lines(n, by) if by_lines else overlaps(n, by)
    m = len(matrix)
    x, d = draw(3, n, 4), draw(3, m, 4)
    y, dx = np.full_like(d, nan), np.full_like(x, nan)
    run("resample", 3 * m, by_lines, x, y)
    close(y, matrix @ wide(x)[0], draw.dtype)
    run("resample_grad", 3, by_lines, d, dx)
    close(dx, matrix.T @ wide(d)[0], draw.dtype)
