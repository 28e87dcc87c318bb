"""Receipts: where one number comes from. The formula, the same with its operands, the value, and what that rests on.

The stored number is what the run computed, in its precision and its order of summation: :meth:`Receipt.recompute` does
that computation again on the same operands and gives the same bits. The terms are evaluated one by one in float64 from
the rule's index formula; ``exact`` is their sum, and the difference between the two is the rounding of the run.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, overload

import numpy as np

from backlit.core.i18n import say
from backlit.core.types import Array

Index = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One number of a trace: ``kind`` is ``value``, ``grad``, ``update``, or ``given``: what an optimizer is given."""

    kind: str
    name: str
    index: Index

    def __str__(self) -> str:
        at = f"[{','.join(map(str, self.index))}]" if self.index else ""
        if self.kind == "grad" and self.name.endswith(".z"):
            return f"{self.name.removesuffix('.z')}.δ{at}"
        return {"grad": "∂", "update": "Δ", "given": "g ", "value": ""}[self.kind] + self.name + at


@dataclass(frozen=True)
class Term:
    """One term of a sum: ``value`` in float64, what it is the product or function of, and its share of the sum."""

    label: str
    value: float
    share: float
    """value / Σ values; the shares add up to 1, and single ones may be negative or above 1."""
    operands: tuple[tuple[Entry, float], ...]

    def __str__(self) -> str:
        factors = " · ".join(f"{e} ({short(v)})" for e, v in self.operands)
        return f"{self.label:12} {short(self.value):>12} {self.share:>8.1%}  {factors}".rstrip()


class Terms(Sequence[Term]):
    """Terms whose values and shares are known, each made when it is looked at: there may be tens of thousands."""

    def __init__(self, values: Array, shares: Array, make: Callable[[int], Term]) -> None:
        self.values, self.shares, self._make = values, shares, make

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, number: int) -> Term: ...
    @overload
    def __getitem__(self, number: slice) -> Terms: ...
    def __getitem__(self, number: int | slice) -> Term | Terms:
        kept = range(len(self))[number]
        if isinstance(kept, int):
            return self._make(kept)
        return Terms(self.values[number], self.shares[number], lambda k: self._make(kept[k]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Terms({len(self)})"


def values_of(terms: Sequence[Term]) -> Array:
    """The value of each term."""
    return terms.values if isinstance(terms, Terms) else np.array([t.value for t in terms])


def together(terms: Sequence[Term]) -> tuple[float, float]:
    """(value, share) of terms taken together."""
    shares = terms.shares if isinstance(terms, Terms) else [t.share for t in terms]
    return float(sum(values_of(terms))), float(sum(shares))


@dataclass(frozen=True)
class Step:
    """One line of an optimizer: ``m = beta1 * m + (1 - beta1) * g``, the same in numbers, and its value in float64."""

    name: str
    formula: str
    numbers: str
    value: float

    def __str__(self) -> str:
        return f"{self.formula}\n    = {self.numbers} = {short(self.value)}"


@dataclass(frozen=True)
class Receipt:
    """Where one number comes from; prints itself."""

    entry: Entry
    rule: str
    """The rule that made it; empty for a leaf."""
    formula: str
    latex: str
    numbers: str
    """The formula with this run's operands."""
    value: Any
    """The stored number, a NumPy scalar in the run's precision."""
    terms: Sequence[Term]
    """Terms of the sum, those that matter most first."""
    exact: float
    """The formula in float64 on the stored operands."""
    recompute: Callable[[], Any] = field(repr=False, compare=False)
    """Computes the number again as the run did."""
    steps: tuple[Step, ...] = ()
    """Of an update: the optimizer's lines, in order."""
    scale: float = 0.0
    """The size of what it was computed from, where that is larger than all terms: |p| for an update of p."""

    @property
    def ok(self) -> bool:
        """True where computing again gives the stored number, bit for bit (NaN counts as NaN)."""
        with np.errstate(all="ignore"):
            again = self.recompute()
        return bool(np.array_equal(again, self.value, equal_nan=self.value.dtype.kind == "f"))

    @property
    def rounding(self) -> float:
        """|stored - exact| in units of the last place of the largest term: what the run's precision took."""
        if self.value.dtype.kind != "f":
            return 0.0
        largest = max(abs(self.exact), abs(float(self.value)), self.scale, *np.abs(values_of(self.terms)))
        unit = np.spacing(np.asarray(largest, self.value.dtype))
        return abs(float(self.value) - self.exact) / float(unit) if unit else 0.0

    @property
    def rests_on(self) -> tuple[Entry, ...]:
        """The entries it is computed from, those of the largest terms first."""
        return tuple(dict.fromkeys(self.operands()))

    def operands(self) -> Iterator[Entry]:
        """The entries that the terms are computed from, term by term."""
        return (e for t in self.terms for e, _ in t.operands)

    def as_dict(self) -> dict[str, Any]:
        """The receipt as JSON values."""
        terms = [
            {"label": t.label, "value": t.value, "share": t.share, "operands": [[str(e), v] for e, v in t.operands]}
            for t in self.terms
        ]
        value = float(self.value) if self.value.dtype.kind == "f" else int(self.value)
        return {
            "entry": str(self.entry), "rule": self.rule, "formula": self.formula, "latex": self.latex,
            "numbers": self.numbers, "value": value, "exact": self.exact, "recomputed_equal": self.ok,
            "rounding": self.rounding, "terms": terms, "steps": [asdict(step) for step in self.steps],
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, *, limit: int = 8) -> list[str]:
        """The printed receipt; ``limit`` terms are listed."""
        shown = [f"  {t}" for t in self.terms[:limit]]
        rest = self.terms[limit:]
        if rest:
            value, share = together(rest)
            shown.append("  " + say("receipt_more", count=len(rest), value=short(value), share=f"{share:.1%}"))
        ending = self.verdict()
        return [f"{self.entry} = {short(self.value)}", *(f"  {line}" for line in self.working()), *shown, f"  {ending}"]

    def verdict(self) -> str:
        """Whether computing again gives the stored number, as a sentence; for a leaf, that nothing computes it."""
        if not self.rule:
            return say("receipt_leaf")
        return say("receipt_equal" if self.ok else "receipt_differs", rounding=f"{self.rounding:.1f}")

    def working(self) -> list[str]:
        """The formula, and the same with numbers; an optimizer's line by line."""
        if not self.steps:
            return [self.formula, self.numbers] if self.rule else []
        return [line for step in self.steps for line in str(step).splitlines()]

    def _repr_html_(self) -> str:
        lines = "".join(f"<br>{html.escape(line)}" for line in self.working())
        head = f"<p><b>{html.escape(str(self.entry))}</b> = {short(self.value)}{lines}</p>"
        rows = "".join(
            f"<tr><td>{html.escape(t.label)}</td><td>{short(t.value)}</td><td>{t.share:.1%}</td>"
            f"<td>{html.escape(' · '.join(f'{e} ({short(v)})' for e, v in t.operands))}</td></tr>"
            for t in self.terms[:20]
        )
        return f"{head}<table>{rows}</table><p>{html.escape(self.verdict())}</p>"


def total(values: Iterable[float]) -> float:
    """The sum, rounded once; of numbers that are not all finite as IEEE 754 adds them."""
    numbers = list(values)
    return math.fsum(numbers) if all(map(math.isfinite, numbers)) else float(sum(numbers))


def short(value: Any) -> str:
    """A number to six digits, as a person reads it."""
    return f"{float(value):.6g}"
