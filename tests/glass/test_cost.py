"""The cost ledger: by hand on small nets, and against the reference engine run on arrays that count and weigh."""

from __future__ import annotations

import json

import numpy as np
import pytest

import backlit as bl
from backlit import optim, rules
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.core.tables import amount, bar, text_table
from backlit.engines import counting, reference
from backlit.glass.cost import Work, _rows, cost, step_graph
from backlit.glass.memory import Walk, saved
from backlit.glass.timing import Times
from backlit.graph import Builder
from backlit.graph.graph import differentiable_inputs
from backlit.nn import losses
from engines.test_counting import Tally, TallyingNumPy, all_cases, arguments, plain, tallied

N, I, H, C = 5, 4, 3, 2  # noqa: E741  samples, inputs, hidden units, classes
B = 4  # bytes of a float32


def mlp():
    return bl.Sequential(bl.Dense(H, "relu"), bl.Dense(C)).build((I,))


def everything():
    h = bl.Dense(6, "tanh")

    def network(x):
        a = h(bl.Dropout(0.3)(bl.BatchNorm()(bl.Dense(6, "relu")(x))))
        return bl.Dense(3)(bl.LayerNorm()(h(a) + a * a))

    return bl.Model(network).build((I,), seed=1)


def frozen():
    return bl.Sequential(bl.Dense(3, "relu", trainable=False), bl.Dense(3, "relu"), bl.Dense(C)).build((I,))


MODELS = [mlp, everything, frozen]
LOSSES = [None, "mse", "softmax_cross_entropy", "binary_cross_entropy", "huber"]


def real_step(model, loss):
    """The graph of a step and the values of its leaves, with numbers."""
    graph = step_graph(model, N, None if loss is None else losses.get(loss))
    rng = np.random.default_rng(0)
    arrays = {
        n: rng.integers(0, 2, v.shape) if v.dtype == "int64" else rng.normal(size=v.shape).astype(v.dtype)
        for n, v in ((n, graph.values[n]) for n in graph.inputs)
    }
    return graph, reference.leaves(graph, arrays | model.params | model.state, step=1)


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger():
    return cost(mlp(), N, loss="softmax_cross_entropy", optimizer=bl.SGD(0.1))


def test_flops_and_bytes_of_a_dense_layer_by_hand(ledger):
    first, second = ledger["dense1.z"], ledger["dense2.z"]
    assert first.forward == Work(2 * N * I * H + N * H, B * (N * I + H * I + H), B * N * H)
    assert first.backward == Work(4 * N * I * H + N * H, B * (N * H + N * I + H * I), B * (N * I + H * I + H))
    assert second.backward.written == B * (N * H + C * H + C)
    assert first.forward.intensity == first.forward.flops / (first.forward.read + first.forward.written)


def test_an_activation_by_hand(ledger):
    row = ledger["dense1.a"]
    assert (row.forward, row.backward) == (
        Work(2 * N * H, B * N * H, B * N * H),
        Work(2 * N * H, 2 * B * N * H, B * N * H),
    )


def test_the_update_by_hand():
    weights = H * I
    sgd = cost(mlp(), N, optimizer=bl.SGD(0.1)).updates[0]
    assert (sgd.parameter, sgd.work) == ("dense1.W", Work(2 * weights, 2 * B * weights, B * weights))
    momentum = cost(mlp(), N, optimizer=bl.SGD(0.1, momentum=0.9)).updates[0].work
    assert (momentum.read, momentum.written) == (3 * B * weights, 2 * B * weights)
    assert cost(mlp(), N).updates[0].work.bytes == B * weights * (4 + 3)  # adam: p, g, m, v read; p, m, v written


def test_totals_are_the_sums(ledger):
    assert ledger.forward.flops == sum(row.forward.flops for row in ledger.rows)
    assert ledger.backward.bytes == sum(row.backward.bytes for row in ledger.rows)
    assert ledger.update.flops == 2 * (H * I + H + C * H + C)
    assert not ledger.measured


