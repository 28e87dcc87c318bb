"""A rule called on one of its cases: what the oracles start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backlit.rules import Case, Rule

SEED = 20260


def cases_of(rule: Rule) -> list[Case]:
    return list(rule.cases(np.random.default_rng(SEED)))


def frozen(array: Any, dtype: Any = None) -> Any:
    """A read-only copy; floating-point arrays in ``dtype``."""
    if array is None:
        return None
    copy = np.array(array)
    copy = copy.astype(dtype) if dtype is not None and copy.dtype.kind == "f" else copy
    copy.flags.writeable = False
    return copy


@dataclass(frozen=True)
class Call:
    """``rule`` on ``inputs``, with random ∂L/∂(outputs) in ``dys``."""

    rule: Rule
    case: Case
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]

    @cached_property
    def outputs(self) -> tuple[Any, ...]:
        return tuple(frozen(y) for y in self.forward(*self.inputs))

    @cached_property
    def dys(self) -> tuple[Any, ...]:
        return self.random_dys(0)

    def random_dys(self, seed: int) -> tuple[Any, ...]:
        rng = np.random.default_rng((SEED, seed))
        return tuple(
            frozen(rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1, 1], y.shape), y.dtype) for y in self.differentiated
        )

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        return self.rule.call(np, *inputs, **self.attributes)

    def backward(self, *dys: Any) -> tuple[Any, ...]:
        return self.rule.gradients(np, dys, self.rule.saved_from(self.inputs, self.outputs, self.attributes))

    @cached_property
    def gradients(self) -> dict[str, Any]:
        """∂L/∂(each differentiable input that is present) for ``dys``, by name; of a variadic rule ``dxs[0]``, …"""
        return self.named(self.backward(*self.dys))

    def named(self, gradients: tuple[Any, ...]) -> dict[str, Any]:
        assert len(gradients) == (len(self.inputs) if self.rule.variadic else len(self.rule.differentiable))
        places = (
            range(len(self.inputs)) if self.rule.variadic else map(self.rule.inputs.index, self.rule.differentiable)
        )
        return {f"d{self.names[i]}": g for i, g in zip(places, gradients, strict=True) if self.inputs[i] is not None}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs, one for each."""
        if self.rule.variadic:
            return tuple(f"{self.rule.inputs[0]}[{i}]" for i in range(len(self.inputs)))
        return self.rule.inputs

    @cached_property
    def wrt(self) -> tuple[int, ...]:
        """Places of the inputs that have a gradient here."""
        wanted = (self.rule.variadic or n in self.rule.differentiable for n in self.names)
        return tuple(i for i, w in enumerate(wanted) if w and self.inputs[i] is not None)

    @cached_property
    def differentiated(self) -> tuple[Any, ...]:
        """The outputs that backward takes gradients of."""
        return self.of_differentiated(self.outputs)

    def of_differentiated(self, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(y for n, y in zip(self.rule.outputs, outputs, strict=True) if n in self.rule.differentiated)

    def with_inputs(self, places: tuple[int, ...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs, those at ``places`` replaced."""
        new = dict(zip(places, arrays, strict=True))
        return tuple(new.get(i, x) for i, x in enumerate(self.inputs))

    def scaled(self, by: float) -> Call:
        """The same with all floating-point inputs multiplied."""
        return Call(
            self.rule, self.case, mapped(lambda x: by * x if x.dtype.kind == "f" else x, self.inputs), self.attributes
        )

    def pieces(self, *inputs: Any) -> Any:
        """Which smooth piece each place with a kink lies on; None where the rule is smooth."""
        return self.rule.kinks(np, *inputs, **self.attributes) if self.rule.kinks else None


def call(rule: Rule, case: Case, dtype: Any = np.float64) -> Call:
    """``case`` with its floating-point arrays in ``dtype``, read-only: whoever writes into them fails."""
    given = case.call[rule.inputs[0]] if rule.variadic else [case.call.get(n) for n in rule.inputs]
    attributes = rule.defaults | {n: case.call[n] for n in rule.attributes if n in case.call}
    return Call(rule, case, tuple(frozen(x, dtype) for x in given), attributes)


def mapped(convert: Callable[[Any], Any], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """``convert`` on every array that is there."""
    return tuple(None if a is None else convert(a) for a in arrays)


def assert_close(name: str, got: Any, want: Any, *, rtol: float, scale: float = 0.0, floor: float = 1.0) -> None:
    """Every entry of ``got`` within rtol·(|want| + floor·(max|want| + scale)); a failure names the worst entry."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{name}: shape {got.shape}, expected {want.shape}"
    if got.size == 0:
        return
    size = np.abs(np.where(np.isfinite(want), want, 0.0))
    error = np.where(got == want, 0.0, np.abs(_finite(got) - _finite(want)))
    error = np.where(np.isfinite(got) == np.isfinite(want), error, np.inf) / (
        size + floor * (size.max() + scale) + 1e-300
    )
    at = np.unravel_index(np.argmax(error), got.shape)
    where = f"{name}[{', '.join(map(str, at))}]"
    assert error[at] <= rtol, (
        f"{where} = {got[at]!r}, expected {want[at]!r}: relative error {error[at]:.1e} > {rtol:.0e}"
    )


def _finite(a: Any) -> Any:
    return np.where(np.isfinite(a), a, 0.0).astype(np.float64)


def largest(arrays: Any) -> float:
    """The largest finite size of an entry."""
    sizes: Iterator[Any] = (np.abs(np.asarray(a, dtype=float)) for a in arrays if a is not None)
    return max((float(s[np.isfinite(s)].max(initial=0.0)) for s in sizes), default=0.0)
