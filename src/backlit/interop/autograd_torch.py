"""PyTorch's autograd of an equivalent of each rule, as an oracle of its backward (:mod:`backlit.core.oracles`).

``EQUIVALENTS`` says how PyTorch writes a rule; the functions take the torch module, the inputs, and the attributes by
keyword. What is missing there (dropout, whose mask PyTorch draws itself; what merely moves entries in ways it has not)
has no equivalent, and the oracle says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from backlit.core.types import Array
from backlit.interop import images_torch
from backlit.rules import Rule


def vjp(
    rule: Rule, inputs: Sequence[Any], attributes: Mapping[str, Any], places: Sequence[int], dys: Sequence[Array]
) -> tuple[Array, ...] | None:
    """∂L/∂(inputs at ``places``) by autograd, in float64; None where PyTorch has no equivalent or refuses."""
    import torch

    equivalent = EQUIVALENTS.get(rule.name)
    if equivalent is None or len(dys) != 1:
        return None
    given = [None if x is None else torch.tensor(np.asarray(x)) for x in inputs]
    wrt = [given[i].requires_grad_() for i in places]  # type: ignore[union-attr]
    try:
        found = torch.autograd.grad(equivalent(torch, *given, **attributes), wrt, torch.tensor(np.asarray(dys[0])))
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    return tuple(g.numpy() for g in found)


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)


def _reduction(name: str) -> Callable[..., Any]:
    def reduce(t: Any, x: Any, *, axis: Any, keepdims: bool, **more: Any) -> Any:
        return getattr(t, name)(x, dim=_axes(x, axis), keepdim=keepdims, **more)

    return reduce


def _same(name: str, *options: str) -> Callable[..., Any]:
    """The function of that name, of torch or torch.nn.functional, its attributes in the order of ``options``."""

    def function(t: Any, *arrays: Any, **attributes: Any) -> Any:
        found = getattr(t, name, None) or getattr(t.nn.functional, name)
        return found(*arrays, *(attributes[o] for o in options))

    return function


def _mean(losses: Any, weights: Any) -> Any:
    """Σ_n w_n mean(losses of n) / Σ_n w_n."""
    each = losses.reshape(losses.shape[0], -1).mean(dim=1)
    return each.mean() if weights is None else (each * weights).sum() / weights.sum()


def _pointwise_loss(name: str) -> Callable[..., Any]:
    def loss(t: Any, pred: Any, target: Any, weights: Any = None, **options: Any) -> Any:
        return _mean(getattr(t.nn.functional, name)(pred, target, reduction="none", **options), weights)

    return loss


def _binary_cross_entropy(t: Any, logits: Any, targets: Any, weights: Any = None, pos_weight: Any = None) -> Any:
    f = t.nn.functional.binary_cross_entropy_with_logits
    return _mean(f(logits, targets, reduction="none", pos_weight=pos_weight), weights)


def _cross_entropy(
    t: Any,
    logits: Any,
    labels: Any,
    weights: Any = None,
    class_weights: Any = None,
    *,
    label_smoothing: float,
    ignore: int | None = None,
) -> Any:
    """Of unweighted positions; PyTorch has no weights of samples."""
    if weights is not None:
        raise ValueError("weights")
    flat, soft = logits.reshape(-1, logits.shape[-1]), labels.shape == logits.shape
    y = labels.reshape(flat.shape if soft else -1)
    options = {} if soft else {"ignore_index": -100 if ignore is None else ignore}
    f = t.nn.functional.cross_entropy
    return f(flat, y if soft else y.long(), weight=class_weights, label_smoothing=label_smoothing, **options)


def _kl_divergence(t: Any, log_q: Any, p: Any, weights: Any = None) -> Any:
    if weights is not None:
        raise ValueError("weights")
    return t.nn.functional.kl_div(log_q, p, reduction="none").sum(dim=-1).mean()


def _batchnorm(t: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    rows = x.reshape(-1, x.shape[-1])
    return t.nn.functional.batch_norm(rows, None, None, gamma, beta, training=True, eps=eps).reshape(x.shape)


def _normalised(name: str) -> Callable[..., Any]:
    return lambda t, x, *affine, eps: getattr(t.nn.functional, name)(x, x.shape[-1:], *affine, eps)


EQUIVALENTS: dict[str, Callable[..., Any]] = {
    "linear": lambda t, x, W, b=None: t.nn.functional.linear(x, W, b),
    **{name: _same(name) for name in ("matmul", "add", "sub", "mul", "div", "maximum", "minimum", "where")},
    **{name: _same(name) for name in ("neg", "exp", "log", "sqrt", "abs", "sigmoid", "tanh", "relu", "selu")},
    **{name: _same(name) for name in ("softplus", "gelu", "silu", "mish")},
    "power": _same("pow"),
    "clip": _same("clip", "low", "high"),
    "leaky_relu": _same("leaky_relu", "slope"),
    "elu": _same("elu", "alpha"),
    "gelu_tanh": lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
    "softmax": _same("softmax", "axis"),
    "log_softmax": _same("log_softmax", "axis"),
    "logsumexp": _reduction("logsumexp"),
    "sum": _reduction("sum"),
    "mean": _reduction("mean"),
    "var": _reduction("var"),
    "max": _reduction("amax"),
    "min": _reduction("amin"),
    "reshape": _same("reshape", "shape"),
    "transpose": _same("permute", "axes"),
    "broadcast_to": _same("broadcast_to", "shape"),
    "concatenate": lambda t, *xs, axis: t.concatenate(xs, dim=axis),
    "stack": lambda t, *xs, axis: t.stack(xs, dim=axis),
    "slice": lambda _, x, *, index: x[index],
    "batchnorm": _batchnorm,
    "layernorm": _normalised("layer_norm"),
    "rmsnorm": _normalised("rms_norm"),
    "mse": _pointwise_loss("mse_loss"),
    "mae": _pointwise_loss("l1_loss"),
    "huber": _pointwise_loss("huber_loss"),
    "binary_cross_entropy": _binary_cross_entropy,
    "kl_divergence": _kl_divergence,
    "softmax_cross_entropy": _cross_entropy,
    "softmax_cross_entropy_soft": _cross_entropy,
    **images_torch.EQUIVALENTS,
}
