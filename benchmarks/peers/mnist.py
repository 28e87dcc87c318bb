"""MNIST from its files as anyone would read it, and a loop over epochs: what the scripts of whole.py share.

Each of them trains 784-128-10 on the first 50,000 images, batch 128, with Adam whose rate falls as a cosine from 0.002
to 0, tells the accuracy on 10,000 others after every epoch, and on the 10,000 test images at the end.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Pair = tuple[Any, Any]
HIDDEN, BATCH, RATE, TRAINED = 128, 128, 2e-3, 50_000


def epochs() -> int:
    """As the command line says."""
    return int(sys.argv[1])


def pairs() -> tuple[Pair, Pair, Pair]:
    """(X[N, 784] float32 in [0, 1], y[N] int64) to train on, to validate with and to test with."""
    X, y = read("train")
    return (X[:TRAINED], y[:TRAINED]), (X[TRAINED:], y[TRAINED:]), read("t10k")


def read(part: str) -> Pair:
    """Images and labels of a part, below the folder $BACKLIT_DATA."""
    folder = Path(os.environ["BACKLIT_DATA"]) / "mnist"
    images = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return images.reshape(-1, 784).astype(np.float32) / np.float32(255), labels.astype(np.int64)


def batches(rng: np.random.Generator) -> Iterator[Any]:
    """The rows of an epoch's mini-batches, shuffled; the last is smaller."""
    order = rng.permutation(TRAINED)
    return (order[i : i + BATCH] for i in range(0, TRAINED, BATCH))


def rate(step: int, of: int) -> float:
    """Of step 1, 2, …: half a cosine."""
    return RATE * (1 + math.cos(math.pi * (step - 1) / of)) / 2


def told(epoch: Callable[[int], float], test: Callable[[], float]) -> None:
    """Run the epochs, each of which gives its accuracy, and print what whole.py reads."""
    seconds, accuracies = [], []
    for number in range(epochs()):
        started = time.perf_counter()
        accuracies.append(epoch(number))
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"test": {"accuracy": test()}, "validation": accuracies, "seconds": seconds}))
