"""Runs to report on, made once for each test process."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

import backlit as bl

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'


def samples(count=60):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, count)
    return (rng.normal(size=(count, 6)) + 2.0 * rng.normal(size=(3, 6))[y]).astype(np.float32), y


def branched():
    """Layers of every colour, with a way around some of them."""

    def net(x):
        h = bl.BatchNorm()(bl.Dense(8)(x))
        h = bl.Dense(8, "relu")(bl.ops.tanh(h))
        h = h + bl.Dropout(0.1)(bl.Dense(8, "tanh")(h))
        return bl.Dense(3)(h)

    return bl.Model(net)


def plain():
    return bl.Sequential(bl.Dense(4, "relu"), bl.Dense(3))


def train(folder, model=None, **changes):
    settings = {"loss": "softmax_cross_entropy", "epochs": 4, "batch_size": 16, "progress": False}
    validation = {"validation": samples(20)}
    return bl.fit(model or branched(), samples(), run_dir=folder, **settings | validation | changes)


@cache
def place():
    """A folder for runs that is there as long as the process."""
    return Path(tempfile.mkdtemp(prefix="backlit-report-"))


@cache
def run():
    """A run with validation, its page written."""
    found = train(place() / "ordinary")
    found.report(lang="en")
    return found


@cache
def hostile():
    """A run whose every free text tries to leave its place."""
    notes = {"data": {"name": HOSTILE, HOSTILE: HOSTILE}, "why": HOSTILE}
    found = train(place() / "<b>&bold", model=plain(), epochs=1, notes=notes)
    found.record["test"] = {HOSTILE: 0.5}
    found.history[HOSTILE] = [1.0]
    found.report()
    return found
