"""Layers of images and sequences: convolution, pooling, up-sampling, normalisation. Channels are the last axis.

``padding`` is ``"same"``, ``"valid"`` (none), a number for all sides, or (before, after) for each axis. ``"same"``
gives ⌈H / stride⌉ windows as in TensorFlow, what is odd going behind. PyTorch has it for stride 1 only, where it is the
same; a PyTorch layer with ``padding=p`` is one with ``padding=p`` here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Shape
from backlit.graph.symbolic import Symbolic
from backlit.nn import initializers
from backlit.nn.initializers import Constant, Initializer, Zeros
from backlit.nn.layer import Layer, Scope, activation_name, features, require_count, require_range
from backlit.rules._windows import check_axes, check_groups, span

Size: TypeAlias = int | tuple[int, ...]
"""One number for all axes, or one for each."""

Padding: TypeAlias = str | int | tuple[tuple[int, int], ...]
Frame: TypeAlias = tuple[tuple[int, int], ...]
AXES = {1: "N, T, C", 2: "N, H, W, C"}


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


def _size(where: str, option: str, value: Any, axes: int) -> Size:
    """``value`` with lists as tuples; InputError unless it is a whole number from 1, or one for each axis."""
    if _whole(value, 1):
        return int(value)
    if not isinstance(value, (tuple, list)) or len(value) != axes or not all(_whole(v, 1) for v in value):
        expected = "1, 2, 3, …" + (f" | ({', '.join(['1, 2, 3, …'] * axes)})" if axes > 1 else "")
        raise InputError("option_range", where=where, option=option, expected=expected, got=repr(value))
    return tuple(map(int, value))


def _padding(where: str, value: Any, axes: int, least: int = 0) -> Padding:
    """``value`` with lists as tuples; InputError for none of the forms that the module's docstring lists."""
    if value in ("same", "valid") or _whole(value, 0):
        return value if isinstance(value, str) else int(value)
    pairs = [value] if axes == 1 and _is_width(value, least) else value
    if not isinstance(pairs, (tuple, list)) or len(pairs) != axes or not all(_is_width(w, least) for w in pairs):
        expected = f"'same', 'valid', 0, 1, 2, … | {axes} × (before, after)"
        raise InputError("option_range", where=where, option="padding", expected=expected, got=repr(value))
    return tuple((int(before), int(after)) for before, after in pairs)


