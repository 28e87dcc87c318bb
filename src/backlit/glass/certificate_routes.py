"""The routes by which one node's backward is judged, each with its error and tolerance in units of the precision.

With J the Jacobian of forward at the node's own arrays, backward claims to be u -> Jᵀu.

- **complex step, central differences**: the adjoint test ⟨u, J v⟩ = ⟨Jᵀu, v⟩ for random v at one input, J v from
  forward alone; at the run's arrays with the run's own δ, with a random u, and at a point near by.
- **index formula**: single entries of the output and of the gradients by plain loops over the rule's index formulas.
- **oracles** (JAX, PyTorch): the whole gradient by another program.

A comparison of numbers made by rounded sums is off by rounding. What is allowed is 32 √L ε of the sum of the terms'
sizes for sums of up to L terms (Higham, Mary: A new approach to probabilistic rounding error analysis, SIAM J. Sci.
Comput. 41(5), 2019), and 16 times what changes when every operand is moved by 4 ε, which measures the conditioning (of
the loops, 4 times their running error: :mod:`backlit.glass.certificate_running`). Difference quotients lose more: they
are allowed 1e-6, or ten times the error that they estimate themselves. Where a node is so flat that its gradient drowns
in rounding (a saturated tanh), it is ok if that rounding is nothing beside δ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import fsum, isfinite, sqrt
from typing import Any

import numpy as np

from backlit.core.i18n import catalogue, say
from backlit.core.oracles import VJP
from backlit.core.types import Array
from backlit.glass.certificate_call import EPS, NodeCall, Wrt, inner, size
from backlit.glass.certificate_running import FUNCTIONS, Running, running
from backlit.glass.differences import Point, derivative
from backlit.rules._formula_eval import Arithmetic, Evaluation
from backlit.rules.formula import Formula, bind, formulas_of

REACH = 1e-3
"""Inputs that a step of this share of their typical size carries over a kink are left out of the adjoint test."""

DIFFERENCES_TOLERANCE = 1e-6
"""Of central differences, relative."""

BLUNT = 1e-4
"""A route whose tolerance is wider than this could not see a slip of 0.05 %: it decides nothing."""

NEGLIGIBLE = 1e-10
"""What is below this share of the size that a gradient would have if the node's slope were |y| / |x| counts as zero."""

NUDGE = 4 * EPS
BUDGET = 20_000
"""Numbers that the loops of one entry's formula may read; beyond it the entry is left to the other routes."""

Dys = tuple[Array, ...]


@dataclass(frozen=True)
class Evidence:
    """What one route says of one gradient (or output) of a node, at its worst."""

    route: str
    """``complex step``, ``central differences``, ``index formula``, ``same twice``, or the name of an oracle."""
    of: str
    """``dW``, ``z``: a gradient or an output of the rule."""
    error: float
    """|found - expected| in units of ε times the size of what is compared."""
    tolerance: float
    """In the same units."""
    verdict: str
    """``ok``, ``wrong``, or ``undecided`` where the tolerance is too wide to tell."""
    terms: int = 1
    """Terms of the longest sum."""
    conditioning: float = 0.0
    """The part of the tolerance that was measured: by moving the operands, or by the differences themselves."""

    @property
    def named(self) -> str:
        """The route in the language in force; other programs go by their own names."""
        key = f"certificate_route_{self.route.replace(' ', '_')}"
        return say(key) if key in catalogue() else self.route

    @property
    def reason(self) -> str:
        """Why the tolerance is what it is, in words."""
        kind = "differences" if self.route == "central differences" else "rounding"
        return say(f"certificate_reason_{kind}", terms=self.terms, conditioning=f"{self.conditioning:.3g}")

    @property
    def share(self) -> float:
        """The error as a share of the tolerance."""
        return self.error / self.tolerance if self.tolerance else float(self.error > 0) * float("inf")

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"reason": self.reason}


