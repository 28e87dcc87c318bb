"""Every rule × every case: one step of the fast engine against the reference engine, values and every gradient.

A case becomes a graph: what it can be differentiated by are parameters, the rest constants, and behind its outputs
stands a loss, unless it is one itself.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from backlit import optim
from backlit.engines import reference
from backlit.graph import Builder
from backlit.rules import REGISTRY
from rules.calls import call, cases_of

pytest.importorskip("numba")

from backlit.engines.fast.listing import identifier
from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors

TOLERANCE = {"float64": 1e-12, "float32": 128 * float(np.finfo(np.float32).eps)}
"""Of the largest entry of an array."""
LESS_EXACT = {"far from zero": 100.0}
"""Cases whose data are so many times as large as what is calculated from them: float32 has fewer digits left."""
NO_GRADIENT = {
    "greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "power_iteration", "running_average",
    "stop_gradient",
}  # fmt: skip
"""Rules that no gradient goes through: nothing stands between a parameter and a loss."""
EMPTY = {"no entries", "no samples", "no queries", "none"}
"""Cases whose outputs have no entries: there is no loss of nothing."""
SOMETHING = {("prod", "no entries")}
"""But the product of no entries is 1."""
ALL = "all"
BY_THEIR_RULE = {
    "matmul": ["leading axes stretched"],
    "ctc": ALL, "prod": ALL, "negative_sampling": ALL, "weight_norm": ALL, "spectral_norm": ALL,
    "cosine_similarity": ALL, "cosine_embedding": ALL, "contrastive": ALL, "softmax_focal": ALL,
}  # fmt: skip
"""Rule -> cases that its own functions do, as there are no kernels for them."""


class Step:
    """One step of a rule's case by both engines."""

    def __init__(self, rule, case, dtype, threads):
        self.rule, self.dtype, self.rng = rule, dtype, np.random.default_rng(1)
        self.call, self.builder = call(rule, case, dtype), Builder(dtype=dtype, uniform=True)
        self.arrays = {"batch": np.zeros(1, dtype)}
        batch = self.builder.input("batch", (1,))
        inputs = [self._leaf(i, a) for i, a in enumerate(self.call.inputs)]
        made = self.builder.add(rule.name, *inputs, name="it", **self.call.attributes)
        is_loss = rule.outputs[:2] == ("loss", "mass")
        self.shown = made[:2] if is_loss else made
        loss, mass = made[:2] if is_loss else self._loss(made)
        self.graph = self.builder.graph((loss, batch, mass, *self.shown))
        self.program = self._program(threads)

    def _leaf(self, i, array):
        if array is None or i not in self.call.wrt:
            return None if array is None else self.builder.constant(array)
        self.arrays[f"p{i}"] = array
        return self.builder.parameter(f"p{i}", array.shape, None)

    def _loss(self, made):
        """Squared errors of all that can be differentiated, in a row."""
        b = self.builder
        rows = [b.add("reshape", y, shape=(1, math.prod(y.shape)))[0] for y in self.call.of_differentiated(made)]
        whole = b.add("concatenate", *rows, axis=1)[0] if len(rows) > 1 else rows[0]
        return b.add("mse", whole, self.rng.normal(size=whole.shape), name="loss")

    def _program(self, threads):
        self.vectors = Vectors.of(self.graph, optim.SGD(1.0), self.dtype)
        names = self.graph.parameters
        self.vectors.load({n: self.arrays[n] for n in names}, {}, {n: {} for n in names})
        program = Program(self.graph, optim.SGD(1.0), None, self.vectors, threads=threads)
        program.parts = threads
        return program

    def compare(self, tolerance):
        made = self.program.run({"batch": self.arrays["batch"]}, np.zeros(1, np.int64), np.zeros(1), 1)
        leaves = reference.leaves(self.graph, self.arrays)
        values, d = reference.value_and_grad(self.graph, leaves, self.graph.trainable)
        scale = max(float(np.abs(d[n]).max(initial=0.0)) for n in self.graph.trainable)
        loss = values[self.graph.outputs[0]]
        close(made.losses, loss, tolerance, "loss", max(scale, abs(float(loss))))
        close(made.masses, values[self.graph.outputs[2]], tolerance, "mass")
        for name in self.graph.trainable:
            close(self.vectors.views[f"d {name}"], d[name], tolerance, f"∂L/∂{name}", scale)
        if self.rule.outputs[0] != "loss":
            for y in self.shown:
                close(self.program.space[identifier(y.name)], values[y.name], tolerance, y.name)

    @property
    def by_rule(self):
        """Whether the node is done by its rule's own functions."""
        return f"{identifier('it')}_forward" in self.program.low.closures


def close(found, want, tolerance, what, scale=None):
    scale = float(np.abs(want).max(initial=0.0)) if scale is None else scale
    np.testing.assert_allclose(found, np.broadcast_to(want, found.shape), rtol=0, atol=tolerance * scale, err_msg=what)


def has_entries(rule, case):
    """Whether there is something to make a loss of."""
    made = call(rule, case)
    return all(math.prod(y.shape) for y in made.differentiated)


def left_out(rule, case):
    return case.label in EMPTY and (rule.name, case.label) not in SOMETHING


CASES = [
    pytest.param(rule, case, id=f"{rule.name}-{case.label}")
    for rule in REGISTRY.values()
    if rule.name not in NO_GRADIENT
    for case in cases_of(rule)
    if not left_out(rule, case)
]


@pytest.mark.parametrize(("dtype", "threads"), [("float64", 2), pytest.param("float32", 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("rule", "case"), CASES)
def test_a_step_is_the_interpreters(rule, case, dtype, threads):
    further = LESS_EXACT.get(case.label, 1.0) if dtype == "float32" else 1.0
    Step(rule, case, dtype, threads).compare(TOLERANCE[dtype] * further)


def test_what_has_no_kernel_is_known():
    """Rules that run as they are, all or some of their cases: the list cannot grow unseen."""
    found, known = {}, {}
    for rule, case in (parameters.values for parameters in CASES):
        kept = found if Step(rule, case, "float64", 1).by_rule else known
        kept.setdefault(rule.name, []).append(case.label)
    assert {name: labels if name in known else ALL for name, labels in found.items()} == BY_THEIR_RULE


def test_what_is_left_out_has_nothing_to_differentiate():
    assert {rule.name for rule in REGISTRY.values() if rule.backward is None} == NO_GRADIENT
    for rule in REGISTRY.values():
        for case in cases_of(rule) if rule.name not in NO_GRADIENT else ():
            assert has_entries(rule, case) != left_out(rule, case), f"{rule.name}: {case.label}"
