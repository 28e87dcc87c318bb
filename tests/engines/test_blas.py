"""The number of threads that NumPy's BLAS uses."""

from __future__ import annotations

import os

import pytest

from backlit.engines.fast import blas


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
