"""Losses of regression: mse, mae, huber, smooth_l1.

Shapes: pred[N, …], target of the same shape, weights[N] ≥ 0 or absent; loss[] and mass[] = Σ_n w_n (N without weights).
With the error e = pred - target and the loss of an entry f(e)::

    L = Σ_n w_n mean_k f(e_nk) / Σ_n w_n

f is e² (mse), |e| (mae), Huber's function, e²/2 where |e| ≤ delta and delta (|e| - delta/2) beyond, or smooth_l1, which
is Huber's with delta = beta divided by beta, so that its slope far out is 1. Without weights L is the mean over all
entries, as PyTorch's ``F.mse_loss``, ``F.l1_loss``, ``F.huber_loss`` and ``F.smooth_l1_loss`` have it with
``reduction="mean"``. Where all weights are 0, L and its gradient are 0. target and weights are constants.

InputError: another shape of target than of pred (no broadcasting), weights of another length, no samples, delta ≤ 0,
beta ≤ 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import order
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
    weighted_mean,
)
from backlit.rules.base import Case, rule


def _error(xp: Namespace, pred: Array, target: Array) -> Array:
    return pred - cast(xp, target, pred)


def _share(xp: Namespace, dloss: Array, pred: Array, weights: Array | None, mass: Array) -> Array:
    """∂L/∂f(e_nk): the sample's share over the entries of a sample."""
    return share(xp, dloss, weights, mass, pred) / prod(pred.shape[1:])


def _shapes(name: str, pred: Shape, target: Shape, weights: Shape | None) -> tuple[Shape, Shape]:
    check_axes(name, 1, "pred[N, …]", pred=pred)
    check_same(name, pred=pred, target=target)
    check_weights(name, "pred", pred[:1], weights=weights)
    return (), ()


_E = "(pred[n,*k] - target[n,*k])"


def _formulas(entry: str, slope: str) -> tuple[str, ...]:
    """The formulas of a loss from those of an entry's loss and its derivative."""
    return (
        f"loss = Sum(n, weights[n] * Mean(k, {entry})) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        f"dpred[n,*k] = dloss * weights[n] / mass * ({slope}) / Count(k) if mass != 0 else 0",
    )


def _shared_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (4, 3)), ("vector", (5,)), ("images", (2, 3, 2, 2)), ("batch of one", (1, 3))):
        yield Case(label, pred=rng.normal(size=shape), target=rng.normal(size=shape))
    pred, target = rng.normal(size=(2, 4, 3))
    yield Case("weights", pred=pred, target=target, weights=np.asarray([0.5, 2.0, 0.0, 1.25]))
    nothing = {"loss": 0.0, "mass": 0.0, "dpred": 0.0}
    yield Case("all weights 0", pred=pred, target=target, weights=np.zeros(4), expect=nothing)


def mse_forward(xp: Namespace, pred: Array, target: Array, weights: Array | None = None) -> tuple[Array, Array]:
    e = _error(xp, pred, target)
    return weighted_mean(xp, per_sample(xp, e * e), weights)


def mse_backward(
    xp: Namespace, dloss: Array, *, pred: Array, target: Array, weights: Array | None, mass: Array
) -> Array:
    return _share(xp, dloss, pred, weights, mass) * 2.0 * _error(xp, pred, target)


def mse_shapes(pred: Shape, target: Shape, weights: Shape | None = None) -> tuple[Shape, Shape]:
    return _shapes("mse", pred, target, weights)


def mse_expand(o: Any, pred: Any, target: Any, weights: Any) -> Any:
    return expanded_mean(o, expanded_per_sample(o, o.power(pred - target, 2.0)), weights)


def mse_cases(rng: Any) -> Iterator[Case]:
    yield from _shared_cases(rng)
    known = {"loss": 2.5, "mass": 1.0, "dpred": [[1.0, -2.0]]}
    yield Case("by hand", pred=np.asarray([[1.0, 2.0]]), target=np.asarray([[0.0, 4.0]]), expect=known)


