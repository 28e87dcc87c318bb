"""Normalisation of every sample by itself, over its last axis: layernorm, rmsnorm.

Shapes: x[*N, C], gamma[C], beta[C]; y[*N, C], mean[*N], var[*N] (divided by C, biased), mean_square[*N].
rmsnorm does not subtract the mean, and divides by the root of the mean square.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import listed, unbroadcast
from backlit.rules.base import Case, rule
from backlit.rules.batchnorm import check_channels


def forward(xp: Namespace, x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    mean = xp.mean(x, axis=-1)
    centred = x - _column(xp, mean)
    var = xp.mean(centred * centred, axis=-1)
    return gamma * (centred / _column(xp, xp.sqrt(var + eps))) + beta, mean, var


def backward(
    xp: Namespace, dy: Array, *, x: Array, gamma: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    std = _column(xp, xp.sqrt(var + eps))
    xhat = (x - _column(xp, mean)) / std
    g = dy * gamma
    dx = (g - xp.mean(g, axis=-1, keepdims=True) - xhat * xp.mean(g * xhat, axis=-1, keepdims=True)) / std
    return dx, unbroadcast(xp, dy * xhat, gamma.shape), unbroadcast(xp, dy, gamma.shape)


def rms_forward(xp: Namespace, x: Array, gamma: Array, *, eps: float = 1e-6) -> tuple[Array, Array]:
    mean_square = xp.mean(x * x, axis=-1)
    return gamma * (x / _column(xp, xp.sqrt(mean_square + eps))), mean_square


def rms_backward(
    xp: Namespace, dy: Array, *, x: Array, gamma: Array, mean_square: Array, eps: float
) -> tuple[Array, Array]:
    rms = _column(xp, xp.sqrt(mean_square + eps))
    xhat = x / rms
    g = dy * gamma
    dx = (g - xhat * xp.mean(g * xhat, axis=-1, keepdims=True)) / rms
    return dx, unbroadcast(xp, dy * xhat, gamma.shape)


def _column(xp: Namespace, statistic: Array) -> Array:
    return xp.expand_dims(statistic, axis=-1)


def shapes(x: Shape, gamma: Shape, beta: Shape, *, eps: float = 1e-5) -> tuple[Shape, Shape, Shape]:
    _check("layernorm", x, eps, gamma=gamma, beta=beta)
    return x, x[:-1], x[:-1]


def rms_shapes(x: Shape, gamma: Shape, *, eps: float = 1e-6) -> tuple[Shape, Shape]:
    _check("rmsnorm", x, eps, gamma=gamma)
    return x, x[:-1]


def _check(name: str, x: Shape, eps: float, **vectors: Shape) -> None:
    if len(x) < 1 or x[-1] == 0:
        raise InputError("shape_clash", rule=name, expected="x[…, C ≥ 1]", got=listed(x=x))
    check_channels(name, x[-1], eps, **vectors)


def rms_cases(rng: Any) -> Iterator[Case]:
    shapes_of = {"batch": (4, 5), "batch of one": (1, 4), "single vector": (4,), "images": (2, 2, 3, 4)}
    for label, shape in shapes_of.items():
        yield Case(label, x=rng.normal(size=shape), gamma=rng.normal(size=shape[-1]))
    yield Case("no samples", x=rng.normal(size=(0, 3)), gamma=rng.normal(size=3))
    yield Case("far from zero", x=100.0 + 3.0 * rng.normal(size=(3, 6)), gamma=rng.normal(size=6))
    flat = rng.normal(size=(3, 4)) * [[1.0], [0.0], [1.0]]
    yield Case("a constant sample", x=flat, gamma=rng.normal(size=4), eps=0.1)


def cases(rng: Any) -> Iterator[Case]:
    for case in rms_cases(rng):
        yield Case(case.label, **case.call, beta=rng.normal(size=case.call["gamma"].shape))
    one = {"gamma": rng.normal(size=1), "beta": rng.normal(size=1)}
    yield Case("one channel", x=rng.normal(size=(3, 1)), **one, expect={"dx": 0.0, "dgamma": 0.0, "dbeta": 3.0})


def _expand(o: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    over = {"axis": -1, "keepdims": True}
    return gamma * ((x - o.mean(x, **over)) / o.sqrt(o.var(x, **over) + eps)) + beta


_DX = (
    "dx[*n,c] = (dy[*n,c] * gamma[c] - Mean(k, dy[*n,k] * gamma[k]) - (x[*n,c] - mean[*n]) / (var[*n] + eps)"
    " * Mean(k, dy[*n,k] * gamma[k] * (x[*n,k] - mean[*n]))) / sqrt(var[*n] + eps)"
)
_RMS_DX = (
    "dx[*n,c] = (dy[*n,c] * gamma[c] - x[*n,c] / (mean_square[*n] + eps) * Mean(k, dy[*n,k] * gamma[k] * x[*n,k]))"
    " / sqrt(mean_square[*n] + eps)"
)

layernorm = rule(
    "layernorm",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        "y[*n,c] = gamma[c] * (x[*n,c] - mean[*n]) / sqrt(var[*n] + eps) + beta[c]",
        "mean[*n] = Mean(c, x[*n,c])",
        "var[*n] = Mean(c, (x[*n,c] - mean[*n])**2)",
        _DX,
        "dgamma[c] = Sum(n, dy[*n,c] * (x[*n,c] - mean[*n]) / sqrt(var[*n] + eps))",
        "dbeta[c] = Sum(n, dy[*n,c])",
    ),
    outputs=("y", "mean", "var"),
    expand=_expand,
    cases=cases,
    source="Ba, Kiros, Hinton: Layer normalization, arXiv:1607.06450, 2016",
)

rmsnorm = rule(
    "rmsnorm",
    rms_forward,
    rms_backward,
    shapes=rms_shapes,
    formulas=(
        "y[*n,c] = gamma[c] * x[*n,c] / sqrt(mean_square[*n] + eps)",
        "mean_square[*n] = Mean(c, x[*n,c]**2)",
        _RMS_DX,
        "dgamma[c] = Sum(n, dy[*n,c] * x[*n,c] / sqrt(mean_square[*n] + eps))",
    ),
    outputs=("y", "mean_square"),
    expand=lambda o, x, gamma, eps: gamma * (x / o.sqrt(o.mean(x * x, axis=-1, keepdims=True) + eps)),
    cases=rms_cases,
    source="Zhang, Sennrich: Root mean square layer normalization, NeurIPS 2019",
)
