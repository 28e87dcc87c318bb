"""A whole model's update: parameters, gradients and state as dicts by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias

from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.rows import Rows
from backlit.core.types import Array, Arrays, Namespace
from backlit.optim.base import Optimizer
from backlit.optim.recipe import RECIPES

State: TypeAlias = dict[str, dict[str, Array]]
"""State arrays by parameter and slot: ``{"dense1.W": {"m": …, "v": …}}``."""


def get(optimizer: str | Optimizer) -> Optimizer:
    """The optimizer of that name with its default options, ``get("adam") == Adam()``; an optimizer as it is.

    Raises UnknownNameError with the nearest names, InputError for anything else.
    """
    if isinstance(optimizer, str):
        known = {name: kind for name, kind in RECIPES.items() if issubclass(kind, Optimizer)}
        return lookup(known, optimizer, "optimizer")()
    if not isinstance(optimizer, Optimizer):
        raise InputError("optim_optimizer", got=repr(optimizer))
    return optimizer


def init_state(xp: Namespace, optimizer: Optimizer, params: Arrays) -> State:
    """State before the first update of each parameter."""
    return {name: optimizer.init(xp, p) for name, p in params.items()}


def apply(
    xp: Namespace, optimizer: Optimizer, params: Arrays, grads: Arrays, state: Mapping[str, Arrays], *, lr: Any, t: Any
) -> tuple[dict[str, Array], State]:
    """One update of all parameters: (new params, new state). A parameter without a gradient (frozen) stays as it is.

    Of a gradient given as :class:`Rows` only these rows are updated, which is NumPy's alone.

    ``lr`` is the learning rate, ``t`` counts updates from 1. Raises UnknownNameError for a gradient of no parameter,
    InputError where a gradient's shape or the state's slots do not fit.
    """
    new_params, new_state = dict(params), {name: dict(slots) for name, slots in state.items()}
    for name, g in grads.items():
        p = lookup(params, name, "parameter")
        _check(optimizer, name, p, g, state.get(name, {}))
        update = partial(_update_rows, optimizer) if isinstance(g, Rows) else optimizer.update
        new_params[name], new_state[name] = update(xp, p, g, state.get(name, {}), lr=lr, t=t)
    return new_params, new_state


def _update_rows(
    optimizer: Optimizer, xp: Namespace, p: Array, g: Rows, slots: Arrays, *, lr: Any, t: Any
) -> tuple[Array, dict[str, Array]]:
    """One update of the rows that have a gradient; all others, and their state, stay as they are."""
    tables = {name: a for name, a in slots.items() if a.shape == p.shape}
    read = dict(slots) | {name: a[g.numbers] for name, a in tables.items()}
    rows, new = optimizer.update(xp, p[g.numbers], g.values, read, lr=lr, t=t)
    return _replaced(p, g.numbers, rows), new | {name: _replaced(a, g.numbers, new[name]) for name, a in tables.items()}


def _replaced(table: Array, numbers: Array, rows: Array) -> Array:
    """A copy of ``table`` with other rows at ``numbers``."""
    found = table.copy()
    found[numbers] = rows
    return found


def _check(optimizer: Optimizer, name: str, p: Array, g: Array, slots: Arrays) -> None:
    if tuple(g.shape) != tuple(p.shape):
        raise InputError("optim_gradient_shape", where=name, expected=f"g{list(p.shape)}", got=f"g{list(g.shape)}")
    if set(slots) != set(optimizer.slots):
        kind, want, got = type(optimizer).__name__, ", ".join(optimizer.slots), ", ".join(slots)
        raise InputError("optim_state", where=name, optimizer=kind, expected=f"{{{want}}}", got=f"{{{got}}}")


def flatten_state(state: Mapping[str, Arrays]) -> dict[str, Array]:
    """State under flat names, ``"dense1.W:m"``, as a snapshot stores it."""
    return {f"{name}:{slot}": array for name, slots in state.items() for slot, array in slots.items()}


def unflatten_state(flat: Arrays) -> State:
    """The inverse of :func:`flatten_state`, without the parameters that have no slots."""
    state: State = {}
    for key, array in flat.items():
        name, _, slot = key.rpartition(":")
        state.setdefault(name, {})[slot] = array
    return state
