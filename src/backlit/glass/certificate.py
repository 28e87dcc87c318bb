"""The certificate: a gradient check that judges every rule and the engine, and names the probable mistake.

Routes and tolerances: :mod:`backlit.glass.certificate_routes`. Mistakes: :mod:`backlit.glass.certificate_mistakes`.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from backlit.core import files, oracles
from backlit.core.i18n import say
from backlit.core.rng import generator
from backlit.core.tables import html_table, text_table
from backlit.core.types import Array
from backlit.data.fingerprints import fingerprint
from backlit.engines import complex_step, reference
from backlit.glass.certificate_call import EPS, inner, size
from backlit.glass.certificate_engine import Run, joins, wrong_forward
from backlit.glass.certificate_findings import Finding, engine_finding, finding
from backlit.glass.certificate_nodes import RuleRow, judge
from backlit.glass.certificate_routes import NUDGE, Evidence, rounding_evidence, typical
from backlit.glass.differences import Point
from backlit.glass.report import Report, Row
from backlit.graph import store
from backlit.graph.graph import Graph

FORMAT = 1
"""Version of a certificate file's layout."""


@dataclass(frozen=True)
class Certificate(Report):
    """A :class:`Report` with the evidence of every rule and parameter. ``ok`` holds only if the verdict is ``ok``."""

    rules: tuple[RuleRow, ...]
    """One row for each node that a gradient goes through, in the order of the graph."""
    parameters: Mapping[str, Evidence]
    """Parameter -> ∂L along a random direction by the complex step through the whole model, where that is possible."""
    findings: tuple[Finding, ...]
    """What is wrong, with the probable mistake."""
    hashes: Mapping[str, str]
    """SHA-256 of the ``parameters``, the ``graph`` and the ``data`` that this certificate is about."""
    oracles: tuple[str, ...] = ()
    """Other programs that were asked."""

    @property
    def verdict(self) -> str:
        """``wrong`` where any row or route says so, ``ok`` where everything could be decided, else ``undecided``."""
        judged: tuple[Row | RuleRow | Evidence, ...] = (*self.rows, *self.rules, *self.parameters.values())
        verdicts = {r.verdict for r in judged}
        if self.findings or "wrong" in verdicts:
            return "wrong"
        sure = super().ok and {r.verdict for r in self.rules} <= {"ok", "kink"}
        return "ok" if sure else "undecided"

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"

    def document(self) -> dict[str, Any]:
        """All of it as JSON values, each tolerance with its reason."""
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "sha256": dict(self.hashes),
            "oracles": list(self.oracles),
            "findings": [f.as_dict() for f in self.findings],
            "check": self.as_dict(),
            "parameters": {name: _plain(e.as_dict()) for name, e in self.parameters.items()},
            "rules": [_plain(row.as_dict()) for row in self.rules],
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`document` as JSON, beside the model it is about; FileError where that fails."""
        return files.write_json(path, self.document())

    def __str__(self) -> str:
        *lines, last = super().__str__().splitlines()
        return "\n".join([*lines, *(f"  {f}" for f in self.findings), last])

    def table(self) -> list[tuple[str, ...]]:
        """(node, rule, gradient, route, error/ε, tolerance/ε, verdict): the worst of each route of every node."""
        evidence = [(row.node, row.rule, e) for row in self.rules for e in row.evidence if e.route != "same twice"]
        evidence += [(name, "", e) for name, e in self.parameters.items()]
        return [
            (node, rule, e.of, e.named, f"{e.error:.3g}", f"{e.tolerance:.3g}", say(f"check_verdict_{e.verdict}"))
            for node, rule, e in evidence
        ]

    def kinks(self) -> list[str]:
        """What was left out at kinks, one line for each input of a node."""
        return [
            say("certificate_kinks", node=row.node, input=name, count=len(at), first=str(list(at[0])))
            for row in self.rules
            for name, at in row.kinks.items()
        ]

    def full(self) -> str:
        """The whole certificate as text."""
        rows = [tuple(say("certificate_columns").split("|")), *self.table()]
        table = text_table(rows, left=(0, 1, 2, 3, 6))
        return "\n".join([str(self), say("certificate_head"), *table, *self.kinks(), self.conclusion()])

    def conclusion(self) -> str:
        """The verdict in words."""
        shares = [e.share for row in self.rules for e in row.evidence if e.route != "same twice"]
        return say(f"certificate_verdict_{self.verdict}", share=f"{max(shares, default=0.0):.1%}")

    def _repr_html_(self) -> str:
        table = html_table([say("certificate_columns").split("|"), *self.table()])
        notes = "".join(f"<p>{html.escape(line)}</p>" for line in (*map(str, self.findings), *self.kinks()))
        return f"<p>{html.escape(self.conclusion())}</p>{notes}{table}"


def _plain(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# --- making one -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Subject:
    """What a certificate is about: a graph, the values of its leaves, and what the engine made of them."""

    graph: Graph
    env: Mapping[str, Array]
    run: Run
    wrt: tuple[str, ...]
    seed: int

    @classmethod
    def of(cls, graph: Graph, env: Mapping[str, Array], seed: int) -> tuple[Subject, Exception | None]:
        """One run of the reference engine; what its backward pass raised, if it did, comes along."""
        floats = (i for i in graph.inputs if graph.values[i].dtype.startswith("float"))
        wrt, broken = (*graph.trainable, *floats), None
        try:
            values, d = reference.value_and_grad(graph, env, wrt)
        except Exception as error:  # noqa: BLE001  a wrong rule may raise anything; it is raised again if none is found
            values, d, broken = reference.forward(graph, env), {}, error
        drawn = int(generator(seed, 0, "certificate of nodes").integers(2**31))
        return cls(graph, env, Run.of(graph, values, d, wrt), wrt, drawn), broken

    def gradient(self, parameter: str) -> Array:
        """The engine's ∂L/∂parameter; NaN where there is none."""
        return self.run.d.get(parameter, np.full(self.graph.values[parameter].shape, np.nan))


