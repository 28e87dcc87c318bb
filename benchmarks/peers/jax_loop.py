"""JAX: the loop over steps is compiled too."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from workloads import Task

from peers.jax_jit import first_state, step_of

PACKAGES = ("jax", "jaxlib")
HOW = "jit of lax.scan(unroll=8) over the steps of an epoch, no Python in between; else as jax_jit"


class Peer:
    """An epoch, or a part of one, is one call."""

    def __init__(self, task: Task, threads: int) -> None:  # noqa: ARG002  the environment has set them
        self.data = tuple(jnp.asarray(a) for a in (task.X, task.y, task.order))
        self.state = first_state(task)
        self.loop = jax.jit(partial(loop, step_of(task)), static_argnums=0, donate_argnums=1)

    def run(self, steps: int) -> list[float]:
        self.state, losses = self.loop(steps, self.state, *self.data)
        return jax.block_until_ready(losses).tolist()


def loop(step: Any, steps: int, state: dict[str, Any], *data: jax.Array) -> tuple[dict[str, Any], jax.Array]:
    """(state after the steps, losses[steps])."""
    return jax.lax.scan(lambda carry, _: step(carry, *data), state, None, length=steps, unroll=min(steps, 8))
