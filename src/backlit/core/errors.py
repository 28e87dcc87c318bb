"""Errors that teach: where, what was expected, what came, what to do, under a stable code.

An error is raised by its message key: ``InputError("linear_features", where="dense1", want=64, expected="x[…, 64]",
got="x[8, 63]")``. The catalogue entry of that key holds ``code``, ``problem`` and ``fix``; ``expected`` and ``got`` are
given by the raiser, or by the entry where they are always the same.
"""

from __future__ import annotations

from backlit.core.i18n import catalogue, say

_LABELS = ("expected", "got", "fix")


class BacklitError(Exception):
    """Base of all errors raised on purpose. ``code`` is stable across versions; ``key`` names the catalogue entry."""

    def __init__(self, key: str, /, **values: object) -> None:
        self.key, self.values = key, {"where": "?"} | values
        self.code: str = catalogue()[key]["code"]
        super().__init__(key, values)

    def at(self, where: str) -> BacklitError:
        """The same error, said of the place ``where`` unless it names a place already."""
        if self.values["where"] == "?":
            self.values["where"] = where
        return self

    def part(self, field: str) -> str:
        """One part of the message: ``problem``, ``expected``, ``got`` or ``fix``; empty where there is none."""
        if field in catalogue()[self.key]:
            return say(self.key, field, **self.values)
        return str(self.values.get(field, ""))

    def as_dict(self) -> dict[str, str]:
        """The message as data, for ``--json``."""
        return {"code": self.code} | {f: self.part(f) for f in ("problem", *_LABELS)}

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.part('problem')}"]
        lines += [f"  {say(f'label_{f}')} {text}" for f in _LABELS if (text := self.part(f))]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.key, self.values)


def _rebuild(kind: type[BacklitError], key: str, values: dict[str, object]) -> BacklitError:
    return kind(key, **values)


class InputError(BacklitError, ValueError):
    """A value, shape, dtype or option that cannot be used."""


class UnknownNameError(BacklitError, LookupError):
    """A name that does not exist; the nearest names are offered. The value ``kind`` says what it should name."""

    def part(self, field: str) -> str:
        word = f"kind_{self.values.get('kind')}"
        spoken = {"kind": say(word, **self.values)} if word in catalogue() else {}
        return say(self.key, field, **self.values | spoken)


class GraphError(BacklitError, ValueError):
    """A graph that is not well formed."""


class FileError(BacklitError):
    """A file that is missing, unreadable, damaged, or cannot be written."""


class NumericError(BacklitError, ArithmeticError):
    """A number that is not finite."""
