"""Losses by name: recipes that put the right loss rule at the end of a model's graph."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.graph.builder import Builder
from backlit.graph.symbolic import Symbolic

Weights = Any  # a number, or (nested) tuples of numbers, or None


@dataclass(frozen=True)
class Loss:
    """Base of losses. ``stage`` adds the node ``loss`` and returns (loss, mass): the mean and the weight under it."""

    rule: ClassVar[str] = ""
    refuses: ClassVar[tuple[str, ...]] = ()
    """Activations that must not come last, such as those that the loss applies itself."""
    refusal: ClassVar[str] = "double_activation"
    """Message key that says why."""
    labels: ClassVar[bool] = False
    """True where targets may be integer labels."""

    @property
    def name(self) -> str:
        """The name it is chosen by."""
        return next(n for n, kind in NAMED.items() if kind is type(self))

    def stage(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, Symbolic]:
        """Add the loss of ``output`` against ``target``; InputError where the model ends in a refused activation.

        For a model with one output, output[N, 1], the target may be [N].
        """
        last = builder.rule_of(output)
        if last in self.refuses:
            raise InputError(self.refusal, where=output.name, loss=self.name, activation=last)
        if target.shape == output.shape[:1] and output.shape[1:] == (1,) and not self.labels:
            target = builder.add("reshape", target, shape=output.shape, name="target")[0]
        made = self.node(builder, output, target, weights)
        return made[0], made[1]

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        """Add the rule's node; by default ``rule(output, target, weights)`` with the recipe's fields as attributes."""
        return builder.add(self.rule, output, target, weights, name="loss", **self.attributes())

    def target(self, y: Any, dtype: str) -> Any:
        """``y`` as the rule takes it: numbers in the graph's dtype, integer labels as they are where it knows them."""
        array = np.asarray(y)
        return array if array.dtype.kind in "iu" and self.labels else array.astype(dtype, copy=False)

    def attributes(self) -> dict[str, Any]:
        """The recipe's fields that are attributes of the rule."""
        known = rules.get(self.rule).attributes
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name in known}


@dataclass(frozen=True)
class MSE(Loss):
    """Mean squared error, averaged over outputs and samples."""

    rule = "mse"


@dataclass(frozen=True)
class MAE(Loss):
    """Mean absolute error."""

    rule = "mae"


@dataclass(frozen=True)
class Huber(Loss):
    """Quadratic within ``delta`` of the target, linear beyond. Source: Huber, Ann. Math. Statist. 35, 1964."""

    delta: float = 1.0
    rule = "huber"


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of softmax(logits); labels are integers [N] or probabilities [N, C]."""

    label_smoothing: float = 0.0
    ignore: int | None = None
    """A label that does not count."""
    class_weights: Weights = None
    refuses = ("softmax", "log_softmax", "sigmoid")
    labels = True
    rule = "softmax_cross_entropy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weights", as_weights(self.class_weights))

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        settings = self.attributes()
        rule = self.rule
        if target.ndim == output.ndim and target.shape[-1:] == output.shape[-1:]:
            rule = "softmax_cross_entropy_soft"
            settings.pop("ignore")
        given = constant_weights(self.class_weights, builder.dtype)
        return builder.add(rule, output, target, weights, given, name="loss", **settings)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of sigmoid(logits); targets in [0, 1]."""

    pos_weight: Weights = None
    refuses = ("sigmoid", "softmax")
    rule = "binary_cross_entropy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pos_weight", as_weights(self.pos_weight))

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        given = constant_weights(self.pos_weight, builder.dtype)
        return builder.add(self.rule, output, target, weights, given, name="loss")


@dataclass(frozen=True)
class KLDivergence(Loss):
    """Σ p (ln p - ln q); the model gives ln q (end it with log_softmax)."""

    refuses = ("softmax", "sigmoid")
    refusal = "log_probabilities"
    rule = "kl_divergence"


NAMED: dict[str, type[Loss]] = {
    "mse": MSE,
    "mae": MAE,
    "huber": Huber,
    "softmax_cross_entropy": SoftmaxCrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "kl_divergence": KLDivergence,
}


def get(choice: str | Loss) -> Loss:
    """The loss of that name with its defaults, or a recipe as it is; UnknownNameError or InputError else."""
    if isinstance(choice, str):
        return lookup(NAMED, choice, "loss")()
    if not isinstance(choice, Loss):
        raise InputError("no_loss", where="loss", got=repr(choice))
    return choice


def as_weights(values: Any) -> Weights:
    """Weights without lists and arrays, so that a recipe can be compared and hashed."""
    if values is None:
        return None
    return tuple(map(as_weights, values)) if np.ndim(values) else float(values)


def constant_weights(values: Weights, dtype: str) -> np.ndarray[Any, Any] | None:
    """Weights given as a tuple, as an array of the graph's dtype."""
    return None if values is None else np.asarray(values, dtype)