def test_what_is_kept_and_why(ledger):
    found = {k.value: (k.bytes, k.made, k.until, [str(r) for r in k.reasons]) for k in ledger.kept}
    # forward: 1 dense1.z, 2 dense1.a, 3 dense2.z, 4 loss; back: 5 ∂loss, 6 ∂dense2.z, 7 ∂dense1.a, 8 ∂dense1.z
    assert ledger.memory.steps == (
        *("dense1.z", "dense1.a", "dense2.z", "loss"),
        *("∂loss", "∂dense2.z", "∂dense1.a", "∂dense1.z", "update"),
    )
    assert found == {
        "x": (B * N * I, 0, 8, ["dense1.z: linear.backward(x)"]),
        "dense1.W": (B * H * I, 0, 8, ["dense1.z: linear.backward(W)"]),
        "dense1.a": (B * N * H, 2, 7, ["dense2.z: linear.backward(x)", "dense1.a: relu.backward(y)"]),
        "dense2.W": (B * C * H, 0, 6, ["dense2.z: linear.backward(W)"]),
        "y": (8 * N, 0, 5, ["loss: softmax_cross_entropy.backward(labels)"]),
        "loss.p": (B * N * C, 4, 5, ["loss: softmax_cross_entropy.backward(p)"]),
        "loss.mass": (B, 4, 5, ["loss: softmax_cross_entropy.backward(mass)"]),
    }


def test_memory_by_hand(ledger):
    """dense1.z is never needed again after the relu; dense2.z is the model's output and stays."""
    parameters, inputs = B * (H * I + H + C * H + C), B * N * I + 8 * N
    there, hidden, out = parameters + inputs, B * N * H, B * N * C
    first, second = B * (H * I + H), B * (C * H + C)
    outputs = out + 2 * B  # dense2.z, loss, mass
    assert ledger.memory.resident == {
        "parameters": parameters, "state": 0, "inputs": inputs, "constants": 0, "optimizer": 0,
    }  # fmt: skip
    assert ledger.memory.least == (
        there + hidden,
        there + 2 * hidden,
        there + hidden + out,
        there + hidden + outputs + out,  # p
        there + hidden + outputs + out + B + out,  # p, ∂loss, ∂dense2.z
        there + hidden + outputs + out + second + hidden,
        there + hidden + outputs + second + 2 * hidden,
        there + outputs + second + hidden + first,
        there + outputs + second + first,
    )
    values = 2 * hidden + outputs + out
    assert ledger.memory.reference[:4] == (
        there + hidden, there + 2 * hidden, there + 2 * hidden + out, there + values,
    )  # fmt: skip
    assert ledger.memory.reference[7] == there + values + B + out + second + 2 * hidden + first
    assert ledger.memory.reference[8] == there + outputs + first + second + parameters  # and the new parameters
    assert (ledger.memory.reference_peak.step, ledger.memory.reference_peak.name) == (8, "∂dense1.z")
    peak = ledger.memory.least_peak
    assert (peak.bytes, peak.name) == (max(ledger.memory.least), ledger.memory.steps[peak.step - 1])


def test_a_mask_is_drawn_when_it_is_first_used_but_by_the_reference_engine_at_once():
    model = bl.Sequential(bl.Dense(H), bl.Dropout(0.5), bl.Dense(C)).build((I,))
    memory, without = (cost(m, N, optimizer=bl.SGD(0.1)).memory for m in (model, mlp()))
    mask = B * N * H
    assert memory.reference[0] - without.reference[0] == mask
    assert memory.least[0] == without.least[0]
    assert memory.least[1] - without.least[1] == mask


def test_without_a_loss_backward_starts_at_the_output():
    found = cost(mlp(), N)
    assert (found.loss, found.memory.steps[3]) == (None, "∂dense2.z")
    assert found.backward.flops == 4 * N * I * H + N * H + 2 * N * H + 4 * N * H * C + N * C


