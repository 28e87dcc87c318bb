"""JAX: a step is one jitted call."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from workloads import BETA1, BETA2, EPS, RATE, Task

from peers.jax_layers import Stats, first_params, network

PACKAGES = ("jax", "jaxlib")
HOW = (
    "jit of the whole step, gather included; state a pytree, donated; data on the device; one block_until_ready a run; "
    "lax.conv_general_dilated NHWC, lax.scan over an LSTM's steps with the products of x before it, "
    "jax.nn.dot_product_attention"
)
MOMENTUM = 0.1
"""Of the running statistics of batchnorm."""


class Peer:
    """State in, state out; Python only calls."""

    def __init__(self, task: Task, threads: int) -> None:  # noqa: ARG002  the environment has set them
        self.data = tuple(jnp.asarray(a) for a in (task.X, task.y, task.order))
        self.state = first_state(task)
        self.step = jax.jit(step_of(task), donate_argnums=0)

    def run(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            self.state, loss = self.step(self.state, *self.data)
            losses.append(loss)
        jax.block_until_ready((self.state, losses))
        return jax.device_get(losses)


def first_state(task: Task) -> dict[str, Any]:
    """Parameters, Adam's moments, running statistics, and the number of steps made."""
    params = first_params(task)
    m, v = (jax.tree.map(jnp.zeros_like, params) for _ in "mv")
    channels = [len(p["gamma"]) if kind == "batchnorm" else 0 for (kind, *_), p in zip(task.workload.layers, params)]  # noqa: B905
    running = [(jnp.zeros(n), jnp.ones(n)) if n else () for n in channels]
    return {"params": params, "m": m, "v": v, "running": running, "t": jnp.zeros((), jnp.int32)}


def step_of(task: Task) -> Any:
    """step(state, X, y, order) -> (state, loss), to be jitted."""
    logits, batch = network(task), task.workload.batch

    def loss_of(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, list[Stats]]:
        z, stats = logits(params, x)
        return cross_entropy(z, y), stats

    def step(state: dict[str, Any], X: jax.Array, y: jax.Array, order: jax.Array) -> tuple[dict[str, Any], jax.Array]:
        start = state["t"] % (len(order) // batch) * batch
        rows = jax.lax.dynamic_slice_in_dim(order, start, batch)
        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state["params"], X[rows], y[rows])
        running = jax.tree.map(lambda old, new: old + MOMENTUM * (new - old), state["running"], stats)
        return adam(state, grads) | {"running": running}, loss

    return step


def cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    """Mean softmax cross entropy; by one-hot labels, whose gradient needs no scatter."""
    return jnp.mean(jax.nn.logsumexp(z, axis=-1) - jnp.sum(z * jax.nn.one_hot(y, z.shape[-1]), axis=-1))


def adam(state: dict[str, Any], grads: Any) -> dict[str, Any]:
    """Parameters, moments and number of steps after a step of Adam."""
    t = state["t"] + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state["m"], grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state["v"], grads)
    a, b = 1 - BETA1**t, 1 - BETA2**t
    params = jax.tree.map(lambda p, m, v: p - RATE * (m / a) / (jnp.sqrt(v / b) + EPS), state["params"], m, v)
    return {"params": params, "m": m, "v": v, "t": t}
