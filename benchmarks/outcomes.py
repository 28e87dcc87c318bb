"""What the speed benchmark found: ratios, whether the bars are passed, and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from workers import OURS, PEERS, Worker, megabytes, shown
from workloads import WORKLOADS, Workload

TOLERANCE = 1e-3
"""How far the losses of the first steps may lie apart, relatively."""


@dataclass
class Outcome:
    """A workload with its workers."""

    workload: Workload
    workers: list[Worker]
    machine: dict[str, Any]
    """Date, processor, load, rounds, versions."""
    best: dict[str, Worker] = field(init=False)
    """Of each peer that could be timed, the one with the better thread count."""

    def __post_init__(self) -> None:
        timed = sorted((w for w in self.workers if w.ready and w.rounds), key=lambda w: w.step)
        order = {w.peer: w for w in reversed(timed)}
        self.best = dict(sorted(order.items(), key=lambda pair: pair[1].step))

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Outcome:
        """From :meth:`as_json`."""
        workers = [Worker(**worker) for worker in stored["workers"]]
        return cls(WORKLOADS[stored["workload"]], workers, stored["machine"])

    def ratio(self, peer: str) -> float:
        """How many times longer than the fast engine's the peer's step takes: the median over the rounds."""
        pairs = zip(self.best[peer].rounds, self.best[OURS].rounds, strict=True)
        return median(theirs / ours for theirs, ours in pairs)

    @property
    def best_peer(self) -> str | None:
        """The fastest peer."""
        return next((name for name in self.best if name in PEERS), None)

    @property
    def leanest(self) -> Worker:
        """The peer with the least memory."""
        return min((self.best[n] for n in self.best if n in PEERS), key=lambda w: w.peak_bytes)

    @property
    def memory(self) -> float:
        """The fast engine's peak memory to the leanest peer's."""
        return self.best[OURS].peak_bytes / self.leanest.peak_bytes

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
        ratio, w = self.ratio(peer.peer), self.workload
        mark = f"**{ratio:.2f}**" if ratio >= w.bar else f"✗ {ratio:.2f}"
        loop = f"{self.ratio('jax_loop'):.2f}" if "jax_loop" in self.best else "–"
        floor = f"{self.ratio('products'):.2f}" if "products" in self.best else "–"
        memory = f"{self.memory:.2f} ({self.leanest.peer})"
        cells = (w, shown(ours.step), f"{peer.peer} {shown(peer.step)}", mark, f"{w.bar:g}", f"{w.aim:g}", loop, floor)
        return f"| {' | '.join(map(str, cells))} | {memory} |"

    def details(self) -> str:
        """A table with a row for each peer."""
        head = "| | threads | a step | quartiles | × backlit fast | GFLOP/s | peak memory | imports alone |"
        rows = [self._row(worker) for worker in self.best.values()]
        note = f"{self.workload.parameters:,} parameters. {when(self.machine)}"
        note += "" if self.agreeing else "\n\n✗ The losses of the first steps do not agree."
        return f"## {self.workload}\n\n{head}\n|{'---|' * 8}\n" + "\n".join(rows) + f"\n\n{note}"

    def _row(self, w: Worker) -> str:
        rounds = sorted(w.rounds)
        spread = f"{shown(rounds[len(rounds) // 4])} … {shown(rounds[3 * len(rounds) // 4])}"
        ratio = f"{self.ratio(w.peer):.2f}" if OURS in self.best else "–"
        speed, memory = self.workload.flops / w.step / 1e9, (w.peak_bytes, w.facts.get("import_bytes", 0))
        cells = (w.peer, w.threads, shown(w.step), spread, ratio, f"{speed:.3g}", *map(megabytes, memory))
        return f"| {' | '.join(map(str, cells))} |"

    def as_json(self) -> dict[str, Any]:
        """Everything measured, the thread counts that were not better included."""
        workers = [w.as_json() for w in self.workers]
        found = {"workload": self.workload.name, "machine": self.machine, "agreeing": self.agreeing}
        return found | {"workers": workers}


def report(outcomes: Sequence[Outcome], starting: dict[str, list[float]]) -> str:
    """All tables as Markdown."""
    head = (
        "| workload | backlit fast | best peer | × | bar | aim | × jax_loop | of a step, products alone take "
        "| memory to the leanest peer's |"
    )
    rows = "\n".join(outcome.summary() for outcome in outcomes)
    top = f"# Speed beside other libraries\n\n{head}\n|{'---|' * 9}\n{rows}\n\n{explained(outcomes)}"
    return "\n\n".join([top, *(o.details() for o in outcomes), *([started_table(starting)] if starting else [])]) + "\n"


def explained(outcomes: Sequence[Outcome]) -> str:
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
        f"Versions: {listed}."
    )


def reason(facts: dict[str, Any]) -> str:
    """Why there is nothing to time."""
    return str(facts.get("missing") or facts.get("failed"))


def started_table(starting: dict[str, list[float]]) -> str:
    """The table of whole processes."""
    rows = "\n".join(f"| {name} | {shown(median(times))} |" for name, times in starting.items())
    return f"## From nothing\n\n| a whole process, 1 thread | median |\n|---|---|\n{rows}"


def when(machine: dict[str, Any]) -> str:
    """Date, machine and rounds."""
    return (
        f"Measured {machine['date']} on {machine['processor']} ({machine['cores']} cores, load {machine['load']:.1f} "
        f"at the start), {machine['rounds']} rounds of {machine['seconds']:g} s, Python {machine['python']}."
    )
