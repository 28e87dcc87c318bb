"""negative_sampling: one word that was there against some that were not, from the logits of both.

Shapes: positive[N], negative[N, K], weights[N] ≥ 0 or absent; loss[] and mass[] = Σ_n w_n (N without weights)::

    L = Σ_n w_n (-log σ(s_n) - Σ_k log σ(-s_nk)) / Σ_n w_n

s_n is the score (a scalar product of word vectors) of the true pair, s_nk those of K drawn pairs. Where all weights are
0, L and its gradients are 0. weights are constant.

InputError: positive and negative of unequal length, weights of another length, no samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._losses import check_axes, check_same, check_weights, expanded_mean, share, weighted_mean
from backlit.rules.base import Case, rule
from backlit.rules.sigmoids import sigmoid_forward, softplus_forward


def forward(xp: Namespace, positive: Array, negative: Array, weights: Array | None = None) -> tuple[Array, Array]:
    noise = xp.sum(softplus_forward(xp, negative), axis=-1)
    return weighted_mean(xp, softplus_forward(xp, -positive) + noise, weights)


def backward(
    xp: Namespace, dloss: Array, *, positive: Array, negative: Array, weights: Array | None, mass: Array
) -> tuple[Array, Array]:
    dpositive = -share(xp, dloss, weights, mass, positive) * sigmoid_forward(xp, -positive)
    return dpositive, share(xp, dloss, weights, mass, negative) * sigmoid_forward(xp, negative)


def shapes(positive: Shape, negative: Shape, weights: Shape | None = None) -> tuple[Shape, Shape]:
    check_axes("negative_sampling", 2, "negative[N, K]", negative=negative)
    check_same("negative_sampling", **{"rows of negative": negative[:-1], "positive": positive})
    check_weights("negative_sampling", "positive", positive[:1], weights=weights)
    return (), ()


def expand(o: Any, positive: Any, negative: Any, weights: Any) -> Any:
    return expanded_mean(o, o.softplus(-positive) + o.sum(o.softplus(negative), axis=-1), weights)


def cases(rng: Any) -> Iterator[Case]:
    for label, n, k in (("batch", 4, 3), ("batch of one", 1, 2), ("one negative", 3, 1)):
        yield Case(label, positive=rng.normal(size=n), negative=rng.normal(size=(n, k)))
    s, noise = rng.normal(size=4), rng.normal(size=(4, 3))
    yield Case("weights", positive=s, negative=noise, weights=np.asarray([0.5, 2.0, 0.0, 1.25]))
    nothing = {"loss": 0.0, "mass": 0.0, "dpositive": 0.0, "dnegative": 0.0}
    yield Case("all weights 0", positive=s, negative=noise, weights=np.zeros(4), expect=nothing)
    known = {"loss": 2000.0, "dpositive": [-1.0], "dnegative": [[1.0, 0.0]]}
    far = np.asarray([[-1000.0, 1000.0, -1000.0]])
    yield Case("extreme logits", positive=far[:, 0], negative=far[:, 1:], expect=known)


_MISS = "max(-positive[n], 0) + log(1 + exp(-abs(positive[n])))"
_NOISE = "Sum(k, max(negative[n,k], 0) + log(1 + exp(-abs(negative[n,k]))))"

negative_sampling = rule(
    "negative_sampling",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"loss = Sum(n, weights[n] * ({_MISS} + {_NOISE})) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        "dpositive[n] = -dloss * weights[n] / mass * sigmoid(-positive[n]) if mass != 0 else 0",
        "dnegative[n,k] = dloss * weights[n] / mass * sigmoid(negative[n,k]) if mass != 0 else 0",
    ),
    outputs=("loss", "mass"),
    constants=("weights",),
    absent={"weights": 1.0},
    expand=expand,
    cases=cases,
    source="Mikolov, Sutskever, Chen, Corrado, Dean: Distributed representations of words and phrases, NIPS 2013",
)
