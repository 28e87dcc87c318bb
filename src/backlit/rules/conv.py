"""Convolution: conv1d, conv2d, and conv_transpose2d, which goes the other way. A filter slides over the image.

Shapes: images x[N, H, W, C], kernels W[F, kh, kw, C/groups], b[F] or absent, output z[N, H', W', F]; sequences lack H.
``padding`` is (before, after) for each axis, filled with zeros; H' = ⌊(H + before + after - dilation·(kh - 1) - 1) /
stride⌋ + 1. With ``groups`` the channels and the filters are divided, and filter f sees the channels of its own group.
In conv_transpose2d ``padding`` is cut off the output, H' = (H - 1)·stride + dilation·(kh - 1) + 1 - before - after; the
width after may be as low as 1 - stride, which adds what a strided convolution did not see.

PyTorch: ``W = weight.permute(0, 2, 3, 1)`` of a Conv2d, ``weight.permute(0, 2, 1)`` of a Conv1d. Of a ConvTranspose2d
without groups ``W = weight.permute(1, 2, 3, 0)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import listed
from backlit.rules._windows import (
    check_axes,
    check_groups,
    check_windows,
    correlate,
    framed,
    kernel_gradient,
    sizes,
    span,
    swapped,
    transposed,
)
from backlit.rules.base import Case, rule

Pair: TypeAlias = tuple[int, int]
Frame: TypeAlias = tuple[Pair, Pair]
"""((top, bottom), (left, right))"""
SOURCE = (
    "LeCun, Boser, Denker et al.: Backpropagation applied to handwritten zip code recognition, Neural Comp. 1, 1989"
)
NO_FRAME: Frame = ((0, 0), (0, 0))


# --- conv2d -----------------------------------------------------------------------------------------------------------


def forward(
    xp: Namespace,
    x: Array,
    W: Array,
    b: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Frame = NO_FRAME,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    z = correlate(xp, framed(xp, x, padding), W, stride=stride, dilation=dilation, groups=groups)
    return z if b is None else z + b


def backward(
    xp: Namespace,
    dz: Array,
    *,
    x: Array,
    W: Array,
    stride: Pair,
    padding: Frame,
    dilation: Pair,
    groups: int,
) -> tuple[Array, Array, Array]:
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    dx = transposed(xp, dz, swapped(xp, W, groups), x.shape[1:-1], _before(padding), **options)
    dW = kernel_gradient(xp, framed(xp, x, padding), dz, W.shape[1:-1], **options)
    return dx, dW, _total(xp, dz)


def _before(padding: Any) -> Shape:
    return tuple(width[0] for width in padding)


def _total(xp: Namespace, dz: Array) -> Array:
    return xp.sum(dz, axis=tuple(range(dz.ndim - 1)))


def shapes(
    x: Shape,
    W: Shape,
    b: Shape | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Frame = NO_FRAME,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Shape:
    check_axes("conv2d", x, "N, H, W, C")
    _check_kernel("conv2d", x, W, b, groups)
    return (x[0], *sizes("conv2d", x, W[1:-1], stride=stride, padding=padding, dilation=dilation), W[0])


def _check_kernel(name: str, x: Shape, W: Shape, b: Shape | None, groups: int) -> None:
    filters, axes = W[0] if W else 0, ", ".join(("kh", "kw")[len(x) - 4 :] if len(x) == 4 else ("k",))
    check_groups(name, groups, channels=x[-1], filters=filters)
    if len(W) != len(x) or W[-1] != x[-1] // groups or b not in (None, (filters,)):
        expected = f"W[{filters}, {axes}, {x[-1] // groups}], b[{filters}]"
        raise InputError("shape_clash", rule=name, expected=expected, got=listed(W=W, b=b or ()))


def _drawn(rng: Any, x: Shape, W: Shape, **options: Any) -> dict[str, Any]:
    return {"x": rng.normal(size=x), "W": rng.normal(size=W), "b": rng.normal(size=W[0])} | options


def cases(rng: Any) -> Iterator[Case]:
    for label, x, W, options in (
        ("kernel inside", (2, 4, 3, 2), (3, 2, 2, 2), {}),
        ("padded", (1, 3, 4, 2), (2, 3, 3, 2), {"padding": ((1, 1), (1, 1))}),
        ("stride with a rest", (2, 4, 5, 1), (2, 3, 2, 1), {"stride": (2, 3), "padding": ((1, 0), (0, 2))}),
        ("dilation", (1, 5, 4, 1), (2, 2, 2, 1), {"dilation": (3, 2)}),
        ("groups", (2, 2, 3, 4), (6, 2, 1, 2), {"groups": 2, "padding": ((0, 1), (0, 0))}),
        ("each channel by itself", (1, 3, 3, 3), (3, 2, 2, 1), {"groups": 3, "stride": (1, 2)}),
        ("one position", (3, 1, 1, 2), (2, 1, 1, 2), {}),
    ):
        yield Case(label, **_drawn(rng, x, W, **options))
    several: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (2, 2), "groups": 2}
    yield Case("everything", **_drawn(rng, (1, 5, 5, 2), (4, 2, 3, 1), **several))
    yield Case("no bias", **_drawn(rng, (2, 3, 3, 2), (2, 2, 2, 2)) | {"b": None})
    yield Case("no samples", **_drawn(rng, (0, 3, 3, 1), (2, 2, 2, 1)))


_TO = "i*stride[0] + p*dilation[0] - padding[0,0], j*stride[1] + q*dilation[1] - padding[1,0]"
"""Where entry (p,q) of the kernel lies on the image when the kernel stands at (i,j)."""

_FROM = "(h + padding[0,0] - p*dilation[0]) / stride[0], (w + padding[1,0] - q*dilation[1]) / stride[1]"
"""Where the kernel stands when its entry (p,q) lies at (h,w)."""

_CHANNEL = "floor(f*groups/Count(f))*Count(c) + c"
"""Channel c of the group of filter f, among all."""

_OWN = "W[f,p,q,c - floor(f*groups/Count(f))*(Count(c)/groups)]"
"""The kernel at channel c of all; other groups' channels lie beside it."""

