"""JAX's automatic differentiation of a rule's forward, as an oracle of its backward (:mod:`backlit.core.oracles`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backlit.core.types import Array
from backlit.rules import Rule


def vjp(
    rule: Rule, inputs: Sequence[Any], attributes: Mapping[str, Any], places: Sequence[int], dys: Sequence[Array]
) -> tuple[Array, ...]:
    """∂L/∂(inputs at ``places``) by ``jax.vjp`` of ``rule.forward`` on ``jax.numpy``, in float64."""
    import jax
    import jax.numpy as jnp

    def forward(*moved: Any) -> tuple[Any, ...]:
        new = dict(zip(places, moved, strict=True))
        outputs = rule.call(jnp, *(new.get(i, x) for i, x in enumerate(given)), **attributes)
        return tuple(y for n, y in zip(rule.outputs, outputs, strict=True) if n in rule.differentiated)

    with jax.enable_x64(True):  # noqa: FBT003  positional there
        given = [None if x is None else jnp.asarray(x) for x in inputs]
        pull = jax.vjp(forward, *(given[i] for i in places))[1]
        return tuple(np.asarray(g) for g in pull(tuple(jnp.asarray(dy) for dy in dys)))
