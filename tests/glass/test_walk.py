"""Walks at their edges: from leaves, from the loss, through several inputs, and cut short."""

from __future__ import annotations

import re

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.glass.receipts import Entry
from backlit.glass.walk import Walk, walk
from glass.graphs import batch, of_everything, of_mlp


def names(receipts):
    return [str(r.entry) for r in receipts]


def of_two_inputs():
    """Two inputs, each with a layer of its own."""

    def function(a, b):
        return bl.Dense(2, "tanh")(a) + bl.Dense(2)(b)

    model = bl.Model(function).build(((3,), (2,)), seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    return bl.trace(model, (rng.normal(size=(4, 3)), rng.normal(size=(4, 2))), rng.normal(size=(4, 2)), loss="mse")


def test_data_are_where_a_walk_ends_at_once():
    found = walk(of_mlp(), "x[2,1]")
    assert (found.up, names(found.down), found.end) == ((), ["x[2,1]"], Entry("value", "x", (2, 1)))


@pytest.mark.parametrize("leaf", ["value dense1.W[0,0]", "y[0]"])
def test_a_parameter_or_target_is_a_leaf_but_no_data(leaf):
    found = walk(of_mlp(), leaf)
    assert len(found) == 1
    assert found.end is None
    assert found.ok


def test_the_gradient_of_the_loss_by_itself_goes_nowhere():
    found = walk(of_mlp(), "∂loss")
    assert names(found.up) == ["∂loss"]
    assert (found.down, found.end) == ((), None)


def test_from_a_bias_the_way_down_begins_at_the_first_value_on_the_way_up():
    trace = of_mlp()
    found = walk(trace, "dense1.b[1]")
    n = re.search(r"δ\[(\d),1]", str(found.up[1].entry))[1]
    assert int(n) == int(np.argmax(np.abs(trace.delta("dense1")[:, 1])))
    assert names(found.up)[2] == f"∂dense1.a[{n},1]"
    assert names(found.down)[0] == f"dense1.a[{n},1]"
    assert found.end.name == "x"
    assert found.end.index[0] == int(n)


def test_each_receipt_explains_the_operand_that_matters_most_in_the_one_before():
    found = walk(of_everything(), "dense1.W[1,2]")
    for before, after in zip(found.up, found.up[1:-1], strict=False):
        grads = [e for e in before.rests_on if e.kind == "grad"]
        assert after.entry == grads[0]
    for before, after in zip(found.down, found.down[1:], strict=False):
        largest = next(t for t in before.terms if any(e == after.entry for e, _ in t.operands))
        shares = [abs(t.value) for t in before.terms if any(e.kind == "value" for e, _ in t.operands)]
        assert abs(largest.value) == pytest.approx(max(shares)) or len(before.terms) != len(shares)


def test_the_gradient_by_the_data_is_walked_to_the_loss():
    found = walk(of_mlp(), "∂x[3,0]")
    assert names(found.up)[0] == "∂x[3,0]"
    assert names(found.up)[-1] == "loss"
    assert all(re.search(r"\[3,", name) for name in names(found.up)[:-1])


def test_any_input_of_the_model_is_data():
    trace = of_two_inputs()
    ends = [walk(trace, name).end.name for name in ("dense1.W[0,0]", "dense2.W[0,0]")]
    assert ends == list(trace.graph.inputs[:2])
    assert walk(trace, "loss").end.name in ends


@pytest.mark.parametrize(("depth", "up", "down"), [(0, 0, 0), (1, 1, 1), (3, 3, 3), (99, 5, 1)])
def test_depth_bounds_both_ways(depth, up, down):
    found = walk(of_mlp(), "dense1.W[2,3]", depth=depth)
    assert (len(found.up), len(found.down)) == (up, min(down, len(walk(of_mlp(), "dense1.W[2,3]").down)))


def test_a_walk_cut_short_has_no_end():
    trace = of_mlp()
    assert walk(trace, "loss", depth=2).end is None
    assert walk(trace, "loss", depth=5).end == walk(trace, "loss").end


def test_a_number_that_is_not_what_was_computed_is_seen_on_the_way():
    trace = of_mlp()
    trace.values["dense2.z"][:] *= 1.0 + 1e-12
    found = walk(trace, "loss")
    assert not found.ok
    assert [r.ok for r in found] == [False, False, True, True, True]


def test_a_walk_counts_as_one_row_of_receipts():
    found = walk(of_mlp(), "dense2.W[1,1]")
    assert list(found) == [*found.up, *found.down]
    assert found[len(found.up)] is found.down[0]
    assert found[-1] is found.down[-1]
    with pytest.raises(IndexError):
        found[len(found)]


def test_a_way_without_receipts_has_no_heading():
    down_only, up_only = str(walk(of_mlp(), "loss")), str(walk(of_mlp(), "∂loss"))
    assert "on to the loss" not in down_only
    assert down_only.startswith("down to the data")
    assert "down to the data" not in up_only
    assert str(Walk((), ())) == ""


def test_every_receipt_is_printed_in_both_languages():
    found = walk(of_mlp(), "dense1.W[2,3]")
    for lang, heads in (("en", ("on to the loss", "down to the data")), ("zh", ("沿链式法则到损失", "向下追溯到数据"))):
        with use_language(lang):
            text = str(found)
            assert all(head in text for head in heads)
            assert all(str(receipt) in text for receipt in found)


@pytest.mark.parametrize(("what", "error"), [("dens1.W[0,0]", UnknownNameError), ("dense1.W[0]", InputError)])
def test_what_cannot_be_explained_cannot_be_walked(what, error):
    with pytest.raises(error):
        walk(of_mlp(), what)


def test_numbers_that_are_not_finite_do_not_stop_a_walk():
    model = bl.Sequential(bl.Dense(3), bl.Dense(2)).build((4,), seed=0, dtype="float64")
    model.params["dense1.W"][1, 2] = np.inf
    X, y = batch(classes=2)
    found = walk(bl.trace(model, X, y, loss="softmax_cross_entropy"), "dense2.z[0,0]")
    assert names(found.down)[1] == "dense1.z[0,1]"
    assert found.ok