def test_a_frozen_layer_at_the_bottom_needs_nothing_kept():
    found = cost(frozen(), N)
    assert found["dense1.z"].backward is None
    assert {"x", "dense1.z", "dense1.W"}.isdisjoint(k.value for k in found.kept)
    assert {u.parameter for u in found.updates} == {"dense2.W", "dense2.b", "dense3.W", "dense3.b"}


def test_a_gradient_that_meets_another_is_read_and_written_again():
    model = bl.Sequential(bl.Residual(bl.Dense(I, bias=False))).build((I,))
    back = cost(model, N)["dense1.z"].backward
    weights, rows = B * I * I, B * N * I
    assert back == Work(4 * N * I * I + N * I, 2 * rows + weights, weights + rows)
    two = bl.Sequential(bl.Dense(I), bl.Residual(bl.Dense(I, bias=False))).build((I,))
    met = cost(two, N)["dense2.z"].backward
    assert (met.read, met.written) == (2 * rows + weights + 2 * rows, weights + rows + rows)


# --- every rule, with numbers -----------------------------------------------------------------------------------------


def weight(arrays):
    """Bytes of the distinct arrays among these."""
    return sum(a.nbytes for a in {id(a): a for a in arrays if isinstance(a, np.ndarray)}.values())


@pytest.mark.parametrize(("rule", "case"), list(all_cases()))
def test_bytes_of_every_rule(rule, case):
    """The arrays that forward and backward are really handed and hand back."""
    inputs, attributes = arguments(rule, case, "float64")
    found = one_node(rule, inputs, attributes)
    with np.errstate(all="ignore"):
        outputs = rule.call(np, *inputs, **attributes)
        assert found.forward.read == weight(inputs)
        assert found.forward.written == sum(np.asarray(y).nbytes for y in outputs)
        if rule.backward is None or not rule.differentiable:
            return
        kept = rule.saved_from(tuple(inputs), outputs, attributes)
        arrays = [a for v in kept.values() for a in (v if isinstance(v, tuple) else (v,))]
        arrays = [np.asarray(a) if isinstance(a, np.generic) else a for a in arrays]
        dys = [np.ones_like(y) for n, y in zip(rule.outputs, outputs, strict=True) if n in rule.differentiated]
        gradients = rule.gradients(np, dys, kept)
        present = [True] * len(inputs) if rule.variadic else [
            inputs[rule.inputs.index(n)] is not None for n in rule.differentiable
        ]  # fmt: skip
        assert found.backward.read == dys[0].nbytes + weight(arrays)  # none comes back to further outputs
        assert found.backward.written == sum(g.nbytes for g, there in zip(gradients, present, strict=True) if there)


def one_node(rule, inputs, attributes):
    """The ledger's row for a graph of this one node, every differentiable input a parameter."""
    builder, given = Builder(dtype="float64"), []
    names = rule.inputs * len(inputs) if rule.variadic else rule.inputs
    for i, (name, a) in enumerate(zip(names, inputs, strict=True)):
        if a is None:
            given.append(None)
        elif name in rule.differentiable and a.dtype.kind == "f":
            given.append(builder.parameter(f"p{i}", a.shape, lambda _, shape: np.zeros(shape)))
        else:
            given.append(builder.input(f"i{i}", a.shape, a.dtype.name))
    graph = builder.graph(builder.add(rule.name, *given, name="node", **attributes)[:1])
    (row,) = _rows(Walk(graph), Times())
    return row


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_flops_are_those_of_a_step_with_numbers(model, loss):
    made = model()
    graph, env = real_step(made, loss)
    found, xp = cost(made, N, loss=loss), TallyingNumPy()
    before = Tally.flops
    values = reference.forward(graph, {n: tallied(a) for n, a in env.items()}, xp)
    between = Tally.flops
    reference.backward(graph, values, graph.trainable, graph.outputs[0], xp)
    assert (found.forward.flops, found.backward.flops) == (between - before, Tally.flops - between)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "nadam", "lion"])
