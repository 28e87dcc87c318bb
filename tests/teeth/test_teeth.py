"""Wrong rules. The judges of ``tests/rules/oracles.py`` must catch every one, and each judge must catch some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from backlit.rules import Case, Rule, get
from rules.calls import cases_of
from rules.oracles import ORACLES, documented, every_saved_name_is_used

DIFFERENCES = ("random_directions", "full_jacobian")
EXACT = ("index_formulas", "jax_differentiates_forward", "pytorch_agrees")
LANES = {"jax": "jax", "torch": "torch", "strict": "array_api_strict"}


@dataclass(frozen=True)
class Wrong:
    """A rule with one mistake, and the oracles that must see it."""

    mistake: str
    rule: Rule
    seen_by: tuple[str, ...]

    def __str__(self) -> str:
        return self.mistake


def _backward(name: str, backward: Any, mistake: str, *seen_by: str) -> Wrong:
    return Wrong(f"{name}: {mistake}", replace(get(name), backward=backward), seen_by)


def _forward(name: str, forward: Any, mistake: str, *seen_by: str) -> Wrong:
    return Wrong(f"{name}: {mistake}", replace(get(name), forward=forward), seen_by)


def _linear(dx: Any = None, dW: Any = None, db: Any = None) -> Any:
    """backward of linear, some of its lines replaced by functions of (dz, x, W)."""

    def backward(xp, dz, *, x, W):
        right = get("linear").backward(xp, dz, x=x, W=W)
        return tuple(f(dz, x, W) if f else g for f, g in zip((dx, dW, db), right, strict=True))

    return backward


def _rows(a: Any) -> Any:
    return a.reshape(-1, a.shape[-1])


def _signs() -> Iterator[Wrong]:
    yield _backward("tanh", lambda xp, dy, *, y: -dy * (1 - y * y), "wrong sign", *DIFFERENCES, *EXACT)
    yield _backward(
        "sub",
        lambda xp, dy, *, a_shape, b_shape: get("add").backward(xp, dy, a_shape=a_shape, b_shape=b_shape),
        "wrong sign of the second gradient",
        *(*DIFFERENCES, *EXACT, "fused_equals_composed"),
    )


def _factors() -> Iterator[Wrong]:
    def missing_mean(xp, dy, *, x_shape, axis):
        return get("sum").backward(xp, dy, x_shape=x_shape, axis=axis)

    yield _backward("mean", missing_mean, "missing 1/N", *DIFFERENCES, *EXACT, "fused_equals_composed")

    def missing_mass(xp, dloss, *, pred, target, weights, mass):
        return get("mse").backward(xp, dloss * mass, pred=pred, target=target, weights=weights, mass=mass)

    yield _backward("mse", missing_mass, "missing 1/N in the loss", *DIFFERENCES, *EXACT, "fused_equals_composed")

    def p_minus_y(xp, dloss, *, p, labels, weights, class_weights, label_smoothing, ignore, mass):
        return p - (labels[..., None] == np.arange(p.shape[-1]))

    yield _backward("softmax_cross_entropy", p_minus_y, "p - y whatever the loss", *DIFFERENCES, *EXACT, "linear_in_dy")
    yield _backward("sigmoid", lambda xp, dy, *, y: 1.0005 * dy * y * (1 - y), "0.05 % too large", *DIFFERENCES, *EXACT)
    yield _backward(
        "linear", _linear(db=lambda dz, x, W: 1.0005 * _rows(dz).sum(axis=0)), "0.05 % in one gradient", *DIFFERENCES
    )
    yield _backward("softplus", lambda xp, dy, *, y: dy * (1 - xp.exp(-y)) * (1 + 1e-9), "1e-9 too large", *EXACT)


def _shapes() -> Iterator[Wrong]:
    yield _backward(
        "linear", _linear(dW=lambda dz, x, W: _rows(x).T @ _rows(dz)), "dW not transposed", "shapes_and_dtypes"
    )

    def no_transpose(xp, dy, *, a, b):
        return get("matmul").backward(xp, dy, a=a, b=xp.matrix_transpose(b))

    square = replace(get("matmul"), cases=_square_matrices, backward=no_transpose)
    yield Wrong("matmul: missing transpose", square, (*DIFFERENCES, *EXACT))
    inverse = replace(get("transpose"), backward=lambda xp, dy, *, axes: get("transpose").forward(xp, dy, axes=axes))
    yield Wrong("transpose: the same permutation back", inverse, ("scatter_of_the_source", "shapes_and_dtypes"))
    yield _backward(
        "add", lambda xp, dy, *, a_shape, b_shape: (dy, dy), "not summed over the broadcast", "shapes_and_dtypes"
    )
    double = lambda xp, dy, *, y: np.asarray(dy * y, np.float64)  # noqa: E731 -- as short as its neighbours
    yield _backward("exp", double, "always float64", "shapes_and_dtypes")

    def coarse(xp, x):
        y = xp.log(x)
        return y * (1 + 1e-5) if y.dtype == np.float32 else y

    yield _forward("log", coarse, "coarse in float32", "float32_within_its_precision")


def _square_matrices(rng: Any) -> Any:
    """Where a missing transpose shows in no shape."""
    yield Case("square", a=rng.normal(size=(3, 3)), b=rng.normal(size=(3, 3)))


def _sums() -> Iterator[Wrong]:
    yield _backward(
        "linear", _linear(db=lambda dz, x, W: _rows(dz)[-1]), "= for += over the batch", *DIFFERENCES, *EXACT
    )
    one = _linear(dW=lambda dz, x, W: np.outer(_rows(dz)[0], _rows(x)[0]))
    yield _backward("linear", one, "dW not summed over the batch", *DIFFERENCES, *EXACT)

    def overwritten(xp, dy, *, x_shape, indices, axis):
        k = axis % len(x_shape)
        dx = np.zeros((x_shape[k], *x_shape[:k], *x_shape[k + 1 :]), dy.dtype)
        rows = np.moveaxis(dy.reshape(*x_shape[:k], indices.size, *x_shape[k + 1 :]), k, 0)
        dx[indices.reshape(-1)] = rows
        return np.moveaxis(dx, 0, k)

    yield _backward("take", overwritten, "= for += where taken twice", *DIFFERENCES, "scatter_of_the_source", *EXACT)

    def wrong_axis(xp, dy, *, y, axis):
        return get("softmax").backward(xp, dy, y=y, axis=0)

    yield _backward("softmax", wrong_axis, "sum over the wrong axis", *DIFFERENCES, *EXACT, "fused_equals_composed")

    def frozen_statistics(xp, dy, *, x, gamma, mean, var, eps):
        right = get("batchnorm").backward(xp, dy, x=x, gamma=gamma, mean=mean, var=var, eps=eps)
        return dy * gamma / np.sqrt(var + eps), *right[1:]

    yield _backward("batchnorm", frozen_statistics, "no gradient through the statistics", *DIFFERENCES, *EXACT)


def _values() -> Iterator[Wrong]:
    def slope_at_a(xp, dy, *, x):
        return get("silu").backward(xp, dy, x=get("silu").forward(xp, x))

    yield _backward("silu", slope_at_a, "f'(a) for f'(z)", *DIFFERENCES, *EXACT, "fused_equals_composed")
    yield Wrong("gelu: the saved value of the first call", _first_seen("gelu"), ("random_directions",))
    yield Wrong("gelu: the saved value of the call before", _seen_before("gelu"), ("same_every_time",))

    def ones(xp, dy, *, x):
        return xp.where(x >= 0, dy, -dy)

    yield _backward("abs", ones, "another convention on the kink", "expected_by_hand", "index_formulas")
    yield _forward(
        "relu",
        lambda xp, x: xp.where(x <= 0, 0 * x, x + 1e-9),
        "a forward that is off",
        "index_formulas",
        "pytorch_agrees",
    )
    yield _backward("relu", lambda xp, dy, *, y: dy * y, "y for y > 0", *DIFFERENCES, *EXACT)
    affine = replace(get("neg"), backward=lambda xp, dy: -dy + 1e-6)
    yield Wrong("neg: not linear in dy", affine, ("linear_in_dy", *DIFFERENCES, *EXACT))


def _first_seen(name: str) -> Rule:
    """A rule whose backward keeps the first value of each shape that it ever saw."""
    seen: dict[Any, Any] = {}
    return replace(get(name), backward=lambda xp, dy, *, x: get(name).backward(xp, dy, x=seen.setdefault(x.shape, x)))


def _seen_before(name: str) -> Rule:
    """A rule whose backward takes the value of the call before."""
    seen: dict[Any, Any] = {}

    def backward(xp, dy, *, x):
        before = seen.get(x.shape, x)
        seen[x.shape] = x
        return get(name).backward(xp, dy, x=before)

    return replace(get(name), backward=backward)


def _effects() -> Iterator[Wrong]:
    def forward(xp, x, *, slope=0.01):
        x[...] = np.where(x > 0, x, slope * x)
        return x

    yield _forward("leaky_relu", forward, "forward in place of its input", "inputs_not_mutated")

    def backward(xp, dy, *, mask):
        dy *= mask
        return dy

    yield _backward("dropout", backward, "backward in place of dy", "inputs_not_mutated")

    def numpy_only(xp, x):
        return np.tanh(x)

    yield _forward("tanh", numpy_only, "NumPy for xp", "runs_under_jit")
    yield _forward("relu", lambda xp, x: x.clip(0), "a method the standard does not have", "runs_on_array_api_strict")


def _descriptions() -> Iterator[Wrong]:
    """The functions are right, what is said about them is not."""
    formulas = ("y = tanh(x)", "dx = dy * (1 - y)")
    yield Wrong("tanh: a formula that disagrees", replace(get("tanh"), formulas=formulas), ("index_formulas",))
    other = replace(get("silu"), expand=lambda o, x: o.mul(x, o.tanh(x)))
    yield Wrong("silu: an expansion that disagrees", other, ("fused_equals_composed",))
    kept = replace(get("sum"), shapes=lambda x, *, axis=None, keepdims=False: x)
    yield Wrong("sum: shapes that disagree", kept, ("shapes_and_dtypes",))


WRONG = [w for make in (_signs, _factors, _shapes, _sums, _values, _effects, _descriptions) for w in make()]


def _catches(name: str, rule: Rule) -> bool:
    oracle = ORACLES[name]
    for case in cases_of(rule):
        if oracle.applies(rule, case):
            try:
                oracle(rule, case)
            except Exception:  # noqa: BLE001 -- a rule that breaks down is caught too
                return True
    return False


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        pytest.param(w, n, id=f"{w}, {n}", marks=[getattr(pytest.mark, ORACLES[n].lane)] if ORACLES[n].lane else [])
        for w in WRONG
        for n in w.seen_by
    ],
)
def test_oracle_catches(wrong, name):
    if lane := ORACLES[name].lane:
        pytest.importorskip(LANES[lane])
    assert _catches(name, wrong.rule)


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_caught_without_another_library(wrong):
    """Whatever shows in numbers made by NumPy is caught by an oracle that needs nothing else."""
    own = [n for n in ORACLES if ORACLES[n].lane is None]
    assert any(_catches(n, wrong.rule) for n in own) or set(wrong.seen_by) <= {
        "runs_under_jit",
        "runs_on_array_api_strict",
    }


def test_every_oracle_has_teeth():
    assert {n for w in WRONG for n in w.seen_by} == ORACLES.keys()


@pytest.mark.parametrize(
    "part",
    [
        {"formulas": ("y = max(x, 0)",)},
        {"formulas": ("y = max(x, 0)", "dx = dy if q > 0 else 0")},
        {"kink_note": ""},
        {"source": " "},
        {"cases": lambda rng: [c for c in get("relu").cases(rng) if not c.on_kink]},
    ],
    ids=lambda part: next(iter(part)),
)
def test_documentation_that_is_missing_is_noticed(part):
    with pytest.raises((AssertionError, ValueError)):
        documented(replace(get("relu"), **part))


def test_a_saved_value_that_is_not_used_is_noticed():
    wasteful = replace(get("tanh"), backward=lambda xp, dy, *, x, y: dy * (1 - y * y))
    with pytest.raises(AssertionError, match="does not use x"):
        every_saved_name_is_used(wasteful)
