"""softmax_focal: focal loss of one class of many, from logits; the softmax is inside.

Shapes: logits[N, …, C], C ≥ 2; labels[N, …] integers in 0 … C-1; weights[N] or [N, …] (one for every position) or
absent; alpha[C], one weight for each class, or absent. They give loss[], mass[] and the probabilities p of the shape of
logits. Positions n run over all leading axes, k is the label of position n::

    L = Σ_n s_n α_k (1 - p_nk)^γ (-log p_nk) / m        m = Σ_n s_n
    δ_nc = s_n / m α_k (1 - p_nk)^γ (γ p_nk (-log p_nk) / (1 - p_nk) + 1) (p_nc - [c = k])

with position weights s (1 where absent; s_n = 0 where the label is ``ignore``). What is decided already counts little:
γ = 0 is softmax_cross_entropy, except that α stays out of the mass m, as in ``focal``. For two classes with the logits
0 and z it is ``focal`` of z with α and 1 - α.

All of it is a function of the margin d = z_k - log Σ_(j≠k) exp z_j: p_k = sigmoid(d), 1 - p_k = sigmoid(-d). So 1 - p_k
is never taken as a difference, and no logit overflows. Where m = 0, L and its gradient are 0. All inputs but logits are
constants. Whether labels lie in 0 … C-1 is checked where data come in, not here.

InputError: labels that are no class numbers of these logits, fewer than 2 classes, weights that do not fit, no samples,
a gamma below 0, an ``ignore`` that is no integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, prod
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number
from backlit.rules._losses import (
    cast,
    check_axes,
    check_option,
    check_weights,
    expanded_ratio,
    expanded_weights,
    share,
    weighted_mean,
    weights_of,
)
from backlit.rules.base import Case, rule
from backlit.rules.sigmoids import sigmoid_forward, softplus_forward
from backlit.rules.softmax import softmax_forward

NAME = "softmax_focal"


def forward(
    xp: Namespace,
    logits: Array,
    labels: Array,
    weights: Array | None = None,
    alpha: Array | None = None,
    *,
    gamma: float = 2.0,
    ignore: int | None = None,
) -> tuple[Array, Array, Array]:
    y = _one_hot(xp, labels, logits)
    d, _ = _margin(xp, logits, y)
    losses = _alphas(xp, y, alpha) * xp.exp(-gamma * softplus_forward(xp, d)) * softplus_forward(xp, -d)
    counted = _counted(xp, labels, weights, ignore, losses)
    return (*weighted_mean(xp, losses, counted), softmax_forward(xp, logits))


def backward(
    xp: Namespace,
    dloss: Array,
    *,
    logits: Array,
    labels: Array,
    weights: Array | None,
    alpha: Array | None,
    gamma: float,
    ignore: int | None,
    mass: Array,
) -> Array:
    y = _one_hot(xp, labels, logits)
    d, others = _margin(xp, logits, y)
    p, q, miss = sigmoid_forward(xp, d), sigmoid_forward(xp, -d), softplus_forward(xp, -d)
    slope = -_alphas(xp, y, alpha) * xp.exp(-gamma * softplus_forward(xp, d)) * (gamma * p * miss + q)
    part = share(xp, dloss, _counted(xp, labels, weights, ignore, d), mass, logits)
    return part * slope[..., None] * (y - others)


def _one_hot(xp: Namespace, labels: Array, like: Array) -> Array:
    classes = xp.arange(like.shape[-1], dtype=labels.dtype)
    return as_number(xp, xp.expand_dims(labels, axis=-1) == classes, like)


def _margin(xp: Namespace, z: Array, y: Array) -> tuple[Array, Array]:
    """(z_k - log Σ_(j≠k) exp z_j, softmax of all classes but k, with 0 for k)."""
    others = xp.where(y > 0, xp.min(z, axis=-1, keepdims=True), z)
    most = xp.max(others, axis=-1, keepdims=True)
    e = (1.0 - y) * xp.exp(others - most)
    total = xp.sum(e, axis=-1, keepdims=True)
    d = xp.sum(xp.where(y > 0, z, xp.zeros_like(z)), axis=-1) - (most + xp.log(total))[..., 0]
    return d, e / total


def _alphas(xp: Namespace, y: Array, alpha: Array | None) -> Array:
    """The weight of every label's class."""
    return xp.sum(y if alpha is None else y * cast(xp, alpha, y), axis=-1)


def _counted(xp: Namespace, labels: Array, weights: Array | None, ignore: int | None, like: Array) -> Array:
    """s_n: the weight of every position, 0 where its label is ``ignore``."""
    s = weights_of(xp, weights, like)
    return s if ignore is None else s * as_number(xp, labels != ignore, s)


