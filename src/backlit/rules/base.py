"""What a rule is: one operation, written once, from which everything else is derived.

A rule is two pure functions over an array namespace ``xp``::

    def forward(xp, x, W, b):  ...          # positional parameters are the inputs, keyword-only ones the attributes
    def backward(xp, dz, *, x, W):  ...     # dz = ∂L/∂z gives the output its name; returns ∂L/∂(each input)

``backward`` returns the gradients of the differentiable inputs, in forward's order (one array where there is one). Its
keyword-only names are the memory contract, all that must be kept from forward: an input (``x``), an output (``z``), an
auxiliary output, an attribute (``axis``), or only the shape of one of them (``x_shape``). A variadic input ``*xs`` is
saved as the tuple ``xs``. An input whose default is None may be absent; its gradient is then ignored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from backlit.core.names import lookup
from backlit.core.rows import Rows
from backlit.core.types import Array, Shape

REGISTRY: dict[str, Rule] = {}
"""All rules by name; importing :mod:`backlit.rules` fills it."""


class Case:
    """A sample call of a rule that every test of the registry runs.

    ``Case("batch of one", x=…, W=…, b=…)`` names the inputs and attributes (a variadic input is given as a tuple).
    ``expect`` holds results known beforehand, such as the documented convention on a kink: ``expect={"dx": 0.0}``, with
    dy = 1; a case ``on_kink`` is left out of the difference quotients.
    """

    def __init__(
        self, label: str, *, on_kink: bool = False, expect: Mapping[str, Any] | None = None, **call: Any
    ) -> None:
        self.label, self.on_kink, self.expect, self.call = label, on_kink, dict(expect or {}), call

    def __repr__(self) -> str:
        return f"Case({self.label!r})"


@dataclass(frozen=True, eq=False)
class Rule:
    """One operation. See the module's docstring for ``forward`` and ``backward``."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any] | None
    """None where nothing is differentiable, as for a comparison."""

    shapes: Callable[..., Any]
    """(shape of each input, None where absent; attributes by keyword) -> shape of each output; raises InputError."""

    formulas: tuple[str, ...]
    """Index formulas of the outputs and of each gradient, e.g. ``"dW[o,i] = Sum(n, dz[*n,o] * x[*n,i])"``:
    see :mod:`backlit.rules.formula`."""

    cases: Callable[[Any], Iterable[Case]]
    """(numpy Generator) -> sample calls, in float64."""

    source: str
    """Where the definition comes from: paper or book."""

    outputs: tuple[str, ...] = ("y",)
    """Names of what forward returns; those that backward does not take a gradient of are auxiliary."""

    constants: frozenset[str] = frozenset()
    """Inputs without a gradient: labels, masks, indices."""

    integers: frozenset[str] = frozenset()
    """Constants that are whole numbers whatever the dtype of the rest: indices. A model keeps the inputs that they come
    from as integers."""

    absent: Mapping[str, float] = field(default_factory=dict)
    """What an absent input stands for in the formulas, e.g. ``{"b": 0}``."""

    requires: Callable[..., None] | None = None
    """(inputs, attributes), called as forward is but without ``xp``: raises InputError where values that came from
    outside cannot be used, a token id out of range for one. Constants are given as arrays, other inputs as anything
    that has a shape. None: shapes say it all."""

    rows: Callable[..., Rows] | None = None
    """backward of a rule that reads rows of its one differentiable input, on NumPy and without ``xp``: the gradient as
    :class:`Rows`. None: it makes whole arrays."""

    kinks: Callable[..., Array] | None = None
    """(xp, inputs, attributes) -> for each place with a kink, the number of the smooth piece it lies on. Between two
    points with equal numbers everywhere there is no kink. None: smooth everywhere."""

    kink_note: str = ""
    """The convention at the kink, as a formula: ``"relu'(0) = 0"``."""

    expand: Callable[..., Any] | None = None
    """(o, inputs, attributes) -> output: the same in smaller rules, ``o.exp(x)`` adding the rule ``exp``. A tuple where
    backward takes the gradients of several outputs."""

    moves: bool = False
    """True where every output entry is a copy of one input entry, or a constant."""

    dtype: str | None = None
    """The outputs' dtype where it is not the common dtype of the differentiable inputs: ``"bool"``."""

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of forward after ``xp``."""
        return dict(list(inspect.signature(self.forward).parameters.items())[1:])

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs; the one of a variadic rule stands for all."""
        return tuple(n for n, p in self.parameters.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY)

    @cached_property
    def variadic(self) -> bool:
        """True where forward takes any number of inputs."""
        return any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in self.parameters.values())

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, the static settings such as ``axis``."""
        return tuple(n for n, p in self.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Attributes that need not be given."""
        return {
            n: self.parameters[n].default
            for n in self.attributes
            if self.parameters[n].default is not inspect.Parameter.empty
        }

    @cached_property
    def differentiable(self) -> tuple[str, ...]:
        """Inputs that backward returns a gradient of, in order."""
        return tuple(n for n in self.inputs if n not in self.constants) if self.backward else ()

    @cached_property
    def differentiated(self) -> tuple[str, ...]:
        """Outputs whose gradients backward takes, from the names of its positional parameters."""
        return tuple(n[1:] for n, p in self._of_backward() if p.kind is not inspect.Parameter.KEYWORD_ONLY)

    @cached_property
    def saved(self) -> tuple[str, ...]:
        """The memory contract: the keyword-only names of backward."""
        return tuple(n for n, p in self._of_backward() if p.kind is inspect.Parameter.KEYWORD_ONLY)

    def _of_backward(self) -> list[tuple[str, inspect.Parameter]]:
        if self.backward is None:
            return []
        return list(inspect.signature(self.backward).parameters.items())[1:]

    def saved_from(
        self, inputs: tuple[Array, ...], outputs: tuple[Array, ...], attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The keyword arguments of backward, out of what forward took and gave."""
        known: dict[str, Any] = dict(zip(self.outputs, outputs, strict=True)) | dict(attributes)
        known |= {self.inputs[0]: inputs} if self.variadic else dict(zip(self.inputs, inputs, strict=True))
        return {
            name: known[name] if name in known else _shape_of(known[name.removesuffix("_shape")]) for name in self.saved
        }

    def call(self, xp: Any, *inputs: Array, **attributes: Any) -> tuple[Array, ...]:
        """forward, its outputs always as a tuple."""
        found = self.forward(xp, *inputs, **attributes)
        return found if isinstance(found, tuple) else (found,)

    def gradients(self, xp: Any, dys: Iterable[Array], saved: Mapping[str, Any]) -> tuple[Array, ...]:
        """backward, its gradients always as a tuple."""
        assert self.backward is not None
        found = self.backward(xp, *dys, **saved)
        return found if isinstance(found, tuple) else (found,)


def _shape_of(value: Any) -> Any:
    return (
        tuple(_shape_of(v) for v in value)
        if isinstance(value, tuple)
        else None
        if value is None
        else tuple(value.shape)
    )


def rule(name: str, forward: Callable[..., Any], backward: Callable[..., Any] | None, **parts: Any) -> Rule:
    """Make a :class:`Rule` and enter it in the registry. ValueError where the name is taken."""
    if name in REGISTRY:
        raise ValueError(f"rule {name!r} is defined twice")
    parts |= {part: frozenset(parts.get(part, ())) for part in ("constants", "integers")}
    REGISTRY[name] = made = Rule(name, forward, backward, **parts)
    return made


def get(name: str) -> Rule:
    """The rule of that name; UnknownNameError with the nearest names where there is none."""
    return lookup(REGISTRY, name, "rule")


def same_shape(*shapes: Shape | None, **attributes: Any) -> Shape:
    """Shapes of an elementwise rule of one array: the shape of the first input."""
    assert shapes[0] is not None
    return shapes[0]
