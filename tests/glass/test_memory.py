"""Memory on graphs made by hand: what is kept, by whom, from which step to which, and the bytes at each."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.glass.memory import Memory, Reason, Walk, memory, nbytes, saved
from backlit.graph import functions
from backlit.graph.builder import Builder


def zeros(_rng, shape):
    return np.zeros(shape)


def multiplied():
    """loss = Σ (x ⊙ w) ⊙ (x ⊙ w): float64, x and w of 4 entries; w is trained."""
    b = Builder(dtype="float64")
    x, w = b.input("x", (4,)), b.parameter("w", (4,), zeros)
    product = functions.apply("mul", x, w, name="product")
    square = functions.apply("mul", product, product, name="square")
    return b.graph((functions.apply("sum", square, name="loss"),))


def branched():
    """A branch that never reaches the loss beside one that does."""
    b = Builder(dtype="float32")
    x, w = b.input("x", (3,)), b.parameter("w", (3,), zeros)
    h = functions.apply("mul", x, w, name="h")
    aside = functions.apply("exp", h, name="aside")
    return b.graph((functions.apply("sum", h, name="loss"), aside))


def test_the_steps_go_forward_and_back_and_end_with_the_update():
    walk = Walk(multiplied())
    assert walk.steps == ("product", "square", "loss", "∂loss", "∂square", "∂product", "update")
    assert walk.forward_step == {"product": 1, "square": 2, "loss": 3}
    assert walk.backward_step == {"loss": 4, "square": 5, "product": 6}


def test_only_what_leads_from_a_parameter_is_sent_a_gradient():
    sent = {node.name: given for node, given in Walk(multiplied()).back}
    assert sent["loss"] == ("square",)
    assert set(sent["square"]) == {"product"}
    assert sent["product"] == ("w",)


def test_what_does_not_reach_the_loss_is_not_walked_back():
    walk = Walk(branched())
    assert "∂aside" not in walk.steps
    assert [n.name for n, _ in walk.back] == ["loss", "h"]
    assert walk.last_use["aside"] == len(walk.steps)


def test_without_parameters_nothing_is_walked_back():
    b = Builder(dtype="float64")
    x = b.input("x", (4,))
    walk = Walk(b.graph((functions.apply("sum", functions.apply("exp", x, name="e"), name="loss"),)))
    assert walk.back == ()
    assert walk.kept == ()
    assert walk.steps == ("e", "loss", "update")
    assert list(walk.gradients()) == []


def test_what_is_kept_names_who_needs_it_and_until_when():
    kept = {k.value: k for k in Walk(multiplied()).kept}
    assert (kept["x"].made, kept["x"].until, kept["x"].leaf) == (0, 6, True)
    assert (kept["product"].made, kept["product"].until, kept["product"].leaf) == (1, 5, False)
    assert {r.node for r in kept["product"].reasons} == {"square"}
    assert len(kept["product"].reasons) == 2
    assert kept["product"].bytes == 32
    assert str(Reason("dense1.z", "linear", "x")) == "dense1.z: linear.backward(x)"


def test_each_gradient_lives_from_its_first_share_until_it_is_carried_on():
    held = {h.name: (h.bytes, h.first, h.last) for h in Walk(multiplied()).gradients()}
    assert held == {"∂loss": (8, 4, 4), "∂square": (32, 4, 5), "∂product": (32, 5, 6), "∂w": (32, 6, 7)}


def test_each_value_lives_from_where_it_is_made_until_its_last_use():
    held = {h.name: (h.bytes, h.first, h.last) for h in Walk(multiplied()).values()}
    assert held == {"product": (32, 1, 5), "square": (32, 2, 3), "loss": (8, 3, 7)}


def test_bytes_at_every_step_of_the_least_plan_by_hand():
    """x and w are there (64 B); the update of w is in place."""
    walk = Walk(multiplied())
    assert "square" not in {k.value for k in walk.kept}  # the backward of a sum needs no numbers
    want = (
        64 + 32,  # product
        64 + 32 + 32,  # and square
        64 + 32 + 32 + 8,  # and the loss
        64 + 32 + 8 + 8 + 32,  # ∂loss, ∂square
        64 + 32 + 8 + 32 + 32,  # ∂square, ∂product
        64 + 8 + 32 + 32,  # ∂product, ∂w
        64 + 8 + 32,
    )
    assert memory(walk, 0).least == want


def test_the_reference_engine_frees_nothing_before_its_walk_back_has_ended():
    found = memory(Walk(multiplied()), 0)
    values, gradients = 32 + 32 + 8, 8 + 32 + 32 + 32
    assert found.reference == (
        64 + 32, 64 + 64, 64 + values, 64 + values + 40, 64 + values + 72, 64 + values + gradients,
        64 + 8 + 32 + 32,  # the loss, ∂w, and the new w beside the old one
    )  # fmt: skip
    assert all(a >= b for a, b in zip(found.reference, found.least, strict=True))


def test_the_state_of_an_optimizer_is_there_all_the_time_and_twice_at_the_update():
    walk = Walk(multiplied())
    without, with_state = memory(walk, 0), memory(walk, 64)
    assert with_state.resident["optimizer"] == 64
    assert [b - a for a, b in zip(without.least, with_state.least, strict=True)] == [64] * 7
    assert [b - a for a, b in zip(without.reference, with_state.reference, strict=True)] == [64] * 6 + [128]


def test_the_peak_is_the_first_step_with_the_most():
    found = Memory(("a", "b", "c"), {"inputs": 1}, (3, 9, 9), (2, 1, 2))
    assert (found.reference_peak.bytes, found.reference_peak.step, found.reference_peak.name) == (9, 2, "b")
    assert (found.least_peak.bytes, found.least_peak.step, found.least_peak.name) == (2, 1, "a")
    assert found.as_dict() == {
        "resident": {"inputs": 1},
        "reference_peak": {"bytes": 9, "step": 2, "name": "b"},
        "least_peak": {"bytes": 2, "step": 1, "name": "a"},
        "steps": ["a", "b", "c"],
        "reference": [3, 9, 9],
        "least": [2, 1, 2],
    }


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8), ("float16", 2), ("int64", 8), ("bool", 1)])
def test_bytes_of_a_value(dtype, size):
    b = Builder(dtype="float32")
    x, whole = b.input("x", (3, 5), dtype), b.input("whole", (), dtype)
    graph = b.graph((functions.apply("reshape", x, shape=(15,)), whole))
    assert nbytes(graph, "x") == 15 * size
    assert nbytes(graph, "whole") == size


def test_what_backward_takes_is_named_as_the_rule_names_it():
    graph = multiplied()
    product, square, _ = graph.nodes
    assert dict(saved(product)) == {"a": "x", "b": "w"}
    assert [value for _, value in saved(square)] == ["product", "product"]


def test_a_joining_rule_keeps_nothing_and_sends_a_gradient_to_each_of_its_inputs():
    b = Builder(dtype="float32")
    parts = [b.parameter(f"w{i}", (2, i + 1), zeros) for i in range(3)]
    joined = functions.apply("concatenate", *parts, axis=1, name="joined")
    graph = b.graph((functions.apply("sum", joined, name="loss"),))
    assert list(saved(graph.nodes[0])) == []
    sent = {node.name: given for node, given in Walk(graph).back}
    assert sent["joined"] == ("w0", "w1", "w2")


def test_a_value_used_by_several_is_kept_until_the_last_of_them():
    """In a residual block h is read by the skip and by the layer: the layer's backward comes last."""

    def network(x):
        h = bl.Dense(4, "tanh")(x)
        return bl.Dense(2)(h + bl.Dense(4, "tanh")(h))

    model = bl.Model(network).build((3,), seed=0)
    graph = model.graph((((5, 3), "float32"),), training=True)
    walk = Walk(graph)
    kept = {k.value: k for k in walk.kept}
    users = {r.node for r in kept["dense1.a"].reasons}
    assert users == {"dense1.a", "dense2.z"}
    assert kept["dense1.a"].until == max(walk.backward_step[u] for u in users)
    gradient = next(h for h in walk.gradients() if h.name == "∂dense1.a")
    assert gradient.first == walk.backward_step["add1"]
    assert gradient.last == walk.backward_step["dense1.a"]


@pytest.mark.parametrize("samples", [1, 7])
def test_held_bytes_grow_with_the_batch_and_parameters_do_not(samples):
    model = bl.Sequential(bl.Dense(6, "tanh"), bl.Dense(2)).build((3,), seed=0)
    found = memory(Walk(model.graph((((samples, 3), "float32"),), training=True)), 0)
    assert found.resident["parameters"] == 4 * (6 * 3 + 6 + 2 * 6 + 2)
    assert found.resident["inputs"] == 4 * 3 * samples
    assert found.least[0] - sum(found.resident.values()) == 4 * 6 * samples
    assert np.all(np.array(found.least) >= sum(found.resident.values()))
