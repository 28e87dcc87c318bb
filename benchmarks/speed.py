"""How fast the fast engine trains, beside PyTorch, JAX and scikit-learn: writes a table and the figures as JSON.

    python benchmarks/speed.py [--workload NAME …] [--peers A,B,…] [--rounds N] [--seconds S]

A step is gather, forward, backward and Adam, in float32; the loss is mean softmax cross entropy, the activation relu.
All peers begin with the same parameters, and the losses of their first steps must agree.

Data, labels and one permutation of the rows are in memory, as arrays of the peer's own kind. Every peer gathers its
mini-batch inside the timed step, with the indexing that is fastest for it: X.index_select (PyTorch), X[rows] (NumPy,
and JAX inside the jitted step), the gather kernel (backlit). The loss of every step is kept and read after a block of
at most an epoch; only then does a peer that works ahead have to have finished.

Every peer runs in a process of its own, once with 1 and once with 2 threads (OMP, MKL, OpenBLAS and Numba by their
environment variables, PyTorch by set_num_threads, XLA by NPROC), and the better of the two counts. All processes of
a workload are started together; then one at a time makes a round, in turn, so that the machine's noise hits all
alike. The first round is for calibration and is not counted. The time of a step is the median over the rounds; a
ratio is the median over the rounds of the ratios in one round. What each peer does to be fast is the HOW of its file
in peers/, and is printed beneath the table.

jax_loop compiles the loop over the steps too: training with no Python between the steps, as backlit's compiled listings
do it, but with all data on the device and every loop of its own written by the user. The bars are about training loops
that call a step, so it is not counted among the peers and has a column of its own. Nor are backlit's own reference
engine and `products`, the matrix products alone by NumPy: the floor.

Memory is the most that the whole process has had resident, the data and the interpreter included, with backlit's
compiled kernels already in its cache; compilers that torch.compile starts as processes of their own are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

from workloads import WORKLOADS, Workload

HERE = Path(__file__).parent
OURS, PEERS = "backlit_fast", ("torch_eager", "torch_compile", "jax_jit", "scikit_learn")
ALL = (OURS, *PEERS, "jax_loop", "backlit_reference", "products")
THREADS = (1, 2)
TOLERANCE = 1e-3
"""How far the losses of the first steps may lie apart, relatively."""
PAUSE = 0.05
"""Seconds between two rounds, in which the threads of the last one go to sleep."""


# --- workers --------------------------------------------------------------------------------------------------------


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
    """Versions, how, first losses; ``missing`` or ``failed`` where there is nothing to time."""
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


def measured(workload: Workload, peers: Sequence[str], rounds: int, seconds: float) -> list[Worker]:
    """All workers of a workload after their rounds, taking turns."""
    if OURS in peers:
        seconds_of(command(OURS, workload, 1, "--first"))
    with ExitStack() as ending:
        workers = [Worker(peer, n) for peer in peers for n in THREADS]
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


# --- results --------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """A workload with its workers."""

    workload: Workload
    workers: list[Worker]
    best: dict[str, Worker] = field(init=False)
    """Of each peer that could be timed, the one with the better thread count."""

    def __post_init__(self) -> None:
        timed = sorted((w for w in self.workers if w.ready and w.rounds), key=lambda w: w.step)
        order = {w.peer: w for w in reversed(timed)}
        self.best = dict(sorted(order.items(), key=lambda pair: pair[1].step))

    def ratio(self, peer: str) -> float:
        """How many times longer than the fast engine's the peer's step takes: the median over the rounds."""
        pairs = zip(self.best[peer].rounds, self.best[OURS].rounds, strict=True)
        return median(theirs / ours for theirs, ours in pairs)

    @property
    def best_peer(self) -> str | None:
        """The fastest peer."""
        return next((name for name in self.best if name in PEERS), None)

    @property
    def agreeing(self) -> bool:
        """Whether all made the same first steps."""
        losses = [w.facts["losses"] for w in self.best.values() if w.peer != "products"]
        return all(abs(a - b) <= TOLERANCE * abs(b) for each in losses for a, b in zip(each, losses[0], strict=True))

    @property
    def ok(self) -> bool:
        """Whether the losses agree and the bar is passed, where there is something to compare with."""
        compared = OURS in self.best and self.best_peer is not None
        return self.agreeing and (not compared or self.ratio(str(self.best_peer)) >= self.workload.bar)

    def summary(self) -> str:
        """The row of the first table."""
        if OURS not in self.best or self.best_peer is None:
            return f"| {self.workload} |{' – |' * 8}"
        ours, peer = self.best[OURS], self.best[self.best_peer]
        leanest = min((self.best[n] for n in self.best if n in PEERS), key=lambda w: w.peak_bytes)
        ratio, w = self.ratio(peer.peer), self.workload
        mark = f"**{ratio:.2f}**" if ratio >= w.bar else f"✗ {ratio:.2f}"
        loop = f"{self.ratio('jax_loop'):.2f}" if "jax_loop" in self.best else "–"
        floor = f"{self.ratio('products'):.2f}" if "products" in self.best else "–"
        memory = f"{ours.peak_bytes / leanest.peak_bytes:.2f} ({leanest.peer})"
        cells = (w, shown(ours.step), f"{peer.peer} {shown(peer.step)}", mark, f"{w.bar:g}", f"{w.aim:g}", loop, floor)
        return f"| {' | '.join(map(str, cells))} | {memory} |"

    def details(self) -> str:
        """A table with a row for each peer."""
        head = "| | threads | a step | quartiles | × backlit fast | GFLOP/s | peak memory |"
        rows = [self._row(worker) for worker in self.best.values()]
        note = "" if self.agreeing else "\n\n✗ The losses of the first steps do not agree."
        return f"## {self.workload}\n\n{head}\n|{'---|' * 7}\n" + "\n".join(rows) + note

    def _row(self, w: Worker) -> str:
        rounds = sorted(w.rounds)
        spread = f"{shown(rounds[len(rounds) // 4])} … {shown(rounds[3 * len(rounds) // 4])}"
        ratio = f"{self.ratio(w.peer):.2f}" if OURS in self.best else "–"
        speed = self.workload.flops / w.step / 1e9
        cells = (w.peer, w.threads, shown(w.step), spread, ratio, f"{speed:.3g}", f"{w.peak_bytes / 1e6:.0f} MB")
        return f"| {' | '.join(map(str, cells))} |"

    def as_json(self) -> dict[str, Any]:
        """Everything measured, the thread counts that were not better included."""
        fields = ("peer", "threads", "facts", "rounds", "peak_bytes")
        workers = [{name: getattr(w, name) for name in fields} for w in self.workers]
        return {"workload": asdict(self.workload), "agreeing": self.agreeing, "workers": workers}


def shown(seconds: float) -> str:
    """Three digits and a unit."""
    factor, unit = next((f, u) for f, u in ((1e6, "µs"), (1e3, "ms"), (1, "s")) if seconds * f < 1000 or f == 1)
    return f"{seconds * factor:.3g} {unit}"


# --- start-up -------------------------------------------------------------------------------------------------------


def starts(peers: Sequence[str], again: int = 3) -> dict[str, list[float]]:
    """Seconds of whole processes: imports, and one step from nothing; backlit's with empty and with filled caches."""
    found: dict[str, list[float]] = {}
    for _ in range(again):
        for name in ("pass", "import numpy", "import backlit"):
            found.setdefault(name, []).append(seconds_of([sys.executable, "-c", name]))
    for name in ("tiny", "mnist128") if OURS in peers else ():
        words, title = command(OURS, WORKLOADS[name], 1, "--first"), f"{OURS}, first step of {WORKLOADS[name]}"
        with tempfile.TemporaryDirectory() as caches:
            own = {"BACKLIT_CACHE": caches, "NUMBA_CACHE_DIR": caches}
            found[f"{title}, empty cache"] = [seconds_of(words, own)]
            found[f"{title}, filled cache"] = [seconds_of(words, own) for _ in range(again)]
    for peer in (p for p in peers if p in PEERS):
        words = command(peer, WORKLOADS["mnist128"], 1, "--first")
        found[f"{peer}, first step of {WORKLOADS['mnist128']}"] = [seconds_of(words) for _ in range(again)]
    return {name: times for name, times in found.items() if None not in times}


