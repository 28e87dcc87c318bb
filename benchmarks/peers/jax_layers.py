"""Networks as functions of JAX's arrays, with a task's first parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from workloads import Task

Params = dict[str, jax.Array]
Stats = tuple[jax.Array, ...]
"""Mean and variance of a batch; empty for layers without them."""


def first_params(task: Task) -> list[Params]:
    """Of every layer, as JAX multiplies them: W[inputs, outputs], kernels [height, width, inputs, outputs]."""
    return [{n: jnp.asarray(turned(n, a)) for n, a in layer.items()} for layer in task.params]


def turned(name: str, a: Any) -> Any:
    """Inputs before outputs; vectors and tables of vectors stay."""
    return a if a.ndim == 1 or name in "EP" else a.transpose(*range(1, a.ndim), 0).copy()


def network(task: Task) -> Any:
    """logits(params, x) -> (logits, statistics of each layer)."""
    functions = [FUNCTIONS[kind](*numbers) for kind, *numbers in task.workload.layers]

    def logits(params: list[Params], x: jax.Array) -> tuple[jax.Array, list[Stats]]:
        stats: list[Stats] = []
        for function, p in zip(functions, params, strict=True):
            x, *found = function(p, x)
            stats.append(tuple(found))
        return x, stats

    return logits


def dense(p: Params, x: jax.Array) -> Any:
    return (x @ p["W"] + p["b"],)


def conv(p: Params, x: jax.Array) -> Any:
    return (lax.conv_general_dilated(x, p["W"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + p["b"],)


def batchnorm(p: Params, x: jax.Array) -> Any:
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * (lax.rsqrt(var + 1e-5) * p["gamma"]) + p["beta"], mean, var


def layernorm(p: Params, x: jax.Array) -> Any:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return ((x - mean) * lax.rsqrt(var + 1e-5) * p["gamma"] + p["beta"],)


def pool(_: Params, x: jax.Array) -> Any:
    N, H, W, C = x.shape
    return (x.reshape(N, H // 2, 2, W // 2, 2, C).max((2, 4)),)


def lstm(p: Params, x: jax.Array) -> Any:
    """The products with x before the scan, all at once; gates i, f, g, o."""

    def step(carry: Any, z: jax.Array) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(z + h @ p["U"], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[0], p["U"].shape[0]), x.dtype)
    along = (x @ p["W"] + p["b"]).swapaxes(0, 1)
    return (lax.scan(step, (start, start), along)[1].swapaxes(0, 1),)


def block(heads: int) -> Any:
    """Causal transformer block, norms first."""

    def function(p: Params, x: jax.Array) -> Any:
        h = layernorm({n: p[f"{n}1"] for n in ("gamma", "beta")}, x)[0] @ p["Wqkv"] + p["bqkv"]
        q, k, v = jnp.moveaxis(h.reshape(*h.shape[:2], 3, heads, -1), 2, 0)
        seen = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + seen.reshape(x.shape) @ p["Wo"] + p["bo"]
        h = layernorm({n: p[f"{n}2"] for n in ("gamma", "beta")}, x)[0] @ p["W1"] + p["b1"]
        return (x + jax.nn.gelu(h, approximate=False) @ p["W2"] + p["b2"],)

    return function


def always(function: Any) -> Any:
    """Of any numbers: the parameters' shapes tell them already."""
    return lambda *_: function


FUNCTIONS: dict[str, Any] = {
    **{f.__name__: always(f) for f in (dense, conv, batchnorm, layernorm, pool, lstm)},
    "embedding": always(lambda p, x: (p["E"][x],)),
    "positions": always(lambda p, x: (x + p["P"],)),
    "block": block,
    "relu": always(lambda _, x: (jax.nn.relu(x),)),
    "global_pool": always(lambda _, x: (x.mean((1, 2)),)),
    "flatten": always(lambda _, x: (x.reshape(x.shape[0], -1),)),
}
"""Kind of layer -> (its numbers) -> (its parameters, x) -> (output, statistics where it has any)."""
