"""Adam and its family: Adam, AdamW, NAdam."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from backlit.core.types import Array, Namespace
from backlit.optim.base import Optimizer
from backlit.optim.recipe import Fraction, NonNegative, Positive
from backlit.optim.schedules import Schedule

_MOMENTS = ("m = beta1 * m + (1 - beta1) * g", "v = beta2 * v + (1 - beta2) * g**2")
_MOVE = "p = p - lr * m_hat / (sqrt(v_hat) + eps)"


@dataclass(frozen=True)
class Adam(Optimizer, name="adam"):
    """Running means m of g and v of g², corrected for their start at zero: p = p - lr m_hat / (√v_hat + eps).

    m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t). eps is added to the root of the corrected v, as in the paper's
    Algorithm 1 and PyTorch; Keras adds it to the root of v, as the end of the paper's section 2 does. ``amsgrad`` uses
    the largest v so far and, as PyTorch does, corrects it like v; Reddi, Kale, Kumar: On the convergence of Adam and
    beyond, ICLR 2018, has no correction.

    1 - beta2^t is computed in the precision of ``t``: a Python int gives float64, a traced int JAX's default.
    """

    learning_rate: Positive | Schedule = 0.001
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    amsgrad: bool = False

    source: ClassVar[str] = "Kingma, Ba: Adam: a method for stochastic optimization, ICLR 2015"

    def _rule(self) -> tuple[str, ...]:
        largest, v = (("v_max = max(v_max, v)",), "v_max") if self.amsgrad else ((), "v")
        return (*_MOMENTS, *largest, "m_hat = m / (1 - beta1**t)", f"v_hat = {v} / (1 - beta2**t)", _MOVE)


@dataclass(frozen=True)
class AdamW(Adam, name="adamw"):
    """:class:`Adam` with decoupled weight decay, 0.01 unless told: p = p - lr weight_decay p before Adam's update.

    As in PyTorch, the decay is multiplied by the learning rate; in the paper it has a schedule factor of its own.
    """

    weight_decay: NonNegative = field(default=0.01, kw_only=True)

    source: ClassVar[str] = "Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019"


@dataclass(frozen=True)
class NAdam(Optimizer, name="nadam"):
    """:class:`Adam` with Nesterov's momentum: m_hat looks one update ahead.

    m_hat = mu_next m / (1 - mu_product mu_next) + (1 - mu) g / (1 - mu_product), with the momentum schedule mu = beta1
    (1 - 0.96^(t momentum_decay) / 2), mu_next that of t + 1, and mu_product the product of all mu so far, a slot of
    shape () that starts at 1. The form is PyTorch's, with its defaults: m itself decays by beta1, where the paper's
    algorithm has mu.
    """

    learning_rate: Positive | Schedule = 0.002
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    momentum_decay: NonNegative = 0.004

    source: ClassVar[str] = "Dozat: Incorporating Nesterov momentum into Adam, ICLR workshop 2016"

    def _start(self, xp: Namespace, p: Array, slot: str) -> Array:
        return xp.ones((), dtype=p.dtype) if slot == "mu_product" else xp.zeros_like(p)

    def _rule(self) -> tuple[str, ...]:
        return (
            "mu = beta1 * (1 - 0.5 * 0.96**(t * momentum_decay))",
            "mu_next = beta1 * (1 - 0.5 * 0.96**((t + 1) * momentum_decay))",
            "mu_product = mu_product * mu",
            *_MOMENTS,
            "m_hat = mu_next * m / (1 - mu_product * mu_next) + (1 - mu) * g / (1 - mu_product)",
            "v_hat = v / (1 - beta2**t)",
            _MOVE,
        )
