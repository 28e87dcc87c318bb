"""Lion: steps of one size, in the direction of the sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backlit.optim.base import Optimizer
from backlit.optim.recipe import Fraction, Positive
from backlit.optim.schedules import Schedule


@dataclass(frozen=True)
class Lion(Optimizer, name="lion"):
    """p = p - lr sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g; sign(0) = 0.

    The definition is the paper's, whose λ is ``weight_decay`` here. Every entry moves by lr, so the rate is chosen 3 to
    10 times smaller than Adam's.
    """

    learning_rate: Positive | Schedule = 0.0001
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99

    source: ClassVar[str] = "Chen et al.: Symbolic discovery of optimization algorithms, NeurIPS 2023"

    def _rule(self) -> tuple[str, ...]:
        return (
            "u = sign(beta1 * m + (1 - beta1) * g)",
            "p = p - lr * u",
            "m = beta2 * m + (1 - beta2) * g",
        )
