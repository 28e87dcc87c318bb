"""The chain rule as a sum over paths: every way from an entry to the loss, with the product of its local derivatives.

∂L/∂e = Σ over paths of Π over steps. A net has as many paths as products of widths, so they are searched from the
largest on: a path begun with product p at the entry v will carry p · ∂L/∂v in all its continuations together, so what
is not followed is known without being followed. The paths listed and the rest add up to the gradient.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.glass.explain import explain, find
from backlit.glass.receipts import Entry, short
from backlit.glass.trace import Trace

EXPANSIONS = 4000
"""Entries opened at the most: some seconds."""

_REST = ("…",)
"""In place of the entries of the paths that are not followed."""


ROUNDING = 1e-9
"""A share of a gradient below this is the rounding of its terms."""


@dataclass(frozen=True)
class Path:
    """One way to the loss: the entries passed, the factor of each step, and ``value``, their product."""

    entries: tuple[str, ...]
    factors: tuple[float, ...]
    value: float
    followed: int = 1
    """1 for a path that ends at the loss; for the rest, how many begun ones it stands for."""

    def __str__(self) -> str:
        if self.entries == _REST:
            return f"{short(self.value):>12}  {say('paths_rest', count=self.followed)}"
        steps = (f" ·{short(f)}→ {e}" for f, e in zip(self.factors, self.entries[1:], strict=True))
        return f"{short(self.value):>12}  {self.entries[0]}{''.join(steps)}"


@dataclass(frozen=True)
class Paths:
    """Paths, the largest first, the last one standing for all not followed. Their values add up to ``gradient``."""

    entry: str
    gradient: float
    found: tuple[Path, ...]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, i: int) -> Path:
        return self.found[i]

    def __str__(self) -> str:
        head = say("paths_head", entry=self.entry, gradient=short(self.gradient))
        return "\n".join([head, *(f"  {p}" for p in self.found)])


@dataclass(frozen=True)
class _Begun:
    """A path as far as it is known: where it stands, and the product so far."""

    steps: tuple[Entry, ...]
    factors: tuple[float, ...]

    @property
    def product(self) -> float:
        return math.prod(self.factors)


def paths(trace: Trace, entry: str, *, limit: int = 20) -> Paths:
    """The ``limit`` paths from an entry to the loss that carry most, and the rest as one.

    ``entry`` names a parameter's or value's entry, ``"dense1.W[3,5]"``; what is split is ∂L/∂(entry). Errors as for
    :func:`backlit.glass.explain.explain`; InputError for a limit below 1.
    """
    if limit < 1:
        raise InputError("option_range", where="paths", option="limit", expected="1, 2, 3, …", got=repr(limit))
    named = find(trace, entry)
    start = Entry("grad", named.name, named.index)
    gradient = float(trace.grad(start.name)[start.index])
    ended, begun = _search(trace, start, limit)
    found = sorted(ended, key=lambda p: -abs(p.value))
    rest = [p.product * _gradient(trace, p.steps[-1]) for p in begun]
    if rest:
        found.append(Path(_REST, (), math.fsum(rest), len(rest)))
    return Paths(str(start), gradient, tuple(found))


def _search(trace: Trace, start: Entry, limit: int) -> tuple[list[Path], list[_Begun]]:
    """(paths that reached the loss, paths only begun): always the one that carries most is followed next."""
    known: dict[Entry, dict[Entry, float]] = {}
    order = count()
    heap = [(0.0, next(order), _Begun((start,), ()))]
    ended, held = list[Path](), list[_Begun]()
    while heap and len(ended) < limit and len(known) < EXPANSIONS:
        _, _, path = heapq.heappop(heap)
        here = path.steps[-1]
        if _is_loss(trace, here):
            ended.append(Path(tuple(map(_shown, path.steps)), path.factors, path.product))
            continue
        if here not in known:
            known[here] = _steps(trace, here)
        rest = _unfollowed(trace, here, known[here])
        if abs(rest) > ROUNDING:
            held.append(_Begun(path.steps, (*path.factors, rest)))
        for following, factor in known[here].items():
            longer = _Begun((*path.steps, following), (*path.factors, factor))
            heapq.heappush(heap, (-abs(longer.product * _gradient(trace, following)), next(order), longer))
    return ended, [*held, *(path for _, _, path in heap)]


def _steps(trace: Trace, entry: Entry) -> dict[Entry, float]:
    """Where a gradient comes from: entry -> local derivative, so that Σ derivative · ∂L/∂(entry) is the gradient.

    Terms that hold several gradients, as of a recursion through time, are no path by themselves and left out.
    """
    receipt = explain(trace, entry)
    carried: dict[Entry, float] = {}
    for term in receipt.terms:
        above = {e for e, _ in term.operands if e.kind == "grad"} or {_loss(trace)}
        if len(above) == 1:
            (only,) = above
            carried[only] = carried.get(only, 0.0) + term.value
    gradients = {e: _gradient(trace, e) for e, value in carried.items() if value}
    return {e: carried[e] / gradient for e, gradient in gradients.items() if gradient}


def _unfollowed(trace: Trace, entry: Entry, steps: Mapping[Entry, float]) -> float:
    """The share of an entry's gradient that no step leads on from."""
    gradient = _gradient(trace, entry)
    return 1.0 - sum(f * _gradient(trace, e) for e, f in steps.items()) / gradient if gradient else 0.0


def _loss(trace: Trace) -> Entry:
    return Entry("grad", trace.graph.outputs[0], ())


def _is_loss(trace: Trace, entry: Entry) -> bool:
    return entry.name == trace.graph.outputs[0]


def _gradient(trace: Trace, entry: Entry) -> float:
    return float(trace.grads[entry.name][entry.index])


def _shown(entry: Entry) -> str:
    return str(Entry("value", entry.name, entry.index))
