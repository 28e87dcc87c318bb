"""Neural networks with backpropagation you can see through.

``import backlit as bl`` is light: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from backlit import data as data
    from backlit import interop as interop
    from backlit._facade import Run as Run
    from backlit._facade import fit as fit
    from backlit._facade import open_run as open_run
    from backlit._facade import program as program
    from backlit.core.errors import BacklitError as BacklitError
    from backlit.data import augment as augment
    from backlit.glass.check import check as check
    from backlit.glass.cost import cost as cost
    from backlit.glass.derive import Derivation as Derivation
    from backlit.glass.derive import derive as derive
    from backlit.glass.trace import Trace as Trace
    from backlit.glass.trace import trace as trace
    from backlit.graph import functions as ops
    from backlit.nn import initializers as init
    from backlit.nn.generate import generate as generate
    from backlit.nn.grad import grad as grad
    from backlit.nn.grad import value_and_grad as value_and_grad
    from backlit.nn.layer import Layer as Layer
    from backlit.nn.layers import (
        ELU as ELU,
    )
    from backlit.nn.layers import (
        GELU as GELU,
    )
    from backlit.nn.layers import (
        SELU as SELU,
    )
    from backlit.nn.layers import (
        Activation as Activation,
    )
    from backlit.nn.layers import (
        Add as Add,
    )
    from backlit.nn.layers import (
        BatchNorm as BatchNorm,
    )
    from backlit.nn.layers import (
        Concatenate as Concatenate,
    )
    from backlit.nn.layers import (
        Dense as Dense,
    )
    from backlit.nn.layers import (
        Dropout as Dropout,
    )
    from backlit.nn.layers import (
        Flatten as Flatten,
    )
    from backlit.nn.layers import (
        LayerNorm as LayerNorm,
    )
    from backlit.nn.layers import (
        LeakyReLU as LeakyReLU,
    )
    from backlit.nn.layers import (
        Mish as Mish,
    )
    from backlit.nn.layers import (
        ReLU as ReLU,
    )
    from backlit.nn.layers import (
        Reshape as Reshape,
    )
    from backlit.nn.layers import (
        RMSNorm as RMSNorm,
    )
    from backlit.nn.layers import (
        Sigmoid as Sigmoid,
    )
    from backlit.nn.layers import (
        SiLU as SiLU,
    )
    from backlit.nn.layers import (
        Softmax as Softmax,
    )
    from backlit.nn.layers import (
        Softplus as Softplus,
    )
    from backlit.nn.layers import (
        Tanh as Tanh,
    )
    from backlit.nn.layers_attention import Embedding as Embedding
    from backlit.nn.layers_attention import MultiHeadAttention as MultiHeadAttention
    from backlit.nn.layers_attention import PositionalEmbedding as PositionalEmbedding
    from backlit.nn.layers_attention import SinusoidalPositions as SinusoidalPositions
    from backlit.nn.layers_attention import TransformerBlock as TransformerBlock
    from backlit.nn.layers_attention import TransformerDecoderBlock as TransformerDecoderBlock
    from backlit.nn.layers_conv import (
        AdaptiveAvgPool2D as AdaptiveAvgPool2D,
    )
    from backlit.nn.layers_conv import (
        AvgPool2D as AvgPool2D,
    )
    from backlit.nn.layers_conv import (
        Conv1D as Conv1D,
    )
    from backlit.nn.layers_conv import (
        Conv2D as Conv2D,
    )
    from backlit.nn.layers_conv import (
        ConvTranspose2D as ConvTranspose2D,
    )
    from backlit.nn.layers_conv import (
        GlobalAvgPool2D as GlobalAvgPool2D,
    )
    from backlit.nn.layers_conv import (
        GroupNorm as GroupNorm,
    )
    from backlit.nn.layers_conv import (
        InstanceNorm as InstanceNorm,
    )
    from backlit.nn.layers_conv import (
        MaxPool1D as MaxPool1D,
    )
    from backlit.nn.layers_conv import (
        MaxPool2D as MaxPool2D,
    )
    from backlit.nn.layers_conv import (
        UpSample2D as UpSample2D,
    )
    from backlit.nn.layers_recurrent import (
        GRU as GRU,
    )
    from backlit.nn.layers_recurrent import (
        LSTM as LSTM,
    )
    from backlit.nn.layers_recurrent import (
        RNN as RNN,
    )
    from backlit.nn.layers_regular import SpectralNorm as SpectralNorm
    from backlit.nn.layers_regular import StochasticDepth as StochasticDepth
    from backlit.nn.layers_regular import WeightNorm as WeightNorm
    from backlit.nn.losses import (
        CTC as CTC,
    )
    from backlit.nn.losses import (
        MAE as MAE,
    )
    from backlit.nn.losses import (
        MSE as MSE,
    )
    from backlit.nn.losses import (
        BinaryCrossEntropy as BinaryCrossEntropy,
    )
    from backlit.nn.losses import Contrastive as Contrastive
    from backlit.nn.losses import CosineEmbedding as CosineEmbedding
    from backlit.nn.losses import CosineSimilarity as CosineSimilarity
    from backlit.nn.losses import Dice as Dice
    from backlit.nn.losses import Focal as Focal
    from backlit.nn.losses import (
        Huber as Huber,
    )
    from backlit.nn.losses import InfoNCE as InfoNCE
    from backlit.nn.losses import (
        KLDivergence as KLDivergence,
    )
    from backlit.nn.losses import NegativeSampling as NegativeSampling
    from backlit.nn.losses import SmoothL1 as SmoothL1
    from backlit.nn.losses import (
        SoftmaxCrossEntropy as SoftmaxCrossEntropy,
    )
    from backlit.nn.losses import SoftmaxFocal as SoftmaxFocal
    from backlit.nn.model import Model as Model
    from backlit.nn.model import Sequential as Sequential
    from backlit.nn.store import load as load
    from backlit.nn.store import save as save
    from backlit.nn.structure import Residual as Residual
    from backlit.optim import (
        SGD as SGD,
    )
    from backlit.optim import (
        Adadelta as Adadelta,
    )
    from backlit.optim import (
        Adagrad as Adagrad,
    )
    from backlit.optim import (
        Adam as Adam,
    )
    from backlit.optim import (
        AdamW as AdamW,
    )
    from backlit.optim import (
        ClipByGlobalNorm as ClipByGlobalNorm,
    )
    from backlit.optim import (
        ClipByNorm as ClipByNorm,
    )
    from backlit.optim import (
        ClipByValue as ClipByValue,
    )
    from backlit.optim import (
        Constant as Constant,
    )
    from backlit.optim import (
        Cosine as Cosine,
    )
    from backlit.optim import (
        Exponential as Exponential,
    )
    from backlit.optim import (
        Lion as Lion,
    )
    from backlit.optim import (
        NAdam as NAdam,
    )
    from backlit.optim import (
        OneCycle as OneCycle,
    )
    from backlit.optim import (
        ReduceOnPlateau as ReduceOnPlateau,
    )
    from backlit.optim import (
        RMSprop as RMSprop,
    )
    from backlit.optim import (
        StepDecay as StepDecay,
    )
    from backlit.optim import (
        Warmup as Warmup,
    )
    from backlit.train import metrics as metrics
    from backlit.train.stopping import Converged as Converged
    from backlit.train.stopping import EarlyStopping as EarlyStopping

_HOMES = {
    "_facade": "Run fit open_run program",
    "core.errors": "BacklitError",
    "glass.check": "check",
    "glass.cost": "cost",
    "glass.derive": "Derivation derive",
    "glass.trace": "Trace trace",
    "nn.generate": "generate",
    "nn.grad": "grad value_and_grad",
    "nn.layer": "Layer",
    "nn.layers": "ELU GELU SELU Activation Add BatchNorm Concatenate Dense Dropout Flatten LayerNorm LeakyReLU Mish "
    "ReLU Reshape RMSNorm Sigmoid SiLU Softmax Softplus Tanh",
    "nn.layers_attention": "Embedding MultiHeadAttention PositionalEmbedding SinusoidalPositions TransformerBlock "
    "TransformerDecoderBlock",
    "nn.layers_recurrent": "GRU LSTM RNN",
    "nn.layers_conv": "AdaptiveAvgPool2D AvgPool2D Conv1D Conv2D ConvTranspose2D GlobalAvgPool2D GroupNorm "
    "InstanceNorm MaxPool1D MaxPool2D UpSample2D",
    "nn.layers_regular": "SpectralNorm StochasticDepth WeightNorm",
    "nn.losses": "CTC MAE MSE BinaryCrossEntropy Contrastive CosineEmbedding CosineSimilarity Dice Focal Huber InfoNCE "
    "KLDivergence NegativeSampling SmoothL1 SoftmaxCrossEntropy SoftmaxFocal",
    "nn.model": "Model Sequential",
    "nn.store": "load save",
    "nn.structure": "Residual",
    "optim": "SGD Adadelta Adagrad Adam AdamW ClipByGlobalNorm ClipByNorm ClipByValue Constant Cosine Exponential Lion "
    "NAdam OneCycle ReduceOnPlateau RMSprop StepDecay Warmup",
    "train.stopping": "Converged EarlyStopping",
}
"""Module -> the public names it gives; the block above says the same to type checkers."""

_MODULES = {
    "augment": "data.augment",
    "data": "data",
    "init": "nn.initializers",
    "interop": "interop",
    "metrics": "train.metrics",
    "ops": "graph.functions",
}
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
