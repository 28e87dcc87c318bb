"""A loss called as the engine calls it, and batches to call it with."""

from __future__ import annotations

import numpy as np

from backlit import rules

REGRESSION = ("mse", "mae", "huber")
SOFT = "softmax_cross_entropy_soft"
LOSSES = (*REGRESSION, "softmax_cross_entropy", SOFT, "binary_cross_entropy", "kl_divergence")


class Result:
    """What forward and backward of a loss give, and the attributes they were called with."""

    def __init__(self, name, *inputs, dloss=1.0, **attributes):
        rule = rules.get(name)
        arrays = [None if i is None else np.asarray(i) for i in inputs]
        arrays += [None] * (len(rule.inputs) - len(arrays))
        attributes = rule.defaults | attributes
        outputs = rule.call(np, *arrays, **attributes)
        self.loss, self.mass = (float(o) for o in outputs[:2])
        self.p = outputs[2] if len(outputs) > 2 else None
        saved = rule.saved_from(tuple(arrays), outputs, attributes)
        (self.gradient,) = rule.gradients(np, [np.asarray(dloss, arrays[0].dtype)], saved)


def close(got, want, rtol=1e-14):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max())


def random_classification(lead, classes, seed=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*lead, classes)), rng.integers(0, classes, size=lead), rng.uniform(0.1, 2.0, size=lead)


def whole_batch(name):
    """(first input, second input, weights) of six samples with two positions each."""
    rng = np.random.default_rng(3)
    first, weights = rng.normal(size=(6, 2, 4)), np.asarray([0.5, 2.0, 0.0, 1.25, 0.0, 1.0])
    if name == "softmax_cross_entropy":
        return first, rng.integers(0, 4, size=(6, 2)), weights
    if name in REGRESSION:
        return first, rng.normal(size=first.shape), weights
    p = rng.dirichlet(np.ones(4), size=(6, 2))
    return (np.log(rng.dirichlet(np.ones(4), size=(6, 2))) if name == "kl_divergence" else first), p, weights
