"""The chain rule path by path: all paths of small nets by hand, each step a derivative, their sum the gradient."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest

import backlit as bl
from backlit import rules
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.core.names import split_entry
from backlit.glass import paths as paths_module
from backlit.glass.explain import explain
from backlit.glass.paths import Path, Paths, paths
from backlit.glass.trace import of_graph
from backlit.graph.builder import Builder
from glass.graphs import all_traced, batch, of_everything, of_mlp

ALL = 10**6


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def carried(found):
    """Entries of a path -> its value, for the paths that ended."""
    return {p.entries: p.value for p in found}


def total(found):
    return math.fsum(p.value for p in found)


def two_layers():
    """2-2-2 with a sigmoid in the middle, and the numbers of one step by plain NumPy."""
    model = bl.Sequential(bl.Dense(2, "sigmoid"), bl.Dense(2)).build((2,), seed=3, dtype="float64")
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    p = model.params
    a = sigmoid(X @ p["dense1.W"].T + p["dense1.b"])
    error = 2 * (a @ p["dense2.W"].T + p["dense2.b"] - y) / y.size
    return bl.trace(model, X, y, loss="mse"), X, a, error, p["dense2.W"]


# --- all paths of small nets, by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(("i", "k"), list(product(range(2), range(2))))
def test_every_path_of_a_weight_by_hand(i, k):
    trace, X, a, error, W2 = two_layers()
    want = {
        (f"dense1.W[{i},{k}]", f"dense1.z[{n},{i}]", f"dense1.a[{n},{i}]", f"dense2.z[{n},{o}]", "loss"):
            X[n, k] * a[n, i] * (1 - a[n, i]) * W2[o, i] * error[n, o]
        for n, o in product(range(3), range(2))
    }  # fmt: skip
    found = trace.paths(f"dense1.W[{i},{k}]", limit=ALL)
    assert carried(found) == pytest.approx(want, rel=1e-12)
    assert all(p.followed == 1 for p in found)


def test_the_factors_of_a_path_by_hand():
    trace, X, a, error, W2 = two_layers()
    want = {(n, o): (X[n, 1], a[n, 0] * (1 - a[n, 0]), W2[o, 0], error[n, o]) for n in range(3) for o in range(2)}
    for path in trace.paths("dense1.W[0,1]", limit=ALL):
        n, o = split_entry(path.entries[3])[1]
        assert path.factors == pytest.approx(want[n, o], rel=1e-12)
        assert path.value == pytest.approx(math.prod(want[n, o]), rel=1e-12)


def test_every_path_of_an_input_passes_every_hidden_unit():
    trace, _, a, error, W2 = two_layers()
    W1 = trace["dense1.W"]
    want = {
        ("x[1,0]", f"dense1.z[1,{i}]", f"dense1.a[1,{i}]", f"dense2.z[1,{o}]", "loss"):
            W1[i, 0] * a[1, i] * (1 - a[1, i]) * W2[o, i] * error[1, o]
        for i, o in product(range(2), range(2))
    }  # fmt: skip
    assert carried(trace.paths("∂x[1,0]", limit=ALL)) == pytest.approx(want, rel=1e-12)


def test_a_bias_of_the_last_layer_has_a_path_for_each_sample():
    trace, _, _, error, _ = two_layers()
    want = {("dense2.b[1]", f"dense2.z[{n},1]", "loss"): error[n, 1] for n in range(3)}
    assert carried(trace.paths("dense2.b[1]")) == pytest.approx(want, rel=1e-12)


def test_three_layers_multiply_their_widths():
    model = bl.Sequential(bl.Dense(3, "tanh"), bl.Dense(2, "tanh"), bl.Dense(2)).build((2,), seed=0, dtype="float64")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    trace = bl.trace(model, X, y, loss="mse")
    p = model.params
    a1 = np.tanh(X @ p["dense1.W"].T)
    a2 = np.tanh(a1 @ p["dense2.W"].T)
    error = (a2 @ p["dense3.W"].T - y) / 2
    want = sorted(
        (1 - a1[n, 2] ** 2) * p["dense2.W"][h, 2] * (1 - a2[n, h] ** 2) * p["dense3.W"][o, h] * error[n, o] * X[n, 0]
        for n, h, o in product(range(2), range(2), range(2))
    )
    found = trace.paths("dense1.W[2,0]", limit=ALL)
    assert len(found) == 8
    assert sorted(p.value for p in found) == pytest.approx(want, rel=1e-11)


def test_the_softmax_inside_a_net_mixes_its_units():
    """Every unit of a softmax reaches every other: ∂p_j/∂z_k = p_j ([j = k] - p_k)."""
    model = bl.Sequential(bl.Dense(3), bl.Activation("softmax")).build((2,), seed=0, dtype="float64")
    X, y = np.array([[0.5, -1.0]]), np.array([[0.2, 0.3, 0.5]])
    trace = bl.trace(model, X, y, loss="mse")
    z = X[0] @ model.params["dense1.W"].T
    s = np.exp(z) / np.exp(z).sum()
    found = trace.paths("∂dense1.z[0,1]", limit=ALL)
    want = sorted(s[j] * ((j == 1) - s[1]) * 2 * (s[j] - y[0, j]) / 3 for j in range(3))
    assert sorted(p.value for p in found) == pytest.approx(want, rel=1e-12)


def test_where_a_value_is_used_twice_both_ways_are_paths():
    model = bl.Model(lambda x: x * x + 3.0 * x).build((1,), dtype="float64")
    trace = bl.trace(model, np.array([[2.0]]), np.array([[0.0]]), loss="mse")
    found = trace.paths("∂x[0,0]", limit=ALL)
    error = 2 * (4.0 + 6.0)
    assert sorted(p.value for p in found) == pytest.approx([3.0 * error, 4.0 * error])
    assert {p.factors[0] for p in found} == {3.0, 4.0}


def test_a_skip_connection_is_a_path_of_its_own():
    model = bl.Sequential(bl.Residual(bl.Dense(2, "tanh"))).build((2,), seed=0, dtype="float64")
    trace = bl.trace(model, np.array([[0.3, -0.4]]), np.array([[1.0, 1.0]]), loss="mse")
    found = trace.paths("∂x[0,0]", limit=ALL)
    output = trace.graph.outputs[1]
    around = [p for p in found if p.entries == ("x[0,0]", f"{output}[0,0]", "loss")]
    assert len(around) == 1
    assert around[0].factors[0] == 1.0
    assert around[0].value == pytest.approx(2 * (trace[output][0, 0] - 1.0) / 2, rel=1e-14)
    assert len(found) == 3
    assert total(found) == pytest.approx(trace.grad("x")[0, 0], rel=1e-12)


# --- each step is a derivative --------------------------------------------------------------------------------------


def step_by_differences(trace, before, after):
    """∂after/∂before through the one node that makes ``after``, by central differences of its rule's forward."""
    (name, at), (made, place) = split_entry(before), split_entry(after)
    node = trace.graph.producer[made]
    call, h = rules.get(node.rule).call, 1e-5

    def moved(by):
        array = trace.values[name].copy()
        array[at or ()] += by
        given = (None if i is None else array if i == name else trace.values[i] for i in node.inputs)
        return call(np, *given, **node.attributes)[node.outputs.index(made)][place or ()]

    return (moved(h) - moved(-h)) / (2 * h)


