"""Where a run stands: all that is needed to go on bit for bit, and its form as a snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backlit import optim
from backlit.core.errors import FileError
from backlit.core.types import Array, Arrays

FORMAT = 1
"""Version of the snapshot's layout; a newer one is refused."""

_GROUPS = ("params", "state", "sums", "best")


@dataclass
class Progress:
    """The state of training after ``step`` updates."""

    step: int
    params: dict[str, Array]
    state: dict[str, Array]
    slots: optim.State
    schedule: dict[str, Any] = field(default_factory=dict)
    stopping: dict[str, Any] = field(default_factory=dict)
    converged: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, Array] = field(default_factory=dict)
    """Sums of the running epoch: loss, gradient norm, metrics."""
    best: dict[str, Array] = field(default_factory=dict)
    """Parameters and state of the best epoch, where early stopping restores it."""
    reason: str = ""
    """Why training ended; empty while it goes on."""

    @property
    def outcome(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """(parameters, state) of the model: once training is over, the best epoch's where they were kept."""
        over = self.best and self.reason not in ("", "interrupted")
        kept = self.best if over else self.params | self.state
        return {n: kept[n] for n in self.params}, {n: kept[n] for n in self.state}

    def add(self, name: str, sums: Array) -> None:
        """Add to a sum of the running epoch."""
        self.sums[name] = self.sums[name] + sums if name in self.sums else np.asarray(sums, np.float64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in self.as_snapshot()[0].values())

    def as_snapshot(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """(arrays by name, header) for a safetensors file."""
        arrays = {f"{group}/{name}": a for group in _GROUPS for name, a in getattr(self, group).items()}
        arrays |= {f"slots/{name}": a for name, a in optim.flatten_state(self.slots).items()}
        plain = {key: getattr(self, key) for key in ("step", "schedule", "stopping", "converged", "reason")}
        return arrays, {"format": FORMAT, **plain}

    @classmethod
    def from_snapshot(cls, arrays: Arrays, header: dict[str, Any], where: str) -> Progress:
        """The inverse of :meth:`as_snapshot`; FileError where the file is of a newer version or something lacks."""
        if header.get("format", FORMAT) > FORMAT:
            newer = {"expected": f"format <= {FORMAT}", "got": f"format {header['format']}"}
            raise FileError("newer_version", where=where, **newer)
        groups: dict[str, Any] = {group: {} for group in (*_GROUPS, "slots")}
        try:
            for name, array in arrays.items():
                group, _, rest = name.partition("/")
                groups[group][rest] = array
            slots = optim.unflatten_state(groups.pop("slots"))
            plain: dict[str, Any] = {
                key: header[key] for key in ("step", "schedule", "stopping", "converged", "reason")
            }
        except KeyError as error:
            raise FileError("file_damaged", where=where, expected="snapshot", got=f"no {error}") from error
        return cls(slots=slots, **groups, **plain)
