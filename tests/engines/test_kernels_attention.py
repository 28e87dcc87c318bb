"""Kernels of attention against the definition in NumPy, in float64, with its gradient by the complex step."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_attention
from engines.kernel_calls import close, untested, wide

SIZES = [(1, 1, 1, 1, 1, 1), (2, 3, 5, 4, 6, 2), (1, 7, 4, 9, 3, 3), (3, 1, 2, 2, 2, 1)]
"""(samples, queries, keys, width of all keys, of all values, heads)."""
CAUSAL = [(1, 1, 2, 2), (2, 5, 6, 3), (1, 40, 4, 2), (2, 65, 2, 1)]
"""(samples, steps, width, heads): also longer than a block of queries."""


def test_every_kernel_is_tested_here():
    assert not untested(kernels_attention, __file__)


def definition(q, k, v, heads, shown):
    """Every query for itself, by loops: (y, weights); ``shown[N, T, S]`` says what it sees."""
    (N, T, D), S, width = q.shape, k.shape[1], v.shape[2] // heads
    y, weights = np.zeros((N, T, v.shape[2]), q.dtype), np.zeros((N, heads, T, S), q.dtype)
    for n, h, t in np.ndindex(N, heads, T):
        part, seen = slice(h * (D // heads), (h + 1) * (D // heads)), np.flatnonzero(shown[n, t])
        if len(seen):
            scores = k[n, seen][:, part] @ q[n, t, part] / np.sqrt(D // heads)
            e = np.exp(scores - scores.real.max())
            weights[n, h, t, seen] = e / e.sum()
        y[n, t, h * width : (h + 1) * width] = weights[n, h, t] @ v[n][:, h * width : (h + 1) * width]
    return y, weights


def gradient(d, arrays, heads, shown):
    """∂(Σ d y) by every entry of q, k and v."""
    found = []
    for which, a in enumerate(arrays):
        found.append(np.zeros(a.shape))
        for at in np.ndindex(a.shape):
            moved = [b.astype(np.complex128) for b in arrays]
            moved[which][at] += 1e-30j
            found[-1][at] = (d * definition(*moved, heads, shown)[0]).sum().imag / 1e-30
    return found


def forward(run, q, k, v, heads, *, causal=0, mask=None):
    """(y, weights) by the kernel, each buffer full of NaN before."""
    (N, T, _), S = q.shape, k.shape[1]
    y, weights = np.full((N, T, v.shape[2]), nan, q.dtype), np.full((N, heads, T, S), nan, q.dtype)
    run("attention", N * heads, heads, causal, int(mask is not None), q, 0, k, 0, v, 0, y if mask is None else mask, y,
        weights)  # fmt: skip
    return y, weights


def check(run, draw, q, k, v, heads, shown, *, causal=0, mask=None):
    """Forward, and backward from a drawn dy."""
    y, weights = forward(run, q, k, v, heads, causal=causal, mask=mask)
    for found, want in zip((y, weights), definition(*wide(q, k, v), heads, shown), strict=True):
        close(found, want, draw.dtype, units=64)
    d, dscores = draw(*y.shape), np.full_like(weights, nan)
    gradients = [np.full_like(a, nan) for a in (q, k, v)]
    run("attention_grad", len(q) * heads, heads, causal, d, q, 0, k, 0, v, 0, weights, dscores, *gradients)
    for found, want in zip(gradients, gradient(*wide(d), wide(q, k, v), heads, shown), strict=True):
        close(found, want, draw.dtype, units=128)


@pytest.mark.parametrize(("n", "t", "s", "depth", "width", "heads"), SIZES)
def test_queries_that_see_all_keys(run, draw, n, t, s, depth, width, heads):
    depth, width = depth * heads, width * heads
    check(run, draw, draw(n, t, depth), draw(n, s, depth), draw(n, s, width), heads, np.ones((n, t, s)))


@pytest.mark.parametrize(("n", "t", "width", "heads"), CAUSAL[:2])
def test_a_causal_sequence(run, draw, n, t, width, heads):
    q, k, v = draw(3, n, t, width)
    check(run, draw, q, k, v, heads, np.tri(t) * np.ones((n, 1, 1)), causal=1)


@pytest.mark.parametrize(("n", "t", "width", "heads"), CAUSAL)
def test_a_causal_sequence_is_one_with_a_mask_for_each_query(run, draw, n, t, width, heads):
    """In blocks as in one piece."""
    q, k, v, d = draw(4, n, t, width)
    mask = np.ascontiguousarray(np.broadcast_to(np.tri(t, dtype=draw.dtype), (n, t, t)))
    blocks, whole = forward(run, q, k, v, heads, causal=1), forward(run, q, k, v, heads, mask=mask)
    for found, want in zip(blocks, whole, strict=True):
        close(found, want, draw.dtype, units=64)
    pair = []
    for causal in (0, 1):
        gradients = np.full((3, n, t, width), nan, draw.dtype)
        run("attention_grad", n * heads, heads, causal, d, q, 0, k, 0, v, 0, blocks[1], np.full_like(blocks[1], nan),
            *gradients)  # fmt: skip
        pair.append(gradients)
    close(pair[1], pair[0], draw.dtype, units=128)


@pytest.mark.parametrize("kind", ["bool", "float64", "int8"])
@pytest.mark.parametrize("queries", [1, 3])
def test_padding(run, draw, queries, kind):
    """A mask for all queries or for each; a query that sees nothing gets 0 and sends nothing back."""
    mask = (draw.integers(0, 3, (2, queries, 5)) > 0).astype(kind)
    mask[1, 0] = 0
    q, k, v = draw(2, 3, 4), draw(2, 5, 4), draw(2, 5, 6)
    check(run, draw, q, k, v, 2, np.broadcast_to(mask, (2, 3, 5)), mask=mask)
    y, weights = forward(run, q, k, v, 2, mask=mask)
    assert not weights[1, :, 0].any()
    assert not y[1, 0].any()


def test_padding_in_a_causal_sequence(run, draw):
    """The first key is hidden: so the first query sees none."""
    mask = np.array([[[0, 1, 1, 1]], [[1, 1, 0, 1]]], draw.dtype)
    q, k, v = draw(3, 2, 4, 6)
    check(run, draw, q, k, v, 3, mask * np.tri(4), causal=1, mask=mask)


def test_thirds_of_one_array_are_read_and_written_where_they_lie(run, draw):
    qkv, d, heads = draw(2, 5, 12), draw(2, 5, 4), 2
    q, k, v = (np.ascontiguousarray(qkv[..., i : i + 4]) for i in (0, 4, 8))
    y, weights = np.full((2, 5, 4), nan, draw.dtype), np.full((2, 2, 5, 5), nan, draw.dtype)
    run("attention", 4, heads, 1, 0, qkv, 0, qkv, 4, qkv, 8, y, y, weights)
    want = forward(run, q, k, v, heads, causal=1)
    close(y, want[0], draw.dtype)
    whole, parts, scores = np.full_like(qkv, nan), np.full((3, 2, 5, 4), nan, draw.dtype), np.full_like(weights, nan)
    run("attention_grad", 4, heads, 1, d, qkv, 0, qkv, 4, qkv, 8, weights, scores, whole, whole, whole)
    run("attention_grad", 4, heads, 1, d, q, 0, k, 0, v, 0, weights, scores, *parts)
    close(whole, np.concatenate(parts, axis=2), draw.dtype)


def test_large_scores_neither_overflow_nor_hide_a_later_key(run, draw):
    """What a query does not see yet may be as large as it likes."""
    q = np.ones((1, 3, 1), draw.dtype)
    k, v = np.array([[[1.0], [2.0], [1e4]]], draw.dtype), np.array([[[1.0], [2.0], [3.0]]], draw.dtype)
    y, weights = forward(run, q, k, v, 1, causal=1)
    e = np.exp(-1.0)
    close(weights[0, 0], np.array([[1, 0, 0], [e / (1 + e), 1 / (1 + e), 0], [0, 0, 1]]), draw.dtype)
    close(y[0, :, 0], np.array([1, (e + 2) / (1 + e), 3]), draw.dtype)


@pytest.mark.parametrize("bad", [nan, inf])
def test_what_is_not_finite_stays_visible(run, draw, bad):
    q, k, v = draw(3, 1, 4, 2)
    q[0, 2, 0] = bad
    with np.errstate(invalid="ignore"):
        y, _ = forward(run, q, k, v, 1, causal=1)
    assert np.isnan(y[0, 2]).all()
    assert np.isfinite(y[0, [0, 1, 3]]).all()
