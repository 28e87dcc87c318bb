"""lstm: long short-term memory with a forget gate, walked over a whole sequence.

Shapes: z[N, T, 4U] = x Wᵀ + b of all steps (made by ``linear``), U[4U, U], h0[N, U] and c0[N, U] or absent (then 0),
mask[N, T] or absent; h, c, i, f, g, o[N, T, U]. The rows of z and U stand in PyTorch's order of gates, i, f, g, o::

    i, f, o = sigmoid(z + U h_{t-1})    g = tanh(z + U h_{t-1})    c_t = f ⊙ c_{t-1} + i ⊙ g    h_t = o ⊙ tanh(c_t)

∂L/∂z is the error term δ of every gate. What comes back to c_t is the sum over all later steps s of what reaches
h_s, times o_s (1 - tanh²c_s), and what reaches c_s itself where the state is handed on, times the forget gates in
between, f_{t+1} … f_s: the error carousel. h and c pass on gradients; the gates are there to be seen. Masked steps: see
:mod:`backlit.rules._recurrent`.

InputError: shapes that do not fit together, a sequence that is masked altogether.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.types import Array, Namespace, Shape
from backlit.rules import _recurrent as scan
from backlit.rules.base import Case, rule


def forward(  # noqa: PLR0917 -- the operation has five inputs
    xp: Namespace, z: Array, U: Array, h0: Array | None = None, c0: Array | None = None, mask: Array | None = None
) -> tuple[Array, ...]:
    alive, made, n = scan.inside(xp, z, mask), [], U.shape[1]
    h, c = scan.first(xp, h0, z, U), scan.first(xp, c0, z, U)
    for t in range(z.shape[1]):
        a = z[:, t, :] + xp.matmul(scan.before(xp, h, h0, alive, t), U.T)
        gates = scan.cut(scan.sigmoid(xp, a), alive, t)
        i, f, o = gates[:, :n], gates[:, n : 2 * n], gates[:, 3 * n :]
        g = xp.tanh(a[:, 2 * n : 3 * n])
        c = f * scan.before(xp, c, c0, alive, t) + i * g
        h = o * xp.tanh(c)
        made.append((h, c, i, f, g, o))
    return tuple(scan.along_time(xp, steps) for steps in zip(*made, strict=True))


def backward(
    xp: Namespace,
    dh: Array,
    dc: Array,
    *,
    U: Array,
    h0: Array | None,
    c0: Array | None,
    mask: Array | None,
    h: Array,
    c: Array,
    i: Array,
    f: Array,
    g: Array,
    o: Array,
) -> tuple[Array, ...]:
    alive, tanh_c, c_before = scan.inside(xp, h, mask), xp.tanh(c), scan.all_before(xp, c, c0, scan.inside(xp, c, mask))
    by_c, slopes = o * (1.0 - tanh_c * tanh_c), _slopes(xp, i, f, g, o, c_before, tanh_c)
    back = carried = xp.zeros_like(h[:, 0, :])
    errors, to_h, to_c = [], [], []
    for t in range(h.shape[1] - 1, -1, -1):
        of_h = dh[:, t, :] + back
        of_c = of_h * by_c[:, t, :] + dc[:, t, :] + carried
        delta = xp.concat([of_c, of_c, of_c, of_h], axis=1) * slopes[:, t, :]
        back, carried = xp.matmul(delta, U), of_c * f[:, t, :]
        errors.append(delta)
        to_h.append(back)
        to_c.append(carried)
    dz = scan.along_time(xp, errors[::-1])
    dU = scan.product(xp, dz, scan.all_before(xp, h, h0, alive))
    return dz, dU, scan.of_first(xp, to_h, alive), scan.of_first(xp, to_c, alive)


def _slopes(  # noqa: PLR0917 -- four gates, two states
    xp: Namespace, i: Array, f: Array, g: Array, o: Array, c_before: Array, tanh_c: Array
) -> Array:
    """What ∂L/∂c (for o: ∂L/∂h) is multiplied by to give δ of each gate: [N, T, 4U]."""
    parts = [g * i * (1.0 - i), c_before * f * (1.0 - f), i * (1.0 - g * g), tanh_c * o * (1.0 - o)]
    return xp.concat(parts, axis=2)


def shapes(
    z: Shape, U: Shape, h0: Shape | None = None, c0: Shape | None = None, mask: Shape | None = None
) -> tuple[Shape, ...]:
    return (scan.check("lstm", 4, z, U, mask, h0=h0, c0=c0),) * 6


def requires(z: Any, U: Any, h0: Any = None, c0: Any = None, mask: Array | None = None) -> None:
    scan.require_steps(z, mask)


def expand(o: Any, z: Any, U: Any, h0: Any, c0: Any, mask: Any) -> Any:  # noqa: PLR0917 -- as forward
    h, c, made = h0, c0, []
    for step, alive, earlier in scan.steps(o, z, mask):
        h, c = (scan.again(o, state, start, earlier) for state, start in ((h, h0), (c, c0)))
        i, f, g, out = _gates(o, step if h is None else step + o.linear(h, U), U.shape[1])
        c = i * g if c is None else f * c + i * g
        h = out * o.tanh(c)
        h, c = (h, c) if alive is None else (h * alive, c * alive)
        made.append((h, c))
    return tuple(o.stack(*states, axis=1) for states in zip(*made, strict=True))


def _gates(o: Any, a: Any, n: int) -> Iterator[Any]:
    for k, f in enumerate((o.sigmoid, o.sigmoid, o.tanh, o.sigmoid)):
        yield f(a[:, k * n : (k + 1) * n])


def cases(rng: Any) -> Iterator[Case]:
    yield from scan.cases(rng, 4, ["h0", "c0"])


def _gate(name: str, function: str, block: int) -> str:
    row = scan.row(block)
    return f"{name}[n,t,j] = {function}(z[n,t,{row}] + Sum(k, U[{row},k] * {scan.BEFORE}))"


def _masked(gate: str) -> str:
    return gate.replace(" = ", " = (mask[n,t] != 0) * ")


_J = scan.unit("m")
_OF_H = "(Sum(p, dz[n,{s}+1,p] * U[p,{j}]) + dh[n,{s},{j}])"
_OF_C = (
    f"Sum(s, ({_OF_H.format(s='s', j='{j}')} * o[n,s,{{j}}] * (1 - tanh(c[n,s,{{j}}])**2) + dc[n,s,{{j}}])"
    " * Prod(r, f[n,r,{j}] if t < r and r <= s else 1) if s >= t else 0)"
)

_DZ = (
    f"dz[n,t,m] = {_OF_H.format(s='t', j=_J)} * tanh(c[n,t,{_J}]) * o[n,t,{_J}] * (1 - o[n,t,{_J}])"
    f" if m >= 3 * Count(j) else {_OF_C.format(j=_J)}"
    f" * (g[n,t,{_J}] * i[n,t,{_J}] * (1 - i[n,t,{_J}]) if m < Count(j)"
    f" else {scan.earlier(_J, 'c')} * f[n,t,{_J}] * (1 - f[n,t,{_J}]) if m < 2 * Count(j)"
    f" else i[n,t,{_J}] * (1 - g[n,t,{_J}]**2))"
)

lstm = rule(
    "lstm",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        "h[n,t,j] = o[n,t,j] * tanh(c[n,t,j])",
        f"c[n,t,j] = f[n,t,j] * {scan.earlier('j', 'c')} + i[n,t,j] * g[n,t,j]",
        _masked(_gate("i", "sigmoid", 0)),
        _masked(_gate("f", "sigmoid", 1)),
        _gate("g", "tanh", 2),
        _masked(_gate("o", "sigmoid", 3)),
        _DZ,
        f"dU[m,k] = Sum(n, t, dz[n,t,m] * {scan.BEFORE})",
        f"dh0[n,k] = Sum(t, m, {scan.BEGINS} * dz[n,t,m] * U[m,k])",
        f"dc0[n,j] = Sum(t, {scan.BEGINS} * f[n,t,j] * {_OF_C.format(j='j')})",
    ),
    outputs=("h", "c", "i", "f", "g", "o"),
    constants=("mask",),
    absent=scan.ABSENT | {"c0": 0.0},
    requires=requires,
    expand=expand,
    cases=cases,
    source="Hochreiter, Schmidhuber: Long short-term memory, Neural Computation 9, 1997; forget gate: Gers,"
    " Schmidhuber, Cummins: Learning to forget, Neural Computation 12, 2000",
)
