"""Clipping: by hand, purity, dtypes, namespaces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backlit import optim
from optim.variants import problem

CLIPS = [optim.ClipByValue, optim.ClipByNorm, optim.ClipByGlobalNorm]
ENTRIES = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)  # scaled, they stay normal numbers
GRADS = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0], [0.0]])}


def test_norms_by_hand():
    assert optim.global_norm(np, GRADS) == 5.0
    scale = 1.0 / (5.0 + 1e-6)
    together = optim.ClipByGlobalNorm(1.0)(np, GRADS)
    np.testing.assert_allclose(together["a"], [3.0 * scale, 0.0], rtol=1e-15)
    np.testing.assert_allclose(together["b"], [[4.0 * scale], [0.0]], rtol=1e-15)
    each = optim.ClipByNorm(3.5)(np, GRADS)
    np.testing.assert_array_equal(each["a"], GRADS["a"])
    np.testing.assert_allclose(each["b"], [[3.5 * 4.0 / (4.0 + 1e-6)], [0.0]], rtol=1e-15)


def test_values_are_cut_on_both_sides():
    cut = optim.ClipByValue(0.5)(np, {"a": np.array([-2.0, -0.5, 0.1, 7.0])})
    np.testing.assert_array_equal(cut["a"], [-0.5, -0.5, 0.1, 0.5])


@settings(max_examples=30, deadline=None)
@given(g=arrays("float64", (2, 3), elements=ENTRIES), limit=st.floats(1e-3, 1e3))
def test_the_norm_ends_below_the_limit_and_the_direction_stays(g, limit):
    found = optim.ClipByGlobalNorm(limit)(np, {"a": g[0], "b": g[1]})
    clipped = np.stack([found["a"], found["b"]])
    assert np.sqrt(np.sum(clipped**2)) <= limit * (1 + 1e-12)
    assert np.all(np.sign(clipped) == np.sign(g))
    biggest = np.unravel_index(np.argmax(np.abs(g)), g.shape)
    np.testing.assert_allclose(clipped * g[biggest], g * clipped[biggest], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("kind", CLIPS)
def test_inputs_stay_and_dtypes_stay(kind):
    params, gradient = problem(dtype="float32")
    grads = gradient(params, 1)
    before = {k: g.copy() for k, g in grads.items()}
    found = kind(0.1)(np, grads)
    assert list(found) == list(grads)
    for k, g in grads.items():
        assert np.array_equal(g, before[k])
        assert (found[k].shape, found[k].dtype) == (g.shape, g.dtype)
        assert not np.array_equal(found[k], g)


def test_arrays_of_two_precisions_keep_theirs():
    found = optim.ClipByGlobalNorm(1.0)(np, {"a": np.ones(3, "float32"), "b": np.ones(3)})
    assert [g.dtype.name for g in found.values()] == ["float32", "float64"]


@pytest.mark.parametrize("kind", CLIPS)
def test_no_gradients_and_zero_gradients(kind):
    assert kind(1.0)(np, {}) == {}
    np.testing.assert_array_equal(kind(1.0)(np, {"a": np.zeros(2)})["a"], [0.0, 0.0])


@pytest.mark.jax
@pytest.mark.parametrize("kind", CLIPS)
def test_runs_under_jit(kind):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        params, gradient = problem()
        grads = gradient(params, 1)
        found = jax.jit(lambda g: kind(0.3)(jax.numpy, g))(grads)
        for k, g in kind(0.3)(np, grads).items():
            np.testing.assert_allclose(np.asarray(found[k]), g, rtol=1e-14)


@pytest.mark.strict
@pytest.mark.parametrize("kind", CLIPS)
def test_needs_only_the_array_api_standard(kind):
    xp = pytest.importorskip("array_api_strict")
    params, gradient = problem(dtype="float32")
    grads = gradient(params, 1)
    found = kind(0.3)(xp, {k: xp.asarray(g) for k, g in grads.items()})
    for k, g in kind(0.3)(np, grads).items():
        assert found[k].dtype == xp.float32
        np.testing.assert_allclose(np.asarray(found[k]), g, rtol=1e-6)
