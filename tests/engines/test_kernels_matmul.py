"""The kernel of products of matrices against NumPy's."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_matmul
from engines.kernel_calls import close, untested, wide


def test_every_kernel_is_tested_here():
    assert not untested(kernels_matmul, __file__)


@pytest.mark.parametrize(("ta", "tb"), [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize(("left", "right"), [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_products(run, draw, left, right, ta, tb):
    a, b = draw(left, *((4, 5) if ta else (5, 4))), draw(right, *((6, 4) if tb else (4, 6)))
    y = np.full((max(left, right), 5, 6), nan, draw.dtype)
    run("matmul", 5 * len(y), ta, tb, 4, a, b, y, units=32)
    exact = [m.swapaxes(1, 2) if turned else m for m, turned in zip(wide(a, b), (ta, tb), strict=True)]
    close(y, exact[0] @ exact[1], draw.dtype, 32)