def normalised():
    model = bl.Sequential(bl.Dense(3), bl.BatchNorm(), bl.Activation("relu"), bl.Dense(3)).build(
        (4,), seed=1, dtype="float64"
    )
    return bl.trace(model, *batch(), loss="softmax_cross_entropy")


def layer_normalised():
    model = bl.Sequential(bl.Dense(4, "gelu"), bl.LayerNorm(), bl.Dense(2)).build((4,), seed=1, dtype="float64")
    X, _ = batch()
    return bl.trace(model, X, X[:, :2], loss="huber")


MODELS = {
    "branches, sharing, normalisation, dropout": (of_everything, ["dense1.W[1,2]", "dense2.b[0]", "∂x[2,1]"]),
    "batch normalisation": (normalised, ["dense1.W[0,1]", "batchnorm1.gamma[2]", "batchnorm1.beta[1]", "∂x[0,0]"]),
    "layer normalisation": (layer_normalised, ["dense1.W[3,1]", "layernorm1.gamma[0]", "dense1.b[2]"]),
    "two layers": (of_mlp, ["dense1.W[4,3]", "dense1.delta[5,1]", "∂dense1.a[0,0]"]),
}
CASES = [(name, entry) for name, (_, entries) in MODELS.items() for entry in entries]


@pytest.mark.parametrize(("name", "entry"), CASES)
def test_each_factor_is_the_derivative_of_the_next_value(name, entry):
    trace = MODELS[name][0]()
    ended = [p for p in paths(trace, entry, limit=12) if p.factors]
    assert ended
    for path in ended:
        steps = zip(pairwise(path.entries), path.factors, strict=True)
        for (before, after), factor in steps:
            want = step_by_differences(trace, before, after)
            assert factor == pytest.approx(want, rel=1e-6, abs=1e-8), f"{before} → {after}"


