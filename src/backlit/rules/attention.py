"""attention: every query looks at every key, and takes the mean of the values weighted by how well they match.

Shapes: q[N, T, D], k[N, S, D], v[N, S, Dv], mask[N, S] or mask[N, T, S] or absent (0 hides a key, anything else shows
it); y[N, T, Dv] and the attention weights[N, heads, T, S]. Head h works on the h-th part of D and of Dv, with
weights = softmax(q kᵀ / √(D/heads)) over the keys that the mask and, where ``causal``, the order (s ≤ t) let it see. A
query from which all keys are hidden has weights and output 0, never NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, listed
from backlit.rules.base import Case, rule

_HIDDEN = -(2.0**100)
"""A score so low that its exponential is 0, and yet no infinity, which would make NaN of a difference."""


def forward(
    xp: Namespace, q: Array, k: Array, v: Array, mask: Array | None = None, *, heads: int = 1, causal: bool = False
) -> tuple[Array, Array]:
    Q, K, V = (_split(xp, a, heads) for a in (q, k, v))
    scores = xp.matmul(Q * _scale(q, heads), xp.matrix_transpose(K))
    weights = _softmax(xp, scores, _visible(xp, mask, q.shape[1], causal=causal))
    return _joined(xp, xp.matmul(weights, V)), weights


def backward(
    xp: Namespace, dy: Array, *, q: Array, k: Array, v: Array, y: Array, weights: Array, heads: int
) -> tuple[Array, Array, Array]:
    """Softmax's backward needs Σ_s weights·∂L/∂weights, which is Σ_c dy·y: a sum over D instead of one over S."""
    Q, K, V, dY = (_split(xp, a, heads) for a in (q, k, v, dy))
    common = xp.sum(_split(xp, dy * y, heads), axis=-1, keepdims=True)
    dscores = weights * (xp.matmul(dY, xp.matrix_transpose(V)) - common) * _scale(q, heads)
    dQ, dK = xp.matmul(dscores, K), xp.matmul(xp.matrix_transpose(dscores), Q)
    dV = xp.matmul(xp.matrix_transpose(weights), dY)
    return _joined(xp, dQ), _joined(xp, dK), _joined(xp, dV)


