"""What is wrong, in a rule or in the engine: where, by how much, and the probable mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backlit.core.i18n import say
from backlit.core.types import Array
from backlit.glass.certificate_call import Wrt
from backlit.glass.certificate_engine import Join
from backlit.glass.certificate_mistakes import TRIED, Index, Named, Right, case_of, name_mistake, some_entries
from backlit.glass.certificate_nodes import Judged


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, by how much, and the probable mistake."""

    where: str
    """The node, or the value whose shares do not add up."""
    rule: str
    """The node's rule; ``engine`` where the rules are right and what the engine makes of them is not."""
    gradient: str
    """``dW``: of which input of the rule."""
    entry: Index | None
    """The entry that is farthest off; None where the whole has another shape."""
    got: float
    expected: float
    mistake: str
    """The kind of mistake: a key of the texts ``certificate_mistake_<kind>``; ``unknown`` where none fits."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What fills that text."""

    @property
    def advice(self) -> str:
        """The probable mistake, in words."""
        return say(f"certificate_mistake_{self.mistake}", **self.detail)

    def __str__(self) -> str:
        entry = "" if self.entry is None else f"[{', '.join(map(str, self.entry))}]"
        place = {"where": self.where, "rule": self.rule, "gradient": f"{self.gradient}{entry}", "advice": self.advice}
        if self.entry is None:
            return say("certificate_finding_whole", **place)
        return say("certificate_finding", **place, got=f"{self.got:.9g}", expected=f"{self.expected:.9g}")

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        pair = ("got", self.got), ("expected", self.expected)
        numbers = {name: float(v) if np.isfinite(v) else None for name, v in pair}
        place = {"where": self.where, "rule": self.rule, "gradient": self.gradient}
        entry = None if self.entry is None else list(self.entry)
        return {**place, "entry": entry, **numbers, "mistake": self.mistake, "detail": self.detail, "text": str(self)}


# --- rules --------------------------------------------------------------------------------------------------------


def finding(judged: Judged) -> Finding:
    """What is wrong with one node."""
    if judged.breakdown or judged.bench is None:
        return _whole(judged, "d" + ", d".join(w.label for w in judged.call.wrt), "raises", error=judged.breakdown)
    wrong_shape = next((w for w in judged.call.wrt if _shape(judged, w) != judged.call.inputs[w.place].shape), None)
    if wrong_shape is not None:
        return _of_shape(judged, wrong_shape)
    if (case := case_of(judged)) is None:
        return _whole(judged, judged.row.worst.of if judged.row.worst else "", "unknown")
    mistake, detail = name_mistake(case, judged)
    numbers = float(case.ours[0]), float(case.right[0])
    return Finding(judged.row.node, judged.row.rule, f"d{case.w.label}", case.entries[0], *numbers, mistake, detail)


def _shape(judged: Judged, w: Wrt) -> tuple[int, ...]:
    assert judged.bench is not None
    return tuple(judged.bench.gradients[w.label].shape)


def _of_shape(judged: Judged, w: Wrt) -> Finding:
    """A gradient of another shape: transposed, or not summed over axes that it should be summed over."""
    assert judged.bench is not None
    g, shape = judged.bench.gradients[w.label], judged.call.inputs[w.place].shape
    for kind, folded in _folded(g, shape):
        right = Right(judged.call, w, judged.bench.u)
        entries = some_entries(folded, np.zeros(shape, bool))[:TRIED]
        if np.allclose([folded[i] for i in entries], [right.at(i) for i in entries], rtol=1e-6):
            return _whole(judged, f"d{w.label}", kind, detail=f"d{w.label}")
    return _whole(judged, f"d{w.label}", "shape", got=str(list(g.shape)), expected=str(list(shape)))


def _whole(judged: Judged, gradient: str, mistake: str, **detail: Any) -> Finding:
    """A finding about all entries at once."""
    return Finding(judged.row.node, judged.row.rule, gradient, None, np.nan, np.nan, mistake, detail)


def _folded(g: Array, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    if g.shape == shape[::-1]:
        yield "transposed", g.T
    lead = g.ndim - len(shape)
    if lead >= 0:
        axes = (*range(lead), *(lead + k for k, n in enumerate(shape) if n == 1))
        summed = g.sum(axis=axes)
        if summed.size == int(np.prod(shape)):
            yield "unsummed", summed.reshape(shape)


# --- the engine ----------------------------------------------------------------------------------------------------


def engine_finding(join: Join) -> Finding:
    """What is wrong with the sum of a value's shares."""
    found, expected = join.found, join.expected
    if found.shape != expected.shape:
        return Finding(join.value, "engine", f"∂{join.value}", None, np.nan, np.nan, "absent", {"nodes": _listed(join)})
    at = tuple(map(int, np.unravel_index(int(np.argmax(np.abs(found - expected))), expected.shape)))
    mistake, detail = _engine_mistake(join, _near(found, expected))
    return Finding(join.value, "engine", f"∂{join.value}", at, float(found[at]), float(expected[at]), mistake, detail)


def _near(found: Array, expected: Array) -> Callable[[Any], bool]:
    size = float(max(np.max(np.abs(found)), np.max(np.abs(expected)))) or 1.0
    gap = float(np.max(np.abs(found - expected))) / size

    def fits(made: Any) -> bool:
        same_shape = made is not None and np.shape(made) == found.shape
        return same_shape and bool(np.all(np.abs(made - found) <= min(1e-6, gap / 50) * size))

    return fits


def _engine_mistake(join: Join, fits: Callable[[Any], bool]) -> Named:
    for node, share in join.shares.items() if len(join.shares) > 1 else ():
        if fits(share):
            lost = ", ".join(n for n in join.shares if n != node)
            return "overwritten", {"kept": node, "lost": lost}
        if fits(join.expected - share):
            return "overwritten", {"kept": ", ".join(n for n in join.shares if n != node), "lost": node}
    if fits(join.stale):
        return "stale", {}
    if fits(-join.expected):
        return "sign", {"detail": f"∂{join.value}"}
    square = float(np.sum(join.expected**2))
    factor = float(np.sum(join.found * join.expected)) / square if square else 0.0
    if fits(factor * join.expected):
        return "factor", {"factor": f"{factor:.10g}"}
    return "unknown", {}


def _listed(join: Join) -> str:
    return ", ".join(join.shares)