@pytest.mark.parametrize(("name", "entry"), CASES)
@pytest.mark.parametrize("limit", [1, 7])
def test_paths_and_the_rest_add_up_to_the_gradient(name, entry, limit):
    trace = MODELS[name][0]()
    found = paths(trace, entry, limit=limit)
    assert found.gradient == pytest.approx(total(found), rel=1e-10, abs=1e-14)
    assert len([p for p in found if p.factors]) <= limit


def test_the_gradient_that_paths_split_is_that_of_the_loss():
    """By differences of the loss, so that paths and gradient are not wrong together."""
    model = bl.Sequential(bl.Dense(3, "tanh"), bl.Dense(2)).build((2,), seed=5, dtype="float64")
    X, y = np.array([[0.4, -0.2], [1.0, 0.3]]), np.array([[1.0, 0.0], [0.0, 1.0]])

    def loss(by):
        model.params["dense1.W"][2, 1] += by
        value = bl.trace(model, X, y, loss="mse").loss
        model.params["dense1.W"][2, 1] -= by
        return value

    found = bl.trace(model, X, y, loss="mse").paths("dense1.W[2,1]", limit=ALL)
    assert total(found) == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-8)


def one_sided(trace, before, after):
    """The derivative from the right and from the left; they differ at a kink."""
    (name, at), (made, place), h = split_entry(before), split_entry(after), 1e-6
    node = trace.graph.producer[made]

    def at_distance(by):
        array = trace.values[name].copy()
        array[at or ()] += by
        given = (None if i is None else array if i == name else trace.values[i] for i in node.inputs)
        return rules.get(node.rule).call(np, *given, **node.attributes)[node.outputs.index(made)][place or ()]

    middle = at_distance(0.0)
    return (at_distance(h) - middle) / h, (middle - at_distance(-h)) / h


SCANS = {"rnn", "lstm", "gru"}
"""Rules that lead on through time inside themselves: an entry's direct share is no derivative of an output."""
STEEP = 1e6
"""Factors from which a difference quotient's own step is too wide to see them."""


@pytest.mark.parametrize("name", sorted(n for n, r in rules.REGISTRY.items() if r.differentiated))
def test_through_every_rule_the_first_step_is_its_derivative(name):
    rng, checked = np.random.default_rng(3), 0
    for case in all_traced(rules.get(name), np.float64)[:5]:
        trace = case.trace
        for entry in case.entries(rng, "grad", each=2):
            if entry.startswith(("∂node", "∂sum", "∂mul", "∂add", "∂constant")):
                continue
            found = trace.paths(entry, limit=3)
            if not math.isfinite(found.gradient):
                continue
            assert total(found) == pytest.approx(found.gradient, rel=1e-8, abs=1e-12), f"{case.case}: {entry}"
            checked += name in SCANS
            steps = [] if name in SCANS else found
            for before, after, factor in ((*p.entries[:2], p.factors[0]) for p in steps if p.factors):
                if abs(factor) > STEEP:
                    continue
                with np.errstate(all="ignore"):
                    right, left = one_sided(trace, before, after)
                if right == pytest.approx(left, rel=1e-3, abs=1e-4):
                    checked += 1
                    assert factor == pytest.approx((right + left) / 2, rel=1e-4, abs=1e-5), f"{case.case}: {before}"
    assert checked


# --- units that pass nothing ----------------------------------------------------------------------------------------


def rectified():
    """Unit 0 lives in both samples, unit 1 in the second alone, unit 2 never."""
    model = bl.Sequential(bl.Dense(3, "relu"), bl.Dense(1)).build((1,), seed=0, dtype="float64")
    model.params["dense1.W"][:] = [[1.0], [1.0], [-1.0]]
    model.params["dense1.b"][:] = [0.0, -1.5, 0.0]
    model.params["dense2.W"][:] = [[1.0, 2.0, 3.0]]
    return bl.trace(model, np.array([[1.0], [2.0]]), np.zeros((2, 1)), loss="mse")