mse = rule(
    "mse",
    mse_forward,
    mse_backward,
    shapes=mse_shapes,
    formulas=_formulas(f"{_E}**2", f"2 * {_E}"),
    outputs=("loss", "mass"),
    constants=("target", "weights"),
    absent={"weights": 1.0},
    expand=mse_expand,
    cases=mse_cases,
    source="Bishop: Pattern Recognition and Machine Learning, Springer 2006, sections 1.1 and 3.1",
)


def mae_forward(xp: Namespace, pred: Array, target: Array, weights: Array | None = None) -> tuple[Array, Array]:
    return weighted_mean(xp, per_sample(xp, xp.abs(_error(xp, pred, target))), weights)


def mae_backward(
    xp: Namespace, dloss: Array, *, pred: Array, target: Array, weights: Array | None, mass: Array
) -> Array:
    return _share(xp, dloss, pred, weights, mass) * xp.sign(_error(xp, pred, target))


def mae_shapes(pred: Shape, target: Shape, weights: Shape | None = None) -> tuple[Shape, Shape]:
    return _shapes("mae", pred, target, weights)


def mae_kinks(xp: Namespace, pred: Array, target: Array, weights: Array | None = None) -> Array:
    return order(xp, pred, target)


def mae_expand(o: Any, pred: Any, target: Any, weights: Any) -> Any:
    return expanded_mean(o, expanded_per_sample(o, o.abs(pred - target)), weights)


def mae_cases(rng: Any) -> Iterator[Case]:
    yield from _shared_cases(rng)
    at = np.asarray([[1.0], [-2.0]])
    yield Case("at the kink", pred=at, target=at + 0.0, on_kink=True, expect={"loss": 0.0, "dpred": 0.0})


mae = rule(
    "mae",
    mae_forward,
    mae_backward,
    shapes=mae_shapes,
    formulas=_formulas(f"abs({_E})", f"sign({_E})"),
    outputs=("loss", "mass"),
    constants=("target", "weights"),
    absent={"weights": 1.0},
    kinks=mae_kinks,
    kink_note="∂L/∂pred = 0 where pred = target",
    expand=mae_expand,
    cases=mae_cases,
    source="Bloomfield, Steiger: Least Absolute Deviations, Birkhäuser 1983",
)


def huber_forward(
    xp: Namespace, pred: Array, target: Array, weights: Array | None = None, *, delta: float = 1.0
) -> tuple[Array, Array]:
    size = xp.abs(_error(xp, pred, target))
    near = xp.minimum(size, xp.full_like(size, delta))  # squares only what is at most delta: no overflow far out
    return weighted_mean(xp, per_sample(xp, near * (size - near / 2.0)), weights)


def huber_backward(
    xp: Namespace, dloss: Array, *, pred: Array, target: Array, weights: Array | None, delta: float, mass: Array
) -> Array:
    return _share(xp, dloss, pred, weights, mass) * xp.clip(_error(xp, pred, target), -delta, delta)


def huber_shapes(
    pred: Shape, target: Shape, weights: Shape | None = None, *, delta: float = 1.0
) -> tuple[Shape, Shape]:
    check_option("huber", "delta", delta, "0 < delta < ∞", ok=0 < delta < float("inf"))
    return _shapes("huber", pred, target, weights)


def huber_kinks(
    xp: Namespace, pred: Array, target: Array, weights: Array | None = None, *, delta: float = 1.0
) -> Array:
    e = _error(xp, pred, target)
    return order(xp, e, delta) + order(xp, e, -delta)


def huber_expand(o: Any, pred: Any, target: Any, weights: Any, *, delta: float = 1.0) -> Any:
    size = o.abs(pred - target)
    near = o.minimum(size, delta)
    return expanded_mean(o, expanded_per_sample(o, near * (size - near / 2.0)), weights)


