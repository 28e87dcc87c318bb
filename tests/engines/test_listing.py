"""How a graph is written down: which call, on which buffer, in whose place, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit import optim
from backlit.engines import reference
from backlit.graph import Builder
from backlit.nn import losses

pytest.importorskip("numba")

from backlit.engines.fast import memory
from backlit.engines.fast.jit import KERNELS
from backlit.engines.fast.listing import Lowering, identifier, lifetimes
from backlit.engines.fast.lowering import TABLE, listed
from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors, places, view

N, WIDTH = 4, 3


class Staged:
    """``stage(builder, x)`` with a loss behind it: its graph, its listing, and one step with a rate of 0."""

    def __init__(self, stage, loss="mse"):
        self.rng = np.random.default_rng(3)
        b = Builder(dtype="float64", uniform=True)
        out = stage(b, b.input("x", (N, WIDTH)))
        y = b.input("y", out.shape)
        value, mass = b.add(loss, out, y, name="loss")
        self.graph = b.graph((value, out, mass))
        self.arrays = {
            n: self.rng.normal(size=self.graph.values[n].shape) for n in (*self.graph.inputs, *self.graph.parameters)
        }
        self.vectors = Vectors.of(self.graph, optim.SGD(1.0), "float64")
        self.vectors.load({n: self.arrays[n] for n in self.graph.parameters}, {}, {n: {} for n in self.graph.trainable})
        self.program = Program(self.graph, optim.SGD(1.0), None, self.vectors)
        self.low = self.program.low
        self.lines = [str(call) for call in self.low.calls]

    def check(self):
        """Loss, mass and every gradient as the interpreter has them."""
        data = {n: self.arrays[n] for n in self.graph.inputs}
        made = self.program.run(data, np.arange(N), np.zeros(1), 1)
        values, d = reference.value_and_grad(
            self.graph, reference.leaves(self.graph, self.arrays), self.graph.trainable
        )
        found = {n: self.vectors.views[f"d {n}"] for n in self.graph.trainable}
        assert made.losses[0] == pytest.approx(float(values[self.graph.outputs[0]]), rel=1e-14)
        assert made.masses[0] == float(values[self.graph.outputs[2]])
        for name, gradient in found.items():
            np.testing.assert_allclose(gradient, d[name], rtol=1e-12, atol=1e-15, err_msg=name)
        return self


def dense(b, x, name, width=WIDTH, *, bias=True, trainable=(True, True)):
    W = b.parameter(f"{name}.W", (width, x.shape[-1]), None, trainable=trainable[0])
    shift = b.parameter(f"{name}.b", (width,), None, trainable=trainable[1]) if bias else None
    return b.add("linear", x, W, shift, name=f"{name}.z")[0]


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_dotted_name_is_readable_as_a_python_name():
    assert identifier("dense1.z") == "dense1_z"
    assert identifier("dense1@2.z") == "dense1_2_z"


def test_every_name_has_a_python_name_of_its_own():
    names = [
        "dense1.z",
        "dense1_z",
        "d.dense1.z",
        "d_dense1.z",
        "a-b.W",
        "a_b.W",
        "a.b.W",
        "1st.W",
        "st.W",
        "层.W",
        "a+b.W",
    ]
    spelled = {identifier(n) for n in names} | {f"d_{identifier(n)}" for n in names}
    assert all(name.isidentifier() for name in spelled)
    assert len({identifier(n) for n in names}) == len(names)
    assert f"d_{identifier('dense1.z')}" != identifier("d_dense1.z")


@pytest.mark.parametrize("name", ["1st", "d_dense1", "a-b", "class", "part0_x", "stats"])
def test_whatever_a_layer_is_called_its_listing_runs(name):
    Staged(
        lambda b, x: dense(b, b.add("relu", dense(b, b.add("tanh", dense(b, x, "dense1"))[0], name))[0], "last")
    ).check()


# --- in whose place a value is written --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["relu", "tanh", "sigmoid"])
def test_an_activation_takes_the_place_of_a_z_that_nobody_else_reads(rule):
    s = Staged(lambda b, x: dense(b, b.add(rule, dense(b, x, "dense1"), name="dense1.a")[0], "dense2")).check()
    assert (s.low.storage("dense1_a") == "dense1_z") == (rule in KERNELS)
    assert f"linear(0, {int(rule == 'relu')}, x, dense1_W, dense1_b, dense1_z)" in s.lines


def test_a_z_that_is_read_again_keeps_its_place():
    def stage(b, x):
        z = dense(b, x, "dense1")
        (a,) = b.add("relu", z, name="dense1.a")
        return dense(b, b.add("add", a, z)[0], "dense2")

    s = Staged(stage).check()
    assert s.low.storage("dense1_a") == "dense1_a"
    assert "linear(0, 0, x, dense1_W, dense1_b, dense1_z)" in s.lines
    assert "relu(dense1_z_flat, dense1_a_flat)" in s.lines


def test_without_a_bias_there_is_nothing_to_fuse():
    s = Staged(lambda b, x: b.add("relu", dense(b, x, "dense1", bias=False), name="dense1.a")[0]).check()
    assert any(line.startswith("product_nt(") for line in s.lines)
    assert not any(line.startswith("linear(") or "bias" in line for line in s.lines)
    assert "relu(dense1_z_flat, dense1_a_flat)" in s.lines
    assert s.low.storage("dense1_a") == "dense1_z"


def test_a_reshaped_value_is_the_same_buffer_and_so_is_its_gradient():
    def stage(b, x):
        (wide,) = b.add("reshape", dense(b, x, "dense1", 6), shape=(2 * N, 3), name="wide")
        return b.add("reshape", dense(b, wide, "dense2"), shape=(N, 6))[0]

    s = Staged(stage).check()
    assert s.low.storage("wide") == "dense1_z"
    assert s.low.storage("d_dense1_z") == s.low.storage("d_wide")
    assert s.low.shape_of("wide") == (2 * N, 3)
    assert s.low.shape_of("d_dense1_z") == (N, 6)


@pytest.mark.parametrize("rule", ["tanh", "relu", "sigmoid", "reshape", "neg"])
def test_a_parameter_behind_an_activation_or_a_reshape_gets_its_gradient_into_its_vector(rule):
    def stage(b, x):
        w = b.parameter("own.w", (WIDTH,), None)
        (t,) = b.add(rule, w, **({"shape": (WIDTH,)} if rule == "reshape" else {}))
        return x * t

    s = Staged(stage).check()
    assert s.vectors.grads.any()


# --- shares of a gradient ---------------------------------------------------------------------------------------------


def test_the_second_share_is_added_to_the_first():
    def stage(b, x):
        z = dense(b, x, "dense1")
        left, right = (b.add(rule, z)[0] for rule in ("tanh", "sigmoid"))
        return b.add("add", left, right)[0]

    s = Staged(stage).check()
    assert sum(line.startswith("add_to(") for line in s.lines) == 1


def test_a_shared_weight_collects_the_shares_of_all_its_calls():
    def stage(b, x):
        W, shift = (b.parameter(n, shape, None) for n, shape in (("own.W", (WIDTH, WIDTH)), ("own.b", (WIDTH,))))
        for _ in range(3):
            (x,) = b.add("relu", b.add("linear", x, W, shift)[0])
        return x

    s = Staged(stage).check()
    assert sum(line.startswith("add_to(d_own_W") for line in s.lines) == 2
    assert sum(line.startswith("add_to(d_own_b") for line in s.lines) == 2


def test_a_value_taken_twice_by_one_node_counts_twice():
    Staged(lambda b, x: b.add("mul", z := dense(b, x, "dense1"), z)[0]).check()
    s = Staged(lambda b, x: b.add("add", z := dense(b, x, "dense1"), z)[0]).check()
    assert not any(line.startswith("add(") for line in s.lines)  # the kernel would add its own gradient once


# --- what is left out -------------------------------------------------------------------------------------------------


def test_no_gradient_is_made_of_data_and_of_what_lies_before_the_first_parameter():
    s = Staged(lambda b, x: dense(b, b.add("tanh", x)[0], "dense1")).check()
    assert not any("d_x" in line or "d_tanh1" in line for line in s.lines)


def test_a_frozen_layer_passes_the_gradient_on_and_gets_none():
    def stage(b, x):
        h = dense(b, b.add("relu", dense(b, x, "dense1"))[0], "dense2", trainable=(False, False))
        return dense(b, b.add("relu", h)[0], "dense3")

    s = Staged(stage).check()
    assert not any("d_dense2_W" in line or "d_dense2_b" in line for line in s.lines)
    assert "relu_grad(d_relu2_flat, relu2_flat)" in s.lines
    assert set(s.vectors.places) == {"dense1.W", "dense1.b", "dense3.W", "dense3.b"}
    before = s.arrays["dense2.W"].copy()
    data = {n: s.arrays[n] for n in s.graph.inputs}
    s.program.run(data, np.arange(N), np.ones(1), 1)
    assert np.array_equal(s.vectors.views["dense2.W"], before)
    assert not np.array_equal(s.vectors.views["dense3.W"], s.arrays["dense3.W"])


@pytest.mark.parametrize("trainable", [(True, False), (False, True)])
def test_half_of_a_layer_may_be_frozen(trainable):
    s = Staged(lambda b, x: dense(b, b.add("relu", dense(b, x, "a", trainable=trainable))[0], "c")).check()
    assert any("d_a_W" in line for line in s.lines) == trainable[0]
    assert any("d_a_b" in line for line in s.lines) == trainable[1]


# --- rules without a kernel, and kernels that do not fit --------------------------------------------------------------


def test_a_rule_without_a_kernel_is_called_as_it_is(monkeypatch):
    monkeypatch.delitem(TABLE, "gelu", raising=False)
    s = Staged(lambda b, x: b.add("gelu", dense(b, x, "dense1"), name="gate.y")[0]).check()
    assert set(s.low.closures) == {"gate_y_forward", "gate_y_backward"}
    assert [call.nodes for call in s.low.calls if call.kernel == "gate_y_forward"] == [("gate.y",)]


@pytest.mark.parametrize("shape", [(WIDTH,), (N, 1), (1, 1)])
def test_stretched_arrays_are_added(shape):
    Staged(lambda b, x: b.add("add", dense(b, x, "dense1"), b.parameter("own.w", shape, None), name="sum.y")[0]).check()


@pytest.mark.parametrize("loss", ["mae", "huber", "binary_cross_entropy"])
def test_a_loss_without_a_kernel_keeps_its_loss_and_mass(loss):
    s = Staged(lambda b, x: dense(b, x, "dense1"), loss)
    s.arrays["y"] = (s.arrays["y"] > 0).astype(float)
    s.check()
    assert "keep_loss(loss_flat, loss_mass_flat, stats)" in s.lines


def test_the_statistics_of_a_batchnorm_are_outputs_that_no_gradient_comes_to():
    def stage(b, x):
        gamma, beta = (b.parameter(f"norm.{n}", (WIDTH,), None) for n in ("gamma", "beta"))
        return b.add("batchnorm", dense(b, x, "dense1"), gamma, beta, name="norm.y")[0]

    Staged(stage).check()


@pytest.mark.parametrize(
    ("loss", "kernel"),
    [
        ("softmax_cross_entropy", True),
        (bl.SoftmaxCrossEntropy(label_smoothing=0.1), True),
        (bl.SoftmaxCrossEntropy(ignore=1), False),
    ],
)
def test_only_a_loss_without_weights_is_fused(loss, kernel):
    model = bl.Sequential(bl.Dense(3)).build((WIDTH,), seed=0)
    graph = model.graph((((N, WIDTH), "float32"),), training=True, loss=losses.get(loss), target=((N,), "int64"))
    low = Lowering(graph)
    low.views |= {identifier(n): ("", graph.values[n].shape) for n in (*graph.inputs, *graph.parameters)}
    assert ("softmax_cross_entropy" in {call.kernel for call in listed(graph, low).calls}) == kernel


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_buffer_is_needed_from_its_first_to_its_last_call():
    s = Staged(lambda b, x: dense(b, b.add("relu", dense(b, x, "dense1"), name="dense1.a")[0], "dense2"))
    uses = lifetimes(s.low, {})
    for name, (first, last) in uses.items():
        touched = [i for i, call in enumerate(s.low.calls) if name in map(s.low.storage, call.arguments)]
        assert (first, last) == (touched[0], touched[-1]), name
    kept = lifetimes(s.low, {"dense2_z": (N, WIDTH)})
    assert kept["dense2_z"] == (0, len(s.low.calls))


def test_what_is_read_after_the_step_has_a_place_of_its_own():
    s = Staged(lambda b, x: dense(b, b.add("relu", dense(b, x, "dense1"))[0], "dense2"))
    output = s.program.buffers["dense2_z"]
    others = [b for b in s.program.buffers.values() if b is not output]
    assert all(b.offset + b.size <= output.offset or output.offset + output.size <= b.offset for b in others)


def test_two_buffers_share_a_place_where_one_begins_after_the_other_has_ended():
    shapes = {"early": (3, 5), "late": (15,), "throughout": (1,)}
    placed, size = memory.plan(shapes, {"early": (0, 1), "late": (2, 3), "throughout": (0, 3)})
    assert placed["early"].offset == placed["late"].offset == 0
    assert (placed["throughout"].offset, size) == (16, 32)
    touching, _ = memory.plan(shapes, {"early": (0, 2), "late": (2, 3), "throughout": (0, 3)})
    assert touching["early"].offset != touching["late"].offset


def test_places_begin_at_whole_cache_lines():
    assert [memory.padded(n) for n in (0, 1, 16, 17, 32)] == [0, 16, 16, 32, 32]
    placed, size = memory.plan({f"b{n}": (n,) for n in range(1, 40)}, {f"b{n}": (0, 1) for n in range(1, 40)})
    assert all(b.offset % memory.ALIGN == 0 for b in placed.values())
    assert size == sum(memory.padded(n) for n in range(1, 40))
    assert memory.plan({}, {}) == ({}, 0)


def test_vectors_hold_the_trainable_parameters_first_and_give_back_what_was_loaded():
    s = Staged(lambda b, x: dense(b, dense(b, x, "ice", 5, trainable=(False, False)), "dense1"))
    v = s.vectors
    found, end = places(s.graph.trainable, s.graph)
    assert v.places == found
    assert v.grads.size == end == v.trained.size < v.params.size
    assert np.shares_memory(v.views["dense1.W"], v.trained)
    assert not np.shares_memory(v.views["ice.W"], v.trained)
    values, slots = v.copies()
    grads = {n: v.views[f"d {n}"] for n in v.places}
    assert all(np.array_equal(values[n], s.arrays[n]) for n in s.graph.parameters)
    assert {n: g.shape for n, g in grads.items()} == {n: s.arrays[n].shape for n in s.graph.trainable}
    assert slots.keys() == grads.keys()
    values["dense1.W"][...] = 7.0
    assert np.array_equal(v.views["dense1.W"], s.arrays["dense1.W"])


def test_a_view_is_a_part_of_its_vector():
    vector = np.arange(32.0)
    part = view(vector, 16, (2, 3))
    part[1, 2] = -1.0
    assert vector[21] == -1.0
    assert view(vector, 3, ()) == 3.0
