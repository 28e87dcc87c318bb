"""Gradient descent, with or without momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backlit.core.errors import InputError
from backlit.optim.base import Optimizer
from backlit.optim.recipe import Fraction


@dataclass(frozen=True)
class SGD(Optimizer, name="sgd"):
    """Gradient descent: p = p - lr g; with momentum, v = momentum v + g and p = p - lr v.

    The definitions are PyTorch's. The velocity v is not scaled by the learning rate (in Sutskever et al. it is, which
    differs once the rate changes), and starts as the first gradient whatever the ``dampening``. Nesterov's form takes
    p = p - lr (g + momentum v) with the new v. ``0 <= momentum, dampening < 1``.

    Raises InputError for options out of range, and for ``nesterov`` without momentum or with dampening.
    """

    momentum: Fraction = 0.0
    nesterov: bool = False
    dampening: Fraction = 0.0

    source: ClassVar[str] = (
        "Robbins, Monro: A stochastic approximation method, Annals of Mathematical Statistics 22, 1951; "
        "Polyak: Some methods of speeding up the convergence of iteration methods, 1964; "
        "Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning, ICML 2013"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0.0 or self.dampening > 0.0):
            raise InputError("optim_nesterov", got=f"momentum = {self.momentum}, dampening = {self.dampening}")

    def _rule(self) -> tuple[str, ...]:
        if not self.momentum:
            return ("p = p - lr * g",)
        new = "(1 - dampening * (t > 1)) * g" if self.dampening else "g"
        taken = "(g + momentum * v)" if self.nesterov else "v"
        return (f"v = momentum * v + {new}", f"p = p - lr * {taken}")