def rounding_evidence(  # noqa: PLR0917  two names, then four numbers
    route: str, of: str, difference: float, scale: float, terms: int, noise: float, *, natural: float = 0.0
) -> Evidence:
    """The evidence of two numbers that should differ by rounding only; ``scale`` is the size of what was summed.

    Where rounding is too large beside it to tell, they are ok if it is negligible beside the size ``natural``.
    """
    if not (isfinite(difference) and isfinite(scale)):
        return Evidence(route, of, float("inf"), 0.0, "wrong" if isfinite(scale) else "undecided", terms)
    if difference == 0.0:
        return Evidence(route, of, 0.0, 32 * sqrt(terms), "ok", terms)
    unit = EPS * scale
    conditioning = 16 * noise / unit
    tolerance = 32 * sqrt(terms) + conditioning
    flat = tolerance * unit <= NEGLIGIBLE * natural
    verdict = "wrong" if difference > tolerance * unit else "ok" if tolerance * EPS <= BLUNT or flat else "undecided"
    return Evidence(route, of, difference / unit, tolerance, verdict, terms, conditioning)


@dataclass(frozen=True, eq=False)
class Bench:
    """A node at one point with one u: where a gradient is put to the test."""

    call: NodeCall
    u: Dys
    seed: int
    gradients: dict[str, Array]

    @classmethod
    def of(cls, call: NodeCall, u: Dys, seed: int) -> Bench:
        """Whatever backward raises is raised."""
        return cls(call, u, seed, call.backward(u))

    @cached_property
    def nudges(self) -> list[NodeCall]:
        """The node with operands moved by rounding."""
        return [self.call.nudged(np.random.default_rng((self.seed, k)), NUDGE) for k in range(3)]

    @cached_property
    def nudged_gradients(self) -> list[dict[str, Array]]:
        """Their gradients."""
        return [n.backward(self.u) for n in self.nudges]

    @property
    def natural(self) -> float:
        """⟨u, J v⟩ for a v of the input's size, if the slope were |y| / |x|."""
        return float(sum(np.sum(np.abs(u)) * typical(y) for u, y in zip(self.u, self.call.differentiated, strict=True)))

    def direction(self, w: Wrt) -> tuple[Array, Array]:
        """(v, the entries left out): random, of the input's typical size, 0 within reach of a kink."""
        x = self.call.inputs[w.place]
        v = np.random.default_rng((self.seed, w.place, 7)).normal(size=x.shape) * typical(x)
        out = np.zeros(x.shape, bool)
        for _ in range(4):
            crossed = within_reach(self.call, w, v)
            if not crossed.any():
                return v, out
            out |= crossed
            v = np.where(out, 0.0, v)
        return np.zeros_like(v), np.ones_like(out)


def typical(x: Array) -> float:
    """The root mean square of the entries; 1 where it is 0."""
    found = float(np.sqrt(np.mean(np.square(x)))) if x.size else 1.0
    return found if found > 0 and isfinite(found) else 1.0


def within_reach(call: NodeCall, w: Wrt, v: Array) -> Array:
    """The entries of an input that lie on another piece after a step along ``v`` or back."""
    x = call.inputs[w.place]
    out = np.zeros(x.shape, bool)
    for name, here in call.pieces.items():
        for h in (REACH, -REACH):
            there = call.with_input(w.place, x + h * v).pieces[name]
            out |= _onto(np.asarray(there != here), x.shape)
    return out & (v != 0)


def _onto(places: Array, shape: tuple[int, ...]) -> Array:
    """For entries of an array of ``shape``: whether any of the places it is broadcast to is marked."""
    if places.ndim < len(shape):
        return np.broadcast_to(places.any(), shape)
    lead = places.ndim - len(shape)
    stretched = tuple(lead + k for k, n in enumerate(shape) if n == 1)
    folded = places.any(axis=(*range(lead), *stretched), keepdims=True).reshape(
        tuple(1 if lead + k in stretched else places.shape[lead + k] for k in range(len(shape)))
    )
    return folded if folded.shape == shape else np.broadcast_to(places.any(), shape)


