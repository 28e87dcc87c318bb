"""rnn: the simple recurrent layer of Elman, h_t = f(z_t + U h_{t-1}), walked over a whole sequence.

Shapes: z[N, T, U] = x Wᵀ + b of all steps (made by ``linear``), U[U, U] (row j holds the weights into unit j), h0[N, U]
or absent (then 0), mask[N, T] or absent; h[N, T, U], the state after every step. ``activation`` is tanh or relu. δ_t =
∂L/∂z_t = (∂L/∂h_t + Uᵀ δ_{t+1}) ⊙ f'. Masked steps: see :mod:`backlit.rules._recurrent`.

InputError: shapes that do not fit together, an unknown activation, a sequence that is masked altogether.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules import _recurrent as scan
from backlit.rules.base import Case, rule


def forward(
    xp: Namespace, z: Array, U: Array, h0: Array | None = None, mask: Array | None = None, *, activation: str = "tanh"
) -> Array:
    alive, h, states = scan.inside(xp, z, mask), scan.first(xp, h0, z, U), []
    for t in range(z.shape[1]):
        a = z[:, t, :] + xp.matmul(scan.before(xp, h, h0, alive, t), U.T)
        h = scan.cut(xp.tanh(a) if activation == "tanh" else xp.clip(a, 0.0, None), alive, t)
        states.append(h)
    return scan.along_time(xp, states)


def backward(
    xp: Namespace, dh: Array, *, U: Array, h0: Array | None, mask: Array | None, h: Array, activation: str
) -> tuple[Array, Array, Array]:
    alive, back, errors, backs = scan.inside(xp, h, mask), xp.zeros_like(h[:, 0, :]), [], []
    slope = 1.0 - h * h if activation == "tanh" else xp.where(h > 0, xp.ones_like(h), xp.zeros_like(h))
    for t in range(h.shape[1] - 1, -1, -1):
        delta = scan.cut((dh[:, t, :] + back) * slope[:, t, :], alive, t)
        back = xp.matmul(delta, U)
        errors.append(delta)
        backs.append(back)
    dz = scan.along_time(xp, errors[::-1])
    dU = scan.product(xp, dz, scan.all_before(xp, h, h0, alive))
    return dz, dU, scan.of_first(xp, backs, alive)


def shapes(
    z: Shape, U: Shape, h0: Shape | None = None, mask: Shape | None = None, *, activation: str = "tanh"
) -> Shape:
    if activation not in ("tanh", "relu"):
        expected = "activation = 'tanh' | 'relu'"
        raise InputError("rule_option", rule="rnn", option="activation", expected=expected, got=repr(activation))
    return scan.check("rnn", 1, z, U, mask, h0=h0)


def requires(z: Any, U: Any, h0: Any = None, mask: Array | None = None, *, activation: str = "tanh") -> None:
    scan.require_steps(z, mask)


def kinks(
    xp: Namespace, z: Array, U: Array, h0: Array | None = None, mask: Array | None = None, *, activation: str = "tanh"
) -> Array:
    h = forward(xp, z, U, h0, mask, activation=activation)
    return xp.astype(h > 0, xp.int8) if activation == "relu" else xp.zeros(h.shape, dtype=xp.int8)


def expand(o: Any, z: Any, U: Any, h0: Any, mask: Any, *, activation: str) -> Any:
    h, states = h0, []
    for step, alive, earlier in scan.steps(o, z, mask):
        h = scan.again(o, h, h0, earlier)
        a = step if h is None else step + o.linear(h, U)
        h = getattr(o, activation)(a)
        h = h if alive is None else h * alive
        states.append(h)
    return o.stack(*states, axis=1)


def cases(rng: Any) -> Iterator[Case]:
    yield from scan.cases(rng, 1, ["h0"])
    for case in scan.cases(rng, 1, ["h0"]):
        yield Case(f"relu, {case.label}", **case.call, activation="relu")
    at = {"z": np.zeros((1, 1, 2)), "U": rng.normal(size=(2, 2)), "activation": "relu"}
    yield Case("relu, at the kink", **at, on_kink=True, expect={"h": 0.0, "dz": 0.0, "dU": 0.0})


_A = f"z[n,t,j] + Sum(k, U[j,k] * {scan.BEFORE})"
_SLOPE = "1 - h[n,t,j]**2 if activation == 'tanh' else (h[n,t,j] > 0)"

rnn = rule(
    "rnn",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"h[n,t,j] = (mask[n,t] != 0) * (tanh({_A}) if activation == 'tanh' else max({_A}, 0))",
        f"dz[n,t,j] = (mask[n,t] != 0) * ({_SLOPE}) * (Sum(k, dz[n,t+1,k] * U[k,j]) + dh[n,t,j])",
        f"dU[j,k] = Sum(n, t, dz[n,t,j] * {scan.BEFORE})",
        f"dh0[n,k] = Sum(t, j, {scan.BEGINS} * dz[n,t,j] * U[j,k])",
    ),
    outputs=("h",),
    constants=("mask",),
    absent=scan.ABSENT,
    requires=requires,
    kinks=kinks,
    kink_note="relu'(0) = 0",
    expand=expand,
    cases=cases,
    source="Elman: Finding structure in time, Cognitive Science 14, 1990; Werbos: Backpropagation through time, 1990",
)
