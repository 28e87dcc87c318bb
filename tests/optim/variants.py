"""Every optimizer with every option that changes its formulas, and the same of PyTorch where it has it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from backlit import optim


class Variant(NamedTuple):
    optimizer: optim.Optimizer
    torch_name: str = ""
    torch_options: dict[str, Any] = {}  # noqa: RUF012  never changed
    torch_slots: dict[str, str] = {}  # noqa: RUF012  never changed


_VELOCITY = {"v": "momentum_buffer"}
_ADAM = {"m": "exp_avg", "v": "exp_avg_sq"}
_AMSGRAD = _ADAM | {"v_max": "max_exp_avg_sq"}
_NADAM = _ADAM | {"mu_product": "mu_product"}
_SQUARES = {"s": "square_avg"}
_DELTA = _SQUARES | {"u": "acc_delta"}

VARIANTS = {
    "sgd": Variant(optim.SGD(0.1), "SGD", {"lr": 0.1}),
    "sgd l2": Variant(optim.SGD(0.1, l2=0.03), "SGD", {"lr": 0.1, "weight_decay": 0.03}),
    "sgd l1": Variant(optim.SGD(0.1, l1=0.03)),
    "sgd all penalties": Variant(optim.SGD(0.1, momentum=0.9, l1=0.03, l2=0.02, weight_decay=0.1)),
    "momentum": Variant(optim.SGD(0.05, 0.9), "SGD", {"lr": 0.05, "momentum": 0.9}, _VELOCITY),
    "momentum l2": Variant(
        optim.SGD(0.05, 0.9, l2=0.1), "SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}, _VELOCITY
    ),
    "dampening": Variant(
        optim.SGD(0.05, 0.9, dampening=0.3), "SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}, _VELOCITY
    ),
    "nesterov": Variant(
        optim.SGD(0.05, 0.9, nesterov=True), "SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}, _VELOCITY
    ),
    "adagrad": Variant(optim.Adagrad(0.1), "Adagrad", {"lr": 0.1}, {"s": "sum"}),
    "adagrad all": Variant(
        optim.Adagrad(0.1, lr_decay=0.01, initial=0.5, eps=1e-3, l2=0.1),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.5, "eps": 1e-3, "weight_decay": 0.1},
        {"s": "sum"},
    ),
    "adadelta": Variant(optim.Adadelta(), "Adadelta", {}, _DELTA),
    "adadelta all": Variant(
        optim.Adadelta(0.5, rho=0.8, eps=1e-4, l2=0.1),
        "Adadelta",
        {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1},
        _DELTA,
    ),
    "rmsprop": Variant(optim.RMSprop(), "RMSprop", {}, _SQUARES),
    "rmsprop momentum": Variant(
        optim.RMSprop(momentum=0.9, l2=0.1),
        "RMSprop",
        {"momentum": 0.9, "weight_decay": 0.1},
        _SQUARES | _VELOCITY,
    ),
    "rmsprop centered": Variant(
        optim.RMSprop(0.02, rho=0.9, eps=1e-3, centered=True),
        "RMSprop",
        {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "centered": True},
        _SQUARES | {"m": "grad_avg"},
    ),
    "rmsprop centered momentum": Variant(
        optim.RMSprop(0.02, centered=True, momentum=0.5),
        "RMSprop",
        {"lr": 0.02, "centered": True, "momentum": 0.5},
        _SQUARES | _VELOCITY | {"m": "grad_avg"},
    ),
    "adam": Variant(optim.Adam(), "Adam", {}, _ADAM),
    "adam all": Variant(
        optim.Adam(0.02, 0.8, 0.95, 1e-3, amsgrad=True, l2=0.1),
        "Adam",
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.1},
        _AMSGRAD,
    ),
    "adamw": Variant(optim.AdamW(), "AdamW", {}, _ADAM),
    "adamw amsgrad": Variant(
        optim.AdamW(0.02, weight_decay=0.2, amsgrad=True),
        "AdamW",
        {"lr": 0.02, "weight_decay": 0.2, "amsgrad": True},
        _AMSGRAD,
    ),
    "nadam": Variant(optim.NAdam(), "NAdam", {}, _NADAM),
    "nadam l2": Variant(
        optim.NAdam(0.02, 0.8, 0.95, 1e-3, momentum_decay=0.1, l2=0.1),
        "NAdam",
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "momentum_decay": 0.1, "weight_decay": 0.1},
        _NADAM,
    ),
    "nadam decoupled": Variant(
        optim.NAdam(0.02, weight_decay=0.2),
        "NAdam",
        {"lr": 0.02, "weight_decay": 0.2, "decoupled_weight_decay": True},
        _NADAM,
    ),
    "lion": Variant(optim.Lion(0.01)),
    "lion decay": Variant(optim.Lion(0.01, 0.8, 0.9, weight_decay=0.3)),
}


def learning_rate(optimizer: optim.Optimizer) -> float:
    return optimizer.schedule(1, 1, 1)


def problem(seed: int = 0, dtype: str = "float64") -> tuple[dict[str, np.ndarray], Any]:
    """Parameters of three shapes, one of them (), and a gradient function of (parameters, step) with noise."""
    rng = np.random.default_rng(seed)
    shapes = {"dense1.W": (3, 4), "dense1.b": (3,), "scale": ()}
    params = {name: np.asarray(rng.normal(size=shape), dtype=dtype) for name, shape in shapes.items()}
    noise = {name: rng.normal(size=(50, *shape)).astype(dtype) for name, shape in shapes.items()}

    def gradient(values, step):
        return {name: np.asarray(values[name] + noise[name][step - 1], dtype=dtype) for name in values}

    return params, gradient
