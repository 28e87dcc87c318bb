"""What looking costs: a full trace of one step, a past step, and receipts, against one plain step, in turns; medians.

    python benchmarks/glass.py [--rounds N] [--out FILE]

784-128-10, relu, Adam, batch 128, float32, reference engine. A full trace may take at most 10 plain steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from recording import RESULTS, machine  # first: it says how many threads NumPy gets

import numpy as np  # isort: skip

import backlit as bl  # isort: skip
from backlit import optim
from backlit.engines import reference
from backlit.nn.grad import loss_graph

BATCH, STEPS, LIMIT = 128, 20, 10.0


def works() -> dict[str, Callable[[], Any]]:
    """What is timed, by name; the plain step comes first."""
    rng = np.random.default_rng(0)
    X, y = rng.random((BATCH * STEPS, 784), dtype=np.float32), rng.integers(0, 10, BATCH * STEPS)
    model = bl.Sequential(bl.Dense(128, "relu"), bl.Dense(10)).build((784,), seed=0)
    adam = bl.Adam(1e-3)
    run = bl.fit(
        model, (X, y), loss="softmax_cross_entropy", optimizer=adam, epochs=2, batch_size=BATCH, progress=False
    )
    graph, env = loss_graph(model, X[:BATCH], y[:BATCH], loss="softmax_cross_entropy")
    state = optim.init_state(np, adam, model.params)

    def step() -> Any:
        d = reference.value_and_grad(graph, env, graph.trainable)[1]
        return optim.apply(np, adam, model.params, {n: d[n] for n in graph.trainable}, state, lr=1e-3, t=1)

    def trace() -> Any:
        return bl.trace(model, X[:BATCH], y[:BATCH], loss="softmax_cross_entropy")

    whole = run.at(STEPS + 1)
    return {
        "a plain step: forward, backward, update": step,
        "a full trace: every z, a, δ, gradient": trace,
        "`run.at(step)`, the step after a snapshot": lambda: run.at(STEPS + 1),
        f"`run.at(step)`, {STEPS} steps after a snapshot": lambda: run.at(2 * STEPS),
        "the trace printed": lambda: str(whole),
        "a receipt of a weight's gradient": lambda: whole.explain("∂dense1.W[3,400]"),
        "a walk from Δw to the loss and the pixel": lambda: whole.walk("Δdense1.W[3,400]"),
        "gradients of all samples, `dense2.W`": lambda: whole.per_sample("dense2.W"),
    }


def measured(rounds: int) -> dict[str, float]:
    """Median seconds of each, all of them taking turns."""
    found = works()
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, work in found.items():
            began = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - began)
    return {name: median(seconds[1:]) for name, seconds in times.items()}


def document(rounds: int) -> tuple[str, bool]:
    """(the table as Markdown, whether a full trace keeps the limit, with the update too)."""
    found = measured(rounds)
    plain, full, replayed, *_ = found.values()
    rows = "\n".join(f"| {name} | {1e3 * s:.2f} ms | {s / plain:.1f} |" for name, s in found.items())
    text = (
        "# What looking costs\n\n"
        f"784-128-10, relu, Adam, batch {BATCH}, float32, reference engine; medians of {rounds - 1} rounds in which\n"
        "all take turns.\n\n"
        f"| what | time | plain steps |\n|---|---|---|\n{rows}\n\n"
        f"A full trace takes {full / plain:.1f} plain steps, read from a run with its update {replayed / plain:.1f}; "
        f"the limit is {LIMIT:.0f}.\n\n{machine()}\n"
    )
    return text, max(full, replayed) <= LIMIT * plain


def main() -> int:
    """Exit code 1 where a full trace takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path, default=RESULTS / "glass.md")
    options = parser.parse_args()
    text, kept = document(options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, "utf-8")
    print(text)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
