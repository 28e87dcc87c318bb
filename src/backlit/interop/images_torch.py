"""PyTorch's equivalents of the rules of images, whose channels lie last here and second there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _first(x: Any) -> Any:
    return x.movedim(-1, 1)


def _last(x: Any) -> Any:
    return x.movedim(1, -1)


def _flat(padding: Any) -> list[int]:
    """The widths as PyTorch takes them: those of the last axis first."""
    return [n for width in reversed(padding) for n in width]


def _convolution(t: Any, x: Any, W: Any, b: Any = None, *, padding: Any, groups: int, **options: Any) -> Any:
    two = x.ndim == 4
    images = t.nn.functional.pad(_first(x), _flat(padding) if two else list(padding))
    convolve = t.nn.functional.conv2d if two else t.nn.functional.conv1d
    return _last(convolve(images, _first(W), b, groups=groups, **options))


def _conv_transpose2d(t: Any, x: Any, W: Any, b: Any = None, *, padding: Any, groups: int, **options: Any) -> Any:
    W = W.reshape(groups, -1, *W.shape[1:]).permute(0, 4, 1, 2, 3).flatten(0, 1)
    z = t.nn.functional.conv_transpose2d(_first(x), W, groups=groups, **options)
    z = _last(t.nn.functional.pad(z, [-n for n in _flat(padding)]))
    return z if b is None else z + b


def _pool(name: str, beside: float) -> Callable[..., Any]:
    def pool(t: Any, x: Any, *, kernel: Any, stride: Any, padding: Any) -> Any:
        framed = t.nn.functional.pad(_first(x), _flat(padding), value=beside)
        return _last(getattr(t.nn.functional, name)(framed, kernel, stride))

    return pool


def _upsample(mode: str, **options: Any) -> Callable[..., Any]:
    def upsample(t: Any, x: Any, *, scale: Any) -> Any:
        return _last(t.nn.functional.interpolate(_first(x), scale_factor=scale, mode=mode, **options))

    return upsample


def _groupnorm(t: Any, x: Any, gamma: Any, beta: Any, *, groups: int, eps: float) -> Any:
    return _last(t.nn.functional.group_norm(_first(x), groups, gamma, beta, eps))


def _instancenorm(t: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    """As a group of each channel: instance_norm's own gradient is wrong for one sample (2.13, channels last)."""
    return _groupnorm(t, x, gamma, beta, groups=x.shape[-1], eps=eps)


EQUIVALENTS: dict[str, Callable[..., Any]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv_transpose2d": _conv_transpose2d,
    "max_pool2d": _pool("max_pool2d", float("-inf")),
    "avg_pool2d": _pool("avg_pool2d", 0.0),
    "adaptive_avg_pool2d": lambda t, x, *, size: _last(t.nn.functional.adaptive_avg_pool2d(_first(x), size)),
    "upsample_nearest2d": _upsample("nearest"),
    "upsample_bilinear2d": _upsample("bilinear", align_corners=False),
    "groupnorm": _groupnorm,
    "instancenorm": _instancenorm,
}