def _is_width(value: Any, least: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and _whole(value[0], 0) and _whole(value[1], least)


def _each(value: Size, axes: int) -> Shape:
    return (value,) * axes if isinstance(value, int) else value


def frame(padding: Padding, size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Frame:
    """(before, after) for each axis of an input of ``size``."""
    if isinstance(padding, tuple):
        return padding
    if padding != "same":
        return ((0, 0) if padding == "valid" else (int(padding), int(padding)),) * len(size)
    reach = map(span, kernel, dilation)
    missing = [max((math.ceil(n / s) - 1) * s + r - n, 0) for n, s, r in zip(size, stride, reach, strict=True)]
    return tuple((m // 2, m - m // 2) for m in missing)


def _refuse_at(scope: Scope, check: Callable[..., None], *arguments: Any, **named: Any) -> None:
    """``check``, an error of which names the layer."""
    try:
        check(*arguments, **named)
    except InputError as error:
        raise error.at(scope.prefix) from None


@dataclass(frozen=True, eq=False, repr=False)
class _Convolution(Layer):
    """What the convolutions share: the options and the parameters W[filters, *kernel, C/groups], b[filters]."""

    filters: int
    kernel: Size
    stride: Size = 1
    padding: Padding = "same"
    dilation: Size = 1
    groups: int = 1
    activation: str | None = None
    bias: bool = field(default=True, kw_only=True)
    init: str | float | Initializer | None = field(default=None, kw_only=True)

    axes: ClassVar[int] = 2
    rule: ClassVar[str] = "conv2d"
    least: ClassVar[int] = 0
    """The smallest width that may be padded behind."""

    def __post_init__(self) -> None:
        where = self.name or type(self).__name__
        for option in ("filters", "groups"):
            object.__setattr__(self, option, require_count(where, option, getattr(self, option)))
        for option in ("kernel", "stride", "dilation"):
            object.__setattr__(self, option, _size(where, option, getattr(self, option), self.axes))
        object.__setattr__(self, "padding", _padding(where, self.padding, self.axes, self.least))
        object.__setattr__(self, "activation", activation_name(self.activation))

    @property
    def kind(self) -> str:
        return "conv"

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        _refuse_at(scope, check_axes, self.rule, x.shape, AXES[self.axes])
        _refuse_at(scope, check_groups, self.rule, self.groups, channels=x.shape[-1], filters=self.filters)
        init = initializers.for_activation(self.activation) if self.init is None else initializers.get(self.init)
        shape = (self.filters, *_each(self.kernel, self.axes), x.shape[-1] // self.groups)
        W = scope.parameter("W", shape, init)
        b = scope.parameter("b", (self.filters,), Zeros()) if self.bias else None
        z = scope.node("z", self.rule, x, W, b, **self._geometry(x.shape[1:-1]), groups=self.groups)
        return scope.activate(self.activation, z)

    def _geometry(self, size: Shape) -> dict[str, Any]:
        """The rule's attributes for an input of ``size``."""
        kernel, stride, dilation = (_each(v, self.axes) for v in (self.kernel, self.stride, self.dilation))
        return {"stride": stride, "padding": self._frame(size, kernel, stride, dilation), "dilation": dilation}

    def _frame(self, size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Frame:
        return frame(self.padding, size, kernel, stride, dilation)


@dataclass(frozen=True, eq=False, repr=False)
class Conv2D(_Convolution):
    """z[n,i,j,f] = Σ x[n, i·stride + p·dilation - top, …, c]·W[f,p,q,c] + b[f], a = f(z).

    Input x[N, H, W, C], W[filters, kh, kw, C/groups], b[filters], output [N, H', W', filters]; ``padding`` as the
    module says. ``groups`` divides channels and filters; with as many groups as channels it is a depthwise convolution.
    ``init`` as of :class:`Dense`. PyTorch: ``W = Conv2d.weight.permute(0, 2, 3, 1)``. InputError for channels that do
    not divide (BL131), a kernel larger than the padded image (BL130), samples that are no images (BL132).
    Source: LeCun, Boser, Denker et al.: Backpropagation applied to handwritten zip code recognition, 1989.
    """


@dataclass(frozen=True, eq=False, repr=False)
class Conv1D(_Convolution):
    """z[n,i,f] = Σ x[n, i·stride + p·dilation - before, c]·W[f,p,c] + b[f], a = f(z).

    Input x[N, T, C], W[filters, k, C/groups], b[filters], output [N, T', filters]; otherwise as :class:`Conv2D`.
    ``padding=(k - 1, 0)`` sees only the past. PyTorch: ``W = Conv1d.weight.permute(0, 2, 1)``.
    """

    axes: ClassVar[int] = 1
    rule: ClassVar[str] = "conv1d"

    def _geometry(self, size: Shape) -> dict[str, Any]:
        return {option: value[0] for option, value in super()._geometry(size).items()}


@dataclass(frozen=True, eq=False, repr=False)
class ConvTranspose2D(_Convolution):
    """z[n, i·stride + p·dilation - top, …, f] += x[n,i,j,c]·W[f,p,q,c], then + b[f]; a = f(z).

    Input x[N, H, W, C], W[filters, kh, kw, C/groups], output [N, H', W', filters]: ``"same"`` gives H' = H·stride,
    ``"valid"`` all that is reached, (H - 1)·stride + dilation·(kh - 1) + 1, of which ``padding`` is cut off. PyTorch's
    ``padding=p, output_padding=o`` is ``padding=((p, p - o), (p, p - o))``; its weight, without groups, is W by
    ``weight.permute(1, 2, 3, 0)``. Source: Zeiler, Krishnan, Taylor, Fergus: Deconvolutional networks, CVPR 2010.
    """

    rule: ClassVar[str] = "conv_transpose2d"
    least: ClassVar[int] = -(10**9)  # how low it may be depends on the stride; the rule knows

    @property
    def kind(self) -> str:
        return "convtranspose"

    def _frame(self, size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Frame:
        if self.padding != "same":
            return super()._frame(size, kernel, stride, dilation)
        spare = [r - s for r, s in zip(map(span, kernel, dilation), stride, strict=True)]
        return tuple((max(m, 0) // 2, m - max(m, 0) // 2) for m in spare)


# --- pooling ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class _Pool(Layer):
    kernel: Size = 2
    stride: Size | None = None
    padding: Padding = "valid"

    axes: ClassVar[int] = 2
    rule: ClassVar[str] = "max_pool2d"

    def __post_init__(self) -> None:
        where = self.name or type(self).__name__
        object.__setattr__(self, "kernel", _size(where, "kernel", self.kernel, self.axes))
        if self.stride is not None:
            object.__setattr__(self, "stride", _size(where, "stride", self.stride, self.axes))
        object.__setattr__(self, "padding", _padding(where, self.padding, self.axes))

    @property
    def kind(self) -> str:
        return type(self).__name__[:-2].lower()

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        _refuse_at(scope, check_axes, self.rule, x.shape, AXES[2])
        return scope.node("a", self.rule, x, **self._geometry(x.shape[1:-1]))

    def _geometry(self, size: Shape) -> dict[str, Any]:
        """The rule's attributes for an input of ``size``."""
        kernel = _each(self.kernel, self.axes)
        stride = kernel if self.stride is None else _each(self.stride, self.axes)
        padding = frame(self.padding, size, kernel, stride, (1,) * self.axes)
        return {"kernel": kernel, "stride": stride, "padding": padding}


@dataclass(frozen=True, eq=False, repr=False)
class MaxPool2D(_Pool):
    """The largest entry of each window of every channel: x[N, H, W, C] to [N, H', W', C].

    ``kernel`` is the window, a number or (rows, columns), ``stride`` the step from one to the next (the kernel unless
    told). Of several equal entries the first takes the gradient. Source: Ranzato et al., CVPR 2007.
    """


@dataclass(frozen=True, eq=False, repr=False)
class MaxPool1D(_Pool):
    """The largest entry of each stretch of a sequence, channel by channel: x[N, T, C] to [N, T', C].

    Options as of :class:`MaxPool2D`, each one number or pair. It is max_pool2d of images of one row.
    """

    axes: ClassVar[int] = 1

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        _refuse_at(scope, check_axes, "max_pool1d", x.shape, AXES[1])
        n, t, channels = x.shape
        row = scope.node("row", "reshape", x, shape=(n, 1, t, channels))
        one = {"kernel": (1,), "stride": (1,), "padding": ((0, 0),)}
        options = {name: one[name] + value for name, value in self._geometry((t,)).items()}
        pooled = scope.node("pooled", self.rule, row, **options)
        return scope.node("a", "reshape", pooled, shape=(n, *pooled.shape[2:]))


@dataclass(frozen=True, eq=False, repr=False)
class AvgPool2D(_Pool):
    """The mean of each window of every channel, zeros around the image included: x[N, H, W, C] to [N, H', W', C].

    Options as of :class:`MaxPool2D`. Source: LeCun, Bottou, Bengio, Haffner, 1998.
    """

    rule: ClassVar[str] = "avg_pool2d"


@dataclass(frozen=True, eq=False, repr=False)
class GlobalAvgPool2D(Layer):
    """The mean of every channel over the image: x[N, H, W, C] to [N, C]. Source: Lin, Chen, Yan, ICLR 2014."""

    @property
    def kind(self) -> str:
        return "globalavgpool"

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        _refuse_at(scope, check_axes, "mean", x.shape, AXES[2])
        return scope.node("a", "mean", x, axis=(1, 2))


@dataclass(frozen=True, eq=False, repr=False)
class AdaptiveAvgPool2D(Layer):
    """The mean of each of ``size`` parts of the image, of whatever size it is: x[N, H, W, C] to [N, *size, C].

    Part i of H' begins at row ⌊i·H / H'⌋ and ends before ⌈(i + 1)·H / H'⌉. Source: He, Zhang, Ren, Sun, ECCV 2014.
    """

    size: Size

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _size(self.name or "AdaptiveAvgPool2D", "size", self.size, 2))

    @property
    def kind(self) -> str:
        return "adaptiveavgpool"

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return scope.node("a", "adaptive_avg_pool2d", x, size=_each(self.size, 2))


@dataclass(frozen=True, eq=False, repr=False)
class UpSample2D(Layer):
    """Images ``scale`` times as high and wide, a number or (rows, columns): x[N, H, W, C] to [N, H·scale, W·scale, C].

    ``mode`` is ``"nearest"``, every pixel a block, or ``"bilinear"``, straight lines from centre to centre.
    """

    scale: Size = 2
    mode: str = "nearest"

    def __post_init__(self) -> None:
        where = self.name or "UpSample2D"
        object.__setattr__(self, "scale", _size(where, "scale", self.scale, 2))
        if self.mode not in ("nearest", "bilinear"):
            expected = "'nearest', 'bilinear'"
            raise InputError("option_range", where=where, option="mode", expected=expected, got=repr(self.mode))

    @property
    def kind(self) -> str:
        return "upsample"

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return scope.node("a", f"upsample_{self.mode}2d", x, scale=_each(self.scale, 2))


# --- normalisation ----------------------------------------------------------------------------------------------------


def _affine(scope: Scope, x: Symbolic) -> tuple[Symbolic, Symbolic]:
    channels = (features(scope, x),)
    return scope.parameter("gamma", channels, Constant(1.0)), scope.parameter("beta", channels, Zeros())


@dataclass(frozen=True, eq=False, repr=False)
class GroupNorm(Layer):
    """a = gamma ⊙ (x - mean)/√(var + eps) + beta; mean and var of each sample and group of channels, over all places.

    Input x[N, …, C], gamma[C], beta[C]. InputError (BL131) unless ``groups`` divides C. gamma and beta are the weight
    and the bias of PyTorch's GroupNorm. Source: Wu, He: Group normalization, ECCV 2018.
    """

    groups: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        where = self.name or "GroupNorm"
        object.__setattr__(self, "groups", require_count(where, "groups", self.groups))
        require_range(where, "eps", self.eps, 0.0, math.inf)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return scope.node("a", "groupnorm", x, *_affine(scope, x), groups=self.groups, eps=self.eps)


@dataclass(frozen=True, eq=False, repr=False)
class InstanceNorm(Layer):
    """a = gamma ⊙ (x - mean)/√(var + eps) + beta; mean and var of each sample and channel, over all places.

    Input x[N, …, C], gamma[C], beta[C]: PyTorch's InstanceNorm2d with ``affine=True``.
    Source: Ulyanov, Vedaldi, Lempitsky: Instance normalization, 2016.
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        require_range(self.name or "InstanceNorm", "eps", self.eps, 0.0, math.inf)

    def stage(self, scope: Scope, *inputs: Symbolic) -> Symbolic:
        (x,) = inputs
        return scope.node("a", "instancenorm", x, *_affine(scope, x), eps=self.eps)
