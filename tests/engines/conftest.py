"""What tests of kernels ask for."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(params=["python", "compiled"])
def run(request):
    """Does all the work of a kernel by its name, as it is written or compiled, and in shares: the same bits."""
    pytest.importorskip("numba")
    from engines import kernel_calls

    return kernel_calls.Calls(kernel_calls.by_python if request.param == "python" else kernel_calls.by_machine_code)


@pytest.fixture(params=["float64", "float32"])
def draw(request):
    """Draws arrays of that dtype."""
    rng = np.random.default_rng(7)

    def array(*shape):
        return rng.normal(size=shape).astype(request.param)

    array.dtype = np.dtype(request.param)
    array.integers = rng.integers
    return array