# --- the adjoint test -------------------------------------------------------------------------------------------------


def adjoint(bench: Bench, w: Wrt, v: Array, *, both: bool) -> Iterator[Evidence]:
    """⟨u, J v⟩ = ⟨Jᵀu, v⟩, with J v by the complex step, by central differences where it refuses, or by ``both``."""
    exact = bench.call.slopes(w, v)
    if exact is not None:
        yield _by_complex_step(bench, w, v, exact)
    if both or exact is None:
        yield _by_differences(bench, w, v)


def _by_complex_step(bench: Bench, w: Wrt, v: Array, exact: Dys) -> Evidence:
    g = bench.gradients[w.label]
    gap = abs(inner(bench.u, exact) - inner((g,), (v,)))
    scale = size(bench.u, exact) + size((g,), (v,))
    noise = max(_change(bench, k, w, v, exact) for k in range(len(bench.nudges)))
    terms, natural = bench.call.terms, bench.natural
    return rounding_evidence("complex step", f"d{w.label}", gap, scale, terms, noise, natural=natural)


def _change(bench: Bench, k: int, w: Wrt, v: Array, exact: Dys) -> float:
    """How far either side of the test moves with the operands."""
    moved = bench.nudges[k].slopes(w, v)
    right = abs(inner((bench.nudged_gradients[k][w.label] - bench.gradients[w.label],), (v,)))
    return right if moved is None else max(right, abs(inner(bench.u, moved) - inner(bench.u, exact)))


def _by_differences(bench: Bench, w: Wrt, v: Array) -> Evidence:
    call, g = bench.call, bench.gradients[w.label]
    x = call.inputs[w.place]

    def along(h: float) -> Point:
        moved = call.with_input(w.place, x + h * v)
        return Point(moved.value(bench.u), moved.pieces)

    found = derivative(along, Point(call.value(bench.u), call.pieces))
    claimed = inner((g,), (v,))
    scale = max(abs(found.value), abs(claimed), float(np.linalg.norm(np.ravel(g * v))))
    rounding = found.error + 4 * EPS * size(bench.u, call.differentiated) / found.step
    made = _difference_evidence(f"d{w.label}", abs(found.value - claimed), scale, rounding, call.terms)
    flat = made.verdict == "undecided" and max(abs(found.value - claimed), rounding) <= NEGLIGIBLE * bench.natural
    return replace(made, verdict="ok") if flat else made


def _difference_evidence(of: str, gap: float, scale: float, noise: float, terms: int) -> Evidence:
    if not isfinite(gap):
        return Evidence("central differences", of, float("inf"), 0.0, "undecided", terms)
    if scale == 0.0:
        return Evidence("central differences", of, 0.0, DIFFERENCES_TOLERANCE / EPS, "ok", terms)
    error, allowed = gap / scale, max(DIFFERENCES_TOLERANCE, 10 * noise / scale)
    verdict = "wrong" if error > allowed else "ok" if error <= DIFFERENCES_TOLERANCE else "undecided"
    return Evidence("central differences", of, error / EPS, allowed / EPS, verdict, terms, noise / scale / EPS)


# --- single entries by index loops ------------------------------------------------------------------------------------


class _OverBudgetError(Exception):
    pass


@dataclass
class _Metered:
    """Makes numbers that know their rounding, and stops where the loops read more than BUDGET of them."""

    read: int = field(default=0)

    def __call__(self, value: Any) -> Any:
        self.read += 1
        if self.read > BUDGET:
            raise _OverBudgetError
        return running(value)


def entry_terms(formula: Formula, arrays: dict[str, Any], index: tuple[int, ...]) -> list[Running] | None:
    """The terms of one entry by the formula's own loops; None where that takes too long or cannot be done."""
    like: Any = arrays.get(formula.target, arrays.get(formula.target.removeprefix("d")))
    arithmetic = Arithmetic(_Metered(), FUNCTIONS)
    try:
        evaluation = Evaluation(formula, arrays, {}, tuple(np.shape(like)), arithmetic=arithmetic)
        return [running(value) for _, value in evaluation.terms(index)]
    except (_OverBudgetError, AttributeError, ValueError, TypeError, KeyError, IndexError, ArithmeticError):
        return None


