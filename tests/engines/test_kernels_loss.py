"""Kernels of losses, of what a step is noted by, and of clipping, against their definitions in NumPy."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit import optim, rules
from backlit.engines.fast import kernels_loss
from backlit.engines.fast.kernels_loss import CHUNK
from engines.kernel_calls import close, untested, wide


def test_every_kernel_is_tested_here():
    assert not untested(kernels_loss, __file__)


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["int64", "uint8"])
@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (7, 11)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_softmax_cross_entropy(run, draw, shape, labels, smoothing):
    z, y = draw(*shape) * 5, draw.integers(0, shape[1], shape[0]).astype(labels)
    d, losses = draw(*shape), draw(shape[0])
    run("softmax_cross_entropy", shape[0], z, y, d, losses, smoothing)
    exact = z.astype(np.float64)
    p = np.exp(exact - exact.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    t = (1 - smoothing) * np.eye(shape[1])[y] + smoothing / shape[1]
    close(losses, -np.sum(t * np.log(p), axis=1), draw.dtype, units=32)
    close(d, (p - t) / len(y), draw.dtype, units=32)


@pytest.mark.parametrize(
    "row", [[1000.0, 0.0, -1000.0], [-1000.0, -1000.0, -1000.0], [0.0, -inf, 0.0], [88.0, 89.0, 0]]
)
def test_softmax_cross_entropy_of_extreme_logits_as_in_its_rule(run, draw, row):
    z, y = np.array([row, row], draw.dtype), np.array([0, 2])
    d, losses, rule = draw(2, 3), draw(2), rules.get("softmax_cross_entropy")
    with np.errstate(all="ignore"):
        run("softmax_cross_entropy", 2, z, y, d, losses, 0.0)
        outputs = rule.call(np, z, y, None, None, **rule.defaults)
    saved = rule.saved_from((z, y, None, None), outputs, rule.defaults)
    (want,) = rule.gradients(np, [np.ones((), draw.dtype)], saved)
    close(losses.mean(dtype=np.float64), outputs[0].astype(float), draw.dtype)
    close(d, want, draw.dtype)


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_loss_shows_what_is_not_finite(run, draw, bad):
    z, d, losses = draw(3, 4), draw(3, 4), draw(3)
    z[1, 2] = bad
    with np.errstate(all="ignore"):
        run("softmax_cross_entropy", 3, z, np.array([0, 1, 2]), d, losses, 0.0)
        assert np.isfinite(losses).tolist() == [True, False, True]
        run("mse", 3, z, np.zeros_like(z), d, losses)
    assert np.isfinite(losses).tolist() == [True, False, True]


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (13, 1)])
def test_mse(run, draw, shape):
    pred, target, d, losses = draw(*shape), draw(*shape), draw(*shape), draw(shape[0])
    run("mse", shape[0], pred, target, d, losses)
    error = np.subtract(*wide(pred, target))
    close(losses, (error * error).sum(axis=1), draw.dtype)
    close(d, 2 * error / error.size, draw.dtype)


def test_the_loss_of_a_batch_is_a_mean_in_float64(run, draw):
    losses, stats = draw(4099), np.full(2, nan)
    run("mean_loss", 1, losses, 8198, 4099, stats)
    close(stats, np.array([losses.astype(np.float64).sum() / 8198, 4099.0]), np.float64, units=64)
    run("keep_loss", 1, np.array([2.5], draw.dtype), np.array([3.0], draw.dtype), stats)
    assert stats.tolist() == [2.5, 3.0]


# --- what is noted of a step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_squares_are_summed_in_parts_of_one_size_in_float64(run, draw, size):
    g = draw(size) * 1e-23 if draw.dtype == np.float64 else draw(size)
    sums = np.full(-(-size // CHUNK), nan)
    run("squares", sums.size, g, sums)
    parts = np.pad(g.astype(np.float64), (0, sums.size * CHUNK - size)).reshape(-1, CHUNK)
    close(sums, np.square(parts).sum(axis=1), np.float64, units=64)


@pytest.mark.parametrize("size", [1e-23, 1e23])
def test_small_gradients_do_not_vanish_in_their_squares_nor_large_ones_overflow(run, draw, size):
    g, sums = np.full(4099, size, draw.dtype), np.zeros(2)
    run("squares", 2, g, sums)
    assert np.sqrt(sums.sum()) == pytest.approx(size * np.sqrt(4099), rel=1e-6, abs=0.0)


@pytest.mark.parametrize(
    ("loss", "total", "fine"),
    [(2.5, 1.0, True), (nan, 1.0, False), (inf, 1.0, False), (2.5, nan, False), (1, inf, False)],
)
def test_a_step_is_noted_whether_it_is_finite_or_not(run, loss, total, fine):
    (losses, masses, norms), stop = np.zeros((3, 4)), np.zeros(1, np.int64)
    run("note", 1, np.array([loss, 7.0]), np.array([9.0, 16.0, total - 1]), losses, masses, norms, stop, step=2)
    assert stop[0] == (0 if fine else 3)
    assert np.array_equal([losses[2], masses[2], norms[2]], [loss, 7.0, np.sqrt(24.0 + total)], equal_nan=True)
    assert not losses[[0, 1, 3]].any()


# --- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.1, 1e3])
def test_clipping_by_the_global_norm(run, draw, limit):
    g = draw(35)
    norm = float(np.linalg.norm(g.astype(np.float64)))
    want = optim.ClipByGlobalNorm(limit)(np, {"g": g.astype(np.float64)})["g"]
    run("clip_by_global_norm", 35, g, np.array([0.0, norm]), limit, step=1)
    close(g, want, draw.dtype)


def test_clipping_by_value(run, draw):
    g = draw(35)
    g[7] = nan
    want = np.clip(g, -0.5, 0.5)
    with np.errstate(invalid="ignore"):
        run("clip_by_value", 35, g, 0.5)
    assert np.array_equal(g[:7], want[:7])
    assert np.array_equal(g[8:], want[8:])
