"""Which rows train, which validate, which test. A split is a draw from a key, so that it can be made again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from backlit.core.errors import InputError
from backlit.core.rng import generator
from backlit.core.types import Array


class Parts(NamedTuple):
    """The rows of each part, as integer indices in ascending order."""

    train: Array
    validation: Array
    test: Array


def draw(rows: Array, count: int, seed: int, name: str, labels: Array | None = None) -> tuple[Array, Array]:
    """Take ``count`` of ``rows`` at random: (the others, the taken), each ascending.

    With ``labels`` (one for each of all rows) every class gives in proportion; a rare one stays with the others.
    """
    order = generator(seed, 0, name).permutation(rows)
    if labels is not None:
        order = _spread(order, labels[order])
    at = len(order) - count
    return np.sort(order[:at]), np.sort(order[at:])


def _spread(order: Array, labels: Array) -> Array:
    """Reorder so that each class is spread evenly from the first row to the last."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(order))
    rank[np.argsort(codes, kind="stable")] = np.concatenate([np.arange(n) for n in counts])
    return order[np.argsort((rank + 0.5) / counts[codes], kind="stable")]


def last(rows: Array, count: int) -> tuple[Array, Array]:
    """Take the last ``count`` of ``rows``: (the others, the taken)."""
    at = len(rows) - count
    return rows[:at], rows[at:]


def amount(wish: float, total: int, option: str, name: str) -> int:
    """How many of ``total`` rows a fraction (a float in [0, 1)) or a number (an int) means.

    InputError where it is neither, or where none of the rows would be left.
    """
    if not (_is_fraction(wish) or is_count(wish)):
        raise InputError(
            "data_option", where=name, option=option, expected="0.0 <= f < 1.0 | 0, 1, 2, …", got=repr(wish)
        )
    count = max(round(wish * total), int(wish > 0)) if _is_fraction(wish) else int(wish)
    if count >= total:
        raise InputError("data_split_small", name=name, count=count, total=total)
    return count


def _is_fraction(wish: object) -> bool:
    return isinstance(wish, float) and 0 <= wish < 1


def is_count(wish: object) -> bool:
    """True for a whole number that is not negative."""
    return isinstance(wish, int | np.integer) and not isinstance(wish, bool) and bool(wish >= 0)


def random_parts(total: int, *, test: float, validation: float, seed: int, name: str, labels: Array | None) -> Parts:
    """Split ``total`` rows: first the test part, then the validation part out of what is left.

    ``validation`` and ``test`` are both fractions (or numbers) of all rows.
    """
    held = amount(test, total, "test_fraction", name)
    kept = amount(validation, total, "validation_fraction", name)
    amount(held + kept, total, "test_fraction + validation_fraction", name)
    rest, tested = draw(np.arange(total), held, seed, "data.test", labels)
    train, validated = draw(rest, kept, seed, "data.validation", labels)
    return Parts(train, validated, tested)


def at_most(parts: Parts, size: int | None, seed: int, name: str, labels: Array | None) -> Parts:
    """The same parts with at most ``size`` training rows, drawn at random."""
    if size is not None and not (is_count(size) and size):
        raise InputError("data_option", where=name, option="size", expected="1, 2, 3, …", got=size)
    if size is None or size >= len(parts.train):
        return parts
    return parts._replace(train=draw(parts.train, size, seed, "data.size", labels)[1])
