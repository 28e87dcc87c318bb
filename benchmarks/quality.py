"""How well the command line's networks do on real data, in full: runs each job and writes a table beside this file.

    python benchmarks/quality.py [JOB …] [--runs DIR]

Each job is a command as a user types it. The data sets other than digits are found through $BACKLIT_DATA or downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import backlit

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Quality:
    """A command and what it must reach on the test part."""

    command: str
    metric: str
    required: float
    better: int = 1
    """+1 where the figure must be at least ``required``, -1 where at most."""
    source: str = ""
    """Where a requirement comes from that the project did not set itself."""

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.command.split()[1]

    def reached(self, figure: float) -> bool:
        """Whether the requirement is met."""
        return self.better * figure >= self.better * self.required


JOBS = {
    "digits": Quality("train digits", "accuracy", 0.97),
    "mnist": Quality("train mnist --hidden 300,100", "accuracy", 0.98),
    "fashion_mnist": Quality("train fashion_mnist --hidden 300,100", "accuracy", 0.885),
    "california_housing": Quality("train california_housing", "r2", 0.78),
    "wine_quality": Quality(
        "train wine_quality --hidden 32 --early-stopping 10", "mae", 0.537, -1, "a linear fit on the same split"
    ),
    "bike_sharing": Quality(
        "train bike_sharing --early-stopping 5", "rmse", 107.3, -1, "a linear fit on the same split"
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What a job reached."""

    job: Quality
    result: dict[str, Any]
    """What the command printed with --json."""
    seconds: float
    """Of the whole command: loading, training, testing."""

    @property
    def figure(self) -> float:
        """The metric on the test part."""
        return float(self.result["test"][self.job.metric])

    @property
    def ok(self) -> bool:
        """Whether the requirement is met."""
        return self.job.reached(self.figure)

    def row(self) -> str:
        """A row of the table."""
        job = self.job
        required = f"{'≥' if job.better > 0 else '≤'} {_shown(job.metric, job.required)}"
        required += f" ({job.source})" if job.source else ""
        measured = f"{'**' if self.ok else '✗ '}{_shown(job.metric, self.figure)}{'**' if self.ok else ''}"
        epochs, parameters = int(self.result["last_epoch"]["epoch"]), f"{self.result['parameters']:,}"
        cells = (job.data, f"`backlit {job.command}`", parameters, job.metric, required, measured, epochs)
        return f"| {' | '.join(map(str, cells))} | {self.seconds:.0f} |"


def _shown(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric == "accuracy" else f"{value:.3f}" if metric in ("r2", "mae") else f"{value:.1f}"


def run(job: Quality, runs: Path, *more: str) -> Outcome:
    """Run the command, with ``more`` options, in a process of its own; CalledProcessError where it fails."""
    words = [*shlex.split(job.command), "--out", str(runs / job.data), "--json", "--quiet", *more]
    started = time.perf_counter()
    command = [sys.executable, "-c", "from backlit.cli import main; main()", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  our own command
    return Outcome(job, json.loads(done.stdout), time.perf_counter() - started)


def table(outcomes: Sequence[Outcome]) -> str:
    """The table as Markdown, with the machine beneath it."""
    head = "| data | command | parameters | metric (test part) | required | measured | epochs | seconds |"
    rows = "\n".join(outcome.row() for outcome in outcomes)
    return f"# Quality on real data\n\n{head}\n|{'---|' * 8}\n{rows}\n\n{machine()}\n"


def machine() -> str:
    """Versions, processor and threads in a sentence."""
    python, numpy = platform.python_version(), np.__version__
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "1")
    return (
        f"Measured {time.strftime('%Y-%m-%d')} with backlit {backlit.__version__}, Python {python}, NumPy {numpy} on "
        f"{_processor()} ({os.cpu_count()} cores, {threads} thread for matrix products), engine auto, seed 0. "
        "Seconds are of the whole command. Splits: `backlit train` prints them."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    return next((x.split(": ", 1)[1] for x in lines if x.startswith("model name")), platform.machine())


def main() -> int:
    """Run the jobs named on the command line, or all, and write the table; 1 where a requirement is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, []], metavar="JOB", help=f"of {', '.join(JOBS)}; all")
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    parser.add_argument("--out", type=Path, default=RESULTS / "quality.md", help="the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = []
        for name in options.jobs or JOBS:
            outcomes.append(run(JOBS[name], options.runs or Path(scratch), "--overwrite"))
            print(outcomes[-1].row(), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table(outcomes), "utf-8")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
