"""Peers in processes of their own, and rounds in which they take turns."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

from workloads import Workload

HERE = Path(__file__).parent
OURS, PEERS = "backlit_fast", ("torch_eager", "torch_compile", "jax_jit", "scikit_learn")
ALL = (OURS, *PEERS, "jax_loop", "backlit_reference", "products")
PERCEPTRONS = {"scikit_learn", "jax_loop", "products"}
"""Those that are only measured on multilayer perceptrons: the first and the last can do no other network."""
THREADS = (1, 2)
PAUSE = 0.05
"""Seconds between two rounds, in which the threads of the last one go to sleep."""


def environment(threads: int) -> dict[str, str]:
    """The process's environment with thread counts for every library."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    given = {f"{name}_NUM_THREADS": str(threads) for name in names}
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    return os.environ | given | {"NPROC": str(threads), "XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}


def command(peer: str, workload: Workload, threads: int, *more: str) -> list[str]:
    """The words that start a worker."""
    return [sys.executable, str(HERE / "speed_worker.py"), peer, workload.name, str(threads), *more]


@dataclass
class Worker:
    """A peer with a number of threads, and what it has reported."""

    peer: str
    threads: int
    facts: dict[str, Any] = field(default_factory=dict)
    """Versions, how, first losses, memory with imports alone; ``missing`` or ``failed``: nothing to time."""
    rounds: list[float] = field(default_factory=list)
    """Seconds a step, one for each round."""
    peak_bytes: int = 0
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    errors: IO[str] | None = field(default=None, repr=False)

    def start(self, workload: Workload) -> Worker:
        """Start the process; it sets itself up."""
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  stop closes it
        self.process = subprocess.Popen(  # noqa: S603  our own command
            command(self.peer, workload, self.threads), env=environment(self.threads), text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip
        return self

    def answer(self) -> dict[str, Any]:
        """The process's next line; where there is none, why."""
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.errors is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        self.process.wait()
        self.errors.seek(0)
        return {"failed": (self.errors.read().strip().splitlines() or ["no message"])[-1]}

    @property
    def ready(self) -> bool:
        """Whether it can make rounds."""
        return "losses" in self.facts and "failed" not in self.facts

    def round(self, seconds: float) -> float | None:
        """Seconds a step of one round; None where the process has ended."""
        self._send(f"{seconds}\n")
        answer = self.answer()
        if "steps" in answer:
            return float(answer["seconds"]) / int(answer["steps"])
        self.facts |= answer
        return None

    def _send(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer will say why

    def stop(self) -> None:
        """End the process; a ready one tells its peak memory first."""
        if self.process is None or self.process.stdin is None:
            return
        self.process.stdin.close()
        if self.ready and self.process.poll() is None:
            self.peak_bytes = int(self.answer().get("peak_bytes", 0))
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()  # type: ignore[union-attr]
        self.process = None

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return median(self.rounds)

    def as_json(self) -> dict[str, Any]:
        """What was measured."""
        return {name: getattr(self, name) for name in ("peer", "threads", "facts", "rounds", "peak_bytes")}


def threads_of(peer: str, threads: Sequence[int]) -> Sequence[int]:
    """The thread counts that are tried; the reference engine, slow as it is, gets the last alone."""
    return threads[-1:] if peer == "backlit_reference" else threads


def fitting(workload: Workload, peers: Sequence[str]) -> list[str]:
    """The peers that have a network of this kind."""
    return [p for p in peers if workload.sizes or p not in PERCEPTRONS]


def measured(
    workload: Workload, peers: Sequence[str], rounds: int, seconds: float, threads: Sequence[int] = THREADS
) -> list[Worker]:
    """All workers of a workload after their rounds, taking turns."""
    if OURS in peers:
        seconds_of(command(OURS, workload, 1, "--first"))
    with ExitStack() as ending:
        workers = [Worker(peer, n) for peer in fitting(workload, peers) for n in threads_of(peer, threads)]
        for worker in workers:
            ending.callback(worker.stop)
            worker.start(workload)
        for worker in workers:
            worker.facts = worker.answer()
        for i in range(rounds + 1):
            for worker in (w for w in workers if w.ready):
                time.sleep(PAUSE)
                step = worker.round(seconds)
                if i and step is not None:
                    worker.rounds.append(step)
    return workers


def seconds_of(words: Sequence[str], more: dict[str, str] | None = None) -> Any:
    """Wall time of a process from start to end; None where it fails or a package is missing."""
    started = time.perf_counter()
    done = subprocess.run(words, env=environment(1) | (more or {}), capture_output=True, text=True, check=False)  # noqa: S603
    past = time.perf_counter() - started
    return None if done.returncode or "missing" in done.stdout else past


def shown(seconds: float) -> str:
    """Three digits and a unit."""
    factor, unit = next((f, u) for f, u in ((1e6, "µs"), (1e3, "ms"), (1, "s")) if seconds * f < 1000 or f == 1)
    return f"{seconds * factor:.3g} {unit}"


def megabytes(size: float) -> str:
    """Of bytes; a dash where they were not measured."""
    return f"{size / 1e6:.0f} MB" if size else "–"


def machine_now() -> dict[str, Any]:
    """Date, processor, load and Python."""
    about = {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "python": platform.python_version()}
    return about | {"cores": os.cpu_count(), "load": os.getloadavg()[0]}


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    return next((x.split(": ", 1)[1] for x in lines if x.startswith("model name")), platform.machine())
