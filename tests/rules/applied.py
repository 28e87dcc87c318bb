"""A rule applied to arrays by its name, with the way back; and arrays that hypothesis draws."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from backlit.rules import get

drawn = settings(max_examples=25, deadline=None, derandomize=True)
"""The same examples on every machine."""


class Applied:
    """``name`` on ``inputs``: .y, .outputs, and back(dy), the gradients."""

    def __init__(self, name, *inputs, **attributes):
        self.rule = get(name)
        self.inputs = tuple(None if i is None else np.asarray(i) for i in inputs)
        if not self.rule.variadic:
            self.inputs += (None,) * (len(self.rule.inputs) - len(inputs))
        self.attributes = self.rule.defaults | attributes
        self.outputs = self.rule.call(np, *self.inputs, **self.attributes)
        self.y = self.outputs[0]

    def back(self, dy=None):
        """∂L/∂(each differentiable input) for ∂L/∂y = dy, 1 unless given."""
        dy = np.ones_like(self.y) if dy is None else np.broadcast_to(np.asarray(dy, self.y.dtype), self.y.shape)
        return self.rule.gradients(np, [dy], self.rule.saved_from(self.inputs, self.outputs, self.attributes))


def dot(a, b):
    """<a, b>, the sum of the products of all entries."""
    return float(np.sum(np.asarray(a) * np.asarray(b)))


def whole(shape):
    """Arrays of small whole numbers, whose sums and products have no rounding."""
    return arrays(np.float64, shape, elements=st.integers(-8, 8).map(float))


def real(shape, low=-6.0, high=6.0):
    """Arrays of numbers between ``low`` and ``high``."""
    return arrays(np.float64, shape, elements=st.floats(low, high, width=32).map(float))


shapes = array_shapes(min_dims=1, max_dims=3, max_side=4)
matrices = array_shapes(min_dims=2, max_dims=2, max_side=5)
