"""What recording the norms of each layer costs: pairs of short runs, with and without, taking turns; the median ratio.

    python benchmarks/recording.py [--pairs N] [--out FILE]

784-128-10, relu, Adam, batch 128, float32, no run directory. A run may take at most 5 % longer: on the reference engine
a short one, of which every step is recorded, as well as a long one; on the fast engine a long one.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from statistics import mean, median

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy is loaded

import numpy as np  # noqa: E402

import backlit as bl  # noqa: E402
from backlit.core.events import StepDone  # noqa: E402

RESULTS = Path(__file__).parent / "results"
BATCH, STEPS, LIMIT = 128, 60, 0.05
LONG, SHORT, FAST = 7, 1, 14
"""Epochs of the runs."""


class Stopwatch:
    """Time between the ends of steps, in seconds."""

    def __init__(self) -> None:
        self.last, self.steps = 0.0, list[float]()

    def __call__(self, event: object) -> None:
        if isinstance(event, StepDone):
            now = time.perf_counter()
            self.steps.append(now - self.last)
            self.last = now


def steps_of(epochs: int, *, record: bool) -> list[float]:
    """Seconds of each step of a run but the first two; with ``record`` a short one records all, a long one half."""
    rng = np.random.default_rng(0)
    X, y = rng.random((BATCH * STEPS, 784), dtype=np.float32), rng.integers(0, 10, BATCH * STEPS)
    model = bl.Sequential(bl.Dense(128, "relu"), bl.Dense(10)).build((784,), seed=0)
    watch = Stopwatch()
    bl.fit(
        model, (X, y), loss="softmax_cross_entropy", optimizer=bl.Adam(1e-3), epochs=epochs, batch_size=BATCH,
        record=record, callbacks=[watch], progress=False, engine="reference",
    )  # fmt: skip
    return watch.steps[2:]


def fast_step(*, record: bool) -> float:
    """Seconds of a step of a long run by the fast engine, the median of its epochs."""
    rng = np.random.default_rng(0)
    X, y = rng.random((BATCH * STEPS, 784), dtype=np.float32), rng.integers(0, 10, BATCH * STEPS)
    model = bl.Sequential(bl.Dense(128, "relu"), bl.Dense(10)).build((784,), seed=0)
    run = bl.fit(
        model, (X, y), loss="softmax_cross_entropy", optimizer=bl.Adam(1e-3), epochs=FAST, batch_size=BATCH,
        record=record, progress=False, engine="fast",
    )  # fmt: skip
    return median(run.history["seconds"]) / STEPS


def pairs_of_fast_runs(pairs: int) -> list[tuple[float, float]]:
    """(a step without, with recording) of two runs by the fast engine; which of them goes first alternates."""
    found = []
    for i in range(pairs):
        times = {record: fast_step(record=record) for record in ((False, True) if i % 2 else (True, False))}
        found.append((times[False], times[True]))
    return found


def trimmed(times: list[float]) -> float:
    """The mean step without the slowest fifth, in which other programs had the processor."""
    return mean(sorted(times)[: len(times) * 4 // 5])


def pairs_of_runs(pairs: int, epochs: int) -> list[tuple[float, float]]:
    """(mean step without, with recording) of two runs; which of them goes first alternates."""
    found = []
    for i in range(pairs):
        order = (False, True) if i % 2 else (True, False)
        times = {record: trimmed(steps_of(epochs, record=record)) for record in order}
        found.append((times[False], times[True]))
    return found


def pairs_of_steps(runs: int) -> list[tuple[float, float]]:
    """(a step that is not recorded, the one before it, which is) of some runs."""
    times = [steps_of(LONG, record=True) for _ in range(runs)]
    return [(off, on) for run in times for on, off in zip(run[::2], run[1::2], strict=True)]


def row(what: str, found: list[tuple[float, float]]) -> str:
    """A row of the table."""
    ratios = sorted(on / off - 1 for off, on in found)
    off, on = (median(column) * 1e3 for column in zip(*found, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    return (
        f"| {len(found)} {what} | {off:.3f} ms | {on:.3f} ms | **{median(ratios):+.1%}** | {low:+.1%} … {high:+.1%} |"
    )


def report(rows: list[str]) -> str:
    """The result as Markdown, with the machine beneath it."""
    return (
        "# What recording costs\n\n"
        "784-128-10, relu, Adam, batch 128, float32. Runs of up to 64 steps record each of them, longer ones every\n"
        "second step, then fewer. The limit is for the runs.\n\n"
        "| pairs | a step without | a step with | median of the ratios - 1 | half of them |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\nLimit: {LIMIT:.0%}.\n\n{machine()}\n"
    )


def machine() -> str:
    """Versions, processor and threads in a sentence."""
    return (
        f"Measured {time.strftime('%Y-%m-%d')} with backlit {bl.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__} on {_processor()} ({os.cpu_count()} cores, "
        f"{os.environ['OPENBLAS_NUM_THREADS']} thread for matrix products)."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    return next((x.split(": ", 1)[1] for x in lines if x.startswith("model name")), platform.machine())


def main() -> int:
    """Measure, print and write; 1 where the limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS / "recording.md", help="the table")
    options = parser.parse_args()
    steps_of(LONG, record=True)
    short, long = pairs_of_runs(4 * options.pairs, SHORT), pairs_of_runs(options.pairs, LONG)
    fast_step(record=True)
    fast = pairs_of_fast_runs(options.pairs)
    kinds = {f"runs of {SHORT * STEPS} steps": short, f"runs of {LONG * STEPS} steps": long}
    kinds |= {"single steps": pairs_of_steps(4), f"runs of {FAST * STEPS} steps, fast engine": fast}
    text = report([row(what, found) for what, found in kinds.items()])
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, "utf-8")
    return 0 if all(median(on / off for off, on in runs) <= 1 + LIMIT for runs in (short, long, fast)) else 1


if __name__ == "__main__":
    sys.exit(main())
