"""How parameters change: optimizers as pure updates, clipping, learning-rate schedules."""

from __future__ import annotations

from backlit.optim.adam import Adam, AdamW, NAdam
from backlit.optim.adaptive import Adadelta, Adagrad, RMSprop
from backlit.optim.apply import State, apply, flatten_state, get, init_state, unflatten_state
from backlit.optim.base import Optimizer
from backlit.optim.clipping import Clip, ClipByGlobalNorm, ClipByNorm, ClipByValue, global_norm
from backlit.optim.lion import Lion
from backlit.optim.recipe import Recipe, from_config, to_config
from backlit.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    Warmup,
)
from backlit.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Clip",
    "ClipByGlobalNorm",
    "ClipByNorm",
    "ClipByValue",
    "Constant",
    "Cosine",
    "Exponential",
    "Lion",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "RMSprop",
    "Recipe",
    "ReduceOnPlateau",
    "Schedule",
    "State",
    "StepDecay",
    "Warmup",
    "apply",
    "flatten_state",
    "from_config",
    "get",
    "global_norm",
    "init_state",
    "to_config",
    "unflatten_state",
]
