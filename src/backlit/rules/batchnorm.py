"""Batch normalisation: every channel shifted and scaled to mean 0 and variance 1, then by its own gamma and beta.

Shapes: x[*N, C] with at least one leading axis, channels last; gamma[C], beta[C]; y[*N, C], mean[C], var[C].
``batchnorm`` takes mean and variance of the batch, over all axes but the last, the variance divided by the count n
(biased); ``batchnorm_inference`` takes those of the running averages, as constants. ``running_average`` makes these
by PyTorch's definition: the average is of the unbiased variance, which is ``scale = n / (n - 1)`` times that of the
batch, and ``momentum`` is the weight of the new value (in Keras that of the old one).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import count, listed
from backlit.rules.base import Case, rule

SOURCE = "Ioffe, Szegedy: Batch normalization: accelerating deep network training, ICML 2015"


def forward(xp: Namespace, x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    mean = xp.mean(x, axis=_samples(x.shape))
    centred = x - mean
    var = xp.mean(centred * centred, axis=_samples(x.shape))
    return gamma * (centred / xp.sqrt(var + eps)) + beta, mean, var


def backward(
    xp: Namespace, dy: Array, *, x: Array, gamma: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    std = xp.sqrt(var + eps)
    xhat = (x - mean) / std
    dgamma, dbeta = _of_scale_and_shift(xp, dy, xhat)
    return gamma / std * (dy - (dbeta + xhat * dgamma) / count(x.shape, _samples(x.shape))), dgamma, dbeta


def inference_forward(  # noqa: PLR0917 -- the operation has five inputs
    xp: Namespace, x: Array, gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float = 1e-5
) -> Array:
    return gamma * ((x - mean) / xp.sqrt(var + eps)) + beta


def inference_backward(
    xp: Namespace, dy: Array, *, x: Array, gamma: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    std = xp.sqrt(var + eps)
    return dy * (gamma / std), *_of_scale_and_shift(xp, dy, (x - mean) / std)


def average_forward(xp: Namespace, old: Array, new: Array, *, momentum: float = 0.1, scale: float = 1.0) -> Array:
    return (1.0 - momentum) * old + (momentum * scale) * new


def _samples(shape: Shape) -> tuple[int, ...]:
    return tuple(range(len(shape) - 1))


def _of_scale_and_shift(xp: Namespace, dy: Array, xhat: Array) -> tuple[Array, Array]:
    return xp.sum(dy * xhat, axis=_samples(dy.shape)), xp.sum(dy, axis=_samples(dy.shape))


def shapes(x: Shape, gamma: Shape, beta: Shape, *, eps: float = 1e-5) -> tuple[Shape, Shape, Shape]:
    if len(x) < 2 or 0 in x[:-1]:
        raise InputError("shape_clash", rule="batchnorm", expected="x[N ≥ 1, …, C]", got=listed(x=x))
    check_channels("batchnorm", x[-1], eps, gamma=gamma, beta=beta)
    return x, x[-1:], x[-1:]


def inference_shapes(x: Shape, gamma: Shape, beta: Shape, mean: Shape, var: Shape, *, eps: float = 1e-5) -> Shape:
    if len(x) < 1:
        raise InputError("shape_clash", rule="batchnorm_inference", expected="x[…, C]", got=listed(x=x))
    check_channels("batchnorm_inference", x[-1], eps, gamma=gamma, beta=beta, mean=mean, var=var)
    return x


def check_channels(name: str, channels: int, eps: float, **vectors: Shape) -> None:
    """InputError unless every vector has one entry for each channel, and eps is positive: a variance may be 0."""
    if any(shape != (channels,) for shape in vectors.values()):
        expected = listed(**dict.fromkeys(vectors, (channels,)))
        raise InputError("shape_clash", rule=name, expected=expected, got=listed(**vectors))
    check_option(name, "0 < eps < ∞", holds=0 < eps < inf, eps=eps)


def average_shapes(old: Shape, new: Shape, *, momentum: float = 0.1, scale: float = 1.0) -> Shape:
    if old != new:
        raise InputError("shape_clash", rule="running_average", expected=listed(new=old), got=listed(new=new))
    check_option("running_average", "0 ≤ momentum ≤ 1", holds=0 <= momentum <= 1, momentum=momentum)
    check_option("running_average", "0 < scale < ∞", holds=0 < scale < inf, scale=scale)
    return old


def check_option(name: str, expected: str, *, holds: bool, **option: float) -> None:
    """InputError ``rule_option`` unless what is ``expected`` of the option ``holds``."""
    if not holds:
        ((key, value),) = option.items()
        raise InputError("rule_option", rule=name, option=key, expected=expected, got=repr(value))


def cases(rng: Any) -> Iterator[Case]:
    def channels(n: int) -> dict[str, Any]:
        return {"gamma": rng.normal(size=n), "beta": rng.normal(size=n)}

    for label, shape in (("batch", (5, 3)), ("sequence", (2, 3, 4)), ("images", (2, 3, 2, 2)), ("one channel", (4, 1))):
        yield Case(label, x=rng.normal(size=shape), **channels(shape[-1]))
    yield Case("far from zero", x=100.0 + 3.0 * rng.normal(size=(6, 3)), **channels(3))
    no_spread = {"dx": 0.0, "dgamma": 0.0, "dbeta": 1.0}
    yield Case("batch of one", x=rng.normal(size=(1, 3)), **channels(3), expect=no_spread)
    yield Case("a constant channel", x=rng.normal(size=(4, 3)) * [1.0, 0.0, 1.0], **channels(3), eps=0.1)


def inference_cases(rng: Any) -> Iterator[Case]:
    for case in cases(rng):
        n = case.call["x"].shape[-1]
        yield Case(case.label, **case.call, mean=rng.normal(size=n), var=rng.uniform(0.2, 2.0, size=n))
    channels = {name: rng.normal(size=3) for name in ("gamma", "beta", "mean")}
    yield Case("single vector", x=rng.normal(size=3), **channels, var=rng.uniform(0.2, 2.0, size=3))


def average_cases(rng: Any) -> Iterator[Case]:
    yield Case("mean", old=rng.normal(size=4), new=rng.normal(size=4))
    yield Case("unbiased variance", old=rng.uniform(size=4), new=rng.uniform(size=4), momentum=0.3, scale=5 / 4)
    yield Case("only the new", old=rng.normal(size=4), new=rng.normal(size=4), momentum=1.0)


def _expand(o: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    over = {"axis": _samples(x.shape), "keepdims": True}
    return gamma * ((x - o.mean(x, **over)) / o.sqrt(o.var(x, **over) + eps)) + beta


_AFFINE = (
    "y[*n,c] = gamma[c] * (x[*n,c] - mean[c]) / sqrt(var[c] + eps) + beta[c]",
    "dgamma[c] = Sum(n, dy[*n,c] * (x[*n,c] - mean[c]) / sqrt(var[c] + eps))",
    "dbeta[c] = Sum(n, dy[*n,c])",
)
_DX = (
    "dx[*n,c] = gamma[c] / sqrt(var[c] + eps) * (dy[*n,c] - Mean(m, dy[*m,c])"
    " - (x[*n,c] - mean[c]) / (var[c] + eps) * Mean(m, dy[*m,c] * (x[*m,c] - mean[c])))"
)

batchnorm = rule(
    "batchnorm",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        *_AFFINE,
        "mean[c] = Mean(n, x[*n,c])",
        "var[c] = Mean(n, (x[*n,c] - mean[c])**2)",
        _DX,
    ),
    outputs=("y", "mean", "var"),
    expand=_expand,
    cases=cases,
    source=SOURCE,
)

batchnorm_inference = rule(
    "batchnorm_inference",
    inference_forward,
    inference_backward,
    shapes=inference_shapes,
    formulas=(*_AFFINE, "dx[*n,c] = dy[*n,c] * gamma[c] / sqrt(var[c] + eps)"),
    constants=("mean", "var"),
    expand=lambda o, x, gamma, beta, mean, var, eps: gamma * ((x - mean) / o.sqrt(var + eps)) + beta,
    cases=inference_cases,
    source=SOURCE,
)

running_average = rule(
    "running_average",
    average_forward,
    None,
    shapes=average_shapes,
    formulas=("y = (1 - momentum) * old + momentum * scale * new",),
    cases=average_cases,
    source=SOURCE,
)
