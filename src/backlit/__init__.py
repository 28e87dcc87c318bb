"""Neural networks with backpropagation you can see through.

``import backlit as bl`` is light: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from backlit import data as data
    from backlit._fit import fit as fit
    from backlit.core.errors import BacklitError as BacklitError
    from backlit.graph import functions as ops
    from backlit.nn import initializers as init
    from backlit.nn.grad import grad as grad, value_and_grad as value_and_grad
    from backlit.nn.layer import Layer as Layer
    from backlit.nn.layers import (
        ELU as ELU,
        GELU as GELU,
        SELU as SELU,
        Activation as Activation,
        Add as Add,
        BatchNorm as BatchNorm,
        Concatenate as Concatenate,
        Dense as Dense,
        Dropout as Dropout,
        Flatten as Flatten,
        LayerNorm as LayerNorm,
        LeakyReLU as LeakyReLU,
        Mish as Mish,
        ReLU as ReLU,
        Reshape as Reshape,
        RMSNorm as RMSNorm,
        Sigmoid as Sigmoid,
        SiLU as SiLU,
        Softmax as Softmax,
        Softplus as Softplus,
        Tanh as Tanh,
    )
    from backlit.nn.losses import (
        MAE as MAE,
        MSE as MSE,
        BinaryCrossEntropy as BinaryCrossEntropy,
        Huber as Huber,
        KLDivergence as KLDivergence,
        SoftmaxCrossEntropy as SoftmaxCrossEntropy,
    )
    from backlit.nn.model import Model as Model, Sequential as Sequential
    from backlit.nn.store import load as load, save as save
    from backlit.nn.structure import Residual as Residual
    from backlit.optim import (
        SGD as SGD,
        Adadelta as Adadelta,
        Adagrad as Adagrad,
        Adam as Adam,
        AdamW as AdamW,
        ClipByGlobalNorm as ClipByGlobalNorm,
        ClipByNorm as ClipByNorm,
        ClipByValue as ClipByValue,
        Constant as Constant,
        Cosine as Cosine,
        Exponential as Exponential,
        Lion as Lion,
        NAdam as NAdam,
        OneCycle as OneCycle,
        ReduceOnPlateau as ReduceOnPlateau,
        RMSprop as RMSprop,
        StepDecay as StepDecay,
        Warmup as Warmup,
    )
    from backlit.train import metrics as metrics
    from backlit.train.run import Run as Run, open_run as open_run
    from backlit.train.stopping import Converged as Converged, EarlyStopping as EarlyStopping

_HOMES = {
    "_fit": "fit",
    "core.errors": "BacklitError",
    "nn.grad": "grad value_and_grad",
    "nn.layer": "Layer",
    "nn.layers": "ELU GELU SELU Activation Add BatchNorm Concatenate Dense Dropout Flatten LayerNorm LeakyReLU Mish ReLU "
    "Reshape RMSNorm Sigmoid SiLU Softmax Softplus Tanh",
    "nn.losses": "MAE MSE BinaryCrossEntropy Huber KLDivergence SoftmaxCrossEntropy",
    "nn.model": "Model Sequential",
    "nn.store": "load save",
    "nn.structure": "Residual",
    "optim": "SGD Adadelta Adagrad Adam AdamW ClipByGlobalNorm ClipByNorm ClipByValue Constant Cosine Exponential Lion NAdam "
    "OneCycle ReduceOnPlateau RMSprop StepDecay Warmup",
    "train.run": "Run open_run",
    "train.stopping": "Converged EarlyStopping",
}
"""Module -> the public names it gives; the block above says the same to type checkers."""

_MODULES = {"data": "data", "ops": "graph.functions", "init": "nn.initializers", "metrics": "train.metrics"}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted([*_HOME_OF, *_MODULES, "__version__"])  # noqa: PLE0605  derived from the tables above


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"backlit.{_MODULES[name]}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'backlit' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"backlit.{_HOME_OF[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
