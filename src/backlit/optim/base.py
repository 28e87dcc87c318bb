"""What an optimizer is: a frozen recipe whose formulas are the update.

Every entry of a parameter is updated alike, so the update is written once, as elementwise formulas evaluated in order::

    "m = beta1 * m + (1 - beta1) * g"       # p parameter, g gradient, lr learning rate, t number of the update, from 1
    "p = p - lr * m"                        # the other names: options such as beta1, names assigned before, and slots

A slot is a state array of the parameter: a name such as m that is read before the formulas assign it. The same text
runs on whole arrays of any namespace and on the single numbers of an explanation. Its grammar is Python's expressions
with the functions of :data:`FUNCTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from types import CodeType
from typing import Any, ClassVar

import numpy as np

from backlit.core.types import Array, Arrays, Namespace
from backlit.optim.recipe import NonNegative, Positive, Recipe
from backlit.optim.schedules import Constant, Schedule

FUNCTIONS = {"sqrt": "sqrt", "sign": "sign", "max": "maximum"}
"""Functions that formulas may call, each with its name in the array API standard."""


@dataclass(frozen=True)
class Optimizer(Recipe):
    """Base of the optimizers: regularisation, and the update from the formulas.

    Each optimizer takes three more options, by keyword, all 0 unless it says otherwise:

    ``l1``, ``l2``: penalties inside the gradient, ``g = g + l2 * p + l1 * sign(p)``, as if ``l2/2 Σp² + l1 Σ|p|`` were
    added to the loss. What PyTorch's SGD, Adagrad, Adadelta, RMSprop, Adam and NAdam call ``weight_decay`` is ``l2``
    here.

    ``weight_decay``: decoupled decay, ``p = p - lr * weight_decay * p`` before the update and apart from the gradient,
    as PyTorch's AdamW has it. Source: Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019.

    ``learning_rate`` is a number above 0, or a :class:`Schedule`. All numbers are at least 0. Raises InputError for
    options out of range.
    """

    learning_rate: Positive | Schedule = 0.01
    l1: NonNegative = field(default=0.0, kw_only=True)
    l2: NonNegative = field(default=0.0, kw_only=True)
    weight_decay: NonNegative = field(default=0.0, kw_only=True)

    source: ClassVar[str] = ""
    """Where the definition comes from: paper or book."""

    @property
    def schedule(self) -> Schedule:
        """The learning rate as a schedule."""
        return self.learning_rate if isinstance(self.learning_rate, Schedule) else Constant(self.learning_rate)

    def _rule(self) -> tuple[str, ...]:
        """The formulas without regularisation, for the options as they are."""
        raise NotImplementedError

    def _start(self, xp: Namespace, p: Array, slot: str) -> Array:
        """A slot before the first update."""
        del slot
        return xp.zeros_like(p)

    @cached_property
    def formulas(self) -> tuple[str, ...]:
        """The update, in the order of evaluation, for the options as they are."""
        penalties = (("l2", " + l2 * p"), ("l1", " + l1 * sign(p)"))
        penalty = "".join(text for option, text in penalties if getattr(self, option))
        gradient = ("g = g" + penalty,) if penalty else ()
        decay = ("p = p - lr * weight_decay * p",) if self.weight_decay else ()
        return gradient + decay + self._rule()

    @cached_property
    def options(self) -> dict[str, Any]:
        """The names that formulas may use from this recipe, with their values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "learning_rate"}

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays that each parameter has, in the order the formulas read them."""
        known, found = {"p", "g", "lr", "t", *self.options, *FUNCTIONS}, []
        for name, code in map(_compiled, self.formulas):
            found += [read for read in code.co_names if read not in known]
            known |= {name, *code.co_names}
        return tuple(found)

    def init(self, xp: Namespace, p: Array) -> dict[str, Array]:
        """State before the first update of ``p``, by slot: zeros of p's shape, unless the optimizer says otherwise."""
        return {slot: self._start(xp, p, slot) for slot in self.slots}

    def steps(
        self, xp: Namespace, p: Array, g: Array, state: Arrays, *, lr: Any, t: Any
    ) -> Iterator[tuple[str, Array]]:
        """Evaluate the formulas: yields (name, value) of each, in order. Arguments as for :meth:`update`."""
        names = self.options | {"p": p, "g": g, "lr": _plain(lr), "t": _plain(t)} | dict(state)
        functions = {name: getattr(xp, standard) for name, standard in FUNCTIONS.items()}
        return evaluate(self.formulas, names, functions)

    def update(
        self, xp: Namespace, p: Array, g: Array, state: Arrays, *, lr: Any, t: Any
    ) -> tuple[Array, dict[str, Array]]:
        """One update of one parameter: (new p, new state). Nothing is changed in place; dtypes stay as they are.

        ``p`` and ``g`` have the same shape; ``state`` is as made by :meth:`init` or the last update; ``lr`` is the
        learning rate of this update and ``t`` counts updates from 1: numbers or, under a compiler, traced scalars.
        """
        new = dict(self.steps(xp, p, g, state, lr=lr, t=t))
        kept = {slot: xp.asarray(new[slot], dtype=p.dtype) for slot in self.slots}
        return xp.asarray(new["p"], dtype=p.dtype), kept


def evaluate(
    formulas: tuple[str, ...], names: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
) -> Iterator[tuple[str, Any]]:
    """Evaluate assignments in order, on arrays or on single numbers; yields (name, value) of each."""
    known, called = dict(names), {"__builtins__": {}, **functions}
    for formula in formulas:
        name, code = _compiled(formula)
        known[name] = eval(code, called, known)  # noqa: S307  the text is an optimizer's own; options enter as values
        yield name, known[name]


@cache
def _compiled(formula: str) -> tuple[str, CodeType]:
    name, _, expression = formula.partition(" = ")
    return name, compile(expression, formula, "eval")


def _plain(number: Any) -> Any:
    """NumPy's scalars as Python's, which leave a float32 array float32; anything else unchanged."""
    return number.item() if isinstance(number, np.generic) else number