def test_a_dead_unit_ends_its_paths():
    assert [p.entries[1] for p in rectified().paths("dense1.W[1,0]", limit=ALL)] == ["dense1.z[1,1]"]
    assert {p.entries[1] for p in rectified().paths("dense1.W[0,0]", limit=ALL)} == {"dense1.z[0,0]", "dense1.z[1,0]"}


def test_a_unit_dead_for_all_samples_has_no_paths():
    found = rectified().paths("dense1.W[2,0]")
    assert len(found) == 0
    assert found.gradient == 0.0
    assert str(found) == "chain rule by path: ∂dense1.W[2,0] = 0"


def test_a_dropped_unit_has_no_paths_and_a_kept_one_is_scaled():
    trace = of_everything()
    mask = trace["dropout1.mask"]
    for at in np.argwhere(mask == 0)[:3]:
        assert len(trace.paths(f"∂batchnorm1.a[{at[0]},{at[1]}]")) == 0
    n, j = np.argwhere(mask != 0)[0]
    kept = [p.factors[0] for p in trace.paths(f"∂batchnorm1.a[{n},{j}]")]
    assert kept == pytest.approx([1 / 0.6] * len(kept))


def test_a_shared_layer_is_passed_at_each_of_its_calls():
    found = of_everything().paths("dense1.W[1,2]", limit=40)
    assert {p.entries[1].split("[")[0] for p in found if p.factors} == {"dense1.z", "dense1@2.z"}


def test_ways_that_cancel_are_all_listed():
    """2x - 2x: the gradient is 0, and yet two paths carry something."""
    model = bl.Model(lambda x: x * 2.0 - x * 2.0).build((1,), dtype="float64")
    found = bl.trace(model, np.array([[1.5]]), np.array([[3.0]]), loss="mse").paths("∂x[0,0]")
    assert sorted(p.value for p in found) == [-12.0, 12.0]
    assert found.gradient == 0.0


# --- how many -------------------------------------------------------------------------------------------------------


def test_the_limit_leaves_the_rest_as_one_and_the_largest_come_first():
    trace, *_ = two_layers()
    every, three = trace.paths("dense1.W[0,0]", limit=ALL), trace.paths("dense1.W[0,0]", limit=3)
    assert len(every) == 6
    assert len(three) == 4
    sizes = [abs(p.value) for p in every]
    assert sizes == sorted(sizes, reverse=True)
    rest = three[-1]
    assert rest.entries == ("…",)
    assert rest.factors == ()
    others = set(carried(every)) - set(carried(three))
    assert rest.value == pytest.approx(math.fsum(carried(every)[e] for e in others), rel=1e-12)
    assert [p.value for p in three[:3]] == sorted([p.value for p in three[:3]], key=lambda v: -abs(v))


def test_the_way_that_carries_most_is_followed_first():
    """Where no signs cancel, the paths found under a limit are the largest of all."""
    model = bl.Sequential(bl.Dense(4, bias=False), bl.Dense(3, bias=False)).build((2,), seed=0, dtype="float64")
    rng = np.random.default_rng(4)
    for p in model.params.values():
        p[:] = rng.uniform(0.1, 1.0, p.shape)
    trace = bl.trace(model, rng.uniform(0.1, 1.0, (2, 2)), np.zeros((2, 3)), loss="mse")
    every = {p.entries: p.value for p in trace.paths("∂x[0,0]", limit=ALL)}
    assert len(every) == 12
    found = trace.paths("∂x[0,0]", limit=1)
    W1, W2, above = trace["dense1.W"], trace["dense2.W"], trace.delta("dense2")[0]
    out, unit = np.unravel_index(np.argmax(above[:, None] * W2 * W1[:, 0]), W2.shape)
    assert found[0].entries == ("x[0,0]", f"dense1.z[0,{unit}]", f"dense2.z[0,{out}]", "loss")
    three = trace.paths("∂x[0,0]", limit=3)
    assert [p.value for p in three[:3]] == sorted(every.values(), reverse=True)[:3]


