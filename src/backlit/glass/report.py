"""What the gradient check reports: one row for each parameter."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backlit.core.i18n import say


@dataclass(frozen=True)
class Row:
    """What was found out about one parameter."""

    parameter: str
    shape: tuple[int, ...]
    error: float
    """Largest relative error |numeric - backpropagated| / scale over the directions tried; NaN where none could be.

    The scale is the derivative's size along that direction, or a typical one of this parameter where that is larger. A
    small derivative that differs by no more than noise is measured by the whole gradient's norm: a bias before batch
    normalisation has derivative 0, and all that the differences see is rounding.
    """
    noise: float
    """What the differences themselves may be off by, in the same units, for that direction."""
    directions: int
    """Directions compared."""
    route: str
    verdict: str
    """``ok``, ``wrong``, ``kink`` (every direction crosses a kink) or ``undecided`` (the noise hides the answer)."""
    kinks: dict[str, int]
    """Nodes whose kinks stopped a direction -> entries that crossed; these directions are left out, not failed."""


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`check`: one row per parameter."""

    rows: tuple[Row, ...]
    loss: float
    samples: int
    tolerance: float

    @property
    def ok(self) -> bool:
        """True where no parameter is wrong or undecided and at least one was compared."""
        verdicts = {row.verdict for row in self.rows}
        return "ok" in verdicts and verdicts <= {"ok", "kink"}

    @property
    def worst(self) -> float:
        """The largest relative error of all parameters that could be compared."""
        return max((r.error for r in self.rows if not np.isnan(r.error)), default=float("nan"))

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values; None for a number that is not finite."""
        rows = [{name: _finite(value) for name, value in asdict(row).items()} for row in self.rows]
        figures = {"worst": self.worst, "tolerance": self.tolerance, "loss": self.loss, "samples": self.samples}
        return {"ok": self.ok} | {name: _finite(value) for name, value in figures.items()} | {"rows": rows}

    def __str__(self) -> str:
        width = max((len(r.parameter) for r in self.rows), default=0)
        lines = [say("check_head", samples=self.samples, tolerance=f"{self.tolerance:.0e}")]
        lines += [_line(r, width) for r in self.rows]
        return "\n".join([*lines, say("check_ok" if self.ok else "check_not_ok", worst=f"{self.worst:.1e}")])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _line(row: Row, width: int) -> str:
    error = "-" if np.isnan(row.error) else f"{row.error:.1e}"
    kinks = ", ".join(f"{node} ({count})" for node, count in row.kinks.items())
    note = say("check_kinks", kinks=kinks) if kinks else ""
    head = f"  {row.parameter:{width}}  {list(row.shape)!s:14} {error:>8}"
    return f"{head}  {say(f'check_verdict_{row.verdict}')}  {note}".rstrip()
