"""What rnn, lstm and gru share: the walk along time, its initial state, and sequences of different lengths.

A scan takes the input products of all steps at once, ``z[N, T, G·U] = x Wᵀ + b`` made by ``linear``, and adds ``U``
times the state before, step by step. So ∂L/∂z is the error term δ of every gate at every step, and dW and db are those
of linear.

A step with ``mask[n,t] = 0`` lies outside every sequence: state and output are 0 there, nothing flows back through it,
and the step after it begins with the initial state again. Where padding stands at the end this is what PyTorch makes of
packed sequences, whose padding comes out as 0; where it stands in front, as in a sequence that was reversed with its
padding, it is the same of the sequence inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, listed
from backlit.rules.base import Case


def earlier(unit: str, state: str = "h") -> str:
    """In formulas: the state before step t of a unit. A sequence begins where there is none."""
    return f"({state}[n,t-1,{unit}] if t > 0 and mask[n,t-1] != 0 else {state}0[n,{unit}])"


BEFORE = earlier("k")

BEGINS = "(t == 0 or mask[n,t-1] == 0)"
ABSENT = {"h0": 0.0, "mask": 1.0}


def row(block: int) -> str:
    """In formulas: the row of unit j in one of the blocks of z and U; j itself runs over units, so it is no row."""
    return f"j + {block} * Count(j)" if block > 1 else "j + Count(j)" if block else "+j"


def unit(row: str) -> str:
    """In formulas: the unit that a row of z and U belongs to."""
    return f"{row} - Count(j) * floor({row} / Count(j))"


def sigmoid(xp: Namespace, a: Array) -> Array:
    """1 / (1 + e⁻ᵃ) by tanh, which is fast and does not overflow."""
    return 0.5 + 0.5 * xp.tanh(0.5 * a)


def inside(xp: Namespace, z: Array, mask: Array | None) -> Array | None:
    """The mask[N, T] as 1 and 0 in the dtype of ``z``; None where every step counts."""
    return None if mask is None else as_number(xp, xp.astype(mask, xp.bool), z[:, :, 0])


def first(xp: Namespace, state0: Array | None, z: Array, U: Array) -> Array:
    """The initial state[N, U]: 0 unless given."""
    return xp.zeros((z.shape[0], U.shape[1]), dtype=z.dtype) if state0 is None else state0


def cut(a: Array, alive: Array | None, t: int) -> Array:
    """``a[N, …]`` of step t, 0 in rows that lie outside."""
    return a if alive is None else a * alive[:, t : t + 1]


def before(xp: Namespace, state: Array, state0: Array | None, alive: Array | None, t: int) -> Array:
    """The state that step t starts from, given the one that step t - 1 left (which is 0 outside)."""
    if state0 is None or alive is None or t == 0:
        return state
    return xp.where(alive[:, t - 1 : t] > 0, state, state0)


def all_before(xp: Namespace, states: Array, state0: Array | None, alive: Array | None) -> Array:
    """:func:`before` of all steps: [N, T, U]."""
    start = xp.zeros_like(states[:, :1, :]) if state0 is None else state0[:, None, :]
    shifted = xp.concat([start, states[:, :-1, :]], axis=1)
    if state0 is None or alive is None:
        return shifted
    return xp.where(_begins(xp, alive)[:, :, None] > 0, state0[:, None, :], shifted)


def of_first(xp: Namespace, backs: Sequence[Array], alive: Array | None) -> Array:
    """∂L/∂(initial state), from what each step sends back, the last step first."""
    if alive is None:
        return backs[-1]
    return xp.sum(along_time(xp, backs[::-1]) * _begins(xp, alive)[:, :, None], axis=1)


def _begins(xp: Namespace, alive: Array) -> Array:
    """1 at steps that start from the initial state."""
    return xp.concat([xp.ones_like(alive[:, :1]), 1.0 - alive[:, :-1]], axis=1)


def along_time(xp: Namespace, steps: Sequence[Array]) -> Array:
    """[N, U] of every step as [N, T, U]."""
    return xp.stack(list(steps), axis=1)


def product(xp: Namespace, dz: Array, states: Array) -> Array:
    """Σ over n and t of δ hᵀ: [G·U, U]."""
    return xp.matmul(_rows(xp, dz).T, _rows(xp, states))


def _rows(xp: Namespace, a: Array) -> Array:
    return xp.reshape(a, (-1, a.shape[-1]))


def check(rule: str, gates: int, z: Shape, U: Shape, mask: Shape | None, **states: Shape | None) -> Shape:
    """The shape of h[N, T, U]; InputError where z, U, the mask or an initial state do not fit together."""
    units = U[-1] if U else 0
    wide = f"{gates}·{units}" if gates > 1 else f"{units}"
    if len(z) != 3 or 0 in z or (gates * units, units) != U or z[2] != gates * units:
        expected = f"z[N, T ≥ 1, {wide}], U[{wide}, {units}]"
        raise InputError("shape_clash", rule=rule, expected=expected, got=listed(z=z, U=U))
    for name, shape in states.items():
        if shape not in (None, (z[0], units)):
            raise InputError("recurrent_state", rule=rule, expected=f"{name}[{z[0]}, {units}]", got=f"{name}{[*shape]}")
    if mask not in (None, z[:2]):
        raise InputError("recurrent_mask", rule=rule, expected=f"mask{[*z[:2]]}", got=f"mask{[*mask]}")
    return (z[0], z[1], units)


def require_steps(z: Any, mask: Array | None) -> None:
    """InputError for a sequence of which the mask leaves nothing."""
    if mask is None:
        return
    empty = np.flatnonzero(~np.any(np.asarray(mask) != 0, axis=1))
    if empty.size:
        raise InputError("recurrent_empty", got=f"mask[{int(empty[0])}] = 0", count=empty.size)


def cases(rng: Any, gates: int, states: Sequence[str], **more: Shape) -> Iterator[Case]:
    """Cases of a scan with these initial states; ``more`` are vectors of the rule, by name."""

    def case(label: str, n: int, t: int, u: int, given: Mapping[str, Any], *, begun: bool = False) -> Case:
        z, U = rng.normal(size=(n, t, gates * u)), rng.normal(size=(gates * u, u))
        call: dict[str, Any] = {name: rng.normal(size=(n, u)) if begun else None for name in states}
        call |= {name: rng.normal(size=shape) for name, shape in more.items()} | dict(given)
        return Case(label, z=z, U=U, **call)

    yield case("batch", 2, 3, 2, {})
    yield case("one step", 1, 1, 2, {})
    yield case("initial state", 2, 2, 2, {}, begun=True)
    ends, starts = [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    yield case("padded at the end", 2, 3, 2, {"mask": np.asarray(ends)})
    yield case("padded at the end, initial state", 2, 3, 2, {"mask": np.asarray(ends)}, begun=True)
    yield case("padded in front, initial state", 2, 3, 2, {"mask": np.asarray(starts)}, begun=True)
    yield case("two sequences in a row", 1, 4, 2, {"mask": np.asarray([[1.0, 0.0, 1.0, 1.0]])}, begun=True)


def steps(o: Any, z: Any, mask: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(z of a step, whether it counts, whether the one before did; the last two None where all do), for expand."""
    alive = None if mask is None else o.where(o.not_equal(mask, 0.0), 1.0, 0.0)
    for t in range(z.shape[1]):
        if alive is None:
            yield z[:, t], None, None
        else:
            yield z[:, t], alive[:, t : t + 1], alive[:, t - 1 : t] if t else None


def again(o: Any, state: Any, start: Any, earlier: Any) -> Any:
    """``state``, and where the step before lay outside the initial one; None while there is none. For expand."""
    return state if start is None or earlier is None else o.where(o.greater(earlier, 0.0), state, start)