def test_flops_of_the_update_are_those_of_an_update_with_numbers(name):
    optimizer, xp = optim.get(name), TallyingNumPy()
    found = cost(mlp(), N, optimizer=name).updates[0].work
    p, g = (tallied(np.full((H, I), v, "float32")) for v in (0.5, 0.25))
    state = {n: tallied(s) for n, s in optimizer.init(np, plain(p)).items()}
    before = Tally.flops
    new, slots = optimizer.update(xp, p, g, state, lr=0.1, t=1)
    assert found.flops == Tally.flops - before
    assert found.read == weight([plain(p), plain(g), *map(plain, state.values())])
    assert found.written == new.nbytes + sum(s.nbytes for s in slots.values())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_the_reference_engine_holds_so_much(model, loss):
    """What it returns is what it kept: all values and the gradients on the way."""
    made = model()
    graph, env = real_step(made, loss)
    values, d = reference.value_and_grad(graph, env, graph.trainable)
    found = cost(made, N, loss=loss, optimizer="sgd").memory
    assert found.reference[-2] == sum(np.asarray(a).nbytes for a in (*values.values(), *d.values()))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_the_least_plan_can_be_followed(model, loss):
    """A step that holds as much as the plan says, other arrays being zeroed, ends with the same gradients."""
    made = model()
    graph, env = real_step(made, loss)
    expected = reference.value_and_grad(graph, env, graph.trainable)[1]
    held, found = followed(graph, env)
    for name in graph.trainable:
        np.testing.assert_array_equal(found[name], expected[name])
    memory = cost(made, N, loss=loss, optimizer="sgd").memory
    assert held == list(memory.least[: len(held)])


def followed(graph, env):
    """(bytes held at each step, gradients) of a walk that frees what no later step asks for, found by looking ahead."""
    walk = Walk(graph)
    order = [("forward", n) for n in graph.nodes] + [("backward", n) for n, _ in walk.back]
    values = {n: a for n, a in env.items() if n not in graph.masks}
    d = {graph.outputs[0]: None}
    kept_to_the_end = {*graph.outputs, *graph.updates.values(), *graph.leaves} - set(graph.masks)
    held, way = [], graph.depends_on(graph.trainable)
    for i, (phase, node) in enumerate(order):
        if phase == "forward":
            values |= {m: env[m] for m in node.operands if m in graph.masks}
            inputs = [None if n is None else values[n] for n in node.inputs]
            values |= dict(zip(node.outputs, rules.get(node.rule).call(np, *inputs, **node.attributes), strict=True))
        else:
            if d.get(graph.outputs[0], 0) is None:
                d[graph.outputs[0]] = np.ones_like(values[graph.outputs[0]])
            freed = {n: np.zeros(v.shape, v.dtype) for n, v in graph.values.items()}  # their shapes may be asked for
            for name, g in reference.node_gradients(node, freed | values, d, np):
                if name in way:
                    d[name] = d[name] + g if name in d else g
        alive = [a for n, a in values.items()] + [g for g in d.values() if g is not None]
        held.append(sum(np.asarray(a).nbytes for a in alive))
        later = {v for p, n in order[i + 1 :] for v in (n.operands if p == "forward" else [v for _, v in saved(n)])}
        values = {n: a for n, a in values.items() if n in later | kept_to_the_end}
        if phase == "backward":
            d = {n: g for n, g in d.items() if n not in node.outputs}
    return held, d


def test_saved_agrees_with_the_counting_engine():
    graph = step_graph(everything(), N, losses.get("huber"))
    walked = {node.name for node, _ in Walk(graph).back}
    by_name = {c.name: set(c.saved) for c in counting.cost(graph)}
    assert {n.name: {v for _, v in saved(n)} for n in graph.nodes if n.name in walked} == {
        n: s for n, s in by_name.items() if n in walked
    }
    assert all(set(given) <= set(differentiable_inputs(node)) for node, given in Walk(graph).back)