conv2d = rule(
    "conv2d",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        f"z[n,i,j,f] = Sum(p, q, c, x[n,{_TO},{_CHANNEL}] * W[f,p,q,c]) + b[f]",
        f"dx[n,h,w,c] = Sum(f, p, q, dz[n,{_FROM},f] * {_OWN})",
        f"dW[f,p,q,c] = Sum(n, i, j, dz[n,i,j,f] * x[n,{_TO},{_CHANNEL}])",
        "db[f] = Sum(n, i, j, dz[n,i,j,f])",
    ),
    outputs=("z",),
    absent={"b": 0.0},
    cases=cases,
    source=SOURCE,
)


# --- conv1d -----------------------------------------------------------------------------------------------------------


def forward1d(
    xp: Namespace,
    x: Array,
    W: Array,
    b: Array | None = None,
    *,
    stride: int = 1,
    padding: Pair = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    z = correlate(xp, framed(xp, x, (padding,)), W, stride=(stride,), dilation=(dilation,), groups=groups)
    return z if b is None else z + b


def backward1d(
    xp: Namespace,
    dz: Array,
    *,
    x: Array,
    W: Array,
    stride: int,
    padding: Pair,
    dilation: int,
    groups: int,
) -> tuple[Array, Array, Array]:
    options: dict[str, Any] = {"stride": (stride,), "dilation": (dilation,), "groups": groups}
    dx = transposed(xp, dz, swapped(xp, W, groups), x.shape[1:-1], padding[:1], **options)
    dW = kernel_gradient(xp, framed(xp, x, (padding,)), dz, W.shape[1:-1], **options)
    return dx, dW, _total(xp, dz)


def shapes1d(
    x: Shape,
    W: Shape,
    b: Shape | None = None,
    *,
    stride: int = 1,
    padding: Pair = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Shape:
    check_axes("conv1d", x, "N, T, C")
    _check_kernel("conv1d", x, W, b, groups)
    return (x[0], *sizes("conv1d", x, W[1:-1], stride=(stride,), padding=(padding,), dilation=(dilation,)), W[0])


def cases1d(rng: Any) -> Iterator[Case]:
    for label, x, W, options in (
        ("kernel inside", (2, 5, 2), (3, 3, 2), {}),
        ("causal", (2, 4, 2), (2, 3, 2), {"padding": (2, 0)}),
        ("stride with a rest", (1, 6, 1), (2, 2, 1), {"stride": 3, "padding": (1, 0)}),
        ("dilation and groups", (2, 6, 4), (2, 2, 2), {"dilation": 2, "groups": 2, "padding": (1, 1)}),
    ):
        yield Case(label, **_drawn(rng, x, W, **options))
    yield Case("no bias", **_drawn(rng, (2, 3, 2), (2, 2, 2)) | {"b": None})


_T = f"x[n, i*stride + p*dilation - padding[0], {_CHANNEL}]"

conv1d = rule(
    "conv1d",
    forward1d,
    backward1d,
    shapes=shapes1d,
    formulas=(
        f"z[n,i,f] = Sum(p, c, {_T} * W[f,p,c]) + b[f]",
        f"dx[n,t,c] = Sum(f, p, dz[n,(t + padding[0] - p*dilation) / stride,f] * {_OWN.replace('p,q', 'p')})",
        f"dW[f,p,c] = Sum(n, i, dz[n,i,f] * {_T})",
        "db[f] = Sum(n, i, dz[n,i,f])",
    ),
    outputs=("z",),
    absent={"b": 0.0},
    cases=cases1d,
    source="Waibel, Hanazawa, Hinton, Shikano, Lang: Phoneme recognition using time-delay neural networks, 1989",
)


# --- conv_transpose2d -------------------------------------------------------------------------------------------------


def transpose_forward(
    xp: Namespace,
    x: Array,
    W: Array,
    b: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Frame = NO_FRAME,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    size = _grown(x.shape, W.shape, stride, padding, dilation)
    z = transposed(xp, x, W, size, _before(padding), stride=stride, dilation=dilation, groups=groups)
    return z if b is None else z + b


def transpose_backward(
    xp: Namespace,
    dz: Array,
    *,
    x: Array,
    W: Array,
    stride: Pair,
    padding: Frame,
    dilation: Pair,
    groups: int,
) -> tuple[Array, Array, Array]:
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    whole = framed(xp, dz, padding)
    dW = kernel_gradient(xp, whole, x, W.shape[1:-1], **options)
    return correlate(xp, whole, swapped(xp, W, groups), **options), swapped(xp, dW, groups), _total(xp, dz)


def _grown(x: Shape, W: Shape, stride: Pair, padding: Frame, dilation: Pair) -> Shape:
    axes = zip(x[1:-1], W[1:-1], stride, padding, dilation, strict=True)
    return tuple((n - 1) * s + span(k, d) - sum(width) for n, k, s, width, d in axes)


def transpose_shapes(
    x: Shape,
    W: Shape,
    b: Shape | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Frame = NO_FRAME,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Shape:
    name = "conv_transpose2d"
    check_axes(name, x, "N, H, W, C")
    _check_kernel(name, x, W, b, groups)
    seen = tuple((before, max(after, 0)) for before, after in padding)
    check_windows(name, 2, kernel=W[1:-1], stride=stride, dilation=dilation, padding=seen)
    size = _grown(x, W, stride, padding, dilation)
    if min(size) < 1 or any(after <= -s for (_, after), s in zip(padding, stride, strict=True)):
        expected = "before + after < H', 1 - stride ≤ after"
        raise InputError("rule_option", rule=name, option="padding", expected=expected, got=str(padding))
    return (x[0], *size, W[0])


def transpose_cases(rng: Any) -> Iterator[Case]:
    for label, x, W, options in (
        ("kernel beside kernel", (2, 2, 3, 2), (3, 2, 2, 2), {"stride": (2, 2)}),
        ("overlapping", (1, 3, 2, 2), (2, 3, 3, 2), {}),
        ("cut", (1, 3, 3, 1), (2, 3, 4, 1), {"stride": (2, 3), "padding": ((1, 0), (1, 2))}),
        (
            "gaps, and what a stride left over",
            (1, 2, 2, 1),
            (1, 1, 2, 1),
            {"stride": (3, 2), "padding": ((0, -2), (0, -1))},
        ),
        ("dilation", (1, 2, 3, 1), (2, 2, 2, 1), {"dilation": (2, 3)}),
        ("groups", (2, 2, 2, 4), (6, 2, 1, 2), {"groups": 2, "stride": (1, 2)}),
    ):
        yield Case(label, **_drawn(rng, x, W, **options))
    yield Case("no bias", **_drawn(rng, (2, 2, 2, 2), (2, 2, 2, 2)) | {"b": None})


conv_transpose2d = rule(
    "conv_transpose2d",
    transpose_forward,
    transpose_backward,
    shapes=transpose_shapes,
    formulas=(
        f"z[n,h,w,f] = Sum(p, q, c, x[n,{_FROM},{_CHANNEL}] * W[f,p,q,c]) + b[f]",
        f"dx[n,i,j,c] = Sum(f, p, q, dz[n,{_TO},f] * {_OWN})",
        f"dW[f,p,q,c] = Sum(n, i, j, dz[n,{_TO},f] * x[n,i,j,{_CHANNEL}])",
        "db[f] = Sum(n, h, w, dz[n,h,w,f])",
    ),
    outputs=("z",),
    absent={"b": 0.0},
    cases=transpose_cases,
    source="Zeiler, Krishnan, Taylor, Fergus: Deconvolutional networks, CVPR 2010",
)
