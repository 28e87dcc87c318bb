"""Worked examples of rules: numbers that a reader can follow with a pencil, and what compares a rule with them.

Numbers are Python's, ``Fraction`` or mpmath's, so that none of them is a result of the rules or of NumPy. Inputs are
chosen to make the results rational where they can be: e^(ln 2) = 2, tanh(ln 2) = 3/5, sigmoid(ln 3) = 3/4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backlit.rules import get

KINDS = {
    "labels": np.int64,
    "indices": np.int64,
    "condition": np.bool_,
    "label_lengths": np.int64,
    "input_lengths": np.int64,
}
"""Inputs that are no real numbers, by name; ``y`` of a comparison is a condition too."""


@dataclass(frozen=True)
class Worked:
    """A call of ``rule`` with all its results: the outputs, and for ∂L/∂y = ``dy`` (or several by name) the
    gradients."""

    rule: str
    says: str
    """What the example shows."""
    given: dict[str, Any]
    """Inputs by name, a variadic one as a list, and attributes."""
    gives: dict[str, Any]
    dy: Any = 1
    gradients: dict[str, Any] = field(default_factory=dict)
    scale: float = 0.0
    """Size of the terms that a result is the sum of, where they cancel."""

    def __str__(self) -> str:
        return f"{self.rule}-{self.says}"


def array(values: Any, dtype: Any) -> Any:
    """Nested lists of numbers of any kind as an array; None stays None."""
    return None if values is None else np.array(values, dtype=object).astype(dtype)


def check(worked: Worked, dtype: Any) -> None:
    """Compare every output and every gradient, in ``dtype``, within a few units of its precision."""
    rule = get(worked.rule)
    attributes = rule.defaults | {n: worked.given[n] for n in rule.attributes if n in worked.given}
    inputs = _inputs(rule, worked.given, dtype)
    outputs = rule.call(np, *inputs, **attributes)
    assert rule.outputs == tuple(worked.gives), "the example names every output"
    for name, found in zip(rule.outputs, outputs, strict=True):
        _compare(worked, name, found, worked.gives[name], rule.dtype or dtype)
    if rule.backward is None:
        assert not worked.gradients
        return
    made = dict(zip(rule.outputs, outputs, strict=True))
    dys = [np.broadcast_to(array(dy, dtype), made[n].shape) for n, dy in _dys(worked, rule)]
    found = rule.gradients(np, dys, rule.saved_from(inputs, outputs, attributes))
    wanted = _gradients(worked, rule)
    names = list(wanted) if rule.variadic else [f"d{n}" for n in rule.differentiable]
    if not rule.variadic:
        present = {f"d{n}" for n, x in zip(rule.inputs, inputs, strict=True) if x is not None}
        assert set(wanted) == present & set(names), "the example names every gradient"
    for name, gradient in zip(names, found, strict=True):
        if name in wanted:
            _compare(worked, name, gradient, wanted[name], dtype)


def _dys(worked: Worked, rule: Any) -> Any:
    """∂L/∂y of each output that backward takes one of: 0 but for the first unless given by name."""
    given = worked.dy if isinstance(worked.dy, dict) else {rule.differentiated[0]: worked.dy}
    return [(name, given.get(name, 0)) for name in rule.differentiated]


def _gradients(worked: Worked, rule: Any) -> dict[str, Any]:
    """The gradients by name, those of a variadic input one by one."""
    if not rule.variadic:
        return worked.gradients
    (name,) = worked.gradients
    return {f"{name}[{i}]": g for i, g in enumerate(worked.gradients[name])}


def _inputs(rule: Any, given: dict[str, Any], dtype: Any) -> tuple[Any, ...]:
    if rule.variadic:
        return tuple(array(x, dtype) for x in given[rule.inputs[0]])
    return tuple(array(given.get(n), KINDS.get(n, dtype)) for n in rule.inputs)


def _compare(worked: Worked, name: Any, found: Any, wanted: Any, dtype: Any) -> None:
    want = array(wanted, dtype)
    assert found.shape == want.shape, f"{worked} {name}: {found.shape} instead of {want.shape}"
    assert found.dtype == want.dtype, f"{worked} {name}: {found.dtype} instead of {want.dtype}"
    if want.dtype == bool:
        assert found.tolist() == want.tolist(), f"{worked} {name}"
        return
    eps = float(np.finfo(dtype).eps)
    size = max(float(np.abs(want).max(initial=0.0)), worked.scale)
    np.testing.assert_allclose(found, want, rtol=8 * eps, atol=8 * eps * size, err_msg=f"{worked} {name}")