def _scale(q: Array, heads: int) -> float:
    return float((q.shape[-1] // heads) ** -0.5)


def _split(xp: Namespace, a: Array, heads: int) -> Array:
    """[N, T, D] as [N, heads, T, D/heads]."""
    N, T, D = a.shape
    return xp.permute_dims(xp.reshape(a, (N, T, heads, D // heads)), (0, 2, 1, 3))


def _joined(xp: Namespace, a: Array) -> Array:
    """[N, heads, T, D/heads] as [N, T, D]."""
    N, heads, T, width = a.shape
    return xp.reshape(xp.permute_dims(a, (0, 2, 1, 3)), (N, T, heads * width))


def _visible(xp: Namespace, mask: Array | None, T: int, *, causal: bool) -> Array | None:
    """Which keys each query sees, as [N or 1, 1, T or 1, S]; None where it sees all."""
    places = xp.arange(T)
    seen = xp.reshape(places, (1, 1, T, 1)) >= xp.reshape(places, (1, 1, 1, T)) if causal else None
    if mask is None:
        return seen
    shown = xp.reshape(
        xp.astype(mask, xp.bool), (mask.shape[0], 1, 1 if mask.ndim == 2 else mask.shape[1], mask.shape[-1])
    )
    return shown if seen is None else xp.logical_and(shown, seen)


def _softmax(xp: Namespace, scores: Array, visible: Array | None) -> Array:
    if visible is None:
        e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)
    scores = xp.where(visible, scores, _HIDDEN * xp.ones_like(scores))
    shown = as_number(xp, xp.broadcast_to(visible, scores.shape), scores)
    e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True)) * shown
    total = xp.sum(e, axis=-1, keepdims=True)
    return e / xp.where(total == 0, xp.ones_like(total), total)


def shapes(
    q: Shape, k: Shape, v: Shape, mask: Shape | None = None, *, heads: int = 1, causal: bool = False
) -> tuple[Shape, Shape]:
    given = listed(q=q, k=k, v=v)
    if not (len(q) == len(k) == len(v) == 3 and q[0] == k[0] == v[0] and q[2] == k[2] and k[1] == v[1] > 0):
        raise InputError("shape_clash", rule="attention", expected="q[N, T, D], k[N, S ≥ 1, D], v[N, S, Dv]", got=given)
    (N, T, D), S, Dv = q, k[1], v[2]
    for width in (D, Dv):
        if heads < 1 or width < 1 or width % heads:
            raise InputError("attention_heads", width=width, got=f"heads = {heads}")
    if causal and T != S:
        raise InputError("attention_causal", expected=f"k[N, {T}, D]", got=given)
    if mask not in (None, (N, S), (N, T, S)):
        raise InputError(
            "attention_mask_shape", expected=f"mask[{N}, {S}] | mask[{N}, {T}, {S}]", got=listed(mask=mask)
        )
    return (N, T, Dv), (N, heads, T, S)


def requires(q: Any, k: Any, v: Any, mask: Array | None = None, *, heads: int = 1, causal: bool = False) -> None:
    if mask is None:
        return
    empty = np.argwhere(~(np.asarray(mask) != 0).any(axis=-1))
    if len(empty):
        at = ", ".join(map(str, empty[0].tolist()))
        raise InputError("attention_mask_empty", count=len(empty), expected="Σ_s mask[…, s] ≥ 1", got=f"mask[{at}] = 0")


def cases(rng: Any) -> Iterator[Case]:
    def qkv(N: int, T: int, S: int, D: int, Dv: int) -> dict[str, Any]:
        return {"q": rng.normal(size=(N, T, D)), "k": rng.normal(size=(N, S, D)), "v": rng.normal(size=(N, S, Dv))}

    yield Case("one head", **qkv(1, 2, 3, 2, 1))
    yield Case("two heads, values wider than keys", **qkv(1, 2, 3, 2, 4), heads=2)
    yield Case("two samples, causal", **qkv(2, 3, 3, 4, 4), heads=2, causal=True)
    yield Case("padding", **qkv(2, 2, 3, 2, 2), mask=np.array([[1, 1, 0], [1, 1, 1]]))
    yield Case("padding in a causal sequence", **qkv(2, 3, 3, 2, 2), mask=np.array([[1, 1, 0], [1, 1, 1]]), causal=True)
    pairs = np.array([[[True, False, True], [False, True, False]]])
    yield Case("a mask for each query", **qkv(1, 2, 3, 4, 2), mask=pairs, heads=2)
    nothing = dict.fromkeys(("y", "weights", "dq", "dk", "dv"), 0.0)
    yield Case("everything hidden", **qkv(1, 2, 3, 2, 2), mask=np.zeros((1, 3)), expect=nothing)
    left = np.array([[0, 1, 1]])
    yield Case("the first key is padding, so the first query sees none", **qkv(1, 3, 3, 2, 2), mask=left, causal=True)
    far = {n: 3.0 * a for n, a in qkv(1, 2, 2, 1, 1).items()} | {"v": np.array([[[1.0], [2.0]]])}
    yield Case("large scores", **far)
    yield Case("no queries", **qkv(1, 0, 2, 2, 2))


def _expand(o: Any, q: Any, k: Any, v: Any, mask: Any, *, heads: int, causal: bool) -> Any:
    (N, T, D), S = q.shape, k.shape[1]
    Q, K, V = (_expanded_split(o, a, heads) for a in (q, k, v))
    scores = o.matmul(Q, o.transpose(K, axes=(0, 1, 3, 2))) / float(np.sqrt(D // heads))
    allowed = np.tril(np.ones((T, S))) if causal else np.ones((T, S))
    if mask is not None:
        shown = o.reshape(o.where(o.not_equal(mask, 0), 1.0, 0.0), shape=(N, 1, -1, S))
        allowed = shown * allowed
        weights = o.softmax(o.where(o.greater(allowed, 0.5), scores, _HIDDEN), axis=-1) * allowed
    elif causal:
        weights = o.softmax(o.where(allowed > 0.5, scores, _HIDDEN), axis=-1)
    else:
        weights = o.softmax(scores, axis=-1)
    return o.reshape(o.transpose(o.matmul(weights, V), axes=(0, 2, 1, 3)), shape=(N, T, v.shape[2]))


def _expanded_split(o: Any, a: Any, heads: int) -> Any:
    N, T, D = a.shape
    return o.transpose(o.reshape(a, shape=(N, T, heads, D // heads)), axes=(0, 2, 1, 3))


_H = "floor({c} * heads / Count({c}))"  # the head that column c belongs to
_SEEN = "(mask[n,*u,{s}] != 0 and (not causal or {s} <= u))"  # *u: a query, or none where one mask is for all
_E = f"exp(Sum(c, ({_H.format(c='c')} == h) * q[n,*u,c] * k[n,{{s}},c]) / sqrt(Count(c) / heads))"
_WEIGHT = f"{_SEEN.format(s='s')} * ({_E.format(s='s')} / Sum(j, {_SEEN.format(s='j')} * {_E.format(s='j')}))"
_THROUGH = (  # from y[n,t,e] through weight s to the score: one term for each
    f"({_H.format(c='e')} == {_H.format(c='c')}) * weights[n,{_H.format(c='c')},t,s]"
    f" * dy[n,t,e] * (v[n,s,e] - y[n,t,e])"
)

attention = rule(
    "attention",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"y[n,t,c] = Sum(s, weights[n,{_H.format(c='c')},t,s] * v[n,s,c])",
        f"weights[n,h,*u,s] = {_WEIGHT}",
        f"dq[n,t,c] = Sum(s, e, {_THROUGH} * k[n,s,c]) / sqrt(Count(c) / heads)",
        f"dk[n,s,c] = Sum(t, e, {_THROUGH} * q[n,t,c]) / sqrt(Count(c) / heads)",
        f"dv[n,s,c] = Sum(t, weights[n,{_H.format(c='c')},t,s] * dy[n,t,c])",
    ),
    outputs=("y", "weights"),
    constants=("mask",),
    absent={"mask": 1.0},
    requires=requires,
    expand=_expand,
    cases=cases,
    source="Vaswani et al.: Attention is all you need, NeurIPS 2017, section 3.2; "
    "Σ weights·∂L/∂weights as Σ dy·y: Dao et al.: FlashAttention, NeurIPS 2022, appendix B.2",
)
