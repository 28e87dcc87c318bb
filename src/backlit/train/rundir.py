"""The run directory, the one thing the commands share: ``run.json``, ``metrics.jsonl``, ``snapshots/*.safetensors``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlit.core import files
from backlit.core.errors import FileError
from backlit.train.progress import Progress

FORMAT = 1
"""Version of run.json's layout; a newer one is refused."""


@dataclass(frozen=True)
class RunDir:
    """Files of one run. Everything is written whole or not at all; ``budget_mb`` bounds the snapshots kept."""

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
        record: dict[str, Any] = files.read_json(self.record)
        if record.get("format", FORMAT) > FORMAT:
            raise FileError(
                "newer_version",
                where=str(self.record),
                expected=f"format <= {FORMAT}",
                got=f"format {record['format']}",
            )
        return record

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        files.append(self.metrics, (json.dumps(row) + "\n").encode())

    def read_metrics(self, *, up_to_step: int | None = None) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, a cut last one left out; those of later steps too where ``up_to_step`` is given."""
        if not self.metrics.exists():
            return []
        rows = [row for line in files.read(self.metrics).decode().splitlines() if (row := _row(line)) is not None]
        return [r for r in rows if up_to_step is None or r["step"] <= up_to_step]

    def rewrite_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replace ``metrics.jsonl``."""
        files.write(self.metrics, "".join(json.dumps(r) + "\n" for r in rows).encode())

    def snapshots(self) -> dict[int, Path]:
        """Snapshot files by step, in order."""
        found = (self.path / "snapshots").glob("step-*.safetensors")
        return dict(sorted((int(p.stem.removeprefix("step-")), p) for p in found))

    def save(self, progress: Progress) -> Path:
        """Write the snapshot of ``progress``, then drop old ones over the budget."""
        path = self.path / "snapshots" / f"step-{progress.step:08d}.safetensors"
        files.write_tensors(path, *progress.as_snapshot())
        self._thin()
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
        for path in (*self.snapshots().values(), self.metrics, self.record):
            path.unlink(missing_ok=True)

    def _thin(self) -> None:
        """Drop the snapshot that leaves the smallest gap, never the first or the last, until all fit the budget."""
        kept = self.snapshots()
        while len(kept) > 2 and sum(p.stat().st_size for p in kept.values()) > self.budget_mb * 1e6:
            steps = list(kept)
            gaps = {steps[i]: (steps[i + 1] - steps[i - 1], steps[i]) for i in range(1, len(steps) - 1)}
            kept.pop(min(gaps, key=gaps.__getitem__)).unlink()


def _row(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None


def _listing(path: Path) -> str:
    return ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "an empty folder" if path.is_dir() else "nothing"
