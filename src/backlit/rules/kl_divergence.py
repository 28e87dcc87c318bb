"""kl_divergence: how far a predicted distribution q is from a given one p, from log q.

Shapes: log_q[N, …, C] and p of the same shape, weights[N] ≥ 0 or absent; loss[] and mass[] = Σ_n w_n (N without
weights). With a sample's mean over the axes between N and C, if there are any::

    L = Σ_n w_n mean_t Σ_c p_ntc (log p_ntc - log q_ntc) / Σ_n w_n,    ∂L/∂(log q_ntc) = -w_n / Σ_n w_n p_ntc / T

0 log 0 = 0: an entry with p = 0 adds nothing, not even where log q = -∞. log_q[N, C] without weights gives PyTorch's
``F.kl_div(reduction="batchmean")``; with axes between N and C, PyTorch takes their sum, not their mean. For
log_q = log_softmax(logits), L is the softmax cross-entropy less the entropy of p. Where all weights are 0, L and its
gradient are 0. p and weights are constants; neither p nor q is checked to sum to 1.

InputError: another shape of p than of log_q (no broadcasting), weights that do not fit, no samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._losses import (
    cast,
    check_axes,
    check_same,
    check_weights,
    expanded_mean,
    expanded_per_sample,
    per_sample,
    share,
    weighted_mean,
)
from backlit.rules.base import Case, rule


def forward(xp: Namespace, log_q: Array, p: Array, weights: Array | None = None) -> tuple[Array, Array]:
    p = cast(xp, p, log_q)
    log_p = xp.log(xp.where(p > 0, p, xp.ones_like(p)))
    entries = p * (log_p - xp.where(p > 0, log_q, xp.zeros_like(p)))
    return weighted_mean(xp, per_sample(xp, xp.sum(entries, axis=-1)), weights)


def backward(xp: Namespace, dloss: Array, *, p: Array, weights: Array | None, mass: Array) -> Array:
    p = cast(xp, p, mass)
    return -share(xp, dloss, weights, mass, p) / prod(p.shape[1:-1]) * p


def shapes(log_q: Shape, p: Shape, weights: Shape | None = None) -> tuple[Shape, Shape]:
    check_axes("kl_divergence", 2, "log_q[N, …, C]", log_q=log_q)
    check_same("kl_divergence", log_q=log_q, p=p)
    check_weights("kl_divergence", "log_q", log_q[:1], weights=weights)
    return (), ()


def expand(o: Any, log_q: Any, p: Any, weights: Any) -> Any:
    log_p = o.log(o.where(o.greater(p, 0.0), p, 1.0))
    return expanded_mean(o, expanded_per_sample(o, o.sum(p * (log_p - log_q), axis=-1)), weights)


def _distributions(rng: Any, *shape: int) -> Any:
    drawn = rng.uniform(0.1, 1.0, size=shape)
    return drawn / drawn.sum(axis=-1, keepdims=True)


def cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (4, 3)), ("sequence", (2, 3, 4)), ("batch of one", (1, 2))):
        yield Case(label, log_q=np.log(_distributions(rng, *shape)), p=_distributions(rng, *shape))
    log_q, p = np.log(_distributions(rng, 2, 3, 4)), _distributions(rng, 2, 3, 4)
    yield Case("weights", log_q=log_q, p=p, weights=np.asarray([0.5, 2.0]))
    yield Case("all weights 0", log_q=log_q, p=p, weights=np.zeros(2), expect={"loss": 0.0, "mass": 0.0, "dlog_q": 0.0})
    sure = np.asarray([[0.0, 1.0, 0.0]])
    yield Case("0 log 0", log_q=np.log([[0.25, 0.5, 0.25]]), p=sure, expect={"loss": np.log(2.0), "dlog_q": -sure})
    yield Case("q = p", log_q=np.log(p), p=p, expect={"loss": 0.0})


_ENTRY = "p[n,*t,c] * (log(p[n,*t,c] if p[n,*t,c] > 0 else 1) - log_q[n,*t,c])"

kl_divergence = rule(
    "kl_divergence",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"loss = Sum(n, weights[n] * Mean(t, Sum(c, {_ENTRY}))) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        "dlog_q[n,*t,c] = -dloss * weights[n] / mass * p[n,*t,c] / Count(t) if mass != 0 else 0",
    ),
    outputs=("loss", "mass"),
    constants=("p", "weights"),
    absent={"weights": 1.0},
    expand=expand,
    cases=cases,
    source="Kullback, Leibler: On information and sufficiency, Annals of Mathematical Statistics 22(1), 1951",
)