# --- measured, printed, refused ---------------------------------------------------------------------------------------


def test_measured_times_stand_beside_the_counts():
    found = cost(everything(), N, loss="softmax_cross_entropy", measure=True)
    assert found.measured
    for row in found.rows:
        assert 0 < row.forward.seconds < 1
        assert row.backward is None or row.backward.seconds > 0
    linear = found["dense1.z"].forward
    assert linear.gflops == pytest.approx(linear.flops / linear.seconds / 1e9)
    assert found.forward.seconds == pytest.approx(sum(r.forward.seconds for r in found.rows))
    assert all(u.work.seconds > 0 for u in found.updates)


def test_measuring_leaves_the_model_and_the_counts_as_they_are():
    model = everything()
    before = {n: a.copy() for n, a in (model.params | model.state).items()}
    counted, timed = cost(model, N, loss="mse"), cost(model, N, loss="mse", measure=True)
    assert all(np.array_equal(a, before[n]) for n, a in (model.params | model.state).items())
    assert [r.forward.flops for r in counted.rows] == [r.forward.flops for r in timed.rows]
    assert counted.memory == timed.memory


def test_more_samples_cost_in_proportion():
    one, many = (cost(mlp(), n, loss="mse") for n in (1, 1000))
    assert many["dense1.z"].forward.flops == 1000 * one["dense1.z"].forward.flops
    assert many.update == one.update


def test_a_huge_batch_needs_no_memory_to_count():
    assert cost(mlp(), 10**9)["dense1.z"].forward.flops == 10**9 * (2 * I * H + H)


@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize(("lang", "words"), [("en", ["reference engine", "kept"]), ("zh", ["参考引擎", "保留"])])
def test_it_prints_itself(lang, words, measure):
    with use_language(lang):
        found = cost(mlp(), N, loss="mse", measure=measure)
        text, page = str(found), found._repr_html_()
    assert all(word in text for word in words)
    assert ("GFLOP/s" in text) == measure
    for name in ("dense1.z", "dense2.z", "linear.backward(W)", "adam"):
        assert name in text
        assert name in page


def test_as_dict_is_json(ledger):
    data = json.loads(json.dumps(ledger.as_dict()))
    assert data["totals"]["forward"]["flops"] == ledger.forward.flops
    assert data["nodes"][0]["backward"]["bytes"] == ledger["dense1.z"].backward.bytes
    assert data["kept"][2]["reasons"][0] == {"node": "dense2.z", "rule": "linear", "name": "x"}
    assert data["memory"]["least_peak"]["bytes"] == max(data["memory"]["least"])


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(InputError, match="BL304"):
        cost(bl.Sequential(bl.Dense(3)))


@pytest.mark.parametrize("size", [0, -1, 2.5, "64", True])
def test_a_batch_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match="batch_size"):
        cost(mlp(), size)


def test_unknown_names_are_refused(ledger):
    with pytest.raises(UnknownNameError, match="mse"):
        cost(mlp(), loss="msee")
    with pytest.raises(UnknownNameError, match="adam"):
        cost(mlp(), optimizer="adan")
    with pytest.raises(UnknownNameError, match=r"dense1\.z"):
        ledger["dense1.x"]


# --- numbers and tables -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (25_600, "25.6 kB"), (999_999, "1 MB"), (1_234_567, "1.23 MB")],
)
def test_amounts(number, text):
    assert amount(number, "B") == text


def test_amounts_without_a_unit():
    assert [amount(n) for n in (7, 12_300, 4.2e9)] == ["7", "12.3 k", "4.2 G"]


def test_bars_have_eighths():
    assert [bar(s, 2) for s in (-1.0, 0.0, 1 / 16, 0.5, 1.0, 7.0)] == ["", "", "▏", "█", "██", "██"]


def test_full_width_characters_take_two_columns():
    header, _rule, line = text_table([["层", "a"], ["dense", "1"]])
    assert (header, line) == ("层     a", "dense  1")
