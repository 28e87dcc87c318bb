"""Learning rates per entry, from the size of its past gradients: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backlit.core.types import Array, Namespace
from backlit.optim.base import Optimizer
from backlit.optim.recipe import Fraction, NonNegative, Positive
from backlit.optim.schedules import Schedule


@dataclass(frozen=True)
class Adagrad(Optimizer, name="adagrad"):
    """Divides by the root of the sum of squares of all gradients so far: s = s + g², p = p - lr g / (√s + eps).

    PyTorch's definition: eps outside the root, s starts at ``initial``, and ``lr_decay`` lowers the rate of update t to
    lr / (1 + (t - 1) lr_decay). Keras starts s at 0.1 and has eps inside the root.
    """

    lr_decay: NonNegative = 0.0
    initial: NonNegative = 0.0
    eps: Positive = 1e-10

    source: ClassVar[str] = (
        "Duchi, Hazan, Singer: Adaptive subgradient methods for online learning and stochastic optimization, "
        "Journal of Machine Learning Research 12, 2011"
    )

    def _start(self, xp: Namespace, p: Array, slot: str) -> Array:
        del slot
        return xp.full_like(p, self.initial)

    def _rule(self) -> tuple[str, ...]:
        rate = "lr / (1 + (t - 1) * lr_decay)" if self.lr_decay else "lr"
        return ("s = s + g**2", f"p = p - {rate} * g / (sqrt(s) + eps)")


@dataclass(frozen=True)
class Adadelta(Optimizer, name="adadelta"):
    """Scales each gradient to the size of past changes: d = √(u + eps) / √(s + eps) g, p = p - lr d.

    s and u are running means, with decay ``rho``, of g² and d². The paper has no learning rate; as in PyTorch it is a
    factor, by default 1. Keras' default is 0.001.
    """

    learning_rate: Positive | Schedule = 1.0
    rho: Fraction = 0.9
    eps: Positive = 1e-6

    source: ClassVar[str] = "Zeiler: ADADELTA: an adaptive learning rate method, arXiv 1212.5701, 2012"

    def _rule(self) -> tuple[str, ...]:
        return (
            "s = rho * s + (1 - rho) * g**2",
            "d = sqrt(u + eps) / sqrt(s + eps) * g",
            "u = rho * u + (1 - rho) * d**2",
            "p = p - lr * d",
        )


@dataclass(frozen=True)
class RMSprop(Optimizer, name="rmsprop"):
    """Divides by the root of the running mean of squares: s = rho s + (1 - rho) g², p = p - lr g / (√s + eps).

    PyTorch's definition (its ``alpha`` is ``rho``): eps outside the root and rho 0.99; Keras has it inside, and 0.9.
    ``momentum`` gathers the divided gradients in v, unscaled by the rate. ``centered`` divides by the root of the
    running variance, s - m² with m the running mean of g; where rounding makes that negative it counts as 0, where
    PyTorch gives NaN. The centered form is Graves: Generating sequences with recurrent neural networks, 2013.
    """

    rho: Fraction = 0.99
    eps: Positive = 1e-8
    momentum: Fraction = 0.0
    centered: bool = False

    source: ClassVar[str] = "Tieleman, Hinton: Neural networks for machine learning, lecture 6.5, rmsprop, 2012"

    def _rule(self) -> tuple[str, ...]:
        mean = ("m = rho * m + (1 - rho) * g",) if self.centered else ()
        divisor = "(sqrt(max(s - m**2, 0.0)) + eps)" if self.centered else "(sqrt(s) + eps)"
        plain, heavy = (f"p = p - lr * g / {divisor}",), (f"v = momentum * v + g / {divisor}", "p = p - lr * v")
        return ("s = rho * s + (1 - rho) * g**2", *mean, *(heavy if self.momentum else plain))