def seconds_of(words: Sequence[str], more: dict[str, str] | None = None) -> Any:
    """Wall time of a process from start to end; None where it fails or a package is missing."""
    started = time.perf_counter()
    done = subprocess.run(words, env=environment(1) | (more or {}), capture_output=True, text=True, check=False)  # noqa: S603
    past = time.perf_counter() - started
    return None if done.returncode or "missing" in done.stdout else past


# --- the report -----------------------------------------------------------------------------------------------------


def report(outcomes: Sequence[Outcome], starting: dict[str, list[float]], machine: dict[str, Any]) -> str:
    """All tables as Markdown."""
    head = (
        "| workload | backlit fast | best peer | × | bar | aim | × jax_loop | of a step, products alone take "
        "| memory to the leanest peer's |"
    )
    rows = "\n".join(outcome.summary() for outcome in outcomes)
    top = f"# Speed beside other libraries\n\n{head}\n|{'---|' * 9}\n{rows}\n\n{explained(outcomes, machine)}"
    return "\n\n".join([top, *(o.details() for o in outcomes), *([started_table(starting)] if starting else [])]) + "\n"


def explained(outcomes: Sequence[Outcome], machine: dict[str, Any]) -> str:
    """What the columns are, how each peer is configured, and the machine."""
    facts = {w.peer: w.facts for o in outcomes for w in o.workers}
    how = "\n".join(f"- {peer}: {f['how']}." for peer, f in facts.items() if "how" in f)
    absent = "".join(f"- {p}: not measured: {reason(f)}.\n" for p, f in facts.items() if "how" not in f)
    versions = {k: v for f in facts.values() for k, v in f.get("versions", {}).items()}
    listed = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    return (
        "A step is gather, forward, backward and Adam in float32. × is how many times longer the peer's step takes. "
        "How it is measured: the docstring of `benchmarks/speed.py`; all figures: `speed.json`.\n\n"
        f"{how}\n{absent}\n"
        f"Measured {machine['date']} on {machine['processor']} ({machine['cores']} cores, load {machine['load']:.1f} "
        f"at the start), {machine['rounds']} rounds of {machine['seconds']:g} s, Python {machine['python']}, {listed}."
    )


