"""Numbers that know how far rounding may have moved them: running error analysis, step by step as they are calculated.

Every operation adds ε/2 of its result to what its operands' errors make of it; so a difference of nearly equal numbers
comes out with the error it has.

Source: Higham: Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

EPS = 2.0**-52


@dataclass(frozen=True, eq=False, slots=True)
class Running:
    """A float64 and a bound of its absolute error."""

    value: float
    error: float = 0.0

    def __add__(self, other: Any) -> Running:
        o = running(other)
        return _rounded(self.value + o.value, self.error + o.error)

    def __sub__(self, other: Any) -> Running:
        o = running(other)
        return _rounded(self.value - o.value, self.error + o.error)

    def __mul__(self, other: Any) -> Running:
        o = running(other)
        return _rounded(self.value * o.value, abs(self.value) * o.error + (abs(o.value) + o.error) * self.error)

    def __truediv__(self, other: Any) -> Running:
        o = running(other)
        quotient = self.value / o.value
        return _rounded(quotient, (self.error + abs(quotient) * o.error) / abs(o.value))

    def __pow__(self, other: Any) -> Running:
        o = running(other)
        power = self.value**o.value
        by_base = abs(o.value * power / self.value) * self.error if self.value else self.error
        by_exponent = abs(power * math.log(abs(self.value))) * o.error if o.error and self.value else 0.0
        return _rounded(power, by_base + by_exponent)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Running:
        return running(other) - self

    def __rtruediv__(self, other: Any) -> Running:
        return running(other) / self

    def __neg__(self) -> Running:
        return Running(-self.value, self.error)

    def __abs__(self) -> Running:
        return Running(abs(self.value), self.error)

    def __eq__(self, other: object) -> bool:
        return other is not None and self.value == running(other).value  # an option that is not given is no number

    def __lt__(self, other: Any) -> bool:
        return self.value < running(other).value

    def __le__(self, other: Any) -> bool:
        return self.value <= running(other).value

    def __gt__(self, other: Any) -> bool:
        return self.value > running(other).value

    def __ge__(self, other: Any) -> bool:
        return self.value >= running(other).value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return self.value

    __hash__ = None  # type: ignore[assignment]


def running(x: Any) -> Running:
    """``x`` with its error; a plain number is taken as rounded once, unless it is whole."""
    if isinstance(x, Running):
        return x
    value = float(x)
    return Running(value, 0.0 if value.is_integer() else EPS * abs(value))


def _rounded(value: float, error: float) -> Running:
    return Running(value, error + EPS * abs(value))


def _function(f: Callable[[float], float], slope: Callable[[float, float], float]) -> Callable[[Any], Running]:
    """``f`` of a number; its error is multiplied by ``slope(x, f(x))``."""

    def function(x: Any) -> Running:
        x = running(x)
        y = f(x.value)
        return _rounded(y, slope(x.value, y) * x.error)

    return function


FUNCTIONS = SimpleNamespace(
    exp=_function(math.exp, lambda _, y: y),
    log=_function(math.log, lambda x, _: 1 / x),
    sqrt=_function(math.sqrt, lambda x, y: 0.5 / y if x else 1.0),
    tanh=_function(math.tanh, lambda _, y: 1 - y * y),
    sin=_function(math.sin, lambda x, _: abs(math.cos(x))),
    cos=_function(math.cos, lambda x, _: abs(math.sin(x))),
    erf=_function(math.erf, lambda _x, _y: 2 / math.sqrt(math.pi)),
    pi=running(math.pi),
)
"""What formulas may call."""
