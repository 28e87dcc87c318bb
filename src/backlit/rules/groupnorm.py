"""Group and instance normalisation: shifted and scaled to mean 0 and variance 1 within each sample.

Shapes: x[N, *S, C] with channels last, gamma[C], beta[C]; y like x. groupnorm divides the channels into ``groups`` and
normalises each group of a sample over all its places, mean[N, groups] and var[N, groups]; instancenorm each channel by
itself, mean[N, C] and var[N, C]. The variance is divided by the count (biased). Group g holds the channels from
g·C/groups on, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import listed
from backlit.rules._windows import check_groups
from backlit.rules.base import Case, rule
from backlit.rules.batchnorm import check_channels

_OVER = (1, 3)
"""The axes of [N, places, groups, channels of one group] that are normalised over."""


def forward(
    xp: Namespace, x: Array, gamma: Array, beta: Array, *, groups: int, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    split = _split(xp, x, groups)
    mean = xp.mean(split, axis=_OVER)
    centred = split - mean[:, None, :, None]
    var = xp.mean(centred * centred, axis=_OVER)
    xhat = xp.reshape(centred / xp.sqrt(var + eps)[:, None, :, None], x.shape)
    return gamma * xhat + beta, mean, var


def backward(
    xp: Namespace, dy: Array, *, x: Array, gamma: Array, mean: Array, var: Array, groups: int, eps: float
) -> tuple[Array, Array, Array]:
    std = xp.sqrt(var + eps)[:, None, :, None]
    xhat = (_split(xp, x, groups) - mean[:, None, :, None]) / std
    g = _split(xp, dy * gamma, groups)
    mean_g, mean_gx = (xp.mean(v, axis=_OVER, keepdims=True) for v in (g, g * xhat))
    samples = tuple(range(x.ndim - 1))
    dx = xp.reshape((g - mean_g - xhat * mean_gx) / std, x.shape)
    return dx, xp.sum(dy * xp.reshape(xhat, x.shape), axis=samples), xp.sum(dy, axis=samples)


def _split(xp: Namespace, x: Array, groups: int) -> Array:
    """[N, places, groups, channels of one group]."""
    return xp.reshape(x, (x.shape[0], prod(x.shape[1:-1]), groups, x.shape[-1] // groups))


def instance_forward(
    xp: Namespace, x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    return forward(xp, x, gamma, beta, groups=x.shape[-1], eps=eps)


def instance_backward(
    xp: Namespace, dy: Array, *, x: Array, gamma: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    return backward(xp, dy, x=x, gamma=gamma, mean=mean, var=var, groups=x.shape[-1], eps=eps)


def shapes(x: Shape, gamma: Shape, beta: Shape, *, groups: int, eps: float = 1e-5) -> tuple[Shape, Shape, Shape]:
    _check("groupnorm", x, gamma, beta, eps)
    check_groups("groupnorm", groups, channels=x[-1])
    return x, (x[0], groups), (x[0], groups)


def instance_shapes(x: Shape, gamma: Shape, beta: Shape, *, eps: float = 1e-5) -> tuple[Shape, Shape, Shape]:
    _check("instancenorm", x, gamma, beta, eps)
    return x, (x[0], x[-1]), (x[0], x[-1])


def _check(name: str, x: Shape, gamma: Shape, beta: Shape, eps: float) -> None:
    if len(x) < 2 or 0 in x[1:]:
        raise InputError("image_axes", rule=name, expected="x[N, …, C ≥ 1]", got=listed(x=x))
    check_channels(name, x[-1], eps, gamma=gamma, beta=beta)


def instance_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("images", (2, 2, 3, 4)), ("sequence", (2, 3, 2)), ("one sample", (1, 2, 2, 2))):
        yield Case(label, x=rng.normal(size=shape), gamma=rng.normal(size=shape[-1]), beta=rng.normal(size=shape[-1]))
    own = {"gamma": rng.normal(size=2), "beta": rng.normal(size=2)}
    yield Case("far from zero", x=100.0 + 3.0 * rng.normal(size=(2, 3, 2, 2)), **own)
    yield Case("a constant channel", x=rng.normal(size=(2, 3, 2)) * [1.0, 0.0], **own, eps=0.1)
    yield Case("no samples", x=rng.normal(size=(0, 2, 2)), **own)


def cases(rng: Any) -> Iterator[Case]:
    for case in instance_cases(rng):
        yield Case(case.label, **case.call, groups=2)
    own = {"gamma": rng.normal(size=4), "beta": rng.normal(size=4)}
    yield Case("one group", x=rng.normal(size=(2, 2, 2, 4)), **own, groups=1)
    yield Case("each channel by itself", x=rng.normal(size=(2, 3, 4)), **own, groups=4)
    yield Case("no places", x=rng.normal(size=(3, 4)), **own, groups=2, eps=0.1)


def _expand(o: Any, x: Any, gamma: Any, beta: Any, *, groups: int, eps: float) -> Any:
    split = o.reshape(x, shape=(x.shape[0], prod(x.shape[1:-1]), groups, x.shape[-1] // groups))
    over = {"axis": _OVER, "keepdims": True}
    xhat = (split - o.mean(split, **over)) / o.sqrt(o.var(split, **over) + eps)
    return gamma * o.reshape(xhat, shape=x.shape) + beta


def _formulas(group: str, over: str, member: str) -> tuple[str, ...]:
    """``group`` is that of channel c; ``over`` runs over a group's entries, ``member`` is the channel of each."""
    other, own = member.format(group), member.format("g")
    g, std = f"dy[n,*t,{other}] * gamma[{other}]", f"sqrt(var[n,{group}] + eps)"
    centred = f"(x[n,*s,c] - mean[n,{group}])"
    slope = f"{centred} / (var[n,{group}] + eps) * Mean({over}, {g} * (x[n,*t,{other}] - mean[n,{group}]))"
    return (
        f"y[n,*s,c] = gamma[c] * {centred} / {std} + beta[c]",
        f"mean[n,g] = Mean({over}, x[n,*t,{own}])",
        f"var[n,g] = Mean({over}, (x[n,*t,{own}] - mean[n,g])**2)",
        f"dx[n,*s,c] = (dy[n,*s,c] * gamma[c] - Mean({over}, {g}) - {slope}) / {std}",
        f"dgamma[c] = Sum(n, s, dy[n,*s,c] * {centred} / {std})",
        "dbeta[c] = Sum(n, s, dy[n,*s,c])",
    )


groupnorm = rule(
    "groupnorm",
    forward,
    backward,
    shapes=shapes,
    formulas=_formulas("floor(c*groups/Count(c))", "t, k < Count(c)/groups", "{}*(Count(c)/groups) + k"),
    outputs=("y", "mean", "var"),
    expand=_expand,
    cases=cases,
    source="Wu, He: Group normalization, ECCV 2018",
)

instancenorm = rule(
    "instancenorm",
    instance_forward,
    instance_backward,
    shapes=instance_shapes,
    formulas=_formulas("c", "t", "{}"),
    outputs=("y", "mean", "var"),
    expand=lambda o, x, gamma, beta, eps: _expand(o, x, gamma, beta, groups=x.shape[-1], eps=eps),
    cases=instance_cases,
    source="Ulyanov, Vedaldi, Lempitsky: Instance normalization, arXiv:1607.08022, 2016",
)
