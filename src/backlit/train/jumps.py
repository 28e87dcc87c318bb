"""Jumps of the loss, noticed while a run trains: near them its snapshots are kept closer together.

The steps between two snapshots are one interval, told by its largest loss x. It is a jump where x leaves the running
median m of the intervals before it: |x - m| > MULTIPLE · 1.4826 · median |xᵢ - m| + LEAST · |m|. (1.4826 makes the
median deviation that of a normal distribution: F. R. Hampel, The influence curve and its role in robust estimation,
J. Amer. Statist. Assoc. 69, 1974.) What is known is a dict of JSON values, so that a resumed run finds the same jumps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Seen = Mapping[str, Any]
"""``top`` (largest loss since the last snapshot), ``since`` (the step of that snapshot), ``recent`` (x of the last
intervals), ``away`` (whether the last one was out there), ``found`` ([[step, size], …], largest first)."""

WINDOW, FEWEST = 16, 4
"""The median is over so many intervals at most; after fewer than these nothing is called a jump."""

MULTIPLE, LEAST = 8.0, 0.25
MOST = 8
"""So many jumps are remembered, the largest."""


def watch(seen: Seen, losses: Sequence[float]) -> dict[str, Any]:
    """What is known after steps with these losses."""
    return {**seen, "top": max((*losses, seen["top"]) if "top" in seen else losses)}


def close(seen: Seen, step: int) -> dict[str, Any]:
    """What is known when the interval ends, at ``step``; a jump is known by the step after which its interval began."""
    if "top" not in seen:
        return dict(seen)
    recent, since = seen.get("recent", []), seen.get("since", 0)
    size = leap(recent, seen["top"])
    new = [[since, size]] if size and not seen.get("away") else []  # what stays away has jumped once
    found = sorted([*seen.get("found", []), *new], key=lambda jump: -jump[1])[:MOST]
    return {"since": step, "recent": [*recent, seen["top"]][-WINDOW:], "away": size > 0, "found": found}


def leap(recent: Sequence[float], loss: float) -> float:
    """From 1/2 to 1 the farther ``loss`` is from the median of ``recent`` beside what is usual there; 0 for no jump."""
    if len(recent) < FEWEST:
        return 0.0
    middle = median(recent)
    usual = 1.4826 * median(abs(x - middle) for x in recent)
    distance, bound = abs(loss - middle), MULTIPLE * usual + LEAST * abs(middle)
    return distance / (distance + bound) if distance > bound else 0.0


def steps_of(seen: Seen) -> list[int]:
    """The snapshots from which the jumps can be seen, that of the largest first."""
    return [step for step, _ in seen.get("found", [])]
