"""Writing on: a model of sequences gives the next token, which becomes part of what it reads."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.rng import generator
from backlit.core.types import Array
from backlit.data.validate import as_array
from backlit.nn.model import Model

WHERE = "generate"


def generate(
    model: Model,
    start: Any,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    stop: int | None = None,
    seed: int = 0,
) -> Array:
    """``start`` and ``count`` tokens more, each drawn from what the model says of the next one.

    ``model`` gives logits[N, T, C] for ids[N, T], those at position t from the tokens up to t alone: a causal
    transformer, or a recurrent network that walks forward. It sees the last T tokens.

    - ``start``: int[t], or int[N, t] for several sequences at once, at least one token each. The result is int64 of
      t + count tokens, [N, t + count] for several.
    - ``temperature`` τ: tokens are drawn with probability softmax(z / τ); 0 takes the most probable one always.
    - ``top_k``: only the k most probable ones are drawn from.
    - ``stop``: a sequence that has drawn this token is filled up with it.
    - ``seed``: the draws of each token are a function of (seed, its number) alone.

    Raises InputError for options out of range, ids that are none, and a model whose logits are of another shape or
    change with later tokens.
    """
    _check(temperature, top_k, count)
    ids = np.atleast_2d(_ids(start))
    context = _context(model)
    _require_causal(model, ids[:, -context:], context)
    done = np.zeros(len(ids), bool)
    for number in range(count):
        z = _next_logits(model, ids[:, -context:], context)
        token = _drawn(z, temperature, top_k, generator(seed, number, WHERE))
        token = np.where(done, ids[:, -1], token)
        done |= token == stop
        ids = np.concatenate([ids, token[:, None]], axis=1)
    return ids[0] if np.ndim(start) == 1 else ids


def _check(temperature: Any, top_k: Any, count: Any) -> None:
    if isinstance(temperature, bool) or not isinstance(temperature, Real) or not 0 <= float(temperature) < math.inf:
        _refuse("temperature", "0 <= temperature < ∞", temperature)
    for option, value, least in (("top_k", top_k, 1), ("count", count, 0)):
        if value is None and option == "top_k":
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            _refuse(option, f"{option} >= {least}", value)


def _refuse(option: str, expected: str, value: Any) -> None:
    raise InputError("option_range", where=WHERE, option=option, expected=expected, got=repr(value))


def _ids(start: Any) -> Array:
    ids = as_array(start, f"{WHERE}: start")
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2) or not ids.size:
        raise InputError("generate_start", where=WHERE, got=f"{list(ids.shape)}: {ids.dtype}")
    return ids.astype(np.int64)


def _context(model: Model) -> int:
    """T of the model's input ids[N, T]."""
    shapes = [shape[1:] for shape, _ in model.batch_of(1)]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise InputError(
            "generate_model", where=WHERE, got=", ".join(f"x[N{''.join(f', {n}' for n in s)}]" for s in shapes)
        )
    return int(shapes[0][0])


def _padded(ids: Array, context: int, fill: int = 0) -> Array:
    return np.pad(ids, [(0, 0), (0, context - ids.shape[1])], constant_values=fill)


def _next_logits(model: Model, ids: Array, context: int) -> Array:
    """z[N, C] after the last token; what comes behind it does not count."""
    return model.predict(_padded(ids, context))[:, ids.shape[1] - 1]


def _require_causal(model: Model, ids: Array, context: int) -> None:
    """InputError unless logits are [N, T, C] and those of a position stay when later tokens change."""
    seen = min(ids.shape[1], context - 1)
    z, other = (model.predict(_padded(ids[:1, :seen], context, fill)) for fill in (0, 1))
    if z.ndim != 3 or z.shape[1] != context:
        raise InputError("generate_model", where=WHERE, got=f"z{list(z.shape)}")
    change = np.abs(other - z)[:, :seen].max(initial=0.0)
    if change > 1e-4 * np.abs(z).max():
        raise InputError("generate_causal", where=WHERE, got=f"|Δz| = {change:.2g}")


def _drawn(z: Array, temperature: float, top_k: int | None, rng: np.random.Generator) -> Array:
    """One token for each row of z[N, C], by Gumbel's trick: the largest of z / τ + g, g = -log(-log u), is softmax's.

    Source: Gumbel: Statistical theory of extreme values, 1954; Maddison, Tarlow, Minka: A* sampling, NeurIPS 2014.
    """
    if temperature == 0:
        return np.argmax(z, axis=-1)
    if top_k is not None and top_k < z.shape[-1]:
        least = np.partition(z, -top_k, axis=-1)[:, -top_k, None]
        z = np.where(z >= least, z, -np.inf)
    return np.argmax(z / np.float64(temperature) + rng.gumbel(size=z.shape), axis=-1)
