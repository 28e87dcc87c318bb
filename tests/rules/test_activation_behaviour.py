"""Conventions of activations, softmax and dropout: kinks, NaN, what is kept, what is refused, PyTorch's definitions."""

from __future__ import annotations

import numpy as np
import pytest

from backlit.core.errors import InputError
from backlit.rules import get
from backlit.rules.rectifiers import SELU_ALPHA, SELU_SCALE

FROM_OUTPUT = ("relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "softmax", "log_softmax")
FROM_INPUT = ("gelu", "gelu_tanh", "silu", "mish", "logsumexp")
EVERYWHERE = [n for n in FROM_OUTPUT + FROM_INPUT if "soft" not in n and n != "logsumexp"] + ["softplus"]


def run(name, *inputs, dy=None, **attributes):
    """(y, gradients) of a rule; dy is 1 unless given."""
    rule = get(name)
    attributes = rule.defaults | attributes
    outputs = rule.call(np, *inputs, **attributes)
    dy = np.ones_like(outputs[0]) if dy is None else dy
    return outputs[0], rule.gradients(np, [dy], rule.saved_from(inputs, outputs, attributes))


@pytest.mark.parametrize(
    ("name", "options", "slope"),
    [
        ("relu", {}, 0.0),
        ("leaky_relu", {}, 0.01),
        ("leaky_relu", {"slope": 0.2}, 0.2),
        ("elu", {}, 1.0),
        ("elu", {"alpha": 0.5}, 0.5),
        ("selu", {}, SELU_SCALE * SELU_ALPHA),
    ],
)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_at_the_kink_the_slope_is_that_of_the_left(name, options, slope, zero):
    y, (dx,) = run(name, np.array([zero]), **options)
    assert (y[0], dx[0]) == (0.0, slope)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu"])
def test_pieces_tell_the_sides_of_the_kink_apart(name):
    rule = get(name)
    pieces = rule.kinks(np, np.array([-2.0, -1e-300, 0.0, 1e-300, 3.0]), **rule.defaults)
    assert pieces.tolist() == [-1, -1, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [("relu", 0.0, 1.0), ("leaky_relu", 0.01, 1.0), ("elu", 1.0, 1.0), ("selu", SELU_SCALE * SELU_ALPHA, SELU_SCALE)],
)
def test_the_smallest_numbers_are_on_the_side_they_belong_to(name, left, right):
    """The side is read off y, so y must not lose the sign of the smallest x."""
    _, (slopes,) = run(name, np.array([-5e-324, 5e-324]))
    assert slopes.tolist() == [left, right]


@pytest.mark.parametrize("name", FROM_OUTPUT + FROM_INPUT)
def test_not_a_number_stays_visible(name):
    y, _ = run(name, np.array([1.0, np.nan]))
    assert np.isnan(np.ravel(y)[-1])


@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_slopes_from_the_output_keep_nothing_else(name):
    assert set(get(name).saved) - set(get(name).attributes) == {"y"}


@pytest.mark.parametrize("name", FROM_INPUT)
def test_slopes_from_the_input_keep_nothing_else(name):
    assert set(get(name).saved) - set(get(name).attributes) == {"x"}


def test_dropout_keeps_only_the_mask():
    assert get("dropout").saved == ("mask",)


# --- softmax ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_softmax_sums_to_1_along_its_axis_and_ignores_a_shift(axis):
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    y, (dx,) = run("softmax", x, dy=np.random.default_rng(1).normal(size=x.shape), axis=axis)
    np.testing.assert_allclose(y.sum(axis=axis), 1.0, rtol=1e-15)
    np.testing.assert_allclose(dx.sum(axis=axis), 0.0, atol=1e-15)
    shifted, _ = run("softmax", x + 512.0, axis=axis)
    np.testing.assert_allclose(shifted, y, rtol=1e-12)


def test_softmax_of_ties_shares_equally_and_log_softmax_agrees():
    assert run("softmax", np.zeros((2, 4)))[0].tolist() == [[0.25] * 4] * 2
    assert run("log_softmax", np.full((1, 4), -900.0))[0].tolist() == [[-np.log(4.0)] * 4]


@pytest.mark.parametrize(
    ("axis", "keepdims", "shape"),
    [(None, False, ()), (None, True, (1, 1, 1)), (1, False, (2, 4)), ((0, -1), True, (1, 3, 1)), ((2, 0), False, (3,))],
)
def test_logsumexp_counts_the_entries_of_zeros(axis, keepdims, shape):
    zeros = np.zeros((2, 3, 4))
    y, (dx,) = run("logsumexp", zeros, axis=axis, keepdims=keepdims)
    entries = 24 // int(np.prod(shape))
    assert y.shape == shape == get("logsumexp").shapes((2, 3, 4), axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(y, np.log(entries), rtol=1e-15)
    np.testing.assert_allclose(dx, np.full((2, 3, 4), 1 / entries), rtol=1e-15)


# --- dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_scales_what_is_kept():
    x, mask = np.arange(6.0).reshape(2, 3), np.array([[0.0, 2.0, 2.0], [2.0, 0.0, 0.0]])
    y, (dx,) = run("dropout", x, mask, dy=np.full((2, 3), 10.0))
    assert y.tolist() == [[0.0, 2.0, 4.0], [6.0, 0.0, 0.0]]
    assert dx.tolist() == [[0.0, 20.0, 20.0], [20.0, 0.0, 0.0]]


def test_dropout_of_a_whole_channel():
    y, (dx,) = run("dropout", np.ones((2, 2, 2)), np.array([[[0.0, 2.0]], [[2.0, 0.0]]]))
    assert y.tolist() == dx.tolist() == [[[0.0, 2.0]] * 2, [[2.0, 0.0]] * 2]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes", "options", "key"),
    [
        ("leaky_relu", [(3,)], {"slope": -0.1}, "rule_option"),
        ("elu", [(3,)], {"alpha": -1.0}, "rule_option"),
        ("elu", [(3,)], {"alpha": float("nan")}, "rule_option"),
        ("elu", [(3,)], {"alpha": float("inf")}, "rule_option"),
        ("softmax", [(2, 3)], {"axis": 2}, "axis_range"),
        ("softmax", [()], {"axis": -1}, "axis_range"),
        ("softmax", [(2, 3)], {"axis": (0, 1)}, "rule_option"),
        ("softmax", [(2, 0)], {"axis": 1}, "nothing_to_reduce"),
        ("log_softmax", [(2, 3)], {"axis": -3}, "axis_range"),
        ("log_softmax", [(2, 3)], {"axis": None}, "rule_option"),
        ("logsumexp", [(2, 3)], {"axis": (0, 2)}, "axis_range"),
        ("logsumexp", [(0, 3)], {"axis": None}, "nothing_to_reduce"),
        ("dropout", [(2, 3), (3, 2)], {}, "shape_clash"),
        ("dropout", [(3,), (2, 3)], {}, "shape_clash"),
    ],
)
def test_refused_with_what_was_expected_and_what_came(name, shapes, options, key):
    with pytest.raises(InputError) as caught:
        get(name).shapes(*shapes, **options)
    error = caught.value
    assert error.key == key
    assert name in error.part("problem")
    assert error.part("expected")
    assert error.part("got")


def test_an_empty_batch_is_a_batch():
    assert get("softmax").shapes((0, 3), axis=-1) == (0, 3)
    assert run("softmax", np.zeros((0, 3)))[0].shape == (0, 3)


# --- PyTorch's definitions --------------------------------------------------------------------------------------------


def torch_function(name, options):
    functional = pytest.importorskip("torch").nn.functional
    renamed = {"slope": "negative_slope", "axis": "dim"}
    special = {"gelu_tanh": ("gelu", {"approximate": "tanh"}), "sigmoid": ("sigmoid", {})}
    attribute, fixed = special.get(name, (name, {}))
    return lambda x: getattr(functional, attribute)(x, **fixed, **{renamed.get(k, k): v for k, v in options.items()})


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in EVERYWHERE]
    + [("leaky_relu", {"slope": 0.3}), ("elu", {"alpha": 1.7})]
    + [(name, {"axis": axis}) for name in ("softmax", "log_softmax") for axis in (0, 1, -1)],
)
def test_as_in_pytorch(name, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    x, dy = 2.0 * rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))
    if name not in ("softmax", "log_softmax"):
        x[0, 0, 0] = 0.0  # the convention at the kink is PyTorch's as well
    y, (dx,) = run(name, x, dy=dy, **options)
    theirs = torch.tensor(x, requires_grad=True)
    value = torch_function(name, options)(theirs)
    value.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, value.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(dx, theirs.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.torch
@pytest.mark.parametrize(("axis", "keepdims"), [((0, 1, 2), False), (1, True), ((0, 2), False)])
def test_logsumexp_as_in_pytorch(axis, keepdims):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(8).normal(size=(3, 4, 5))
    theirs = torch.tensor(x, requires_grad=True)
    value = torch.logsumexp(theirs, axis, keepdim=keepdims)
    dy = np.random.default_rng(9).normal(size=tuple(value.shape))
    value.backward(torch.tensor(dy))
    y, (dx,) = run("logsumexp", x, dy=dy, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(y, value.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(dx, theirs.grad.numpy(), rtol=1e-12, atol=1e-15)
