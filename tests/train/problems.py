"""Small problems that the tests of training share, and a run that uses every part of it at once."""

from __future__ import annotations

import numpy as np

import backlit as bl


def labelled(samples=14, features=4, classes=3, seed=0):
    """Samples around one centre for each class, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    return rng.normal(size=(samples, features)) + 2.0 * rng.normal(size=(classes, features))[y], y


def valued(samples=14, features=4, outputs=2, seed=0):
    """Targets that are a linear map of the samples, with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(samples, features))
    return X, X @ rng.normal(size=(features, outputs)) + 0.1 * rng.normal(size=(samples, outputs))


def linear(features=4, outputs=3, seed=0, dtype="float64"):
    return bl.Sequential(bl.Dense(outputs)).build((features,), seed=seed, dtype=dtype)


def mlp(features=4, outputs=3, seed=0, dtype="float64"):
    return bl.Sequential(bl.Dense(5, "tanh"), bl.Dense(outputs)).build((features,), seed=seed, dtype=dtype)


def everything():
    """A model with running statistics and masks."""
    return bl.Sequential(bl.Dense(6, "relu"), bl.BatchNorm(), bl.Dropout(0.3), bl.Dense(3))


def full_run(run_dir, **changes):
    """A run of 12 steps in 6 epochs with dropout, batchnorm, accumulation, NAdam, a plateau schedule and stopping."""
    X, y = labelled()
    Xv, yv = labelled(10, seed=1)
    yv = (yv + 1) % 3  # validation gets worse as training gets better: the stopping rules have work to do
    settings = {
        "loss": "softmax_cross_entropy",
        "optimizer": bl.NAdam(bl.ReduceOnPlateau(0.05, factor=0.5, patience=1)),
        "epochs": 6,
        "batch_size": 4,
        "accumulate": 2,
        "validation": (Xv, yv),
        "early_stopping": bl.EarlyStopping(patience=4),
        "sample_weight": np.linspace(0.5, 1.5, len(y)),
        "clip": bl.ClipByGlobalNorm(1.0),
        "metrics": ["accuracy", "top2"],
        "seed": 3,
        "progress": False,
        "run_dir": run_dir,
    }
    return bl.fit(changes.pop("model", None) or everything(), (X, y), **settings | changes)


def without_seconds(history):
    return {name: values for name, values in history.items() if name != "seconds"}


class Recorder:
    """Keeps every event; answers what it is told to."""

    def __init__(self, answer=lambda event: None):
        self.events, self.answer = [], answer

    def __call__(self, event):
        self.events.append(event)
        return self.answer(event)

    def kinds(self):
        return [type(event).__name__ for event in self.events]

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]
