"""An epoch over rows in a file that is mapped into memory, in a process of its own; prints a line of JSON.

    python benchmarks/rows_worker.py X.npy y.npy

``own_bytes`` is the memory that belongs to the process alone (RssAnon): pages of the file, which the system may drop at
any time, are not in it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np

import backlit as bl

BATCH = 128


def main() -> None:
    """Train 784-128-10 for two epochs and tell about the second."""
    X, y = (np.lib.format.open_memmap(path, mode="r") for path in sys.argv[1:3])
    model = bl.Sequential(bl.Dense(128, "relu"), bl.Dense(10))
    run = bl.fit(
        model, (X, np.array(y)), loss="softmax_cross_entropy", optimizer=bl.Adam(1e-3), epochs=2, batch_size=BATCH,
        engine="fast", record=False, progress=False,
    )  # fmt: skip
    steps = -(-len(y) // BATCH)
    print(json.dumps({"step": run.history["seconds"][-1] / steps, "own_bytes": own(), "file_bytes": X.nbytes}))


def own() -> int:
    """Bytes of the process's own, as Linux tells them; 0 elsewhere."""
    status = Path("/proc/self/status")
    found = re.search(r"^RssAnon:\s+(\d+)", status.read_text("utf-8") if status.exists() else "", re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