def reason(facts: dict[str, Any]) -> str:
    """Why there is nothing to time."""
    return str(facts.get("missing") or facts.get("failed"))


def started_table(starting: dict[str, list[float]]) -> str:
    """The table of whole processes."""
    rows = "\n".join(f"| {name} | {shown(median(times))} |" for name, times in starting.items())
    return f"## From nothing\n\n| a whole process, 1 thread | median |\n|---|---|\n{rows}"


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


def main() -> int:
    """Measure, print and write; 1 where a bar is missed or the losses do not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="may be repeated; all unless told")
    parser.add_argument("--peers", default=",".join(ALL), help=f"of {', '.join(ALL)}; all unless told")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="of a round")
    parser.add_argument("--no-starts", action="store_true", help="leave out import time and time to the first step")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "speed.md", help="the table; JSON beside it")
    options = parser.parse_args()
    peers = options.peers.split(",")
    if unknown := set(peers) - set(ALL):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    machine = machine_now() | {"rounds": options.rounds, "seconds": options.seconds}
    outcomes = []
    for name in options.workload or WORKLOADS:
        outcomes.append(Outcome(WORKLOADS[name], measured(WORKLOADS[name], peers, options.rounds, options.seconds)))
        print(outcomes[-1].details(), end="\n\n", flush=True)
    starting = {} if options.no_starts else starts(peers)
    text = report(outcomes, starting, machine)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, "utf-8")
    figures = {"machine": machine, "workloads": [o.as_json() for o in outcomes], "starts": starting}
    options.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
