"""linear: the weighted input of a dense layer, z = W a_prev + b for every sample.

Shapes: x[*N, I] (any leading axes), W[O, I] (row j holds the weights into neuron j), b[O] or absent; z[*N, O].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules.base import Case, rule


def forward(xp: Namespace, x: Array, W: Array, b: Array | None = None) -> Array:
    z = _product(xp, x, W.T)
    return z if b is None else z + b


def backward(xp: Namespace, dz: Array, *, x: Array, W: Array) -> tuple[Array, Array, Array]:
    rows, columns = xp.reshape(dz, (-1, W.shape[0])), xp.reshape(x, (-1, W.shape[1]))
    return _product(xp, dz, W), xp.matmul(rows.T, columns), xp.sum(rows, axis=0)


def _product(xp: Namespace, x: Array, W: Array) -> Array:
    """One product of matrices: of arrays with more axes, NumPy makes many small ones."""
    if x.ndim <= 2:
        return xp.matmul(x, W)
    return xp.reshape(xp.matmul(xp.reshape(x, (-1, x.shape[-1])), W), (*x.shape[:-1], W.shape[1]))


def shapes(x: Shape, W: Shape, b: Shape | None = None) -> Shape:
    if len(W) != 2 or len(x) < 1 or x[-1] != W[1]:
        raise InputError("linear_features", want=W[-1], expected=f"x[…, {W[-1]}]", got=f"x{list(x)}")
    if b not in (None, (W[0],)):
        raise InputError("shape_clash", rule="linear", expected=f"b[{W[0]}]", got=f"b{list(b or ())}")
    return (*x[:-1], W[0])


def cases(rng: Any) -> Iterator[Case]:
    for label, lead in (("one sample", (1,)), ("batch", (5,)), ("sequence", (2, 3)), ("single vector", ())):
        yield Case(label, x=rng.normal(size=(*lead, 4)), W=rng.normal(size=(3, 4)), b=rng.normal(size=3))
    yield Case("no bias", x=rng.normal(size=(5, 4)), W=rng.normal(size=(3, 4)), b=None)


linear = rule(
    "linear",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        "z[*n,o] = Sum(i, x[*n,i] * W[o,i]) + b[o]",
        "dx[*n,i] = Sum(o, dz[*n,o] * W[o,i])",
        "dW[o,i] = Sum(n, dz[*n,o] * x[*n,i])",
        "db[o] = Sum(n, dz[*n,o])",
    ),
    outputs=("z",),
    absent={"b": 0.0},
    expand=lambda o, x, W, b: o.matmul(x, o.transpose(W, axes=(1, 0))) + (0.0 if b is None else b),
    cases=cases,
    source="Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, Nature 323, 1986",
)
