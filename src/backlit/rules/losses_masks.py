"""Losses of rare classes and of masks, from logits; the sigmoid is inside: focal, dice.

Shapes: logits[N, …], targets of the same shape with entries t in [0, 1], weights[N] ≥ 0 or absent; loss[] and mass[] =
Σ_n w_n (N without weights); dice[N] and total[N]. With p = sigmoid(z)::

    focal: L = Σ_n w_n mean_k (-α t (1 - p)^γ log p - (1 - α) (1 - t) p^γ log(1 - p)) / Σ_n w_n
    dice:  L = Σ_n w_n (1 - D_n) / Σ_n w_n,    D_n = (2 Σ_k p t + s) / (Σ_k p + Σ_k t + s)

Focal makes what is decided already count little: γ = 0 is binary cross-entropy with weights α and 1 - α. Dice compares
the whole mask of a sample (all entries of it together, so that parts of a batch combine by mass), and ``smooth`` s > 0
keeps it defined where there is nothing to find. Where all weights are 0, L and its gradient are 0. All inputs but
logits are constants.

InputError: another shape of targets than of logits (no broadcasting), weights of another length, no samples, an option
out of range.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, prod
from typing import Any

import numpy as np

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._losses import (
    cast,
    check_axes,
    check_option,
    check_same,
    check_weights,
    expanded_mean,
    expanded_per_sample,
    per_sample,
    share,
    spread,
    weighted_mean,
)
from backlit.rules.base import Case, rule
from backlit.rules.sigmoids import sigmoid_forward, softplus_forward


def _check(name: str, rank: int, logits: Shape, targets: Shape, weights: Shape | None) -> None:
    check_axes(name, rank, f"logits[N, {'K, ' if rank > 1 else ''}…]", logits=logits)
    check_same(name, logits=logits, targets=targets)
    check_weights(name, "logits", logits[:1], weights=weights)


def _shared_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (
        ("one column", (4, 1)),
        ("classes", (3, 4)),
        ("masks", (2, 3, 2, 1)),
        ("batch of one", (1, 3)),
    ):
        yield Case(label, logits=rng.normal(size=shape), targets=np.asarray(rng.integers(0, 2, size=shape), float))
    z, t, w = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3)), np.asarray([0.5, 2.0, 0.0, 1.25])
    yield Case("probabilities as targets", logits=z, targets=t)
    yield Case("weights", logits=z, targets=t, weights=w)
    nothing = {"loss": 0.0, "mass": 0.0, "dlogits": 0.0}
    yield Case("all weights 0", logits=z, targets=t, weights=np.zeros(4), expect=nothing)


# --- focal ----------------------------------------------------------------------------------------------------------


def focal_forward(
    xp: Namespace,
    logits: Array,
    targets: Array,
    weights: Array | None = None,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> tuple[Array, Array]:
    t, (miss, hit) = cast(xp, targets, logits), _logs(xp, logits)  # -log p, -log(1 - p)
    yes, no = alpha * t * xp.exp(-gamma * hit), (1.0 - alpha) * (1.0 - t) * xp.exp(-gamma * miss)
    return weighted_mean(xp, per_sample(xp, yes * miss + no * hit), weights)


def focal_backward(
    xp: Namespace,
    dloss: Array,
    *,
    logits: Array,
    targets: Array,
    weights: Array | None,
    gamma: float,
    alpha: float,
    mass: Array,
) -> Array:
    t, (miss, hit) = cast(xp, targets, logits), _logs(xp, logits)
    yes, no = alpha * t * xp.exp(-gamma * hit), (1.0 - alpha) * (1.0 - t) * xp.exp(-gamma * miss)
    p, q = sigmoid_forward(xp, logits), sigmoid_forward(xp, -logits)
    part = share(xp, dloss, weights, mass, logits) / prod(logits.shape[1:])
    return part * (no * (gamma * q * hit + p) - yes * (gamma * p * miss + q))


def _logs(xp: Namespace, z: Array) -> tuple[Array, Array]:
    """(-log p, -log(1 - p)), whose exponentials give the powers of p and 1 - p without a base that rounds to 0."""
    return softplus_forward(xp, -z), softplus_forward(xp, z)


def focal_shapes(
    logits: Shape, targets: Shape, weights: Shape | None = None, *, gamma: float = 2.0, alpha: float = 0.25
) -> tuple[Shape, Shape]:
    check_option("focal", "gamma", gamma, "0 ≤ gamma < ∞", ok=0 <= gamma < inf)
    check_option("focal", "alpha", alpha, "0 < alpha < 1", ok=0 < alpha < 1)
    _check("focal", 1, logits, targets, weights)
    return (), ()


def focal_expand(o: Any, logits: Any, targets: Any, weights: Any, *, gamma: float = 2.0, alpha: float = 0.25) -> Any:
    miss, hit = o.softplus(-logits), o.softplus(logits)
    yes = alpha * targets * o.exp(-gamma * hit) * miss
    no = (1.0 - alpha) * (1.0 - targets) * o.exp(-gamma * miss) * hit
    return expanded_mean(o, expanded_per_sample(o, yes + no), weights)


def focal_cases(rng: Any) -> Iterator[Case]:
    yield from _shared_cases(rng)
    z, t = rng.normal(size=(3, 4)), np.asarray(rng.integers(0, 2, size=(3, 4)), float)
    yield Case("gamma 0", logits=z, targets=t, gamma=0.0, alpha=0.5)
    yield Case("gamma 1/2", logits=z, targets=t, gamma=0.5, alpha=0.75)
    far = np.asarray([[1000.0, -1000.0, 1000.0, -1000.0]])
    known = {"loss": 250.0, "dlogits": [[0.1875, -0.0625, 0.0, 0.0]]}
    yield Case("extreme logits", logits=far, targets=np.asarray([[0.0, 1.0, 1.0, 0.0]]), expect=known)


_MISS = "(max(-logits[n,*k], 0) + log(1 + exp(-abs(logits[n,*k]))))"
_HIT = "(max(logits[n,*k], 0) + log(1 + exp(-abs(logits[n,*k]))))"
_P, _Q = "sigmoid(logits[n,*k])", "sigmoid(-logits[n,*k])"
_YES, _NO = f"alpha * targets[n,*k] * {_Q}**gamma", f"(1 - alpha) * (1 - targets[n,*k]) * {_P}**gamma"
_YES_SLOPE, _NO_SLOPE = f"{_YES} * (gamma * {_P} * {_MISS} + {_Q})", f"{_NO} * (gamma * {_Q} * {_HIT} + {_P})"

focal = rule(
    "focal",
    focal_forward,
    focal_backward,
    shapes=focal_shapes,
    formulas=(
        f"loss = Sum(n, weights[n] * Mean(k, {_YES} * {_MISS} + {_NO} * {_HIT})) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        f"dlogits[n,*k] = dloss * weights[n] / mass * ({_NO_SLOPE} - {_YES_SLOPE}) / Count(k) if mass != 0 else 0",
    ),
    outputs=("loss", "mass"),
    constants=("targets", "weights"),
    absent={"weights": 1.0},
    expand=focal_expand,
    cases=focal_cases,
    source="Lin, Goyal, Girshick, He, Dollár: Focal loss for dense object detection, ICCV 2017",
)


# --- dice -----------------------------------------------------------------------------------------------------------


def dice_forward(
    xp: Namespace, logits: Array, targets: Array, weights: Array | None = None, *, smooth: float = 1.0
) -> tuple[Array, ...]:
    p, t = sigmoid_forward(xp, logits), cast(xp, targets, logits)
    both, total = _entries(xp, p * t), _entries(xp, p + t) + smooth
    dice = (2.0 * both + smooth) / total
    return *weighted_mean(xp, 1.0 - dice, weights), dice, total


def dice_backward(
    xp: Namespace,
    dloss: Array,
    *,
    logits: Array,
    targets: Array,
    weights: Array | None,
    mass: Array,
    dice: Array,
    total: Array,
) -> Array:
    slope = (spread(xp, dice, logits) - 2.0 * cast(xp, targets, logits)) / spread(xp, total, logits)
    p, q = sigmoid_forward(xp, logits), sigmoid_forward(xp, -logits)
    return share(xp, dloss, weights, mass, logits) * slope * p * q


def _entries(xp: Namespace, x: Array) -> Array:
    """Sum over all entries of each sample."""
    return xp.sum(x, axis=tuple(range(1, x.ndim)))


def dice_shapes(
    logits: Shape, targets: Shape, weights: Shape | None = None, *, smooth: float = 1.0
) -> tuple[Shape, ...]:
    check_option("dice", "smooth", smooth, "0 < smooth < ∞", ok=0 < smooth < inf)
    _check("dice", 2, logits, targets, weights)
    return (), (), logits[:1], logits[:1]


def dice_expand(o: Any, logits: Any, targets: Any, weights: Any, *, smooth: float = 1.0) -> Any:
    p, axes = o.sigmoid(logits), tuple(range(1, len(logits.shape)))
    dice = (2.0 * o.sum(p * targets, axis=axes) + smooth) / (o.sum(p + targets, axis=axes) + smooth)
    return expanded_mean(o, 1.0 - dice, weights)


def dice_cases(rng: Any) -> Iterator[Case]:
    yield from _shared_cases(rng)
    z = rng.normal(size=(3, 2, 2))
    yield Case("nothing to find", logits=z, targets=np.zeros((3, 2, 2)), smooth=0.5)
    far, t = np.asarray([[1000.0, -1000.0, -1000.0]]), np.asarray([[1.0, 1.0, 0.0]])
    known = {"loss": 0.25, "dice": [0.75], "total": [4.0], "dlogits": 0.0}
    yield Case("extreme logits", logits=far, targets=t, expect=known)


_DICE_SLOPE = "(dice[n] - 2 * targets[n,*k]) / total[n]"

dice = rule(
    "dice",
    dice_forward,
    dice_backward,
    shapes=dice_shapes,
    formulas=(
        "loss = Sum(n, weights[n] * (1 - dice[n])) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        f"dice[n] = (2 * Sum(k, {_P} * targets[n,*k]) + smooth) / total[n]",
        f"total[n] = Sum(k, {_P} + targets[n,*k]) + smooth",
        f"dlogits[n,*k] = dloss * weights[n] / mass * {_DICE_SLOPE} * {_P} * {_Q} if mass != 0 else 0",
    ),
    outputs=("loss", "mass", "dice", "total"),
    constants=("targets", "weights"),
    absent={"weights": 1.0},
    expand=dice_expand,
    cases=dice_cases,
    source="Milletari, Navab, Ahmadi: V-Net, 3DV 2016; Drozdzal et al.: The importance of skip connections, 2016",
)
