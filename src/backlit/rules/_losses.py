"""What the losses share: the weighted mean, its mass, and checks of shapes.

A loss is L = Σ_n w_n l_n / m, with the weight w_n ≥ 0 of sample n (1 where none are given) and the mass m = Σ_n w_n.
The losses, and gradients, of parts of a batch combine to those of the whole by mass: L = (m₁L₁ + m₂L₂) / (m₁ + m₂).
Convention for m = 0, a batch in which nothing counts: L = 0, and every gradient is 0.
"""

from __future__ import annotations

from math import prod
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import listed


def cast(xp: Namespace, constant: Array, like: Array) -> Array:
    """A constant input (target, labels as numbers, weights) in the dtype of ``like``."""
    return xp.astype(constant, like.dtype, copy=False)


def per_sample(xp: Namespace, x: Array) -> Array:
    """Mean over all axes but the first: x[N, …] -> [N]."""
    return xp.mean(xp.reshape(x, (x.shape[0], -1)), axis=1)


def spread(xp: Namespace, values: Array, like: Array) -> Array:
    """``values[N, …]`` with axes of length 1 appended until it has as many axes as ``like``."""
    return xp.reshape(values, (*values.shape, *(1,) * (like.ndim - values.ndim)))


def weights_of(xp: Namespace, weights: Array | None, losses: Array) -> Array:
    """The weight of every entry of ``losses[N, …]``; ``weights[N]`` count for all entries of their sample."""
    if weights is None:
        return xp.ones_like(losses)
    return xp.broadcast_to(spread(xp, cast(xp, weights, losses), losses), losses.shape)


def divided(xp: Namespace, total: Array, mass: Array) -> Array:
    """The loss, total / mass, and 0 where the mass is 0 (then the total is 0)."""
    return total / xp.where(mass == 0, xp.ones_like(mass), mass)


def weighted_mean(xp: Namespace, losses: Array, weights: Array | None) -> tuple[Array, Array]:
    """(loss, mass) of ``losses[N, …]``."""
    w = weights_of(xp, weights, losses)
    mass = xp.sum(w)
    return divided(xp, xp.sum(w * losses), mass), mass


def share(xp: Namespace, dloss: Array, weights: Array | None, mass: Array, like: Array) -> Array:
    """∂L/∂l_n = w_n / m times ``dloss``, with the axes of ``like[N, …]``: what backward of every loss begins with."""
    part = divided(xp, dloss, mass)
    return part if weights is None else part * spread(xp, cast(xp, weights, like), like)


def check_axes(rule: str, rank: int, expected: str, **named: Shape) -> None:
    """InputError ``loss_axes`` unless the named array has at least ``rank`` axes, none of length 0."""
    ((_, shape),) = named.items()
    if len(shape) < rank or 0 in shape:
        raise InputError("loss_axes", rule=rule, expected=expected, got=listed(**named))


def check_same(rule: str, **pair: Shape) -> None:
    """InputError unless both named shapes are equal: no silent broadcasting of ``target[N]`` against ``pred[N, 1]``."""
    (like, want), (name, shape) = pair.items()
    if shape != want:
        raise InputError(
            "loss_reshape" if prod(shape) == prod(want) else "loss_pair",
            rule=rule,
            name=name,
            like=like,
            want=", ".join(map(str, want)),
            expected=listed(**{name: want}),
            got=listed(**pair),
        )


def check_weights(rule: str, like: str, *allowed: Shape, **named: Shape | None) -> None:
    """InputError ``loss_weights`` unless the named weights are absent or have one of the ``allowed`` shapes."""
    ((name, shape),) = named.items()
    if shape is not None and shape not in allowed:
        expected, got = " | ".join(listed(**{name: a}) for a in dict.fromkeys(allowed)), listed(**{name: shape})
        raise InputError("loss_weights", rule=rule, name=name, like=like, expected=expected, got=got)


def check_option(rule: str, option: str, value: Any, expected: str, *, ok: bool) -> None:
    """InputError ``rule_option`` unless ``ok``."""
    if not ok:
        raise InputError("rule_option", rule=rule, option=option, expected=expected, got=repr(value))


def expanded_per_sample(o: Any, entries: Any) -> Any:
    """The same as per_sample in smaller rules, for ``expand``."""
    axes = tuple(range(1, len(entries.shape)))
    return o.mean(entries, axis=axes) if axes else entries


def expanded_mean(o: Any, losses: Any, weights: Any) -> Any:
    """The loss of weighted_mean in smaller rules."""
    if weights is None:
        return o.mean(losses)
    w = expanded_weights(o, weights, losses)
    return expanded_ratio(o, o.sum(w * losses), o.sum(w))


def expanded_weights(o: Any, weights: Any, like: Any) -> Any:
    """The same as weights_of in smaller rules."""
    axes = (1,) * (len(like.shape) - len(weights.shape))
    return o.broadcast_to(o.reshape(weights, shape=(*weights.shape, *axes)), shape=like.shape)


def expanded_ratio(o: Any, total: Any, mass: Any) -> Any:
    """The same as divided in smaller rules."""
    return total / o.where(o.equal(mass, 0.0), 1.0, mass)
