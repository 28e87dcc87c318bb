"""The table of a model: what its rows hold, that they add up, and that its columns stand under one another."""

from __future__ import annotations

import json

import numpy as np
import pytest

from backlit.core.i18n import use_language
from backlit.graph import Builder
from backlit.nn.summary import Row, Summary


def ones(_generator, shape):
    return np.ones(shape, "float32")


def dense(b, x, units, name, *, activation=None, trainable=True, call=""):
    W = b.parameter(f"{name}.W", (units, x.shape[-1]), ones, trainable=trainable)
    bias = b.parameter(f"{name}.b", (units,), ones, trainable=trainable)
    (z,) = b.add("linear", x, W, bias, name=f"{name}{call}.z")
    return z if activation is None else b.add(activation, z, name=f"{name}{call}.a")[0]


def summary(stage, *, name="Sequential", width=4):
    b = Builder()
    graph = b.graph((stage(b, b.input("x", (1, width))),))
    return Summary.of(name, graph, {p: np.ones(graph.values[p].shape, "float32") for p in graph.parameters})


def residual(b, x):
    h = dense(b, x, 3, "dense1", activation="relu", trainable=False)
    return h + dense(b, h, 3, "dense2")


def test_rows_by_hand():
    found = summary(residual)
    assert found.rows == (
        Row("dense1", (1, 3), 4 * 3 + 3, 2 * 4 * 3 + 3 + 2 * 3, 0),
        Row("dense2", (1, 3), 3 * 3 + 3, 2 * 3 * 3 + 3, 4 * 3 * 3 + 3),
        Row("add1", (1, 3), 0, 3, 0),
    )
    assert (found.parameters, found.frozen, found.forward_flops, found.backward_flops) == (27, 15, 57, 39)


def test_a_shared_layer_has_a_row_for_each_call_and_its_parameters_once():
    found = summary(lambda b, x: dense(b, dense(b, x, 4, "dense1"), 4, "dense1", call="@2"))
    assert [(r.layer, r.parameters, r.forward_flops) for r in found.rows] == [("dense1", 20, 36), ("dense1@2", 0, 36)]
    assert found.parameters == 20


def test_a_layer_whose_only_node_is_a_free_one_still_shows_its_parameters():
    found = summary(lambda b, x: x * b.parameter("scale1.s", (4,), ones))
    assert found.rows == (
        Row("scale1", None, 4, 0, 0),
        Row("mul1", (1, 4), 0, 4, 4 + 4 + 4),
    )  # two products, one of them summed over the batch
    assert str(found).splitlines()[4].split() == ["scale1", "4", "0", "0"]


def test_a_parameter_that_no_node_uses_counts():
    def stage(b, x):
        b.parameter("spare1.W", (2, 5), ones)
        return dense(b, x, 2, "dense1")

    found = summary(stage)
    assert [r.layer for r in found.rows] == ["dense1", "spare1"]
    assert found.parameters == 10 + 10


def test_a_model_without_layers():
    found = summary(lambda b, x: x)
    assert (found.rows, found.parameters, found.backward_flops) == ((), 0, 0)
    assert "Sequential: 0 parameters (0 frozen)" in str(found)


def test_as_data():
    found = summary(residual).as_dict()
    assert found | {"layers": None} == {
        "name": "Sequential",
        "parameters": 27,
        "frozen": 15,
        "forward_flops": 57,
        "backward_flops": 39,
        "layers": None,
    }
    assert json.loads(json.dumps(found))["layers"][1] == {
        "layer": "dense2",
        "output": [1, 3],
        "parameters": 12,
        "forward_flops": 21,
        "backward_flops": 39,
    }


def test_the_table():
    assert str(summary(lambda b, x: dense(b, x, 300, "dense1", activation="relu"), width=784)).splitlines() == [
        "Sequential: 235,500 parameters (0 frozen), 471,300 FLOPs a sample forward, 941,700 backward",
        "",
        "layer   output    parameters  FLOPs forward  FLOPs backward",
        "──────  ────────  ──────────  ─────────────  ──────────────",
        "dense1  [1, 300]     235,500        471,300         941,700",
    ]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_columns_are_aligned_also_where_characters_are_wide(lang):
    with use_language(lang):
        title, _, *table = str(summary(lambda b, x: dense(b, dense(b, x, 5, "输出层"), 12345, "dense1"))).splitlines()
    assert ("参数" in title) == (lang == "zh")
    ends = [columns_where_cells_end(line) for line in table]
    numbers = [line[-3:] for line in ends]
    assert numbers == [numbers[0]] * len(table)
    assert len({len(line) for line in map(as_shown, table)}) == 1


def as_shown(line):
    """A line as a terminal shows it, a wide character taking two columns."""
    return "".join(c * 2 if ord(c) >= 0x2E80 else c for c in line)


def columns_where_cells_end(line):
    shown = as_shown(line) + "  "
    return [k for k in range(len(shown) - 2) if shown[k] != " " and shown[k + 1 : k + 3] == "  "]
