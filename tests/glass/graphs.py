"""Small graphs for tests of the glass: every case of every rule with a loss behind it, and the models looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import backlit as bl
from backlit.engines import reference
from backlit.glass.trace import Trace, of_graph
from backlit.graph import functions
from backlit.graph.builder import Builder
from rules.calls import call, cases_of


@dataclass(frozen=True)
class Traced:
    """A case of a rule in a graph of its own."""

    case: str
    trace: Trace

    def entries(self, rng, kind, each=3):
        """Names of random entries: ``value x[0,3]`` or ``∂x[0,3]``."""
        arrays, mark = {"value": (self.trace.values, "value "), "grad": (self.trace.grads, "∂")}[kind]
        for name, array in arrays.items():
            for _ in range(min(each, array.size)):
                index = [int(rng.integers(n)) for n in array.shape]
                yield f"{mark}{name}[{','.join(map(str, index))}]" if index else mark + name


def traced(rule, case, dtype):
    """The rule on its case, Σ wᵢ yᵢ of its outputs with random w behind it; no gradients without backward."""
    called = call(rule, case, dtype)
    builder, env, leaves = Builder(dtype=np.dtype(dtype).name), {}, []
    for name, array in zip((n.replace("[", "").replace("]", "") for n in called.names), called.inputs, strict=True):
        if array is not None:
            env[name] = array
        leaves.append(None if array is None else builder.input(name, array.shape, array.dtype.name))
    outputs = dict(zip(rule.outputs, builder.add(rule.name, *leaves, name="node.y", **called.attributes), strict=True))
    if not rule.differentiated:
        graph = builder.graph(tuple(outputs.values()))
        return Traced(case.label, Trace(graph, reference.forward(graph, reference.leaves(graph, env)), {}))
    rng = np.random.default_rng(11)
    weighted = [
        functions.apply("sum", outputs[o] * rng.uniform(0.5, 1.5, outputs[o].shape).astype(dtype))
        for o in rule.differentiated
    ]
    graph = builder.graph((sum(weighted[1:], weighted[0]),))
    return Traced(case.label, of_graph(graph, reference.leaves(graph, env)))


def all_traced(rule, dtype):
    with np.errstate(all="ignore"):
        return [traced(rule, case, dtype) for case in cases_of(rule)]


def batch(samples=6, features=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, features)), rng.integers(0, classes, samples)


def mlp(dtype="float64", **options):
    """Two layers, built."""
    return bl.Sequential(bl.Dense(5, "tanh"), bl.Dense(3)).build((4,), seed=1, dtype=dtype, **options)


def of_mlp(dtype="float64", **options):
    return bl.trace(mlp(dtype), *batch(), loss="softmax_cross_entropy", **options)


def of_everything(dtype="float64"):
    """The trace of a model with branches, slices, a shared layer, normalisation and dropout."""
    shared = bl.Dense(4, "tanh")

    def function(x):
        h = shared(shared(x))
        both = np.concatenate([h[:, 1:], bl.Dense(3, "relu")(x)], axis=1)
        return bl.Dense(3)(bl.Dropout(0.4)(bl.BatchNorm()(both)))

    return bl.trace(bl.Model(function).build((4,), seed=2, dtype=dtype), *batch(), loss="softmax_cross_entropy", step=3)
