"""Every node of a graph judged by its rule's forward, at the arrays of this very run: one row for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backlit.core.oracles import VJP
from backlit.glass.certificate_call import NodeCall
from backlit.glass.certificate_routes import (
    Bench,
    Dys,
    Evidence,
    adjoint,
    formula_evidence,
    oracle_evidence,
    typical,
)

NEAR = 17 / 16
"""The point near by: inputs times this. backward must not remember where it was before."""


@dataclass(frozen=True)
class RuleRow:
    """What was found out about one node."""

    node: str
    rule: str
    verdict: str
    """``ok``, ``wrong``, ``kink`` (every input lies at a kink), or ``undecided``."""
    evidence: tuple[Evidence, ...]
    """The worst of each route for each gradient and output."""
    kinks: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Input -> its entries within reach of a kink; they are left out of the adjoint test and of other programs'."""

    @property
    def worst(self) -> Evidence | None:
        """The evidence that comes nearest to its tolerance, or is farthest beyond it."""
        return max(self.evidence, key=lambda e: e.share, default=None)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        kinks = {name: {"count": len(at), "first": [list(i) for i in at[:20]]} for name, at in self.kinks.items()}
        evidence = [e.as_dict() for e in self.evidence]
        return {"node": self.node, "rule": self.rule, "verdict": self.verdict, "kinks": kinks, "evidence": evidence}


@dataclass(frozen=True, eq=False)
class Judged:
    """A row with what it was made of: where to look for the cause if it is wrong."""

    row: RuleRow
    call: NodeCall
    bench: Bench | None
    """A random u at the run's arrays; None where backward raised, or gave gradients of another shape."""
    breakdown: str = ""
    """What backward raised."""


def judge(call: NodeCall, dys: Dys | None, seed: int, oracles: Mapping[str, VJP]) -> Judged:
    """The row of one node; ``dys`` is the run's own δ of its outputs, None where there is none."""
    u = random_u(call, seed)
    try:
        bench = Bench.of(call, u, seed)
    except Exception as error:  # noqa: BLE001  whatever a wrong backward raises is a finding
        return _broken(call, None, f"{type(error).__name__}: {error}")
    if any(bench.gradients[w.label].shape != call.inputs[w.place].shape for w in call.wrt):
        return _broken(call, bench, "")
    try:
        return _judged(bench, dys, oracles)
    except Exception as error:  # noqa: BLE001  it may break at a point near by only
        return _broken(call, bench, f"{type(error).__name__}: {error}")


def random_u(call: NodeCall, seed: int) -> Dys:
    """∂L/∂(outputs), away from 0 and of both signs."""
    rng = np.random.default_rng((seed, 11))
    return tuple(rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape) for y in call.differentiated)


def _broken(call: NodeCall, bench: Bench | None, breakdown: str) -> Judged:
    evidence = tuple(Evidence("shapes", f"d{w.label}", float("inf"), 0.0, "wrong") for w in call.wrt)
    return Judged(RuleRow(call.node.name, call.node.rule, "wrong", evidence), call, bench, breakdown)


def _judged(bench: Bench, dys: Dys | None, oracles: Mapping[str, VJP]) -> Judged:
    call, found = bench.call, list[Evidence]()
    left_out = {w.label: bench.direction(w)[1] for w in call.wrt}
    for at in _benches(bench, dys):
        for w in call.wrt:
            v = at.direction(w)[0]
            if v.any():
                found += adjoint(at, w, v, both=at is bench)
    found += _same_twice(bench)
    found += formula_evidence(bench)
    for name, vjp in oracles.items():
        found += oracle_evidence(bench, name, vjp, left_out)
    kinks = {n: tuple(tuple(map(int, i)) for i in np.argwhere(out)) for n, out in left_out.items() if out.any()}
    evidence = _worst_of_each(found)
    wanted = {f"d{w.label}" for w in call.wrt if call.inputs[w.place].size}
    return Judged(RuleRow(call.node.name, call.node.rule, _decided(evidence, wanted), evidence, kinks), call, bench)


def _benches(bench: Bench, dys: Dys | None) -> list[Bench]:
    """With the random u, at a point near by, and with the run's own δ, brought to a size where sums can be compared."""
    benches, near = [bench], bench.call.scaled(NEAR)
    if all(np.all(np.isfinite(y)) for y in near.differentiated):
        benches.append(Bench.of(near, bench.u, bench.seed + 1))
    if dys is not None and any(np.any(dy) for dy in dys) and all(np.all(np.isfinite(dy)) for dy in dys):
        scale = max(typical(dy) for dy in dys)
        benches.append(Bench.of(bench.call, tuple(dy / scale for dy in dys), bench.seed + 2))
    return benches


def _same_twice(bench: Bench) -> list[Evidence]:
    """Backward asked again with the same arrays, after it has seen others."""
    again = bench.call.backward(bench.u)
    return [
        Evidence("same twice", f"d{w.label}", *((0.0, 0.0, "ok") if same else (float("inf"), 0.0, "wrong")))
        for w in bench.call.wrt
        for same in [np.array_equal(again[w.label], bench.gradients[w.label], equal_nan=True)]
    ]


def _worst_of_each(found: Iterable[Evidence]) -> tuple[Evidence, ...]:
    worst: dict[tuple[str, str], Evidence] = {}
    rank = {"wrong": 2, "undecided": 1, "ok": 0}
    for e in found:
        known = worst.get((e.of, e.route))
        if known is None or (rank[e.verdict], e.share) > (rank[known.verdict], known.share):
            worst[e.of, e.route] = e
    return tuple(sorted(worst.values(), key=lambda e: (e.of, e.route)))


def _decided(evidence: tuple[Evidence, ...], wanted: set[str]) -> str:
    """Wrong if one route says so, unless it is the coarse one against the exact one: then nothing is decided.

    It is ok where some route has confirmed each of the ``wanted`` gradients.
    """
    verdicts = {(e.of, e.route): e.verdict for e in evidence}
    wrong = [key for key, verdict in verdicts.items() if verdict == "wrong"]
    doubtful = [k for k in wrong if k[1] == "central differences" and verdicts.get((k[0], "complex step")) == "ok"]
    if len(wrong) > len(doubtful):
        return "wrong"
    routes = {route for _, route in verdicts} - {"same twice"}
    if not routes:
        return "kink"
    sure = {of for (of, route), verdict in verdicts.items() if verdict == "ok" and route != "same twice"}
    return "ok" if wanted <= sure and not doubtful else "undecided"