def certify(
    subject: Subject, report: Report, params: Mapping[str, Array], names: Iterable[str], broken: Exception | None
) -> Certificate:
    """The certificate of ``subject``; ``params`` are hashed as they are, ``names`` are those of oracles to ask."""
    asked = {name: oracles.get(name) for name in names}
    judged = [judge(c, subject.run.delta(c), subject.seed + k, asked) for k, c in enumerate(subject.run.calls)]
    findings = tuple(finding(j) for j in judged if j.row.verdict == "wrong")
    if broken is not None and not findings:
        raise broken
    findings += () if findings else _engine_findings(subject)
    parameters = {} if broken else _through_the_model(subject)
    hashes = {
        "parameters": fingerprint(params),
        "graph": _graph_hash(subject.graph),
        "data": fingerprint({n: subject.env[n] for n in subject.graph.inputs}),
    }
    rules = tuple(j.row for j in judged)
    found: dict[str, Any] = {"rules": rules, "parameters": parameters, "findings": findings, "hashes": hashes}
    return Certificate(**vars(report), **found, oracles=tuple(asked))


def _engine_findings(subject: Subject) -> tuple[Finding, ...]:
    """The first value where the engine goes wrong, forward or backward, in this run or in one near by."""
    if (node := wrong_forward(subject.run)) is not None:
        return (Finding(node, "engine", node, None, np.nan, np.nan, "forward"),)
    first = next(joins(subject.run), None)
    first = first or next(joins(subject.run.near(subject.env, subject.wrt), subject.run), None)
    return () if first is None else (engine_finding(first),)


def _graph_hash(graph: Graph) -> str:
    text = json.dumps(store.to_json(graph), sort_keys=True, default=str)
    return sha256((text + fingerprint(graph.constants)).encode()).hexdigest()


def _through_the_model(subject: Subject) -> dict[str, Evidence]:
    """∂L along a random direction of each parameter, by one complex step through the whole graph."""
    rng = generator(subject.seed, 0, "certificate")
    nudges = [_nudged(subject, rng) for _ in range(3)]
    found = {}
    for name in subject.graph.trainable:
        v = rng.normal(size=subject.env[name].shape) * typical(subject.env[name])
        if not _at_a_kink(subject, name, v) and (evidence := _evidence(subject, nudges, name, v)) is not None:
            found[name] = evidence
    return found


def _nudged(subject: Subject, rng: np.random.Generator) -> tuple[dict[str, Array], Mapping[str, Array]]:
    """(leaves moved by rounding, the gradients there from values that are moved by rounding too)."""

    def moved(a: Array) -> Array:
        return a * (1.0 + NUDGE * rng.choice([-1.0, 1.0], size=a.shape)) if a.dtype.kind == "f" else a

    env = dict(subject.env) | {n: moved(subject.env[n]) for n in subject.wrt}
    values = reference.forward(subject.graph, env)
    kept = {n: a if n in subject.graph.leaves else moved(np.asarray(a)) for n, a in values.items()}
    return env, reference.backward(subject.graph, kept, subject.wrt, subject.graph.outputs[0])


def _at_a_kink(subject: Subject, name: str, v: Array) -> bool:
    here = Point.of(subject.graph, subject.env)
    points = (Point.of(subject.graph, dict(subject.env) | {name: subject.env[name] + h * v}) for h in (1e-9, -1e-9))
    return any(here.crossed(p) for p in points)


def _evidence(subject: Subject, nudges: list[Any], name: str, v: Array) -> Evidence | None:
    exact, g = _slope(subject, subject.env, name, v), subject.gradient(name)
    if exact is None or g.shape != v.shape:
        return None
    claimed = inner((g,), (v,))
    moved = [(_slope(subject, env, name, v), inner((d[name],), (v,))) for env, d in nudges]
    noise = max(max(abs((e if e is not None else exact) - exact), abs(c - claimed)) for e, c in moved)
    whole = float(np.sqrt(sum(np.sum(np.square(subject.gradient(n))) for n in subject.graph.trainable)))
    scale = abs(exact) + size((g,), (v,)) + 1e-3 * whole * float(np.linalg.norm(v))
    terms = max(int(np.size(a)) for a in subject.run.values.values()) * len(subject.graph.nodes)
    return rounding_evidence("complex step", f"∂{name}", abs(exact - claimed), scale, terms, noise)


def _slope(subject: Subject, env: Mapping[str, Array], name: str, v: Array) -> float | None:
    """∂L/∂h at θ + h v, exactly; None where a rule refuses complex numbers."""
    moved = dict(env) | {name: complex_step.step(env[name], v)}
    try:
        loss = reference.forward(subject.graph, moved, complex_step.XP)[subject.graph.outputs[0]]
    except (AttributeError, TypeError, ValueError):
        return None
    value, plain = float(complex_step.real(loss)), float(subject.run.values[subject.graph.outputs[0]])
    return float(complex_step.slope(loss)) if abs(value - plain) <= 1e-9 * abs(plain) + EPS else None
