"""The run directory, the one thing the commands share: ``run.json``, ``metrics.jsonl``, ``snapshots/*.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from backlit.core import files
from backlit.core.errors import FileError
from backlit.core.types import Array
from backlit.train.jumps import steps_of
from backlit.train.progress import Progress
from backlit.train.recording import Recorder, with_ratios

FORMAT = 1
"""Version of run.json's layout; a newer one is refused."""

MOST = 500
"""Snapshots kept at most, however small they are."""

_PARTS = {"settings", "model", "data"}
"""What is always in run.json."""


@dataclass(frozen=True)
class RunDir:
    """Files of one run. Everything is written whole or not at all.

    ``budget_mb`` bounds the snapshots kept; a new one stands beside them only until the old ones are thinned.
    """

    path: Path
    budget_mb: float = 256.0

    @property
    def exists(self) -> bool:
        """True where a run has been written here."""
        return self.record.is_file()

    @property
    def record(self) -> Path:
        """``run.json``."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """``metrics.jsonl``: one JSON object for each epoch."""
        return self.path / "metrics.jsonl"

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``run.json``."""
        files.write_json(self.record, {"format": FORMAT, **record})

    def read_record(self) -> dict[str, Any]:
        """The contents of ``run.json``; FileError where there is no run, or it is damaged or of a newer version."""
        if not self.exists:
            raise FileError("no_run", where=str(self.path), got=_listing(self.path))
        where, record = str(self.record), files.read_json(self.record)
        if not isinstance(record, dict) or not record.keys() >= _PARTS:
            raise FileError("file_damaged", where=where, expected=", ".join(sorted(_PARTS)), got=_seen(record))
        if record.get("format", FORMAT) > FORMAT:
            newer = {"expected": f"format <= {FORMAT}", "got": f"format {record['format']}"}
            raise FileError("newer_version", where=where, **newer)
        return record

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        files.append(self.metrics, _line(row))

    def read_metrics(self, *, up_to_step: int | None = None) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, up to a step where one is given; a cut last line is left out."""
        if not self.metrics.exists():
            return []
        lines = files.read(self.metrics).decode(errors="replace").splitlines()
        rows = [row for line in lines if (row := _row(line)) is not None]
        return [r for r in rows if up_to_step is None or r["step"] <= up_to_step]

    def cut_metrics(self, step: int) -> list[dict[str, Any]]:
        """Drop the lines of ``metrics.jsonl`` after ``step``; returns those that are left."""
        rows = self.read_metrics(up_to_step=step)
        files.write(self.metrics, b"".join(map(_line, rows)))
        return rows

    @property
    def recording(self) -> Path:
        """``recording.safetensors``: norms of each layer at each recorded step."""
        return self.path / "recording.safetensors"

    def save_recording(self, recorder: Recorder) -> None:
        """Write what has been recorded so far."""
        arrays = recorder.arrays()
        files.write_tensors(
            self.recording, arrays, {"format": FORMAT, "every": recorder.every, "columns": list(arrays)}
        )

    def read_recording(self) -> dict[str, Array]:
        """The recording; empty where there is none, FileError where it is damaged."""
        if not self.recording.exists():
            return {}
        arrays, header = files.read_tensors(self.recording)
        return with_ratios({name: arrays[name] for name in header.get("columns", arrays) if name in arrays})

    def snapshots(self) -> dict[int, Path]:
        """Snapshot files by step, in order."""
        found = (self.path / "snapshots").glob("step-*.safetensors")
        steps = {p.stem.removeprefix("step-"): p for p in found}
        return dict(sorted((int(s), p) for s, p in steps.items() if s.isdecimal()))

    def last(self) -> Progress:
        """The last snapshot; FileError where there is none, or it is damaged."""
        kept = list(self.snapshots().values())
        if not kept:
            raise FileError("no_snapshot", where=str(self.path))
        return self.load(kept[-1])

    def save(self, progress: Progress) -> Path:
        """Write the snapshot of ``progress``, then drop old ones over the budget."""
        path = self.path / "snapshots" / f"step-{progress.step:08d}.safetensors"
        files.write_tensors(path, *progress.as_snapshot())
        self._thin(steps_of(progress.jumps))
        return path

    def load(self, path: Path) -> Progress:
        """The snapshot at ``path``; FileError where it is damaged, which names the earlier ones that are left."""
        try:
            return Progress.from_snapshot(*files.read_tensors(path), str(path))
        except FileError as error:
            older = [str(p) for p in self.snapshots().values() if p < path]
            if error.key == "file_damaged" and older:
                raise FileError("snapshot_damaged", **{**error.values, "older": older[-1]}) from error
            raise

    def clear(self) -> None:
        """Remove the files of an earlier run here; anything else in the folder stays."""
        for path in (self.record, self.metrics, self.recording, *self.snapshots().values()):
            files.remove(path)

    def nearest(self, step: int) -> Progress:
        """The last snapshot at or before ``step``; FileError where there is none, or it is damaged."""
        kept = [path for s, path in self.snapshots().items() if s <= step]
        if not kept:
            raise FileError("no_snapshot", where=str(self.path))
        return self.load(kept[-1])

    def _thin(self, jumps: Sequence[int]) -> None:
        kept = self.snapshots()
        for step in surplus({s: p.stat().st_size for s, p in kept.items()}, self.budget_mb, jumps):
            files.remove(kept[step])


@dataclass
class Memory:
    """Snapshots of a run without a directory: arrays that training has left behind, within ``budget_mb``."""

    budget_mb: float = 256.0
    kept: dict[int, Progress] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    """Bytes of each."""
    recorder: Recorder | None = None

    def save_recording(self, recorder: Recorder) -> None:
        """Keep the recorder itself."""
        self.recorder = recorder

    def read_recording(self) -> dict[str, Array]:
        """The recording; empty where there is none."""
        return {} if self.recorder is None else with_ratios(self.recorder.arrays())

    def snapshots(self) -> dict[int, Progress]:
        """Snapshots by step, in order."""
        return dict(sorted(self.kept.items()))

    def save(self, progress: Progress) -> None:
        """Keep ``progress`` as it is now, then drop old ones over the budget."""
        self.kept[progress.step] = replace(progress, sums=dict(progress.sums))  # the sums go on growing in place
        self.sizes[progress.step] = progress.nbytes
        for step in surplus(self.sizes, self.budget_mb, steps_of(progress.jumps)):
            del self.kept[step], self.sizes[step]

    def nearest(self, step: int) -> Progress:
        """The last snapshot at or before ``step``."""
        return self.kept[max(s for s in self.kept if s <= step)]


def surplus(sizes: Mapping[int, int], budget_mb: float, jumps: Sequence[int] = ()) -> list[int]:
    """Steps of snapshots to drop, given the bytes of each, until they fit the budget and are ``MOST`` at most.

    Never the first or the last; of the others the one that is :func:`needed` least, until all is well. The snapshots
    at ``jumps`` stay, of these the first third of as many as there are.
    """
    steps = np.array(sorted(sizes), np.int64)
    sized, dropped = np.array([sizes[s] for s in steps.tolist()], np.int64), list[int]()
    while len(steps) > 2 and (sized.sum() > budget_mb * 1e6 or len(steps) > MOST):
        least = 1 + int(np.argmin(needed(steps, jumps[: len(steps) // 3])))
        dropped.append(int(steps[least]))
        steps, sized = np.delete(steps, least), np.delete(sized, least)
    return dropped


def needed(steps: Array, jumps: Sequence[int]) -> Array:
    """How much each snapshot between the first and the last is needed: infinitely at ``jumps``, else g / (d + 1/8).

    g is the gap that it would leave; d its distance from the nearest of start, end and jumps, as a share of the run's
    length. Dropping the least leaves gaps that near those are down to a fifth of what they are half a run away.
    """
    inner = steps[1:-1]
    marks = np.array([steps[0], steps[-1], *jumps])
    distance = np.abs(inner[:, None] - marks).min(axis=1) / (steps[-1] - steps[0])
    return np.where(np.isin(inner, marks), np.inf, (steps[2:] - steps[:-2]) / (distance + 1 / 8))


def _line(row: dict[str, Any]) -> bytes:
    """A line of ``metrics.jsonl``; JSON has no NaN, so a figure that is not finite is null there."""
    figures = {name: value if isfinite(value) else None for name, value in row.items()}
    return (json.dumps(figures) + "\n").encode()


def _row(line: str) -> dict[str, Any] | None:
    """The inverse of :func:`_line`; None where the line is cut."""
    try:
        return {name: nan if value is None else value for name, value in json.loads(line).items()}
    except (ValueError, AttributeError):
        return None


def plain(value: Any) -> Any:
    """``value`` as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def _seen(record: Any) -> str:
    return ", ".join(record) if isinstance(record, dict) else type(record).__name__


def _listing(path: Path) -> str:
    return ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "an empty folder" if path.is_dir() else "nothing"
