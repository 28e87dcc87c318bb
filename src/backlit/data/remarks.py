"""Remarks: what was done to the data, kept as a message key and its values, said in the language in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backlit.core.i18n import say


@dataclass(frozen=True)
class Remark:
    """One sentence about a data set. A value ``{"say": key}`` stands for the text of another message."""

    key: str
    values: Mapping[str, Any]

    def text(self) -> str:
        """The sentence in the language in force."""
        return say(self.key, **{name: self._spoken(value) for name, value in self.values.items()})

    def _spoken(self, value: Any) -> Any:
        return say(value["say"], **self.values) if isinstance(value, dict) else value


def remark(key: str, **values: Any) -> Remark:
    """Make a :class:`Remark`."""
    return Remark(key, values)
