"""JAX: a step is one jitted call."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from workloads import BETA1, BETA2, EPS, RATE, Task

PACKAGES = ("jax", "jaxlib")
HOW = "jit of the whole step, gather included; state a pytree, donated; data on the device; one block_until_ready a run"


class Peer:
    """State in, state out; Python only calls."""

    def __init__(self, task: Task, threads: int) -> None:  # noqa: ARG002  the environment has set them
        self.data = tuple(jnp.asarray(a) for a in (task.X, task.y, task.order))
        self.state = first_state(task)
        self.step = jax.jit(step_of(task.workload.batch), donate_argnums=0)

    def run(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            self.state, loss = self.step(self.state, *self.data)
            losses.append(loss)
        jax.block_until_ready((self.state, losses))
        return jax.device_get(losses)


def first_state(task: Task) -> dict[str, Any]:
    """Parameters (W[inputs, outputs], as JAX multiplies them), Adam's moments, and the number of steps made."""
    params = [(jnp.asarray(W.T.copy()), jnp.asarray(b)) for W, b in task.layers]
    m, v = (jax.tree.map(jnp.zeros_like, params) for _ in "mv")
    return {"params": params, "m": m, "v": v, "t": jnp.zeros((), jnp.int32)}


def step_of(batch: int) -> Any:
    """step(state, X, y, order) -> (state, loss), to be jitted."""

    def step(state: dict[str, Any], X: jax.Array, y: jax.Array, order: jax.Array) -> tuple[dict[str, Any], jax.Array]:
        start = state["t"] % (len(order) // batch) * batch
        rows = jax.lax.dynamic_slice_in_dim(order, start, batch)
        loss, grads = jax.value_and_grad(loss_of)(state["params"], X[rows], y[rows])
        return adam(state, grads), loss

    return step


def loss_of(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean softmax cross entropy; by one-hot labels, whose gradient needs no scatter."""
    for W, b in params[:-1]:
        x = jax.nn.relu(x @ W + b)
    z = x @ params[-1][0] + params[-1][1]
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.sum(z * jax.nn.one_hot(y, z.shape[1]), axis=1))


def adam(state: dict[str, Any], grads: Any) -> dict[str, Any]:
    """The state after a step of Adam."""
    t = state["t"] + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state["m"], grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state["v"], grads)
    a, b = 1 - BETA1**t, 1 - BETA2**t
    params = jax.tree.map(lambda p, m, v: p - RATE * (m / a) / (jnp.sqrt(v / b) + EPS), state["params"], m, v)
    return {"params": params, "m": m, "v": v, "t": t}
