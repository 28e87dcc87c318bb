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
    unit_interval: ClassVar[bool] = False
    """True where targets must be numbers from 0 to 1."""
    one_each: ClassVar[bool] = False
    """True where a sample has one target, y[N], whatever its output."""

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
    unit_interval = True
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


@dataclass(frozen=True)
class SmoothL1(Loss):
    """e²/(2 beta) within ``beta`` of the target, |e| - beta/2 beyond. Source: Girshick: Fast R-CNN, ICCV 2015."""

    beta: float = 1.0
    rule = "smooth_l1"


@dataclass(frozen=True)
class Focal(Loss):
    """Cross-entropy of sigmoid(logits) in which what is decided already counts little; targets in [0, 1].

    ``alpha`` weighs what is there, 1 - alpha what is not. Source: Lin et al.: Focal loss, ICCV 2017.
    """

    gamma: float = 2.0
    alpha: float = 0.25
    refuses = ("sigmoid", "softmax")
    unit_interval = True
    rule = "focal"


@dataclass(frozen=True)
class SoftmaxFocal(Loss):
    """Cross-entropy of softmax(logits) in which what is decided already counts little; labels are integers [N].

    ``alpha`` are weights of the classes, C of them. Source: Lin et al.: Focal loss, ICCV 2017.
    """

    gamma: float = 2.0
    alpha: Weights = None
    ignore: int | None = None
    """A label that does not count."""
    refuses = ("softmax", "log_softmax", "sigmoid")
    labels = True
    rule = "softmax_focal"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_weights(self.alpha))

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        given = constant_weights(self.alpha, builder.dtype)
        return builder.add(self.rule, output, target, weights, given, name="loss", **self.attributes())


@dataclass(frozen=True)
class Dice(Loss):
    """1 - 2 |both| / (|found| + |wanted|) of masks, from logits, sample by sample; targets in [0, 1].

    Source: Milletari, Navab, Ahmadi: V-Net, 3DV 2016.
    """

    smooth: float = 1.0
    refuses = ("sigmoid", "softmax")
    unit_interval = True
    rule = "dice"


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    """1 - cos of the model's vector and the target's: output[N, D], y[N, D]. What counts is the direction."""

    rule = "cosine_embedding"

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        together = np.ones(output.shape[:1], builder.dtype)
        return builder.add(self.rule, output, target, together, weights, name="loss")


@dataclass(frozen=True)
class OfPairs(Loss):
    """Base of the losses of output[N, 2, D] and y[N], which says of each pair whether it belongs together.

    Such a model: ``bl.Model(lambda a, b: bl.ops.stack(encoder(a), encoder(b), axis=1))``.
    """

    one_each = True

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        x1, x2 = pair(self.name, output)
        return builder.add(self.rule, x1, x2, target, weights, name="loss", **self.attributes())


@dataclass(frozen=True)
class CosineEmbedding(OfPairs):
    """1 - cos of a pair with y = 1, max(cos - margin, 0) of one with y = -1. Source: Bromley et al., NIPS 1993."""

    margin: float = 0.0
    rule = "cosine_embedding"


@dataclass(frozen=True)
class Contrastive(OfPairs):
    """D²/2 of a pair with y = 1, max(margin - D, 0)²/2 of one with y = 0, D its distance.

    Source: Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping, CVPR 2006.
    """

    margin: float = 1.0
    unit_interval = True
    rule = "contrastive"


@dataclass(frozen=True)
class InfoNCE(Loss):
    """Which second vector belongs to the first: cross-entropy of the cosines of all pairs over ``temperature``.

    output[N, 2, D]; y[N] is not looked at, for sample n's partner is its own second vector. Source: van den Oord, Li,
    Vinyals: Representation learning with contrastive predictive coding, 2018; Chen et al.: SimCLR, ICML 2020.
    """

    temperature: float = 0.1
    one_each = True
    rule = "softmax_cross_entropy"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            expected, got = "0 < temperature < ∞", repr(self.temperature)
            raise InputError("option_range", where="InfoNCE", option="temperature", expected=expected, got=got)

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        del target
        first, second = (_unit(x) for x in pair(self.name, output))
        logits = builder.add("matmul", first, second.T, name="similarity")[0] / self.temperature
        if len(output) == 1:  # one alone has nothing to be told from: a class that cannot be makes the loss 0
            logits = builder.add("pad", logits, widths=((0, 0), (0, 1)), value=-1e9)[0]
        return builder.add(self.rule, logits, np.arange(len(output)), weights, None, name="loss")


@dataclass(frozen=True)
class NegativeSampling(Loss):
    """-log σ(s_0) - Σ_k log σ(-s_k) of scores output[N, 1 + K], the true pair's first; y[N] is not looked at.

    Source: Mikolov et al.: Distributed representations of words and phrases, NIPS 2013.
    """

    refuses = ("sigmoid", "softmax")
    one_each = True
    rule = "negative_sampling"

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        del target
        if output.ndim != 2 or output.shape[1] < 2:
            raise InputError("loss_output", where="loss", loss=self.name, expected="[N, 1 + K]", got=_shape(output))
        return builder.add(self.rule, output[:, 0], output[:, 1:], weights, name="loss")


def pair(loss: str, output: Symbolic) -> tuple[Symbolic, Symbolic]:
    """The two vectors of output[N, 2, D]; InputError where it has another shape."""
    if output.ndim != 3 or output.shape[1] != 2:
        raise InputError("loss_output", where="loss", loss=loss, expected="[N, 2, D]", got=_shape(output))
    return output[:, 0], output[:, 1]


def _shape(output: Symbolic) -> str:
    return f"{output.name}{list(output.shape)}"


def _unit(x: Symbolic) -> Any:
    """Vectors of length 1 in the same directions."""
    return x / ((x * x).sum(axis=-1, keepdims=True) + 1e-16) ** 0.5


@dataclass(frozen=True)
class CTC(Loss):
    """-ln P(label | logits) of label sequences whose place in time is not known, averaged over sequences.

    output[N, T, C] are logits of every frame, y[N, S] whole numbers, the classes of each label padded with the
    ``blank``. A sequence of fewer frames ends in frames whose logits make the blank certain. A label that needs more
    frames than there are is refused (InputError BL125). Source: Graves et al., ICML 2006.
    """

    blank: int = 0
    refuses = ("softmax", "log_softmax", "sigmoid")
    rule = "ctc"

    def node(
        self, builder: Builder, output: Symbolic, target: Symbolic, weights: Symbolic | None
    ) -> tuple[Symbolic, ...]:
        return builder.add(self.rule, output, target, None, None, weights, name="loss", blank=self.blank)

    def target(self, y: Any, dtype: str) -> Any:  # noqa: ARG002  labels stay integers
        array = np.asarray(y)
        if array.dtype.kind not in "iu":
            raise InputError("ctc_labels", where="y", got=f"y{list(array.shape)}: {array.dtype}")
        return array


NAMED: dict[str, type[Loss]] = {
    "mse": MSE,
    "mae": MAE,
    "huber": Huber,
    "softmax_cross_entropy": SoftmaxCrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "kl_divergence": KLDivergence,
    "ctc": CTC,
    "smooth_l1": SmoothL1,
    "focal": Focal,
    "softmax_focal": SoftmaxFocal,
    "dice": Dice,
    "cosine_similarity": CosineSimilarity,
    "cosine_embedding": CosineEmbedding,
    "contrastive": Contrastive,
    "info_nce": InfoNCE,
    "negative_sampling": NegativeSampling,
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
