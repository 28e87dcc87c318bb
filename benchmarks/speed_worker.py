"""One peer on one workload in a process of its own: it prints a line of JSON when it is ready and after every round.

    python benchmarks/speed_worker.py PEER WORKLOAD THREADS [--first]

Each line it is sent is the seconds that a round lasts; at the end of its input it tells its peak memory. With --first
it makes one step and no more.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from workloads import Task, workload

CHECKED = 3
"""Steps whose losses are compared between the peers."""


def main() -> None:
    """Set the peer up, then make rounds as long as someone asks."""
    out = own_stdout()
    name, wanted, threads = sys.argv[1], workload(sys.argv[2]), int(sys.argv[3])
    try:
        module = importlib.import_module(f"peers.{name}")
    except ModuleNotFoundError as error:
        say(out, missing=str(error))
        return
    imported = peak()
    peer = module.Peer(Task(wanted), threads)
    if "--first" in sys.argv:
        say(out, losses=list(map(float, peer.run(1))))
        return
    losses = list(map(float, peer.run(CHECKED)))
    versions = {package: version(package) for package in module.PACKAGES}
    say(out, losses=losses, versions=versions, how=module.HOW, import_bytes=imported)
    block = 0
    for line in sys.stdin:
        seconds = float(line)
        block = block or block_of(peer, wanted.epoch, seconds)
        say(out, **timed(peer, block, seconds))
    say(out, peak_bytes=peak())


def own_stdout() -> TextIO:
    """The pipe to the parent; whatever else is printed here goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def say(out: TextIO, **message: Any) -> None:
    """A line of JSON to the parent."""
    print(json.dumps(message), file=out, flush=True)


def block_of(peer: Any, epoch: int, seconds: float) -> int:
    """Steps made between two looks at the clock: an epoch where a round has room for it, else about a quarter round."""
    step = seconds_a_step(peer, 1)
    if step > seconds:
        return 1
    step = seconds_a_step(peer, CHECKED)
    block = epoch if step * epoch <= seconds else max(1, int(seconds / 4 / step))
    peer.run(block)  # whoever compiles for a number of steps does it here
    return block


def seconds_a_step(peer: Any, steps: int) -> float:
    """Of so many steps together."""
    started = time.perf_counter()
    peer.run(steps)
    return (time.perf_counter() - started) / steps


def timed(peer: Any, block: int, seconds: float) -> dict[str, float]:
    """Steps and seconds of a round."""
    gc.collect()
    steps, started, past = 0, time.perf_counter(), 0.0
    while past < seconds:
        peer.run(block)
        steps += block
        past = time.perf_counter() - started
    return {"steps": steps, "seconds": past}


def peak() -> int:
    """Most memory this process has had, in bytes. VmHWM, not ru_maxrss alone: that begins with the parent's."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
