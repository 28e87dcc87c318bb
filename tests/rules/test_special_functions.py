"""erf and the normal distribution: right to the last digits for every finite number, in every array namespace."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest

from backlit.rules._special import erf, normal_cdf, normal_pdf

FLOATS = (np.float64, np.float32)
SEAMS = [np.nextafter(seam, seam + step) for seam in (0.46875, 4.0, 0.46875 * math.sqrt(2)) for step in (-1, 0, 1)]
POINTS = np.concatenate([np.linspace(-6.5, 6.5, 301), SEAMS, np.negative(SEAMS), np.linspace(-38.0, -6.0, 65)])
EXTREME = [0.0, -0.0, 5e-324, -5e-324, 1e-310, -1e-310, 2.3e-308, 1e-40, 1e-8, -1e-8, 50.0, -50.0, 1e30, -1e30]


@pytest.fixture(autouse=True)
def _sixty_digits():
    with mp.workdps(60):
        yield


def points(dtype):
    with np.errstate(under="ignore"):
        return np.concatenate([POINTS, EXTREME]).astype(dtype)


def worst(function, exact, x):
    """The largest error in units of eps of the exact value, or of the smallest normal number where that is larger."""
    found, info = function(np, x), np.finfo(x.dtype)
    assert found.dtype == x.dtype
    errors = {}
    for point, value in zip(x.tolist(), found.tolist(), strict=True):
        want = exact(mp.mpf(min(max(point, -1e4), 1e4)))  # beyond, mpmath cannot, and nothing changes
        errors[point] = float(abs(value - want) / max(abs(want), float(info.tiny))) / float(info.eps)
    return max(errors.items(), key=lambda item: item[1])


@pytest.mark.parametrize("dtype", FLOATS)
def test_erf(dtype):
    assert worst(erf, mp.erf, points(dtype))[1] <= 4


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_cdf_also_in_its_far_tail(dtype):
    assert worst(normal_cdf, mp.ncdf, points(dtype))[1] <= 5


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_pdf(dtype):
    assert worst(normal_pdf, mp.npdf, points(dtype))[1] <= 4


def test_erf_is_that_of_the_mathematics_library():
    x = np.linspace(-7.0, 7.0, 5001)
    found, want = erf(np, x), np.array([math.erf(v) for v in x])
    assert np.max(np.abs(found - want) / np.maximum(np.abs(want), 1e-300)) <= 4 * np.finfo(float).eps


def test_erf_is_odd_and_never_leaves_its_range():
    x = np.concatenate([np.linspace(0.0, 8.0, 4001), [1e30, np.finfo(float).max]])
    y = erf(np, x)
    assert np.array_equal(erf(np, -x), -y)
    assert np.all(y <= 1.0)
    assert np.all(np.diff(y) >= -np.finfo(float).eps)


def test_no_number_warns():
    for dtype in FLOATS:
        with np.errstate(all="raise", under="ignore"):
            far = np.array([np.finfo(dtype).max, -np.finfo(dtype).max, np.inf, -np.inf, np.nan], dtype)
            assert np.array_equal(erf(np, far), np.array([1, -1, 1, -1, np.nan], dtype), equal_nan=True)
            assert np.array_equal(normal_cdf(np, far), np.array([1, 0, 1, 0, np.nan], dtype), equal_nan=True)
            assert np.array_equal(normal_pdf(np, far), np.array([0, 0, 0, 0, np.nan], dtype), equal_nan=True)


@pytest.mark.strict
def test_only_what_the_array_standard_has():
    strict = pytest.importorskip("array_api_strict")
    for function in (erf, normal_cdf, normal_pdf):
        for dtype in ("float32", "float64"):
            x = np.linspace(-6.0, 6.0, 25).astype(dtype)
            found = function(strict, strict.asarray(x))
            assert found.dtype == getattr(strict, dtype)
            assert np.array_equal(np.asarray(found), function(np, x))


@pytest.mark.jax
def test_under_jit():
    jax = pytest.importorskip("jax")
    x = np.linspace(-6.0, 6.0, 25)
    with jax.enable_x64(True):
        for function in (erf, normal_cdf, normal_pdf):
            found = jax.jit(lambda v, f=function: f(jax.numpy, v))(x)
            np.testing.assert_allclose(np.asarray(found), function(np, x), rtol=4e-15)
