"""What convolution and pooling share: windows that slide over the axes between samples and channels.

Shapes: x[N, *S, C] with any number of axes S. Window i along an axis begins at i·stride - padding, and its entry p lies
at i·stride + p·dilation - padding. A kernel is W[F, *K, C/groups].

Patches are copied along the last axis of the window only; along the others the products are added up. That copies a
kernel's width times the input instead of its area times, and is faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TypeAlias

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import listed

Widths: TypeAlias = Sequence[Sequence[int]]
"""(before, after) for each axis of a window."""


# --- sizes ------------------------------------------------------------------------------------------------------------


def span(kernel: int, dilation: int) -> int:
    """How many entries of its input a window reaches over."""
    return dilation * (kernel - 1) + 1


def sizes(rule: str, x: Shape, kernel: Shape, *, stride: Shape, padding: Widths, dilation: Shape) -> Shape:
    """How many windows lie along each axis; InputError where there is none, or an option is out of range."""
    check_windows(rule, len(kernel), kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    padded = tuple(n + before + after for n, (before, after) in zip(x[1:-1], padding, strict=True))
    spans = tuple(map(span, kernel, dilation))
    if any(k > n for k, n in zip(spans, padded, strict=True)):
        expected = " × ".join(f"≤ {n}" for n in padded)
        got = " × ".join(map(str, spans))
        raise InputError("kernel_too_large", rule=rule, expected=expected, got=f"{got}, {listed(x=x)}")
    return tuple((n - k) // s + 1 for n, k, s in zip(padded, spans, stride, strict=True))


def check_windows(rule: str, axes: int, *, padding: Widths, **counts: Shape) -> None:
    """InputError ``rule_option`` unless all counts are at least 1 and no padding is negative, one for each axis."""
    for option, given in counts.items():
        if len(given) != axes or min(given) < 1:
            _refuse(rule, option, f"{axes} × (1, 2, 3, …)", given)
    if len(padding) != axes or any(len(width) != 2 or min(width) < 0 for width in padding):
        _refuse(rule, "padding", f"{axes} × (before ≥ 0, after ≥ 0)", padding)


def _refuse(rule: str, option: str, expected: str, got: object) -> None:
    raise InputError("rule_option", rule=rule, option=option, expected=expected, got=str(got))


def check_axes(rule: str, x: Shape, axes: str) -> None:
    """InputError ``image_axes`` unless x has the named axes."""
    if len(x) != len(axes.split(",")):
        raise InputError("image_axes", rule=rule, expected=f"x[{axes}]", got=listed(x=x))


def check_groups(rule: str, groups: int, **channels: int) -> None:
    """InputError ``channel_groups`` unless groups divides each number of channels."""
    if groups < 1 or any(n % groups for n in channels.values()):
        expected = ", ".join(f"{name} % {groups} = 0" for name in channels) if groups > 0 else "groups ≥ 1"
        got = ", ".join(f"{name} = {n}" for name, n in channels.items())
        raise InputError("channel_groups", rule=rule, groups=groups, expected=expected, got=got)


# --- arrays that are moved --------------------------------------------------------------------------------------------


def framed(xp: Namespace, x: Array, widths: Widths, value: float = 0.0) -> Array:
    """``x`` with so many entries of ``value`` before and after it along each axis; negative widths cut off."""
    for axis, (before, after) in enumerate(widths, start=1):
        blocks = (_block(xp, x, axis, before, value), x, _block(xp, x, axis, after, value))
        kept = [b for b in blocks if b is not None]
        x = xp.concat(kept, axis=axis) if len(kept) > 1 else x
        x = _along(x, axis, slice(max(-before, 0), x.shape[axis] - max(-after, 0)))
    return x


def _along(x: Array, axis: int, part: slice) -> Array:
    return x[(*(slice(None),) * axis, part, ...)]


def _block(xp: Namespace, x: Array, axis: int, size: int, value: float) -> Array | None:
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    return xp.full(shape, value, dtype=x.dtype) if size > 0 else None


def spread(xp: Namespace, x: Array, stride: Shape) -> Array:
    """``x`` with stride - 1 zeros between neighbours along each axis."""
    for axis, s in enumerate(stride, start=1):
        if s > 1:
            split = xp.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
            gaps = xp.zeros((*x.shape[: axis + 1], s - 1, *x.shape[axis + 1 :]), dtype=x.dtype)
            size = x.shape[axis] * s
            x = xp.reshape(xp.concat([split, gaps], axis=axis + 1), (*x.shape[:axis], size, *x.shape[axis + 1 :]))
            x = _along(x, axis, slice(0, size - s + 1))
    return x


def window(x: Array, axis: int, at: int, count: int, stride: int) -> Array:
    """The entries at position ``at`` of each of ``count`` windows along ``axis``."""
    return _along(x, axis, slice(at, at + (count - 1) * stride + 1, stride))


def overlapped(xp: Namespace, parts: Sequence[Array], axis: int, *, stride: int, before: int, size: int) -> Array:
    """The sum that windows leave on their input: y[i·stride + p - before] += parts[p][i] along ``axis``.

    ``stride`` neighbouring parts do not overlap: they are put side by side, and only what overlaps is added.
    """
    zero, total = xp.zeros_like(parts[0]), None
    for start in range(0, len(parts), stride):
        phases = [*parts[start : start + stride], *[zero] * (start + stride - len(parts))]
        length = zero.shape[axis] * stride
        laid = xp.reshape(xp.stack(phases, axis=axis + 1), (*zero.shape[:axis], length, *zero.shape[axis + 1 :]))
        others = [(0, 0)] * (axis - 1)
        placed = framed(xp, laid, (*others, (start - before, size - length - start + before)))
        total = placed if total is None else total + placed
    return total


# --- products ---------------------------------------------------------------------------------------------------------


def correlate(xp: Namespace, x: Array, W: Array, *, stride: Shape, dilation: Shape, groups: int) -> Array:
    """z[n,*i,f] = Σ_p,c x[n, *(i·stride + p·dilation), c]·W[f,*p,c] for every place of the kernel wholly on x."""
    total = None
    for at, patches in _patches(xp, x, W.shape[1:-1], stride, dilation):
        term = _product(xp, patches, W[(slice(None), *at, ...)], groups)
        total = term if total is None else total + term
    return total


def transposed(
    xp: Namespace, z: Array, W: Array, size: Shape, before: Shape, *, stride: Shape, dilation: Shape, groups: int
) -> Array:
    """x[n, *(i·stride + p·dilation - before), f] += Σ_c z[n,*i,c]·W[f,*p,c], x of ``size`` along its axes.

    That is z spread by the stride, correlated with the kernel turned round.
    """
    wide = spread(xp, z, stride)
    reach = [d * (k - 1) for d, k in zip(dilation, W.shape[1:-1], strict=True)]
    first = [r - b for r, b in zip(reach, before, strict=True)]
    widths = [(a, n + r - m - a) for a, n, r, m in zip(first, size, reach, wide.shape[1:-1], strict=True)]
    turned = xp.flip(W, axis=tuple(range(1, W.ndim - 1)))
    return correlate(xp, framed(xp, wide, widths), turned, stride=(1,) * len(size), dilation=dilation, groups=groups)


def kernel_gradient(
    xp: Namespace, x: Array, dz: Array, kernel: Shape, *, stride: Shape, dilation: Shape, groups: int
) -> Array:
    """dW[f,*p,c] = Σ_n,i dz[n,*i,f]·x[n, *(i·stride + p·dilation), c], the other way back from :func:`correlate`."""
    columns = _grouped(xp, dz, 1, groups)
    parts = [
        xp.matmul(xp.permute_dims(columns, (0, 2, 1)), _grouped(xp, patches, kernel[-1], groups))
        for _, patches in _patches(xp, x, kernel, stride, dilation)
    ]
    shape = (dz.shape[-1], *kernel, x.shape[-1] // groups)
    return xp.reshape(xp.stack(parts, axis=2), shape)


def _patches(
    xp: Namespace, x: Array, kernel: Shape, stride: Shape, dilation: Shape
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """(place in all kernel axes but the last, the entries there with those along the last axis: [N, *I, k·C])."""
    spans = map(span, kernel, dilation)
    counts = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], spans, stride, strict=True)]
    columns = [window(x, len(kernel), q * dilation[-1], counts[-1], stride[-1]) for q in range(kernel[-1])]
    rows = xp.concat(columns, axis=-1) if len(columns) > 1 else columns[0]
    for at in product(*map(range, kernel[:-1])):
        patches = rows
        for axis, p in enumerate(at, start=1):
            patches = window(patches, axis, p * dilation[axis - 1], counts[axis - 1], stride[axis - 1])
        yield at, patches


def _product(xp: Namespace, patches: Array, W: Array, groups: int) -> Array:
    """Σ patches[…, k·C]·W[F, k, C/groups], group by group: [..., F]."""
    filters, width = W.shape[0], prod(W.shape[1:])
    if groups == 1:
        return xp.matmul(patches, xp.reshape(W, (filters, width)).T)
    kernels = xp.reshape(W, (groups, filters // groups, width))
    found = xp.matmul(_grouped(xp, patches, W.shape[1], groups), xp.permute_dims(kernels, (0, 2, 1)))
    return xp.reshape(xp.permute_dims(found, (1, 0, 2)), (*patches.shape[:-1], filters))


def _grouped(xp: Namespace, a: Array, k: int, groups: int) -> Array:
    """[…, k·C] as one matrix for each group: [groups, M, k·C/groups]."""
    rows, width = prod(a.shape[:-1]), a.shape[-1] // groups
    split = xp.permute_dims(xp.reshape(a, (rows, k, groups, width // k)), (2, 0, 1, 3))
    return xp.reshape(split, (groups, rows, width))


def swapped(xp: Namespace, W: Array, groups: int) -> Array:
    """The kernel with its ends exchanged: W[F, *K, C/groups] as [C, *K, F/groups]."""
    filters, *kernel, width = W.shape
    split = xp.reshape(W, (groups, filters // groups, *kernel, width))
    last = split.ndim - 1
    ends = xp.permute_dims(split, (0, last, *range(2, last), 1))
    return xp.reshape(ends, (groups * width, *kernel, filters // groups))
