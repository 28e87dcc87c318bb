"""The matrix product by address, and the number of threads that NumPy's BLAS uses."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("numba")

import numba

from backlit.engines.fast import blas
from backlit.engines.fast.blas import gemm
from engines.kernel_calls import close, needs_machine_code

SIZES = [(1, 1, 1), (3, 1, 5), (4, 7, 2), (33, 65, 17)]


@numba.njit
def compiled(ta, tb, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc):
    gemm(ta, tb, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc)


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


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_threads():
    before = blas.threads()
    blas.set_threads(2)
    if blas.threads() != 2:
        pytest.skip("NumPy's BLAS is not OpenBLAS, or has one thread only")
    yield
    blas.set_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_one_thread_may_be_asked_for_inside_itself_and_is_taken_back_at_the_end():
    with blas.one_thread():
        assert blas.threads() == 1
        with blas.one_thread():
            assert blas.threads() == 1
        assert blas.threads() == 1
    assert blas.threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_the_number_is_restored_after_an_exception():
    with pytest.raises(KeyError), blas.one_thread():
        raise KeyError
    assert blas.threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.usefixtures("two_threads")
def test_a_forked_child_does_not_wait_for_those_that_were_inside():
    with blas.one_thread():
        child = os.fork()
        if child == 0:
            os._exit(blas.threads() if not blas._running else 99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
