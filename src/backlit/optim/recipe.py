"""Recipes: the frozen dataclasses that describe an optimizer, a schedule or a clipping, checked when made.

The annotation of a field says what it may hold, ``beta1: Fraction = 0.9``, and the check reads it from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from backlit.core.errors import InputError
from backlit.core.names import lookup

RECIPES: dict[str, type[Recipe]] = {}
"""Every named recipe class; a class enters itself when it is defined."""

_REFUSED = object()


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; each end is open where said. NaN and infinity are in no range."""

    low: float = 0.0
    high: float = math.inf
    low_open: bool = False
    high_open: bool = True

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)

    def around(self, name: str) -> str:
        """The range as an inequality: ``0 <= beta1 < 1``."""
        left = f"{self.low:g} {'<' if self.low_open else '<='} "
        right = f" {'<' if self.high_open else '<='} {self.high:g}"
        return left + name + (right if math.isfinite(self.high) else "")


NonNegative: TypeAlias = Annotated[float, Range()]
Positive: TypeAlias = Annotated[float, Range(low_open=True)]
Fraction: TypeAlias = Annotated[float, Range(high=1.0)]
"""From 0 up to, not including, 1: a decay rate."""
Share: TypeAlias = Annotated[float, Range(high=1.0, low_open=True, high_open=False)]
"""Above 0, at most 1."""
Count: TypeAlias = Annotated[int, Range(low=1)]
Number: TypeAlias = Annotated[int, Range()]
"""A whole number from 0."""


class Recipe:
    """Base of the recipes. ``class Adam(Optimizer, name="adam")`` registers the class under a name.

    Raises InputError at construction where an option does not hold what its annotation says.
    """

    name = ""

    def __init_subclass__(cls, name: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name = name
        if name in RECIPES:
            raise ValueError(f"recipe {name!r} is defined twice")
        if name:
            RECIPES[name] = cls

    def __post_init__(self) -> None:
        for name, hint in _hints_of(self).items():
            object.__setattr__(self, name, _checked(type(self).__name__, name, hint, getattr(self, name)))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in fields(kind)}


def _hints_of(recipe: Any) -> dict[str, Any]:
    kind: Any = type(recipe)
    return _hints(kind)


def _checked(where: str, option: str, hint: Any, value: Any) -> Any:
    accepted = (_accept(h, value) for h in _alternatives(hint))
    found = next((a for a in accepted if a is not _REFUSED), _REFUSED)
    if found is _REFUSED:
        expected = " | ".join(_describe(h, option) for h in _alternatives(hint))
        raise InputError("optim_option", where=where, option=option, expected=expected, got=f"{option} = {value!r}")
    return found


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _accept(hint: Any, value: Any) -> Any:
    """The value as the plain Python object that ``hint`` allows, else _REFUSED."""
    if get_origin(hint) is Annotated:
        kind, allowed = get_args(hint)
        return _accept_number(kind, allowed, value)
    if get_origin(hint) is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else _REFUSED
    return value if isinstance(value, hint) else _REFUSED


def _accept_number(kind: Any, allowed: Range, value: Any) -> Any:
    wanted: type = Integral if kind is int else Real
    if isinstance(value, bool) or not isinstance(value, wanted):
        return _REFUSED
    number = kind(value)
    return number if number in allowed else _REFUSED


def _describe(hint: Any, option: str) -> str:
    if get_origin(hint) is Annotated:
        kind, allowed = get_args(hint)
        return f"{kind.__name__}, {allowed.around(option)}"
    if get_origin(hint) is Literal:
        return " | ".join(map(repr, get_args(hint)))
    return {bool: "True | False", NoneType: "None"}.get(hint, str(hint.__name__))


def to_config(recipe: Recipe) -> dict[str, Any]:
    """The recipe as data for JSON: ``{"name": "adam", "learning_rate": 0.001, …}``, recipes inside it likewise.

    Raises InputError where the class has no name.
    """
    if not recipe.name:
        raise InputError("optim_unregistered", where=type(recipe).__name__, got="name = ''")
    values = {option: getattr(recipe, option) for option in _hints_of(recipe)}
    return {"name": recipe.name} | {k: to_config(v) if isinstance(v, Recipe) else v for k, v in values.items()}


def from_config(config: Any) -> Any:
    """The recipe that :func:`to_config` made this data from.

    Raises InputError where it is no such data, or an option is missing or has a bad value; UnknownNameError for names
    that do not exist.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("name"), str):
        raise InputError("optim_config", got=repr(config))
    kind: Any = lookup(RECIPES, config["name"], "recipe")
    options = {k: from_config(v) if isinstance(v, Mapping) else v for k, v in config.items() if k != "name"}
    for option in options:
        lookup(_hints(kind), option, "option", of=kind.__name__)
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in options]
    if missing:
        where, known = kind.__name__, ", ".join(_hints(kind))
        raise InputError("optim_config_option", where=where, option=missing[0], options=known, got=", ".join(options))
    return kind(**options)