def shapes(
    logits: Shape,
    labels: Shape,
    weights: Shape | None = None,
    alpha: Shape | None = None,
    *,
    gamma: float = 2.0,
    ignore: int | None = None,
) -> tuple[Shape, Shape, Shape]:
    check_axes(NAME, 2, "logits[N, …, C]", logits=logits)
    if logits[-1] < 2:
        raise InputError("loss_classes", rule=NAME, expected="logits[N, …, C ≥ 2]", got=f"logits{list(logits)}")
    check_weights(NAME, "logits", logits[:1], logits[:-1], weights=weights)
    check_weights(NAME, "logits", logits[-1:], alpha=alpha)
    check_option(NAME, "gamma", gamma, "0 ≤ gamma < ∞", ok=0 <= gamma < inf)
    check_option(NAME, "ignore", ignore, "int | None", ok=ignore is None or isinstance(ignore, int))
    if labels != logits[:-1]:
        expected, got = f"labels: int{list(logits[:-1])}", f"labels{list(labels)}"
        raise InputError("loss_labels", rule=NAME, expected=expected, got=got)
    return (), (), logits


def expand(
    o: Any, logits: Any, labels: Any, weights: Any, alpha: Any, *, gamma: float = 2.0, ignore: int | None = None
) -> Any:
    y = o.where(o.equal(o.reshape(labels, shape=(*labels.shape, 1)), np.arange(logits.shape[-1])), 1.0, 0.0)
    surprise = -o.sum(y * o.log_softmax(logits, axis=-1), axis=-1)
    undecided = o.sum((1.0 - y) * o.softmax(logits, axis=-1), axis=-1)
    losses = o.sum(y if alpha is None else y * alpha, axis=-1) * undecided**gamma * surprise
    counted = [] if weights is None else [expanded_weights(o, weights, losses)]
    counted += [] if ignore is None else [o.where(o.equal(labels, ignore), 0.0, 1.0)]
    s = prod(counted)
    return expanded_ratio(o, o.sum(s * losses), o.sum(s)) if counted else o.mean(losses)


def cases(rng: Any) -> Iterator[Case]:
    for label, shape in (
        ("matrix", (4, 3)),
        ("sequence", (2, 3, 4)),
        ("two classes", (3, 2)),
        ("batch of one", (1, 3)),
    ):
        yield Case(label, logits=rng.normal(size=shape), labels=rng.integers(0, shape[-1], size=shape[:-1]))
    z, labels, a = rng.normal(size=(2, 3, 4)), np.asarray([[0, 3, 1], [2, 0, 0]]), np.asarray([0.5, 1.0, 2.0, 0.25])
    yield Case("gamma 0", logits=z, labels=labels, gamma=0.0)
    yield Case("gamma 1/2, alpha", logits=z, labels=labels, alpha=a, gamma=0.5)
    yield Case("ignored label", logits=z, labels=labels, ignore=0)
    yield Case("ignored label that is no class", logits=z, labels=labels - 100 * (labels == 3), ignore=-97)
    yield Case("weights of samples", logits=z, labels=labels, weights=np.asarray([0.5, 2.0]), ignore=0)
    yield Case("everything", logits=z, labels=labels, weights=rng.uniform(size=(2, 3)), alpha=a, gamma=3.0, ignore=2)
    nothing = {"loss": 0.0, "mass": 0.0, "dlogits": 0.0}
    yield Case("all ignored", logits=z, labels=labels * 0 + 1, ignore=1, expect=nothing)
    far = np.asarray([[1000.0, 0.0, -1000.0], [1000.0, 0.0, -1000.0]])
    known = {"loss": 1000.0, "p": [[1.0, 0.0, 0.0]] * 2, "dlogits": [[0.0, 0.0, 0.0], [0.5, 0.0, -0.5]]}
    yield Case("extreme logits", logits=far, labels=np.asarray([0, 2]), expect=known)


_LARGEST = "Max(i, logits[n,*t,i])"
_TOTAL = f"Sum(j, exp(logits[n,*t,j] - {_LARGEST}))"
_SURPRISE = f"(log({_TOTAL}) + {_LARGEST} - logits[n,*t,k])"
_UNDECIDED = "Sum(j, (j != k) * p[n,*t,j])"
_COUNTED = "weights[n,*t] * (labels[n,*t] != ignore)"
_SHARPNESS = f"(gamma * p[n,*t,k] * {_SURPRISE} / {_UNDECIDED} + 1 if {_UNDECIDED} > 0 else 0)"
_SHARE = f"dloss * {_COUNTED} / mass"
_SURPLUS = "(p[n,*t,c] - (c == k))"
_OF_LABEL = f"(labels[n,*t] == k) * alpha[k] * {_UNDECIDED}**gamma"

softmax_focal = rule(
    NAME,
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"p[n,*t,c] = exp(logits[n,*t,c] - {_LARGEST}) / {_TOTAL}",
        f"mass = Sum(n, t, {_COUNTED})",
        f"loss = Sum(n, t, {_COUNTED} * Sum(k, {_OF_LABEL} * {_SURPRISE})) / mass if mass != 0 else 0",
        f"dlogits[n,*t,c] = {_SHARE} * Sum(k, {_OF_LABEL} * {_SHARPNESS} * {_SURPLUS}) if mass != 0 else 0",
    ),
    outputs=("loss", "mass", "p"),
    constants=("labels", "weights", "alpha"),
    absent={"weights": 1.0, "alpha": 1.0},
    expand=expand,
    cases=cases,
    source="Lin, Goyal, Girshick, He, Dollár: Focal loss for dense object detection, ICCV 2017",
)
