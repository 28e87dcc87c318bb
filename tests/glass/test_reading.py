"""All terms at once are the terms one by one; entries with tens of thousands of terms are looked at lazily."""

from __future__ import annotations

import json
import math
from collections import defaultdict

import numpy as np
import pytest

import backlit as bl
from backlit import rules
from backlit.glass.explain import _Use
from backlit.glass.receipts import Term, Terms
from backlit.glass.terms import parts
from backlit.rules._formula_eval import BesideError
from backlit.rules.formula import formulas_of, parse
from glass.graphs import all_traced
from glass.index_loops import terms


def by_reads(found):
    """(indices, what is read) -> the values of such terms."""
    table = defaultdict(list)
    for part in found:
        table[str(dict(part.indices)), tuple(dict.fromkeys(r[:2] for r in part.reads))].append(part.value)
    return {key: sorted(values) for key, values in table.items()}


def assert_same(formula, arrays, index):
    with np.errstate(all="ignore"):
        want = terms(formula, arrays, index)
    found = parts(formula, arrays, {}, index)
    assert len(found) == len(want)
    values = [p.value for p in want if math.isfinite(p.value)]
    scale = max(map(abs, values), default=0.0)
    found, want = by_reads(found), by_reads(want)
    assert found.keys() == want.keys(), f"{formula.source} at {index}"
    for key, value in want.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-15 * scale, err_msg=formula.source)


@pytest.mark.parametrize("name", [name for name, rule in sorted(rules.REGISTRY.items()) if not rule.moves])
def test_the_terms_are_those_of_index_loops(name):
    """For every formula of every rule: values, indices, and the entries each term reads."""
    rng, rule = np.random.default_rng(3), rules.get(name)
    for found in all_traced(rule, np.float64):
        node = next(n for n in found.trace.graph.nodes if n.name == "node.y" or "node.y" in n.outputs)
        for target, formula in formulas_of(rule).items():
            arrays = _Use(node, target).arrays(found.trace)
            like = arrays.get(target, arrays.get(target.removeprefix("d")))
            for _ in range(3 if hasattr(like, "shape") and like.size else 0):
                assert_same(formula, arrays, tuple(int(rng.integers(n)) for n in like.shape))


def test_an_index_beside_its_array_outside_any_sum_is_refused():
    with pytest.raises(BesideError):
        parts(parse("y[n] = x[n-1]"), {"x": np.ones(3), "y": np.zeros(3)}, {}, (0,))


def of_images():
    model = bl.Sequential(bl.Conv2D(2, 3, padding="valid"), bl.Flatten(), bl.Dense(3))
    model.build((12, 12, 1), seed=0, dtype="float64")
    x = np.random.default_rng(0).random((8, 12, 12, 1))
    return bl.trace(model, x, np.arange(8) % 3, loss="softmax_cross_entropy")


def test_a_filters_weight_has_a_term_for_every_place_and_is_their_sum():
    trace = of_images()
    receipt = trace.explain("conv1.W[0,1,2,0]")
    assert receipt.value == trace.grad("conv1.W")[0, 1, 2, 0]
    assert receipt.ok
    assert len(receipt.terms) == 8 * 10 * 10
    delta, x = trace.delta("conv1"), trace["x"]
    want = {f"n={n}, i={i}, j={j}": delta[n, i, j, 0] * x[n, i + 1, j + 2, 0] for n, i, j in np.ndindex(8, 10, 10)}
    assert {t.label: t.value for t in receipt.terms} == want
    assert receipt.exact == math.fsum(want.values())
    assert sum(t.share for t in receipt.terms) == pytest.approx(1.0)


def test_only_what_is_looked_at_is_made():
    """48,384 terms at the size of the handwritten digits; a printed receipt makes eight of them."""
    made = []

    def make(k):
        made.append(k)
        return Term(f"n={k}", 1.0, 0.5, ())

    receipt = of_images().explain("conv1.W[0,1,2,0]")
    lazy = type(receipt)(**{**vars(receipt), "terms": Terms(np.ones(48_384), np.full(48_384, 0.5), make)})
    printed = str(lazy)
    assert made == list(range(8))
    assert "48376" in printed.replace(",", "")
    assert lazy.rounding >= 0
    assert len(made) == 8
    assert lazy.terms[-1] == Term("n=48383", 1.0, 0.5, ())
    assert lazy.terms[10:12][1].label == "n=11"
    assert lazy.terms[:2] == (make(0), make(1))


def test_all_of_them_are_in_the_json():
    receipt = of_images().explain("conv1.b[1]")
    assert len(json.loads(json.dumps(receipt.as_dict()))["terms"]) == len(receipt.terms) == 800
