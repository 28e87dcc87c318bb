"""Dotted names (``dense1.W``) and what to say when one does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from backlit.core.errors import UnknownNameError

T = TypeVar("T")
_ENTRY = re.compile(r"^(?P<name>[^\[\]]+?)(?:\[(?P<index>\s*-?\d+\s*(?:,\s*-?\d+\s*)*)\])?$")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names most like ``name``, best first; the first few known ones where none is alike."""
    pool = list(known)
    folded = {k.lower(): k for k in pool}
    close = get_close_matches(name.lower(), folded, n=3, cutoff=0.5)
    return [folded[c] for c in close] or pool[:3]


def lookup(table: Mapping[str, T], name: str, kind: str, **details: object) -> T:
    """``table[name]``, or an :class:`UnknownNameError` that offers the nearest names of that ``kind`` of thing.

    The catalogue's entry ``kind_<kind>`` is the word for it, filled with ``details``.
    """
    try:
        return table[name]
    except (KeyError, TypeError):
        known = list(table)
        values = {"known": ", ".join(known[:40]), "nearest": " / ".join(nearest(str(name), known))}
        raise UnknownNameError("unknown_name", kind=kind, name=name, **values, **details) from None


def split_entry(text: str) -> tuple[str, tuple[int, ...] | None]:
    """``"dense1.W[3, 5]"`` -> ``("dense1.W", (3, 5))``; None without brackets. ValueError where malformed."""
    match = _ENTRY.match(text.strip())
    if match is None:
        raise ValueError(text)
    index = match["index"]
    return match["name"], None if index is None else tuple(int(i) for i in index.split(","))