def test_a_limit_that_is_just_enough_leaves_no_rest():
    trace, *_ = two_layers()
    found = trace.paths("dense1.W[0,0]", limit=6)
    assert all(p.factors for p in found)
    assert len(found) == 6


def test_a_large_net_is_searched_for_a_bounded_time(monkeypatch):
    monkeypatch.setattr(paths_module, "EXPANSIONS", 10)
    trace = of_everything()
    found = trace.paths("dense1.W[1,2]", limit=ALL)
    assert found[-1].followed > 1
    assert total(found) == pytest.approx(trace.grad("dense1.W")[1, 2], rel=1e-10)


def test_each_entry_is_worked_out_once(monkeypatch):
    seen = []
    monkeypatch.setattr(paths_module, "explain", lambda trace, e: seen.append(e) or explain(trace, e))
    trace, *_ = two_layers()
    trace.paths("∂x[0,0]", limit=ALL)
    assert len(seen) == len(set(seen)) == 1 + 2 + 2 + 2


# --- names, errors, printing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(InputError, match=r"limit|1, 2, 3") as caught:
        of_mlp().paths("dense1.W[0,0]", limit=limit)
    assert caught.value.key == "option_range"
    assert caught.value.part("got").endswith(str(limit))


@pytest.mark.parametrize("entry", ["dense1.z[0,3]", "∂dense1.z[0,3]", "dense1.δ[0,3]", "dense1.delta[0,3]"])
def test_a_value_is_named_as_for_explain(entry):
    trace = of_mlp()
    found = trace.paths(entry)
    assert found.entry == "dense1.δ[0,3]"
    assert found.gradient == float(trace.delta("dense1")[0, 3])
    assert found[0].entries[0] == "dense1.z[0,3]"


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("dens1.W[0,0]", UnknownNameError),
        ("dense1.W[9,0]", InputError),
        ("dense1.W", InputError),
        ("y[0]", InputError),
        ("dense1.W[", InputError),
    ],
)
def test_what_has_no_gradient_is_refused(entry, kind):
    with pytest.raises(kind):
        of_mlp().paths(entry)


def test_the_loss_itself_is_a_path_of_no_steps():
    found = of_mlp().paths("loss")
    assert carried(found) == {("loss",): 1.0}
    assert "other paths" not in str(found)
    assert str(found).splitlines()[1].split() == ["1", "loss"]


def test_a_graph_of_its_own_will_do():
    """x·x·w by hand: ∂/∂x splits into two ways through the inner product."""
    builder = Builder(dtype="float64")
    x, w = builder.input("x", (), "float64"), builder.input("w", (), "float64")
    trace = of_graph(builder.graph((x * x * w,)), {"x": np.asarray(3.0), "w": np.asarray(-2.0)})
    found = trace.paths("∂x")
    assert total(found) == -12.0 == found.gradient
    assert carried(trace.paths("∂w")) == {("w", trace.graph.outputs[0]): 9.0}


def test_a_path_prints_its_steps():
    path = Path(("w", "dense1.z[0,1]", "loss"), (0.5, -4.0), -2.0)
    assert str(path) == "          -2  w ·0.5→ dense1.z[0,1] ·-4→ loss"
    assert str(Path(("…",), (), 0.25, 7)) == "        0.25  all other paths (7 begun)"
    assert str(Path(("…",), (), 0.25, 1)) == "        0.25  all other paths (1 begun)"


def test_paths_print_themselves_in_both_languages():
    found = of_mlp().paths("dense1.W[3,2]", limit=2)
    lines = str(found).splitlines()
    assert lines[0] == f"chain rule by path: ∂dense1.W[3,2] = {found.gradient:.6g}"
    assert len(lines) == 1 + len(found)
    assert all(line.endswith("→ loss") for line in lines[1:-1])
    assert lines[-1].endswith(f"all other paths ({found[-1].followed} begun)")
    with use_language("zh"):
        assert str(found).startswith("按路径展开的链式法则：∂dense1.W[3,2]")
        assert "其余路径" in str(found)


def test_paths_are_a_sequence():
    found = Paths("∂w", 3.0, (Path(("w", "loss"), (2.0,), 2.0), Path(("…",), (), 1.0, 4)))
    assert len(found) == 2
    assert found[1].value == 1.0
    assert [p.value for p in found] == [2.0, 1.0]
