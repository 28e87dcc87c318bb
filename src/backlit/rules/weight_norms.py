"""Weights as functions of other parameters: weight_norm, spectral_norm and the power_iteration that it goes by.

Shapes: v[O, *I], g[O], W[O, *I] and norm[O] of weight_norm; W[O, *I], u[O], v[*I], y[O, *I] and sigma[] of
spectral_norm. Row o holds the weights into unit o (of a convolution: into channel o)::

    weight_norm:     W_o = g_o v_o / ‖v_o‖
    spectral_norm:   y = W / σ, σ = uᵀ W v
    power_iteration: u' = W v / ‖W v‖, v' = Wᵀ u' / ‖Wᵀ u'‖

Repeated, the power iteration brings u and v to the first singular vectors, and σ to the largest singular value. To
spectral_norm they are constants: at the singular vectors σ does not change with them. As PyTorch's
``parametrizations.weight_norm(dim=0)`` and ``spectral_norm``, where v is flat. A row v_o = 0 has no direction: W_o is
then not a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import listed
from backlit.rules._losses import check_option
from backlit.rules.base import Case, rule


def _rows(xp: Namespace, W: Array) -> Array:
    """W[O, *I] as a matrix [O, I]."""
    return xp.reshape(W, (W.shape[0], -1))


def _over(x: Array, rows: Array) -> Array:
    """A number for each row of ``rows``, with its axes."""
    return x[(..., *(None,) * (rows.ndim - 1))]


def _require(name: str, want: dict[str, Shape], **got: Shape) -> None:
    """InputError unless the first array is a matrix or more, and the others have the shapes that fit it."""
    (first, shape), *_ = got.items()
    if len(shape) < 2:
        raise InputError("shape_clash", rule=name, expected=f"{first}[O, I, …]", got=listed(**got))
    if {first: shape} | want != got:
        raise InputError("shape_clash", rule=name, expected=listed(**want), got=listed(**got))


def weight_forward(xp: Namespace, v: Array, g: Array) -> tuple[Array, Array]:
    rows = _rows(xp, v)
    norm = xp.sqrt(xp.sum(rows * rows, axis=1))
    return v * _over(g / norm, v), norm


def weight_backward(xp: Namespace, dW: Array, *, v: Array, g: Array, norm: Array) -> tuple[Array, Array]:
    along = xp.sum(_rows(xp, dW) * _rows(xp, v), axis=1) / norm
    return _over(g / norm, v) * (dW - v * _over(along / norm, v)), along


def weight_shapes(v: Shape, g: Shape) -> tuple[Shape, Shape]:
    _require("weight_norm", {"g": v[:1]}, v=v, g=g)
    return v, v[:1]


def weight_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (3, 4)), ("kernels", (2, 3, 2, 2)), ("one row", (1, 3))):
        yield Case(label, v=rng.normal(size=shape), g=rng.normal(size=shape[0]))
    known = {"W": [[1.5, 2.0]], "norm": [5.0]}
    yield Case("by hand", v=np.asarray([[3.0, 4.0]]), g=np.asarray([2.5]), expect=known)


weight_norm = rule(
    "weight_norm",
    weight_forward,
    weight_backward,
    shapes=weight_shapes,
    formulas=(
        "W[o,*i] = g[o] * v[o,*i] / norm[o]",
        "norm[o] = sqrt(Sum(i, v[o,*i]**2))",
        "dv[o,*i] = g[o] / norm[o] * (dW[o,*i] - v[o,*i] * Sum(j, dW[o,*j] * v[o,*j]) / norm[o]**2)",
        "dg[o] = Sum(i, dW[o,*i] * v[o,*i]) / norm[o]",
    ),
    outputs=("W", "norm"),
    expand=lambda o, v, g: v * _expanded_over(o, g / o.sqrt(o.sum(v * v, axis=tuple(range(1, len(v.shape))))), v),
    cases=weight_cases,
    source="Salimans, Kingma: Weight normalization, NeurIPS 2016",
)


def _expanded_over(o: Any, x: Any, rows: Any) -> Any:
    return o.reshape(x, shape=(*x.shape, *(1,) * (len(rows.shape) - 1)))


def spectral_forward(xp: Namespace, W: Array, u: Array, v: Array) -> tuple[Array, Array]:
    sigma = xp.sum(_over(u, W) * W * v)
    return W / sigma, sigma


def spectral_backward(xp: Namespace, dy: Array, *, W: Array, u: Array, v: Array, sigma: Array) -> Array:
    return (dy - xp.sum(dy * W) / sigma * (_over(u, W) * v)) / sigma


def spectral_shapes(W: Shape, u: Shape, v: Shape) -> tuple[Shape, Shape]:
    _require("spectral_norm", {"u": W[:1], "v": W[1:]}, W=W, u=u, v=v)
    return W, ()


def _unit(rng: Any, shape: Shape) -> Any:
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x)


def spectral_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (3, 4)), ("kernels", (2, 3, 2, 2)), ("one row", (1, 3))):
        u, v = _unit(rng, shape[:1]), _unit(rng, shape[1:])
        yield Case(label, W=rng.normal(size=shape) + 3.0 * np.multiply.outer(u, v), u=u, v=v)
    known = {"y": [[1.0, 0.0], [0.0, 0.5]], "sigma": 4.0}
    first = np.asarray([1.0, 0.0])
    yield Case("singular vectors", W=np.diag([4.0, 2.0]), u=first, v=first, expect=known)


spectral_norm = rule(
    "spectral_norm",
    spectral_forward,
    spectral_backward,
    shapes=spectral_shapes,
    formulas=(
        "y[o,*i] = W[o,*i] / sigma",
        "sigma = Sum(o, i, u[o] * W[o,*i] * v[*i])",
        "dW[o,*i] = (dy[o,*i] - Sum(p, j, dy[p,*j] * W[p,*j]) / sigma * u[o] * v[*i]) / sigma",
    ),
    outputs=("y", "sigma"),
    constants=("u", "v"),
    expand=lambda o, W, u, v: W / o.sum(_expanded_over(o, u, W) * W * v),
    cases=spectral_cases,
    source="Miyato, Kataoka, Koyama, Yoshida: Spectral normalization for generative adversarial networks, ICLR 2018",
)


def power_forward(xp: Namespace, W: Array, v: Array, *, eps: float = 1e-12) -> tuple[Array, Array]:
    rows, flat = _rows(xp, W), xp.reshape(v, (-1,))
    u = _normalized(xp, xp.matmul(rows, flat), eps)
    return u, xp.reshape(_normalized(xp, xp.matmul(rows.T, u), eps), v.shape)


def _normalized(xp: Namespace, x: Array, eps: float) -> Array:
    norm = xp.sqrt(xp.sum(x * x))
    return x / xp.maximum(norm, xp.full_like(norm, eps))


def power_shapes(W: Shape, v: Shape, *, eps: float = 1e-12) -> tuple[Shape, Shape]:
    check_option("power_iteration", "eps", eps, "0 < eps < ∞", ok=0 < eps < inf)
    _require("power_iteration", {"v": W[1:]}, W=W, v=v)
    return W[:1], v


def power_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (3, 4)), ("kernels", (2, 3, 2, 2)), ("one row", (1, 3))):
        yield Case(label, W=rng.normal(size=shape), v=_unit(rng, shape[1:]))
    known = {"u": [0.6, 0.8], "next": [1.0, 0.0]}
    yield Case("by hand", W=np.asarray([[3.0, 0.0], [4.0, 0.0]]), v=np.asarray([0.6, 0.8]), expect=known)
    yield Case("zero", W=np.zeros((2, 3)), v=_unit(rng, (3,)), expect={"u": 0.0, "next": 0.0})


power_iteration = rule(
    "power_iteration",
    power_forward,
    None,
    shapes=power_shapes,
    formulas=(
        "u[o] = Sum(i, W[o,*i] * v[*i]) / max(sqrt(Sum(p, Sum(i, W[p,*i] * v[*i])**2)), eps)",
        "next[*i] = Sum(o, W[o,*i] * u[o]) / max(sqrt(Sum(j, Sum(o, W[o,*j] * u[o])**2)), eps)",
    ),
    outputs=("u", "next"),
    cases=power_cases,
    source="von Mises, Pollaczek-Geiringer: Praktische Verfahren der Gleichungsauflösung, ZAMM 9, 1929",
)
