"""Whole jobs on MNIST, from the start of the process to its end: writes benchmarks/results/whole.md.

    python benchmarks/whole.py [--rounds N] [--peers A,B,…]

``backlit train mnist --hidden 128`` as a user types it, and the same job in PyTorch, JAX and scikit-learn as scripts
(peers/whole_*.py): start-up, reading the files, 784-128-10, batch 128, training until the test images are told right in
97.5 of 100 cases, validation after every epoch. The number of epochs is fixed for each, the fewest with which it gets
there. All have both cores and their usual threads. The processes of a round take turns; medians over the rounds.

An epoch is its shuffling, gathering, steps and validation: the median over the epochs of a process but the first, in
which some compile, then over the rounds. backlit's epochs also record norms and losses for its run
directory. Its kernels are in its cache: a first process, not counted, sees to that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from workers import machine_now, shown

HERE = Path(__file__).parent
REQUIRED, BAR = 0.975, 2.0
"""Accuracy on the test images; how many times faster than the best peer's an epoch has to be."""
OURS = "backlit"
EPOCHS = {OURS: 7, "torch": 8, "jax": 6, "sklearn": 8}


@dataclass
class Job:
    """A process that is run again and again, and what it told."""

    peer: str
    seconds: list[float] = field(default_factory=list)
    """Of the whole process, one for each round."""
    epochs: list[float] = field(default_factory=list)
    """Of an epoch, the median of each round."""
    accuracy: float = 0.0
    failed: str = ""

    def command(self, folder: Path) -> list[str]:
        """Its words."""
        epochs = EPOCHS[self.peer]
        if self.peer != OURS:
            return [sys.executable, str(HERE / "peers" / f"whole_{self.peer}.py"), str(epochs)]
        words = f"train mnist --hidden 128 --engine fast --epochs {epochs} --json --quiet --overwrite --out {folder}"
        return [sys.executable, "-c", "from backlit.cli import main; main()", *words.split()]

    def run(self) -> None:
        """Once more, from nothing."""
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            done = subprocess.run(self.command(Path(folder)), capture_output=True, text=True, check=False)  # noqa: S603
            past = time.perf_counter() - started
            if done.returncode:
                self.failed = (done.stderr.strip().splitlines() or ["no message"])[-1]
                return
            told = json.loads(done.stdout)
            self.seconds.append(past)
            self.accuracy = told["test"]["accuracy"]
            self.epochs.append(median(epochs_of(told, Path(folder))[1:]))

    def row(self, ours: Job) -> str:
        """Of the table."""
        if not self.seconds:
            return f"| {self.peer} | not measured: {self.failed} |{' – |' * 5}"
        mark = "" if self.accuracy >= REQUIRED else "✗ "
        cells = (self.peer, shown(median(self.seconds)), times(self.seconds, ours.seconds), shown(median(self.epochs)))
        rest = (times(self.epochs, ours.epochs), EPOCHS[self.peer], f"{mark}{self.accuracy:.2%}")
        return f"| {' | '.join(map(str, (*cells, *rest)))} |"


def epochs_of(told: dict[str, Any], folder: Path) -> list[float]:
    """Seconds of every epoch: a script tells them, backlit's run directory has them."""
    if "seconds" in told and isinstance(told["seconds"], list):
        return told["seconds"]
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [row["seconds"] for row in map(json.loads, lines) if "seconds" in row]


def times(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """How many times longer, the median over the rounds of the ratios in one round."""
    pairs = list(zip(theirs, ours, strict=False))
    return f"{median(a / b for a, b in pairs):.2f}" if pairs else "–"


def measured(peers: Sequence[str], rounds: int) -> list[Job]:
    """All jobs after their rounds, taking turns."""
    jobs = [Job(peer) for peer in peers]
    if OURS in peers:
        Job(OURS).run()
    for _ in range(rounds):
        for job in jobs:
            job.run()
            print(job.row(jobs[0]), flush=True)
    return jobs


def report(jobs: Sequence[Job], about: dict[str, Any]) -> str:
    """The table as Markdown."""
    head = "| | whole process | × backlit | an epoch | × backlit | epochs | accuracy on the test images |"
    rows = "\n".join(job.row(jobs[0]) for job in jobs)
    return (
        f"# Whole jobs: MNIST to {REQUIRED:.1%}\n\n{head}\n|{'---|' * 7}\n{rows}\n\n"
        f"784-128-10, batch 128, as the docstring of `benchmarks/whole.py` says. "
        f"An epoch is to be {BAR:g} times as fast as the best peer's, the whole process faster than all.\n\n"
        f"Measured {about['date']} on {about['processor']} ({about['cores']} cores, load {about['load']:.1f} at the "
        f"start), {about['rounds']} rounds, Python {about['python']}.\n"
    )


def ok(jobs: Sequence[Job]) -> bool:
    """Whether all reach the accuracy and backlit's bars are passed."""
    ours, *peers = done = [job for job in jobs if job.seconds]
    reached = all(job.accuracy >= REQUIRED for job in done)
    ratios = [(float(times(job.seconds, ours.seconds)), float(times(job.epochs, ours.epochs))) for job in peers]
    return reached and all(whole > 1 and epoch >= BAR for whole, epoch in ratios)


def main() -> int:
    """Measure and write; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(EPOCHS), help="backlit first")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "whole.md")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    about = machine_now() | {"rounds": options.rounds}
    jobs = measured(options.peers.split(","), options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(report(jobs, about), "utf-8")
    return 0 if ok(jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
