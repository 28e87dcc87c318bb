"""How time and memory of a step grow: writes benchmarks/results/scaling.md and its plots.

    python benchmarks/scaling.py [--axis width|depth|batch|rows …] [--rounds N] [--seconds S] [--most-rows N]

Perceptrons of one shape that grow along one axis, as speed.py measures them, each peer with both threads: width
784-W-W-10 and depth 784-128-…-128-10, batch 128; batch of 784-128-10. Memory is the most that the process has had.

Rows: 784-128-10, batch 128, by ``backlit.fit`` on an ``.npy`` file mapped into memory, shuffled; the second of two
epochs, a step of it. Memory is what the process holds itself: the file's pages are the system's, to keep or to drop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plots import Panel, figure
from workers import OURS, environment, machine_now, measured, megabytes, shown
from workloads import workload

from backlit.report.charts import Line

HERE = Path(__file__).parent
PEERS = (OURS, "torch_eager", "jax_jit")
AXES: dict[str, dict[int, str]] = {
    "width": {n: f"784-{n}-{n}-10,128" for n in (32, 128, 512, 2048)},
    "depth": {n: f"784-{'128-' * n}10,128" for n in (1, 2, 4, 8, 16)},
    "batch": {n: f"784-128-10,{n}" for n in (8, 32, 128, 512, 2048)},
}
"""Axis -> (its number -> the workload)."""
ROWS = tuple(10_000 * 4**k for k in range(4))
Row = tuple[str, int, float, float]
"""Peer, number on the axis, seconds a step, bytes."""


def grown(axis: str, rounds: int, seconds: float) -> list[Row]:
    """What each peer took at each point."""
    found = []
    for number, name in AXES[axis].items():
        workers = measured(workload(name), PEERS, rounds, seconds, threads=(2,))
        found += [(w.peer, number, w.step, w.peak_bytes) for w in workers if w.rounds]
    return found


def mapped(rows: Sequence[int]) -> list[Row]:
    """An epoch over files of so many rows; a second curve tells how large the file was."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in rows:
            told = epoch_of(count, Path(folder))
            found += [("backlit.fit", count, told["step"], told["own_bytes"])]
            found += [("the file", count, 0.0, told["file_bytes"])]
    return found


def epoch_of(count: int, folder: Path) -> dict[str, Any]:
    """What a worker tells of a file of so many rows, which is written first."""
    paths = [folder / "X.npy", folder / "y.npy"]
    rng = np.random.default_rng(0)
    block = rng.random((10_000, 784), dtype=np.float32)
    X = np.lib.format.open_memmap(paths[0], mode="w+", dtype=np.float32, shape=(count, 784))
    for start in range(0, count, len(block)):
        X[start : start + len(block)] = block[: count - start]
    X.flush()
    np.save(paths[1], rng.integers(0, 10, count))
    words = [sys.executable, str(HERE / "rows_worker.py"), *map(str, paths)]
    done = subprocess.run(words, env=environment(2), stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout)  # type: ignore[no-any-return]


# --- the report -----------------------------------------------------------------------------------------------------


def plotted(axis: str, found: Sequence[Row]) -> str:
    """Time and memory over the axis, side by side."""
    time, memory = (curves(found, column, unit) for column, unit in ((2, 1e3), (3, 1e-6)))
    return figure([Panel("time of a step", time, axis, "ms"), Panel("memory", memory, axis, "MB")])


def curves(found: Sequence[Row], column: int, unit: float) -> list[Line]:
    """A line for each peer that has numbers in this column."""
    names = dict.fromkeys(row[0] for row in found)
    points = {n: [(row[1], row[column] * unit) for row in found if row[0] == n] for n in names}
    kept = {n: np.array([p for p in pairs if p[1] > 0]) for n, pairs in points.items()}
    return [Line(n, *pairs.T) for n, pairs in kept.items() if len(pairs)]


def table(axis: str, found: Sequence[Row]) -> str:
    """The numbers."""
    cell = {(row[0], row[1]): f"{shown(row[2])}, {megabytes(row[3])}" for row in found if row[2]}
    sizes = {row[1]: f"| {row[1]:,} | {megabytes(row[3])}" for row in found if not row[2]}
    peers = list(dict.fromkeys(name for name, _ in cell))
    head = (
        f"| {axis} | {'the file | ' if sizes else ''}{' | '.join(peers)} |\n|{'---|' * (1 + len(peers) + bool(sizes))}"
    )
    rows = [
        f"{sizes.get(n, f'| {n:,}')} | {' | '.join(cell.get((p, n), '–') for p in peers)} |"
        for n in dict.fromkeys(row[1] for row in found)
    ]
    return "\n".join([head, *rows])


def section(axis: str, found: Sequence[Row]) -> str:
    """Of the report."""
    return f"## {axis}\n\n![time and memory against {axis}](scaling-{axis}.svg)\n\n{table(axis, found)}"


def report(found: dict[str, list[Row]], about: dict[str, Any]) -> str:
    """All axes as Markdown."""
    versions = f"{about['processor']} ({about['cores']} cores, load {about['load']:.1f} at the start)"
    return "\n\n".join(
        [
            "# How time and memory grow",
            (__doc__ or "").split("\n\n", 2)[2].strip(),
            *(section(axis, rows) for axis, rows in found.items()),
            f"Measured {about['date']} on {versions}, {about['rounds']} rounds, Python {about['python']}.\n",
        ]
    )


def main() -> None:
    """Measure, and write tables and plots; axes that are not asked for stay as they were measured before."""
    axes = (*AXES, "rows")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", action="append", choices=axes, help="may be repeated; all unless told")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.1, help="of a round")
    parser.add_argument("--most-rows", type=int, default=ROWS[-1])
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder")
    options = parser.parse_args()
    store = options.out / "scaling.json"
    found: dict[str, list[Row]] = json.loads(store.read_text("utf-8")) if store.exists() else {}
    about = machine_now() | {"rounds": options.rounds}
    options.out.mkdir(parents=True, exist_ok=True)
    for axis in options.axis or axes:
        rows = [n for n in ROWS if n <= options.most_rows]
        found[axis] = mapped(rows) if axis == "rows" else grown(axis, options.rounds, options.seconds)
        (options.out / f"scaling-{axis}.svg").write_text(plotted(axis, found[axis]), "utf-8")
        print(table(axis, found[axis]), end="\n\n", flush=True)
    store.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (options.out / "scaling.md").write_text(report(found, about), "utf-8")


if __name__ == "__main__":
    main()
