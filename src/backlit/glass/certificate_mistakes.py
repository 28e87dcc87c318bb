"""What went wrong: the usual mistakes of a backward, each tried on the right gradient until one gives our numbers.

The right gradient is made from forward alone (one complex step, or one difference quotient, for every entry looked at);
mistakes inside a formula are made by changing the rule's index formula (:mod:`backlit.glass.certificate_mutations`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum
from typing import Any

import numpy as np

from backlit.core.i18n import say
from backlit.core.types import Array
from backlit.glass.certificate_call import NodeCall, Wrt, inner
from backlit.glass.certificate_mutations import mutations
from backlit.glass.certificate_nodes import NEAR, Judged
from backlit.glass.certificate_routes import Bench, Dys, entry_terms, operands, typical
from backlit.glass.differences import Point, derivative
from backlit.rules.formula import Formula, formulas_of

ALL, SOME, TRIED = 300, 120, 12
"""Entries of the right gradient: all of so many at most, else so many; and how many of them mistakes are tried on."""

Index = tuple[int, ...]


# --- the right gradient -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Right:
    """∂⟨u, y⟩/∂(entries of one input), from forward."""

    call: NodeCall
    w: Wrt
    u: Dys

    def products(self, index: Index) -> Array:
        """What each entry of the outputs contributes to one entry: u times ∂y/∂x, one vector; NaN at a kink."""
        x = self.call.inputs[self.w.place]
        v = np.zeros(x.shape)
        v[index] = typical(x)
        found = self.call.slopes(self.w, v)
        if found is None:
            return np.array([self._by_differences(v) / v[index]])
        return np.concatenate([np.ravel(u * s) for u, s in zip(self.u, found, strict=True)]) / v[index]

    def _by_differences(self, v: Array) -> float:
        x = self.call.inputs[self.w.place]

        def along(h: float) -> Point:
            moved = self.call.with_input(self.w.place, x + h * v)
            return Point(moved.value(self.u), moved.pieces)

        return derivative(along, Point(self.call.value(self.u), self.call.pieces)).value

    def at(self, index: Index) -> float:
        """One entry of the gradient."""
        return fsum(self.products(index))


def some_entries(g: Array, left_out: Array) -> list[Index]:
    """Places to look at: all, or the largest and random ones; none at a kink."""
    allowed = np.flatnonzero(~left_out)
    if len(allowed) > ALL:
        largest = allowed[np.argsort(-np.abs(g.ravel()[allowed]), kind="stable")[: SOME // 2]]
        allowed = np.union1d(largest, np.random.default_rng(0).choice(allowed, SOME // 2, replace=False))
    return [tuple(map(int, np.unravel_index(i, g.shape))) for i in allowed]


@dataclass(frozen=True, eq=False)
class Case:
    """A gradient that is wrong: ours and the right one on the same entries, the worst first."""

    bench: Bench
    w: Wrt
    entries: tuple[Index, ...]
    ours: Array
    right: Array

    @property
    def gap(self) -> float:
        """The largest difference, relative."""
        return float(np.max(np.abs(self.ours - self.right)) / self.size)

    @property
    def size(self) -> float:
        """The largest entry."""
        return float(max(np.max(np.abs(self.ours)), np.max(np.abs(self.right)))) or 1.0

    @property
    def call(self) -> NodeCall:
        """The node."""
        return self.bench.call

    @property
    def u(self) -> Dys:
        """∂L/∂(outputs)."""
        return self.bench.u

    def fits(self, found: Any) -> bool:
        """True where a mistake gives our numbers."""
        made = np.asarray(found, float)
        off = np.abs(made - self.ours[: len(made)]) if made.size else np.array([np.inf])
        return bool(np.all(off <= min(1e-6, self.gap / 50) * self.size))

    @cached_property
    def head(self) -> tuple[Index, ...]:
        """The entries that mistakes are tried on."""
        return self.entries[:TRIED]

    @cached_property
    def formula(self) -> Formula | None:
        """The index formula of this gradient, where it gives the right numbers."""
        formula = formulas_of(self.call.rule).get(f"d{self.w.label}")
        made = None if formula is None else self.evaluated(formula, operands(self.call, self.u))
        close = made is not None and np.allclose(made, self.right[: len(self.head)], rtol=1e-6, atol=1e-9 * self.size)
        return formula if close else None

    def evaluated(self, formula: Formula, arrays: dict[str, Any]) -> Array | None:
        """The formula on the entries tried; None where it cannot be evaluated."""
        found = [entry_terms(formula, arrays, index) for index in self.head]
        return None if any(t is None for t in found) else np.array([fsum(map(float, t or ())) for t in found])

    def anew(self, call: NodeCall | None = None, u: Dys | None = None) -> Array:
        """The right gradient on the entries tried, with another u or at another node."""
        right = Right(call or self.call, self.w, u or self.u)
        return np.array([right.at(index) for index in self.head])


def case_of(judged: Judged) -> Case | None:
    """The gradient that is farthest off, at the first point where it is; None where no entry looked at is."""
    bench = judged.bench
    if bench is None:
        return None
    return _worst(bench) or _worst(Bench.of(bench.call.scaled(NEAR), bench.u, bench.seed))


def _worst(bench: Bench) -> Case | None:
    cases = (_case(bench, w) for w in bench.call.wrt)
    return max((c for c in cases if c is not None), key=lambda c: c.gap, default=None)


def _case(bench: Bench, w: Wrt) -> Case | None:
    g = bench.gradients[w.label]
    right = Right(bench.call, w, bench.u)
    entries = some_entries(g, bench.direction(w)[1])
    ours, theirs = np.array([g[i] for i in entries]), np.array([right.at(i) for i in entries])
    order = np.argsort(-np.abs(ours - theirs), kind="stable")
    made = Case(bench, w, tuple(entries[i] for i in order), ours[order], theirs[order]) if entries else None
    return made if made and not made.gap <= _floor(right) else None


def _floor(right: Right) -> float:
    """The share that counts as rounding: wide where the right gradient comes from difference quotients."""
    exact = right.call.slopes(right.w, np.zeros(right.call.inputs[right.w.place].shape)) is not None
    return 1e-12 if exact else 1e-7


# --- the usual mistakes -----------------------------------------------------------------------------------------------

Named = tuple[str, dict[str, Any]]


def name_mistake(case: Case, judged: Judged) -> Named:
    """The first of the usual mistakes that gives the wrong numbers."""
    for tried in MISTAKES:
        for named in tried(case, judged):
            return named
    return "unknown", {}


def _memory(case: Case, judged: Judged) -> Iterator[Named]:
    """A value kept from an earlier call, or from another sample."""
    if any(e.route == "same twice" and e.verdict == "wrong" for e in judged.row.evidence):
        yield "impure", {}
    if judged.bench is not None and case.bench is not judged.bench:
        before = judged.bench.gradients[case.w.label]
        if case.fits([before[i] for i in case.entries]):
            yield "stale", {}
        yield from _stale_part(case, judged)
    arrays = operands(case.call, case.u)
    for name in case.call.rule.saved if case.formula else ():
        if (shifts := _shiftable(arrays.get(name))) is not None:
            for shift in shifts:
                if _evaluates(case, arrays | {name: np.roll(arrays[name], shift, axis=0)}):
                    yield "other_sample", {"name": name}


def _stale_part(case: Case, judged: Judged) -> Iterator[Named]:
    """Only one of the saved values is an old one."""
    assert judged.bench is not None
    old, new = operands(judged.bench.call, case.u), operands(case.call, case.u)
    for name in case.call.rule.saved:
        if hasattr(new.get(name), "shape") and _evaluates(case, new | {name: old[name]}):
            yield "stale", {}


def _shiftable(array: Any) -> tuple[int, int] | None:
    return (1, -1) if hasattr(array, "shape") and array.ndim and len(array) > 1 else None


def _evaluates(case: Case, arrays: dict[str, Any]) -> bool:
    formula = formulas_of(case.call.rule).get(f"d{case.w.label}")
    made = formula and case.evaluated(formula, arrays)
    return made is not None and case.fits(made)


def _of_delta(case: Case, judged: Judged) -> Iterator[Named]:
    """Backward must be linear in what it is given."""
    del judged
    doubled = case.call.backward(tuple(2 * u for u in case.u))[case.w.label]
    zero = case.call.backward(tuple(0 * u for u in case.u))[case.w.label]
    if case.fits([doubled[i] for i in case.entries]):
        yield "ignores_delta", {"delta": f"d{case.call.rule.differentiated[0]}"}
    elif np.any(zero):
        yield "not_linear", {"delta": f"d{case.call.rule.differentiated[0]}"}


def _sign(case: Case, judged: Judged) -> Iterator[Named]:
    del judged
    if case.fits(-case.right):
        yield "sign", {"detail": f"d{case.w.label}"}


def _mean(case: Case, judged: Judged) -> Iterator[Named]:
    """1/N left out where the formula has it, or put in twice."""
    del judged
    for kind in ("mean", "mean_twice"):
        yield from ((k, d) for k, d in _mutated(case, {kind}))
    factor = _ratio(case)
    counts = {n: f"N = {n}" for n in case.u[0].shape[:1] + case.call.inputs[case.w.place].shape[:1] if n > 1}
    for n, text in counts.items():
        if factor is not None and abs(factor * n - 1) < 1e-9:
            yield "mean_twice", {"detail": text}


def _ratio(case: Case) -> float | None:
    """The constant that our gradient is of the right one."""
    square = inner((case.right,), (case.right,))
    factor = inner((case.ours,), (case.right,)) / square if square else 0.0
    return factor if factor and case.fits(factor * case.right) else None


def _factor(case: Case, judged: Judged) -> Iterator[Named]:
    del judged
    if (factor := _ratio(case)) is not None and len(case.entries) > 1:
        yield "factor", {"factor": f"{factor:.10g}"}


def _one_share(case: Case, judged: Judged) -> Iterator[Named]:
    """Of what should be summed only one term is kept."""
    del judged
    right = Right(case.call, case.w, case.u)
    products = [right.products(index) for index in case.head]
    if all(np.count_nonzero(p) <= 1 for p in products):
        return
    samples = case.u[0].shape[:1]
    for which in (-1, 0):
        if case.fits([_nonzero(p)[which] for p in products]):
            batch = bool(samples) and all(_over_samples(p, case.u) for p in products if np.count_nonzero(p) > 1)
            yield ("missing_sum" if batch else "assigned"), {"kept": say(f"certificate_{'last' if which else 'first'}")}


def _nonzero(p: Array) -> Array:
    return p[p != 0] if np.any(p) else np.zeros(1)


def _over_samples(products: Array, u: Dys) -> bool:
    """True where the terms come from different samples."""
    return len(u) == 1 and len({int(np.unravel_index(i, u[0].shape)[0]) for i in np.flatnonzero(products)}) > 1


def _transposed(case: Case, judged: Judged) -> Iterator[Named]:
    del judged
    shape = case.call.inputs[case.w.place].shape
    if len(shape) >= 2:
        right = Right(case.call, case.w, case.u)
        if case.fits([right.at(_read_transposed(i, shape)) for i in case.head]):
            yield "transposed", {"detail": f"d{case.w.label}"}
    for place, x in enumerate(case.call.inputs):
        square = x is not None and x.ndim >= 2 and x.shape[-1] == x.shape[-2] and place != case.w.place
        if square and case.fits(case.anew(case.call.with_input(place, np.swapaxes(x, -1, -2)))):
            yield "transposed", {"detail": case.call.rule.inputs[place]}


def _read_transposed(index: Index, shape: Index) -> Index:
    """Where an entry of a matrix stands that was made transposed and read off in the old shape."""
    rows, columns = shape[-2:]
    j, i = divmod(index[-2] * columns + index[-1], rows)
    return (*index[:-2], i, j)


def _slips(case: Case, judged: Judged) -> Iterator[Named]:
    """One slip in the formula: a factor, a term, a sign, a gate, one array for another; or a sum along another axis."""
    del judged
    yield from _mutated(case, {"slope", "term", "sign", "gate", "transpose", "swap"})
    axis = case.call.node.attributes.get("axis")
    for other in range(case.u[0].ndim) if isinstance(axis, int) and case.formula else ():
        if other != axis % case.u[0].ndim and _evaluates(case, operands(case.call, case.u) | {"axis": other}):
            yield "axis", {"got": other, "expected": axis % case.u[0].ndim}


def _mutated(case: Case, kinds: set[str]) -> Iterator[Named]:
    if case.formula is None:
        return
    arrays = operands(case.call, case.u)
    names = [n for n in (*case.call.rule.inputs, *case.call.rule.outputs) if hasattr(arrays.get(n), "shape")]
    for slip in mutations(case.formula, names):
        if slip.kind in kinds and (made := case.evaluated(slip.formula, arrays)) is not None and case.fits(made):
            yield _said(slip.kind, slip.detail, case.call)


def _said(kind: str, detail: str, call: NodeCall) -> Named:
    if kind == "swap":
        got, expected = detail.split(", ")
        if {got, expected} == {call.rule.inputs[0], call.rule.outputs[0]}:
            return "slope_at", {"got": got, "expected": expected}
        return "swap", {"got": got, "expected": expected}
    named = {"slope": "missing_factor", "term": "missing_term", "transpose": "transposed"}.get(kind, kind)
    return named, {"detail": detail}


def _elsewhere(case: Case, judged: Judged) -> Iterator[Named]:
    """The derivative taken at the output, f'(a) for f'(z); with a sum along another axis."""
    del judged
    x, call = case.call.inputs[case.w.place], case.call
    if call.outputs[0].shape == x.shape and case.fits(case.anew(call.with_input(case.w.place, call.outputs[0]))):
        yield "slope_at", {"got": call.rule.outputs[0], "expected": case.w.label}
    if case.u[0].shape == x.shape and case.fits([case.u[0][i] for i in case.entries]):
        yield "no_slope", {"delta": f"d{call.rule.differentiated[0]}"}
    axis = call.node.attributes.get("axis")
    for other in range(x.ndim) if isinstance(axis, int) else ():
        moved = replace(call, node=replace(call.node, attributes={**call.node.attributes, "axis": other}))
        if other != axis % x.ndim and moved.differentiated[0].shape == case.u[0].shape and case.fits(case.anew(moved)):
            yield "axis", {"got": other, "expected": axis % x.ndim}


def _extra(case: Case, judged: Judged) -> Iterator[Named]:
    """A factor too much: one of the node's own arrays."""
    del judged
    names = (*case.call.rule.outputs, *case.call.rule.inputs)
    for name, array in zip(names, (*case.call.outputs, *case.call.inputs), strict=False):
        same = array is not None and array.shape == case.call.inputs[case.w.place].shape
        if same and case.fits(case.right * np.array([array[i] for i in case.entries])):
            yield "extra_factor", {"detail": name}


def _clipped(case: Case, judged: Judged) -> Iterator[Named]:
    """Ours equals the right gradient within a bound, and is the bound elsewhere."""
    del judged
    bound = float(np.max(np.abs(case.ours)))
    reached = int(np.sum(np.isclose(np.abs(case.ours), bound, rtol=1e-9)))
    if reached > 1 and bound < np.max(np.abs(case.right)) and case.fits(np.clip(case.right, -bound, bound)):
        yield "clipped", {"bound": f"{bound:.6g}"}


def _few(case: Case, judged: Judged) -> Iterator[Named]:
    """Right but for a few entries."""
    del judged
    wrong = np.abs(case.ours - case.right) > 1e-9 * case.size
    if len(case.entries) > 4 and np.sum(wrong) <= len(case.entries) // 4:
        listed = ", ".join(str(list(i)) for i, bad in zip(case.entries[:6], wrong[:6], strict=True) if bad)
        yield "few", {"count": int(np.sum(wrong)), "all": len(case.entries), "entries": listed}


MISTAKES = (
    *(_memory, _of_delta, _sign, _mean, _one_share, _factor),
    *(_transposed, _slips, _elsewhere, _extra, _clipped, _few),
)
"""In the order in which they are tried: what fits more than one is the simplest."""
