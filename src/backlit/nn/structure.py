"""Layers made of layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backlit.core.errors import InputError
from backlit.graph.symbolic import Symbolic
from backlit.nn.layer import Layer, Scope
from backlit.nn.model import Model


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Residual(Layer):
    """a = x + F(x), F the given layers in a row; their output must have x's shape.

    ``trainable=False`` freezes all layers in F.

    Source: He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016.
    """

    layers: tuple[Layer | Model, ...]

    def __init__(self, *layers: Layer | Model, name: str | None = None, trainable: bool = True) -> None:
        for layer in layers:
            if not isinstance(layer, Layer | Model):
                raise InputError("no_layers", where="Residual", got=repr(layer))
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "trainable", trainable)

    def _told(self) -> list[str]:
        _, *options = super()._told()
        return [*map(repr, self.layers), *options]

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        h: Any = x
        for layer in self.layers:
            h = layer(h)
        if h.shape != x.shape:
            raise InputError(
                "residual_shape", where=scope.prefix, expected=f"F(x){list(x.shape)}", got=f"F(x){list(h.shape)}"
            )
        return scope.node("a", "add", x, h)