def operands(call: NodeCall, u: Dys) -> dict[str, Any]:
    """Everything that the rule's formulas may name."""
    given = bind(call.rule, call.inputs, call.outputs, call.node.attributes)
    given |= {f"d{n}": dy for n, dy in zip(call.rule.differentiated, u, strict=True)}
    gradients = {f"d{n}" for n in call.rule.differentiable}
    if all(gradients.isdisjoint(f.names) for f in formulas_of(call.rule).values()):
        return given
    return given | {f"d{label}": g for label, g in call.backward(u).items()}


def by_formula(bench: Bench, of: str, array: Array, index: tuple[int, ...]) -> Evidence | None:
    """One entry of an output or a gradient against its index formula."""
    formula = formulas_of(bench.call.rule).get(of)
    terms = formula and entry_terms(formula, operands(bench.call, bench.u), index)
    if not terms:
        return None
    assert formula is not None
    want, scale = fsum(map(float, terms)), fsum(abs(float(t)) for t in terms)
    noise = max(abs(float(m[index]) - float(array[index])) for m in _nudged_arrays(bench, of))
    noise = max(noise, sum(t.error for t in terms) / 4)
    size_of_all = float(np.sqrt(np.mean(np.square(array)))) if np.all(np.isfinite(array)) else 0.0
    length = max(len(terms), 16)
    gap = 0.0 if want == array[index] else abs(want - float(array[index]))
    return rounding_evidence("index formula", of, gap, max(scale, size_of_all), length, noise)


def _nudged_arrays(bench: Bench, of: str) -> list[Array]:
    names = bench.call.rule.outputs
    if of in names:
        return [n.outputs[names.index(of)] for n in bench.nudges]
    return [g[of[1:]] for g in bench.nudged_gradients]


def entries_of(array: Array, seed: int, count: int = 1) -> list[tuple[int, ...]]:
    """The largest entry and ``count`` random ones."""
    if not array.size:
        return []
    at = [int(np.argmax(np.abs(array))), *np.random.default_rng(seed).integers(0, array.size, count).tolist()]
    return [tuple(map(int, np.unravel_index(i, array.shape))) for i in dict.fromkeys(at)]


def formula_evidence(bench: Bench) -> Iterator[Evidence]:
    """Entries of every output and gradient whose formula reads arrays by index."""
    rule = bench.call.rule
    if rule.variadic or rule.moves:  # the adjoint test says all that there is to say of copies
        return
    arrays = dict(zip(rule.outputs, bench.call.outputs, strict=True))
    arrays |= {f"d{label}": g for label, g in bench.gradients.items()}
    for of, array in arrays.items():
        for index in entries_of(array, bench.seed):
            if (found := by_formula(bench, of, array, index)) is not None:
                yield found


# --- other programs ---------------------------------------------------------------------------------------------------


def oracle_evidence(bench: Bench, name: str, vjp: VJP, left_out: dict[str, Array]) -> Iterator[Evidence]:
    """Every gradient against another program's, entries at kinks left out."""
    call = bench.call
    found = vjp(call.rule, call.inputs, call.node.attributes, [w.place for w in call.wrt], bench.u)
    for w, array in zip(call.wrt, found or (), strict=bool(found)):
        kept = ~left_out[w.label]
        ours, theirs = bench.gradients[w.label][kept], np.asarray(array)[kept]
        if ours.size and np.all(np.isfinite(theirs)):
            noise = max(_largest(n[w.label][kept] - ours) for n in bench.nudged_gradients)
            gap = _largest(ours - theirs)
            yield rounding_evidence(name, f"d{w.label}", gap, _largest(theirs), call.terms, noise)


def _largest(a: Array) -> float:
    return float(np.max(np.abs(a), initial=0.0))
