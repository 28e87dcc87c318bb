"""MNIST by JAX, start to end: python whole_jax.py EPOCHS."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mnist
import numpy as np

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
train, validation, test = (tuple(map(jnp.asarray, pair)) for pair in mnist.pairs())
rng, steps = np.random.default_rng(0), mnist.epochs() * -(-mnist.TRAINED // mnist.BATCH)


def first() -> dict[str, Any]:
    """Parameters, Adam's moments, number of steps."""
    sizes = ((784, mnist.HIDDEN), (mnist.HIDDEN, 10))
    params = [(jnp.asarray(rng.normal(0, (2 / i) ** 0.5, (i, o)), jnp.float32), jnp.zeros(o)) for i, o in sizes]
    m, v = (jax.tree.map(jnp.zeros_like, params) for _ in "mv")
    return {"params": params, "m": m, "v": v, "t": jnp.zeros(())}


def logits(params: Any, X: jax.Array) -> jax.Array:
    (W1, b1), (W2, b2) = params
    return jax.nn.relu(X @ W1 + b1) @ W2 + b2


def loss(params: Any, X: jax.Array, y: jax.Array) -> jax.Array:
    z = logits(params, X)
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.sum(z * jax.nn.one_hot(y, 10), axis=1))


@partial(jax.jit, donate_argnums=0)
def step(state: dict[str, Any], X: jax.Array, y: jax.Array, rows: jax.Array) -> dict[str, Any]:
    g = jax.grad(loss)(state["params"], X[rows], y[rows])
    rate, t = mnist.RATE * (1 + jnp.cos(math.pi * state["t"] / steps)) / 2, state["t"] + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state["m"], g)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state["v"], g)
    a, b = 1 - BETA1**t, 1 - BETA2**t
    params = jax.tree.map(lambda p, m, v: p - rate * (m / a) / (jnp.sqrt(v / b) + EPS), state["params"], m, v)
    return {"params": params, "m": m, "v": v, "t": t}


@jax.jit
def right(params: Any, X: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(logits(params, X).argmax(1) == y)


state = first()


def epoch(_: int) -> float:
    global state  # noqa: PLW0603  a script of one state
    for rows in mnist.batches(rng):
        state = step(state, *train, rows)
    return float(right(state["params"], *validation))


mnist.told(epoch, lambda: float(right(state["params"], *test)))
