"""How fast the fast engine trains, beside PyTorch, JAX and scikit-learn: writes a table and the figures as JSON.

    python benchmarks/speed.py [--workload NAME …] [--peers A,B,…] [--rounds N] [--seconds S] [--keep]

A step is gather, forward, backward and Adam, in float32; the loss is mean softmax cross entropy. The networks
are those of networks.py, built of each peer's own layers. All peers begin with the same parameters, and the losses of
their first steps must agree. Products stay products of float32: no peer is told to round them to bfloat16 or TF32, as
torch.set_float32_matmul_precision or jax_default_matmul_precision could; backlit's are as exact as float32 has them.

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
engine and `products`, the matrix products of the step alone, by NumPy.

Memory is the most that the whole process has had resident, the data and the interpreter included, with backlit's
compiled kernels already in its cache; compilers that torch.compile starts as processes of their own are not counted.
Beside it stands what the process had after its imports, before data and network.

With --keep the workloads that are not measured now stay in the report as they were: it may be made in parts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outcomes import Outcome, report
from workers import ALL, OURS, PEERS, command, machine_now, measured, seconds_of
from workloads import WORKLOADS

HERE = Path(__file__).parent


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


def main() -> int:
    """Measure, print and write; 1 where a bar is missed or the losses do not agree."""
    options, peers = asked()
    about = {"rounds": options.rounds, "seconds": options.seconds}
    old = json.loads(options.out.with_suffix(".json").read_text("utf-8")) if options.keep else {}
    found = {stored["workload"]: Outcome.of(stored) for stored in old.get("workloads", [])}
    for name in options.workload or WORKLOADS:
        workers = measured(WORKLOADS[name], peers, options.rounds, options.seconds)
        found[name] = Outcome(WORKLOADS[name], workers, machine_now() | about)
        print(found[name].details(), end="\n\n", flush=True)
    outcomes = [found[name] for name in WORKLOADS if name in found]
    starting = old.get("starts", {}) if options.no_starts else starts(peers)
    write(options.out, outcomes, starting)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def asked() -> tuple[argparse.Namespace, list[str]]:
    """The options, and the peers among them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="may be repeated; all unless told")
    parser.add_argument("--peers", default=",".join(ALL), help=f"of {', '.join(ALL)}; all unless told")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="of a round")
    parser.add_argument("--no-starts", action="store_true", help="leave out import time and time to the first step")
    parser.add_argument("--keep", action="store_true", help="keep what the report says of other workloads")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "speed.md", help="the table; JSON beside it")
    options = parser.parse_args()
    peers = options.peers.split(",")
    if unknown := set(peers) - set(ALL):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    return options, peers


def write(out: Path, outcomes: Sequence[Outcome], starting: dict[str, Any]) -> None:
    """The tables, and all figures beside them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report(outcomes, starting), "utf-8")
    figures = {"workloads": [o.as_json() for o in outcomes], "starts": starting}
    out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