def huber_cases(rng: Any) -> Iterator[Case]:
    yield from _shared_cases(rng)
    yield Case("small delta", pred=rng.normal(size=(3, 4)), target=rng.normal(size=(3, 4)), delta=0.25)
    ends = np.asarray([[1.5], [-1.5]])
    known = {"loss": 1.125, "dpred": [[0.75], [-0.75]]}
    yield Case("at the joints", pred=ends, target=ends * 0.0, delta=1.5, on_kink=True, expect=known)


huber = rule(
    "huber",
    huber_forward,
    huber_backward,
    shapes=huber_shapes,
    formulas=_formulas(
        f"{_E}**2 / 2 if abs({_E}) <= delta else delta * (abs({_E}) - delta / 2)",
        f"min(max({_E}, -delta), delta)",
    ),
    outputs=("loss", "mass"),
    constants=("target", "weights"),
    absent={"weights": 1.0},
    kinks=huber_kinks,
    kink_note="at |e| = delta the slopes ±delta of both pieces agree; only f'' jumps",
    expand=huber_expand,
    cases=huber_cases,
    source="Huber: Robust estimation of a location parameter, Annals of Mathematical Statistics 35(1), 1964",
)


def smooth_forward(
    xp: Namespace, pred: Array, target: Array, weights: Array | None = None, *, beta: float = 1.0
) -> tuple[Array, Array]:
    size = xp.abs(_error(xp, pred, target))
    near = xp.minimum(size, xp.full_like(size, beta))
    return weighted_mean(xp, per_sample(xp, near / beta * (size - near / 2.0)), weights)


def smooth_backward(
    xp: Namespace, dloss: Array, *, pred: Array, target: Array, weights: Array | None, beta: float, mass: Array
) -> Array:
    return _share(xp, dloss, pred, weights, mass) * xp.clip(_error(xp, pred, target) / beta, -1.0, 1.0)


def smooth_shapes(
    pred: Shape, target: Shape, weights: Shape | None = None, *, beta: float = 1.0
) -> tuple[Shape, Shape]:
    check_option("smooth_l1", "beta", beta, "0 < beta < ∞", ok=0 < beta < float("inf"))
    return _shapes("smooth_l1", pred, target, weights)


def smooth_kinks(
    xp: Namespace, pred: Array, target: Array, weights: Array | None = None, *, beta: float = 1.0
) -> Array:
    return huber_kinks(xp, pred, target, delta=beta)


def smooth_expand(o: Any, pred: Any, target: Any, weights: Any, *, beta: float = 1.0) -> Any:
    return huber_expand(o, pred, target, weights, delta=beta) / beta


def smooth_cases(rng: Any) -> Iterator[Case]:
    yield from _shared_cases(rng)
    yield Case("small beta", pred=rng.normal(size=(3, 4)), target=rng.normal(size=(3, 4)), beta=0.25)
    ends = np.asarray([[1.5], [-1.5]])
    known = {"loss": 0.75, "dpred": [[0.5], [-0.5]]}
    yield Case("at the joints", pred=ends, target=ends * 0.0, beta=1.5, on_kink=True, expect=known)


smooth_l1 = rule(
    "smooth_l1",
    smooth_forward,
    smooth_backward,
    shapes=smooth_shapes,
    formulas=_formulas(
        f"{_E}**2 / (2 * beta) if abs({_E}) <= beta else abs({_E}) - beta / 2",
        f"min(max({_E} / beta, -1), 1)",
    ),
    outputs=("loss", "mass"),
    constants=("target", "weights"),
    absent={"weights": 1.0},
    kinks=smooth_kinks,
    kink_note="at |e| = beta the slopes ±1 of both pieces agree; only f'' jumps",
    expand=smooth_expand,
    cases=smooth_cases,
    source="Girshick: Fast R-CNN, ICCV 2015",
)
