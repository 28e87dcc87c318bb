"""Gradient clipping: pure functions of a dict of gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backlit.core.rows import Rows, stored
from backlit.core.types import Array, Arrays, Namespace
from backlit.optim.recipe import Positive, Recipe

_GUARD = 1e-6
"""Added to the norm before dividing, as torch.nn.utils.clip_grad_norm_ does; clipped norms end that far below."""


@dataclass(frozen=True)
class Clip(Recipe):
    """Base of the clippings. ``limit`` is above 0. Gradients must be finite; shapes and dtypes stay as they are."""

    limit: Positive

    def __call__(self, xp: Namespace, grads: Arrays) -> dict[str, Any]:
        """The clipped gradients, by the same names; ``grads`` is left as it is."""
        clipped = self._clip(xp, {name: stored(g) for name, g in grads.items()})
        return {n: g.with_values(clipped[n]) if isinstance(g, Rows) else clipped[n] for n, g in grads.items()}

    def _clip(self, xp: Namespace, grads: Arrays) -> dict[str, Array]:
        raise NotImplementedError


@dataclass(frozen=True)
class ClipByValue(Clip, name="clip_by_value"):
    """Every entry is cut to -limit … limit, as torch.nn.utils.clip_grad_value_. The direction changes."""

    def _clip(self, xp: Namespace, grads: Arrays) -> dict[str, Array]:
        return {name: xp.clip(g, -self.limit, self.limit) for name, g in grads.items()}


@dataclass(frozen=True)
class ClipByNorm(Clip, name="clip_by_norm"):
    """Each gradient array alone is scaled to a Euclidean norm of at most ``limit``: g min(1, limit / (‖g‖ + 1e-6))."""

    def _clip(self, xp: Namespace, grads: Arrays) -> dict[str, Array]:
        return {name: _scaled(xp, g, global_norm(xp, {name: g}), self.limit) for name, g in grads.items()}


@dataclass(frozen=True)
class ClipByGlobalNorm(Clip, name="clip_by_global_norm"):
    """All gradients are scaled together to a Euclidean norm of at most ``limit``: g min(1, limit / (norm + 1e-6)).

    The definition is PyTorch's clip_grad_norm_; TensorFlow has no 1e-6. Source: Pascanu, Mikolov, Bengio: On the
    difficulty of training recurrent neural networks, ICML 2013.
    """

    def _clip(self, xp: Namespace, grads: Arrays) -> dict[str, Array]:
        norm = global_norm(xp, grads) if grads else None
        return {name: _scaled(xp, g, norm, self.limit) for name, g in grads.items()}


def global_norm(xp: Namespace, grads: Arrays) -> Array:
    """Euclidean norm of all entries of all arrays, as an array of shape (); at least one array."""
    squares = [xp.sum(g * g) for g in grads.values()]
    return xp.sqrt(sum(squares[1:], squares[0]))


def _scaled(xp: Namespace, g: Array, norm: Array, limit: float) -> Array:
    return xp.asarray(g * xp.minimum(limit / (norm + _GUARD), 1.0), dtype=g.dtype)
