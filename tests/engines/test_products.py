"""The matrix product against NumPy's in float64: as Python, and by tiles that stay in registers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import products
from backlit.engines.fast.jit import kernel
from backlit.engines.fast.products import gemm
from engines.kernel_calls import by_machine_code, close, needs_machine_code

SIZES = [
    (1, 1, 1),
    (3, 1, 5),
    (4, 7, 2),
    (33, 65, 17),
    (13, 70, 300),
    (25, 40, 600),
    (260, 33, 20),
    (0, 3, 2),
    (2, 3, 0),
    (64, 64, 64),
    (75, 100, 81),
    (90, 65, 1100),
    (420, 70, 600),
]
"""Of a tile, of a vector, of a part of k, of a block of rows: less, more, and none. From 64 on for a matrix unit."""


@kernel
def plain_product(
    lo: int, hi: int, ta: int, tb: int, m: int, n: int, k: int, A, a: int, lda: int, B, b: int, ldb: int, beta: float,
    C, c: int, ldc: int,
) -> None:  # fmt: skip
    """A product and nothing else."""
    gemm(ta == 1, tb == 1, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc)


def compiled(ta, tb, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc):
    by_machine_code("plain_product", 0, 1, int(ta), int(tb), m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc)


@pytest.fixture(params=["python", pytest.param("compiled", marks=needs_machine_code)])
def product(request):
    return gemm if request.param == "python" else compiled


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_a_product_of_parts_of_arrays(product, draw, ta, tb, m, n, k, beta):
    """Each matrix lies inside a larger one, from row 1 and column 2 on; what is around C stays as it is."""
    A, B, C = (
        draw(rows + 2, columns + 5)
        for rows, columns in (((k, m) if ta else (m, k)), ((n, k) if tb else (k, n)), (m, n))
    )
    before = C.copy()
    inside = [a[1:-1, 2:-3].astype(np.float64) for a in (A, B, C)]
    left, right = inside[0].T if ta else inside[0], inside[1].T if tb else inside[1]
    at = [a.shape[1] + 2 for a in (A, B, C)]
    product(ta, tb, m, n, k, A, at[0], A.shape[1], B, at[1], B.shape[1], beta, C, at[2], C.shape[1])
    close(C[1:-1, 2:-3], left @ right + beta * inside[2], draw.dtype, units=64)
    C[1:-1, 2:-3] = before[1:-1, 2:-3]
    assert np.array_equal(C, before)


def test_what_lay_in_the_result_does_not_matter_where_beta_is_0(product, draw):
    A, C = draw(2, 2), np.full((2, 2), np.nan, draw.dtype)
    product(False, False, 2, 2, 2, A, 0, 2, A, 0, 2, 0.0, C, 0, 2)
    close(C, A.astype(np.float64) @ A.astype(np.float64), draw.dtype)


@pytest.mark.parametrize("start", [-1, 6])
def test_as_python_a_part_beyond_the_array_is_noticed(draw, start):
    A, C = draw(3, 3), draw(2, 2)
    with pytest.raises(AssertionError):
        gemm(False, False, 2, 2, 2, A, start, 3, A, 0, 3, 0.0, C, 0, 2)


@pytest.mark.parametrize(("ta", "tb"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("k", [40, 500])
def test_rows_far_apart_are_copied_and_make_no_difference(product, draw, ta, tb, k):
    """Rows more than a page apart: blocks of A are copied together first."""
    m, n, far = 230, 70, products.FAR // draw.dtype.itemsize + 24
    A, B, C = draw(k if ta else m, far), draw(n if tb else k, far), draw(m, far)
    left, right = (A[:k, :m].T if ta else A[:m, :k]), (B[:n, :k].T if tb else B[:k, :n])
    want = left.astype(np.float64) @ right.astype(np.float64)
    product(ta, tb, m, n, k, A, 0, far, B, 0, far, 0.0, C, 0, far)
    close(C[:, :n], want, draw.dtype, units=64)


@needs_machine_code
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_part_of_a_product_has_the_bits_of_the_whole(draw, ta, tb):
    """However it is shared out: every entry is summed in the same order."""
    m, n, k = 61, 77, 530
    A, B = draw(*((k, m) if ta else (m, k))), draw(*((n, k) if tb else (k, n)))
    whole, parts = draw(m, n), draw(m, n)
    compiled(ta, tb, m, n, k, A, 0, A.shape[1], B, 0, B.shape[1], 0.0, whole, 0, n)
    for i0, i1, j0, j1 in ((0, 5, 0, 77), (5, 61, 0, 33), (5, 61, 33, 77)):
        a, b = (i0 if ta else i0 * k), (j0 * k if tb else j0)
        compiled(ta, tb, i1 - i0, j1 - j0, k, A, a, A.shape[1], B, b, B.shape[1], 0.0, parts, i0 * n + j0, n)
    assert np.array_equal(whole, parts)


@needs_machine_code
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (True, False), (False, True), (True, True)])
def test_so_has_a_part_that_is_large_enough_for_a_matrix_unit(draw, ta, tb):
    m, n, k = 200, 170, 1100
    A, B = draw(*((k, m) if ta else (m, k))), draw(*((n, k) if tb else (k, n)))
    whole, parts = draw(m, n), draw(m, n)
    compiled(ta, tb, m, n, k, A, 0, A.shape[1], B, 0, B.shape[1], 0.0, whole, 0, n)
    for i0, i1, j0, j1 in ((0, 70, 0, 170), (70, 200, 0, 65), (70, 200, 65, 170)):
        a, b = (i0 if ta else i0 * k), (j0 * k if tb else j0)
        compiled(ta, tb, i1 - i0, j1 - j0, k, A, a, A.shape[1], B, b, B.shape[1], 0.0, parts, i0 * n + j0, n)
    assert np.array_equal(whole, parts)
