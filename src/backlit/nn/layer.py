"""What a layer is: a recipe that, called on symbolic values, adds parameters and nodes under its own name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.types import Shape
from backlit.graph.builder import Builder, Initializer
from backlit.graph.functions import builder_of
from backlit.graph.symbolic import Symbolic

ACTIVATIONS = [
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softmax",
    "log_softmax",
]


@dataclass(frozen=True)
class Scope:
    """Where a layer puts its things: parameters under its name, values under this call's (``dense1@2`` if shared)."""

    builder: Builder
    owner: str
    prefix: str

    def part(self, name: str) -> Scope:
        """Where a layer inside this one puts its things: ``block1.attention.Wqkv``."""
        return Scope(self.builder, f"{self.owner}.{name}", f"{self.prefix}.{name}")

    def parameter(self, name: str, shape: Shape, init: Initializer, *, sparse: bool = False) -> Symbolic:
        """The parameter ``<layer>.<name>``."""
        return self.builder.parameter(f"{self.owner}.{name}", shape, init, sparse=sparse)

    def state(self, name: str, shape: Shape, init: Initializer) -> Symbolic:
        """The state array ``<layer>.<name>``."""
        return self.builder.state(f"{self.owner}.{name}", shape, init)

    def mask(self, shape: Shape, rate: float) -> Symbolic:
        """The random mask ``<layer>.mask``."""
        return self.builder.mask(f"{self.prefix}.mask", shape, rate)

    def nodes(self, value: str, rule: str, *inputs: Any, **attributes: Any) -> tuple[Symbolic, ...]:
        """All outputs of a node whose first output is named ``<layer>.<value>``."""
        return self.builder.add(rule, *inputs, name=f"{self.prefix}.{value}", **attributes)

    def node(self, value: str, rule: str, *inputs: Any, **attributes: Any) -> Symbolic:
        """The first output of a node, named ``<layer>.<value>``."""
        return self.nodes(value, rule, *inputs, **attributes)[0]

    def activate(self, activation: str | None, z: Symbolic) -> Symbolic:
        """``a = f(z)``; z itself where there is no activation."""
        return z if activation is None else self.node("a", activation, z)


@dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """Base of layers: an immutable recipe without arrays. Its parameters live in the model, under its name.

    ``name`` replaces the counted name (``dense1``); ``trainable=False`` freezes its parameters and those of layers
    inside it, see :meth:`backlit.Model.freeze`.
    """

    name: str | None = field(default=None, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)

    takes: ClassVar[int | None] = 1
    """How many inputs it has; None for any number of them."""

    KINDS: ClassVar[dict[str, type[Layer]]] = {}
    """Layer classes by name, for reading a saved model."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Layer.KINDS[cls.__name__] = cls

    @property
    def kind(self) -> str:
        """The word that its names are counted by."""
        return type(self).__name__.lower()

    def __call__(self, *inputs: Any) -> Symbolic:
        """Stage the layer on symbolic values. InputError on anything else: arrays go through a model, tuples apart."""
        builder = builder_of(*inputs)
        if any(isinstance(i, tuple | list) and builder_of(*i) is not None for i in inputs):
            raise InputError("layer_tuple", where=self.name or self.kind, got=", ".join(map(_brief, inputs)))
        if builder is None:
            came = ", ".join(type(i).__name__ for i in inputs)
            raise InputError("layer_on_array", where=self.name or self.kind, got=came)
        if self.takes not in (None, len(inputs)):
            raise InputError(
                "layer_inputs", where=self.name or self.kind, expected=str(self.takes), got=str(len(inputs))
            )
        with builder.layer(self, self.kind, self.name) as (owner, prefix):
            return self.stage(Scope(builder, owner, prefix), *inputs)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        """Add the layer's parameters and nodes; each kind of layer defines it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._told())})"

    def _told(self) -> list[str]:
        """The arguments that it would be made with: those that differ from the defaults, the first ones by place."""
        found, by_place = list[str](), True
        for f in sorted(fields(self), key=lambda f: bool(f.kw_only)):
            value = getattr(self, f.name)
            by_place &= not f.kw_only and value != f.default
            if value != f.default:
                found.append(repr(value) if by_place else f"{f.name}={value!r}")
        return found


def _brief(given: Any) -> str:
    """``lstm1.a``, or ``(lstm1.a, (lstm1.last, lstm1.last_c))``."""
    if isinstance(given, tuple | list):
        return f"({', '.join(map(_brief, given))})"
    return given.name if isinstance(given, Symbolic) else type(given).__name__


def activation_name(choice: str | None) -> str | None:
    """``choice`` if it names an activation rule, None for None and ``"linear"``; UnknownNameError otherwise."""
    if choice in (None, "linear"):
        return None
    lookup(dict.fromkeys(ACTIVATIONS), str(choice), "activation")
    return rules.get(str(choice)).name


def features(scope: Scope, x: Symbolic) -> int:
    """Size of the last axis; InputError where samples are single numbers, whose last axis is the batch."""
    if x.ndim < 2:
        raise InputError("no_feature_axis", where=scope.prefix, got=f"x{list(x.shape)}")
    return x.shape[-1]


def require_range(where: str, option: str, value: Any, low: float, high: float, *, closed: bool = False) -> None:
    """InputError unless ``low <= value < high``, or ``<= high`` where ``closed``."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not (low <= value < high or (closed and value == high)):
        expected = f"{low} <= {option} {'<=' if closed else '<'} {high}"
        raise InputError("option_range", where=where, option=option, expected=expected, got=f"{value!r}")


def require_count(where: str, option: str, value: Any) -> int:
    """``value`` as an int; InputError unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError("option_range", where=where, option=option, expected="1, 2, 3, …", got=f"{value!r}")
    return int(value)
