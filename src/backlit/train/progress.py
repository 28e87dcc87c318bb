"""Where a run stands: all that is needed to go on bit for bit, and its form as a snapshot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from backlit import optim
from backlit.core.errors import FileError
from backlit.core.types import Array, Arrays
from backlit.data.fingerprints import fingerprint

FORMAT = 1
"""Version of the snapshot's layout; a newer one is refused."""

_GROUPS = ("params", "state", "sums", "best")
_PLAIN = ("step", "schedule", "stopping", "converged", "jumps", "reason")


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
    jumps: dict[str, Any] = field(default_factory=dict)
    """What :mod:`backlit.train.jumps` has seen."""
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
        return sum(a.nbytes for arrays in self._groups().values() for a in arrays.values())

    def _groups(self) -> dict[str, dict[str, Array]]:
        return {group: getattr(self, group) for group in _GROUPS} | {"slots": optim.flatten_state(self.slots)}

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the arrays of each group: ``params``, ``state``, ``slots``, … (names, dtypes, shapes, bytes)."""
        return {group: fingerprint(arrays) for group, arrays in self._groups().items()}

    def as_snapshot(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """(arrays by name, header) for a safetensors file."""
        arrays = {f"{group}/{name}": a for group, found in self._groups().items() for name, a in found.items()}
        header = {"format": FORMAT, **{key: getattr(self, key) for key in _PLAIN}}
        return arrays, {**header, "sha256": {**self.hashes(), "header": _of_header(header)}}

    @classmethod
    def from_snapshot(cls, arrays: Arrays, header: dict[str, Any], where: str) -> Progress:
        """The inverse of :meth:`as_snapshot`.

        Raises FileError where the file is of a newer version, something lacks, or an array is not the one that was
        written.
        """
        if header.get("format", FORMAT) > FORMAT:
            newer = {"expected": f"format <= {FORMAT}", "got": f"format {header['format']}"}
            raise FileError("newer_version", where=where, **newer)
        groups: dict[str, Any] = {group: {} for group in (*_GROUPS, "slots")}
        try:
            for name, array in arrays.items():
                group, _, rest = name.partition("/")
                groups[group][rest] = array
            slots = optim.unflatten_state(groups.pop("slots"))
            found = cls(slots=slots, **groups, **{key: ({"jumps": {}} | header)[key] for key in _PLAIN})
        except KeyError as error:
            raise FileError("file_damaged", where=where, expected="snapshot", got=f"no {error}") from error
        found_hashes = {**found.hashes(), "header": _of_header(header)}
        require_same_hashes(header.get("sha256", {}), found_hashes, "file_damaged", where=where)
        return found


def _of_header(header: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in header.items() if key != "sha256"}
    return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def require_same_hashes(told: Mapping[str, str], found: Mapping[str, str], key: str, **values: object) -> None:
    """FileError ``key`` for the first group whose hash is told and is another; what was not hashed cannot be judged."""
    for group, digest in found.items():
        if told.get(group, digest) != digest:
            expected, got = (f"{group}: sha256 {d[:16]}…" for d in (told[group], digest))
            raise FileError(key, expected=expected, got=got, **values)
