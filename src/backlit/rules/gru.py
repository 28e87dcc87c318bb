"""gru: gated recurrent unit, walked over a whole sequence, in the form of cuDNN and PyTorch.

Shapes: z[N, T, 3U] = x Wᵀ + b of all steps (made by ``linear``), U[3U, U], b_n[U], h0[N, U] or absent (then 0),
mask[N, T] or absent; h, reset, update, new, q[N, T, U]. The rows of z and U stand in PyTorch's order, r, z, n, called
reset, update and new here, as z is the weighted input::

    reset, update = sigmoid(z + U h_{t-1})    q = U h_{t-1} + b_n    new = tanh(z + reset ⊙ q)
    h_t = (1 - update) ⊙ new + update ⊙ h_{t-1}

The reset comes after the product, which therefore has a bias b_n of its own; PyTorch's other biases of h are part of b.
∂L/∂z is the error term δ of every gate. What comes back to h_t directly is the sum over all later steps s of what
reaches h_s, times update_{t+1} … update_s. Masked steps: see :mod:`backlit.rules._recurrent`.

InputError: shapes that do not fit together, a sequence that is masked altogether.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules import _recurrent as scan
from backlit.rules.base import Case, rule


def forward(  # noqa: PLR0917 -- the operation has five inputs
    xp: Namespace, z: Array, U: Array, b_n: Array, h0: Array | None = None, mask: Array | None = None
) -> tuple[Array, ...]:
    alive, made, n, h = scan.inside(xp, z, mask), [], U.shape[1], scan.first(xp, h0, z, U)
    for t in range(z.shape[1]):
        h = scan.before(xp, h, h0, alive, t)
        zt, a = z[:, t, :], xp.matmul(h, U.T)
        gates = scan.cut(scan.sigmoid(xp, zt[:, : 2 * n] + a[:, : 2 * n]), alive, t)
        reset, update, q = gates[:, :n], gates[:, n:], a[:, 2 * n :] + b_n
        new = scan.cut(xp.tanh(zt[:, 2 * n :] + reset * q), alive, t)
        h = new + update * (h - new)
        made.append((h, reset, update, new, q))
    return tuple(scan.along_time(xp, steps) for steps in zip(*made, strict=True))


def backward(
    xp: Namespace,
    dh: Array,
    *,
    U: Array,
    h0: Array | None,
    mask: Array | None,
    h: Array,
    reset: Array,
    update: Array,
    new: Array,
    q: Array,
) -> tuple[Array, ...]:
    alive, n = scan.inside(xp, h, mask), U.shape[1]
    h_before = scan.all_before(xp, h, h0, alive)
    by_update, by_new = (h_before - new) * update * (1.0 - update), (1.0 - update) * (1.0 - new * new)
    by_reset, back = q * reset * (1.0 - reset), xp.zeros_like(h[:, 0, :])
    errors, products, backs = [], [], []
    for t in range(h.shape[1] - 1, -1, -1):
        of_h = dh[:, t, :] + back
        of_new = scan.cut(of_h * by_new[:, t, :], alive, t)
        gates = xp.concat([of_new * by_reset[:, t, :], of_h * by_update[:, t, :]], axis=1)
        products.append(xp.concat([gates, of_new * reset[:, t, :]], axis=1))
        back = of_h * update[:, t, :] + xp.matmul(products[-1], U)
        errors.append(xp.concat([gates, of_new], axis=1))
        backs.append(back)
    dz, of_products = (scan.along_time(xp, steps[::-1]) for steps in (errors, products))
    dU = scan.product(xp, of_products, h_before)
    return dz, dU, xp.sum(of_products[:, :, 2 * n :], axis=(0, 1)), scan.of_first(xp, backs, alive)


def shapes(z: Shape, U: Shape, b_n: Shape, h0: Shape | None = None, mask: Shape | None = None) -> tuple[Shape, ...]:
    found = scan.check("gru", 3, z, U, mask, h0=h0)
    if b_n != found[2:]:
        raise InputError("shape_clash", rule="gru", expected=f"b_n[{found[2]}]", got=f"b_n{[*b_n]}")
    return (found,) * 5


def requires(z: Any, U: Any, b_n: Any, h0: Any = None, mask: Array | None = None) -> None:
    scan.require_steps(z, mask)


def expand(o: Any, z: Any, U: Any, b_n: Any, h0: Any, mask: Any) -> Any:  # noqa: PLR0917 -- as forward
    h, states, n = h0, [], U.shape[1]
    for step, alive, earlier in scan.steps(o, z, mask):
        h = scan.again(o, h, h0, earlier)
        a = None if h is None else o.linear(h, U)
        reset, update = (o.sigmoid(step[:, k] if a is None else step[:, k] + a[:, k]) for k in _blocks(n)[:2])
        q = b_n if a is None else a[:, 2 * n :] + b_n
        new = o.tanh(step[:, 2 * n :] + reset * q)
        h = (1.0 - update) * new if h is None else (1.0 - update) * new + update * h
        h = h if alive is None else h * alive
        states.append(h)
    return o.stack(*states, axis=1)


def _blocks(n: int) -> list[slice]:
    return [slice(k * n, (k + 1) * n) for k in range(3)]


def cases(rng: Any) -> Iterator[Case]:
    yield from scan.cases(rng, 3, ["h0"], b_n=(2,))


def _gate(name: str, block: int) -> str:
    row = scan.row(block)
    return f"{name}[n,t,j] = (mask[n,t] != 0) * sigmoid(z[n,t,{row}] + Sum(k, U[{row},k] * {scan.BEFORE}))"


_J = scan.unit("m")
_THROUGH_U = "Sum(p, dz[n,{s},p] * (reset[n,{s},p-2*Count(j)] if p >= 2 * Count(j) else 1) * U[p,{j}])"
_OF_H = (
    f"Sum(s, ({_THROUGH_U.format(s='s+1', j='{j}')} + dh[n,s,{{j}}])"
    " * Prod(r, update[n,r,{j}] if t < r and r <= s else 1) if s >= t else 0)"
)
_NEW = "2 * Count(j)"
_DZ = (
    f"dz[n,t,m] = (mask[n,t] != 0) * {_OF_H.format(j=_J)} * (1 - update[n,t,{_J}]) * (1 - new[n,t,{_J}]**2)"
    f" if m >= {_NEW} else {_OF_H.format(j=_J)} * ({scan.earlier(_J)} - new[n,t,{_J}])"
    f" * update[n,t,{_J}] * (1 - update[n,t,{_J}]) if m >= Count(j)"
    f" else dz[n,t,m+{_NEW}] * q[n,t,{_J}] * reset[n,t,{_J}] * (1 - reset[n,t,{_J}])"
)
_BACK = f"{_THROUGH_U.format(s='t', j='j')} + {_OF_H.format(j='j')} * update[n,t,j]"

gru = rule(
    "gru",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"h[n,t,j] = (1 - update[n,t,j]) * new[n,t,j] + update[n,t,j] * {scan.earlier('j')}",
        _gate("reset", 0),
        _gate("update", 1),
        "new[n,t,j] = (mask[n,t] != 0) * tanh(z[n,t,j+2*Count(j)] + reset[n,t,j] * q[n,t,j])",
        f"q[n,t,j] = Sum(k, U[j+2*Count(j),k] * {scan.BEFORE}) + b_n[j]",
        _DZ,
        f"dU[m,k] = Sum(n, t, dz[n,t,m] * (reset[n,t,m-{_NEW}] if m >= {_NEW} else 1) * {scan.BEFORE})",
        f"db_n[j] = Sum(n, t, dz[n,t,j+{_NEW}] * reset[n,t,j])",
        f"dh0[n,j] = Sum(t, {scan.BEGINS} * ({_BACK}))",
    ),
    outputs=("h", "reset", "update", "new", "q"),
    constants=("mask",),
    absent=scan.ABSENT,
    requires=requires,
    expand=expand,
    cases=cases,
    source="Cho et al.: Learning phrase representations using RNN encoder-decoder, EMNLP 2014; the reset after the"
    " product, as in cuDNN: Appleyard, Kočiský, Blunsom: Optimizing performance of recurrent neural networks, 2016",
)
