"""softmax_cross_entropy (class numbers) and softmax_cross_entropy_soft (probabilities): one class of many, from logits.

Shapes: logits[N, …, C], C ≥ 2; labels[N, …] integers in 0 … C-1, or target[N, …, C] probabilities; weights[N] or [N, …]
(one for every position) or absent; class_weights[C] or absent. They give loss[], mass[] and the probabilities p of the
shape of logits. Positions n run over all leading axes; y_nc is the target, for class numbers 1 where c is the label::

    p_nc = exp z_nc / Σ_j exp z_nj        y'_nc = (1 - label_smoothing) y_nc + label_smoothing / C
    L = -Σ_n s_n Σ_c w_c y'_nc log p_nc / m        δ_nc = ∂L/∂z_nc = s_n (p_nc Σ_j w_j y'_nj - w_c y'_nc) / m

with class weights w and position weights s (1 where absent; s_n = 0 where the label is ``ignore``): without them,
δ = (p - y')/N. The mass is PyTorch's: m = Σ_n s_n w_(label of n) for class numbers, also under label smoothing, and
m = Σ_n s_n for probabilities, also under class weights. Without ``weights`` both rules equal PyTorch's
``F.cross_entropy(reduction="mean")``, where classes are the second axis and not the last. PyTorch has no position
weights; here they multiply the class weights.

Where m = 0 (all are ignored, say), L and its gradient are 0; PyTorch gives nan. The loss is taken from log_softmax, not
from p: no logit overflows, and one of -∞, a class ruled out, is allowed where y' = 0. All inputs but logits are
constants. Whether labels lie in 0 … C-1 is checked where data come in, not here.

InputError: labels that fit the logits neither as class numbers nor as probabilities, fewer than 2 classes, weights that
do not fit, no samples, label_smoothing outside [0, 1], an ``ignore`` that is no integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number
from backlit.rules._losses import (
    cast,
    check_axes,
    check_option,
    check_weights,
    divided,
    expanded_mean,
    expanded_ratio,
    expanded_weights,
    share,
    weighted_mean,
    weights_of,
)
from backlit.rules.base import Case, rule
from backlit.rules.softmax import log_softmax_forward, softmax_forward

_SOURCE = (
    "Bridle: Probabilistic interpretation of feedforward classification network outputs, Springer 1990; "
    "label smoothing: Szegedy et al.: Rethinking the Inception architecture for computer vision, CVPR 2016"
)

# --- shared by both -------------------------------------------------------------------------------------------------


def _marks(xp: Namespace, y: Array, class_weights: Array | None, label_smoothing: float) -> Array:
    """What -log p counts for each class: w_c y'_nc."""
    smooth = (1.0 - label_smoothing) * y + label_smoothing / y.shape[-1] if label_smoothing else y
    return smooth if class_weights is None else smooth * cast(xp, class_weights, y)


def _surprise(xp: Namespace, log_p: Array, marks: Array) -> Array:
    """-Σ_c marks log p at every position, where 0 (-∞) = 0."""
    return -xp.sum(marks * xp.where(marks == 0, xp.zeros_like(log_p), log_p), axis=-1)


def _delta(xp: Namespace, part: Array, p: Array, marks: Array) -> Array:
    """δ, from each position's share in the loss: part[N, …] or []."""
    return part * (p * xp.sum(marks, axis=-1, keepdims=True) - marks)


def _expanded(o: Any, logits: Any, y: Any, class_weights: Any, label_smoothing: float) -> Any:
    """The loss of every position in smaller rules."""
    smooth = y * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    marks = smooth if class_weights is None else smooth * class_weights
    return -o.sum(marks * o.log_softmax(logits, axis=-1), axis=-1)


def _check(
    name: str, logits: Shape, weights: Shape | None, class_weights: Shape | None, label_smoothing: float
) -> None:
    check_axes(name, 2, "logits[N, …, C]", logits=logits)
    if logits[-1] < 2:
        raise InputError("loss_classes", rule=name, expected="logits[N, …, C ≥ 2]", got=f"logits{list(logits)}")
    check_weights(name, "logits", logits[:1], logits[:-1], weights=weights)
    check_weights(name, "logits", logits[-1:], class_weights=class_weights)
    check_option(name, "label_smoothing", label_smoothing, "0 ≤ label_smoothing ≤ 1", ok=0 <= label_smoothing <= 1)


def _misfit(name: str, logits: Shape, labels: Shape) -> InputError:
    one_hot = name == "softmax_cross_entropy" and labels == logits
    expected = f"labels: int{list(logits[:-1])} | float{list(logits)}"
    return InputError(
        "loss_one_hot" if one_hot else "loss_labels", rule=name, expected=expected, got=f"labels{list(labels)}"
    )


def _formulas(y: str, counted: str, mass: str) -> tuple[str, ...]:
    """The formulas, from those of y_nc (with {c} for the class), of s_n, and of what a position adds to the mass."""
    largest = "Max(i, logits[n,*t,i])"
    total = f"Sum(j, exp(logits[n,*t,j] - {largest}))"
    marks, marks_j = (
        f"class_weights[{c}] * ((1 - label_smoothing) * {y.format(c=c)} + label_smoothing / Count({c}))" for c in "cj"
    )
    surprise = f"Sum(c, {marks} * (log({total}) + {largest} - logits[n,*t,c]))"
    return (
        f"p[n,*t,c] = exp(logits[n,*t,c] - {largest}) / {total}",
        f"mass = Sum(n, t, {counted}{mass})",
        f"loss = Sum(n, t, {counted} * {surprise}) / mass if mass != 0 else 0",
        f"dlogits[n,*t,c] = dloss * {counted} / mass * (p[n,*t,c] * Sum(j, {marks_j}) - {marks}) if mass != 0 else 0",
    )


# --- class numbers --------------------------------------------------------------------------------------------------


def _one_hot(xp: Namespace, labels: Array, like: Array) -> Array:
    classes = xp.arange(like.shape[-1], dtype=labels.dtype)
    return as_number(xp, xp.expand_dims(labels, axis=-1) == classes, like)


def _counted(xp: Namespace, labels: Array, weights: Array | None, ignore: int | None, like: Array) -> Array:
    """s_n: the weight of every position, 0 where its label is ``ignore``."""
    s = weights_of(xp, weights, like[..., 0])
    return s if ignore is None else s * as_number(xp, labels != ignore, s)


def forward(
    xp: Namespace,
    logits: Array,
    labels: Array,
    weights: Array | None = None,
    class_weights: Array | None = None,
    *,
    label_smoothing: float = 0.0,
    ignore: int | None = None,
) -> tuple[Array, Array, Array]:
    p, log_p = softmax_forward(xp, logits), log_softmax_forward(xp, logits)
    y, s = _one_hot(xp, labels, logits), _counted(xp, labels, weights, ignore, logits)
    mass = xp.sum(s * xp.sum(_marks(xp, y, class_weights, 0.0), axis=-1))
    total = xp.sum(s * _surprise(xp, log_p, _marks(xp, y, class_weights, label_smoothing)))
    return divided(xp, total, mass), mass, p


def backward(
    xp: Namespace,
    dloss: Array,
    *,
    p: Array,
    labels: Array,
    weights: Array | None,
    class_weights: Array | None,
    label_smoothing: float,
    ignore: int | None,
    mass: Array,
) -> Array:
    part = share(xp, dloss, _counted(xp, labels, weights, ignore, p), mass, p)
    return _delta(xp, part, p, _marks(xp, _one_hot(xp, labels, p), class_weights, label_smoothing))


def shapes(
    logits: Shape,
    labels: Shape,
    weights: Shape | None = None,
    class_weights: Shape | None = None,
    *,
    label_smoothing: float = 0.0,
    ignore: int | None = None,
) -> tuple[Shape, Shape, Shape]:
    name = "softmax_cross_entropy"
    _check(name, logits, weights, class_weights, label_smoothing)
    check_option(name, "ignore", ignore, "int | None", ok=ignore is None or isinstance(ignore, int))
    if labels != logits[:-1]:
        raise _misfit(name, logits, labels)
    return (), (), logits


def expand(
    o: Any, logits: Any, labels: Any, weights: Any, class_weights: Any, *, label_smoothing: float, ignore: int | None
) -> Any:
    y = o.where(o.equal(o.reshape(labels, shape=(*labels.shape, 1)), np.arange(logits.shape[-1])), 1.0, 0.0)
    losses = _expanded(o, logits, y, class_weights, label_smoothing)
    s = o.sum(y if class_weights is None else y * class_weights, axis=-1)
    if weights is not None:
        losses, s = (v * expanded_weights(o, weights, losses) for v in (losses, s))
    if ignore is not None:
        losses, s = (v * o.where(o.equal(labels, ignore), 0.0, 1.0) for v in (losses, s))
    return expanded_ratio(o, o.sum(losses), o.sum(s))


def cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (4, 3)), ("sequence", (2, 3, 4)), ("batch of one", (1, 2))):
        yield Case(label, logits=rng.normal(size=shape), labels=rng.integers(0, shape[-1], size=shape[:-1]))
    z, labels, w = rng.normal(size=(2, 3, 4)), np.asarray([[0, 3, 1], [2, 0, 0]]), np.asarray([0.5, 1.0, 2.0, 0.0])
    yield Case("smoothing", logits=z, labels=labels, label_smoothing=0.1)
    yield Case("class weights", logits=z, labels=labels, class_weights=w)
    yield Case("class weights and smoothing", logits=z, labels=labels, class_weights=w, label_smoothing=0.2)
    yield Case("ignored label", logits=z, labels=labels, ignore=0)
    yield Case("ignored label that is no class", logits=z, labels=labels - 100 * (labels == 3), ignore=-97)
    yield Case("weights of samples", logits=z, labels=labels, weights=np.asarray([0.5, 2.0]), ignore=0)
    s = rng.uniform(size=(2, 3))
    yield Case("everything", logits=z, labels=labels, weights=s, class_weights=w, label_smoothing=0.3, ignore=0)
    nothing = {"loss": 0.0, "mass": 0.0, "dlogits": 0.0}
    yield Case("all ignored", logits=z, labels=labels * 0 + 1, ignore=1, label_smoothing=0.1, expect=nothing)
    far = np.asarray([[1000.0, 0.0, -1000.0], [1000.0, 0.0, -1000.0]])
    known = {"loss": 1000.0, "p": [[1.0, 0.0, 0.0]] * 2, "dlogits": [[0.0, 0.0, 0.0], [0.5, 0.0, -0.5]]}
    yield Case("extreme logits", logits=far, labels=np.asarray([0, 2]), expect=known)


softmax_cross_entropy = rule(
    "softmax_cross_entropy",
    forward,
    backward,
    shapes=shapes,
    formulas=_formulas(
        "(labels[n,*t] == {c})",
        "weights[n,*t] * (labels[n,*t] != ignore)",
        " * Sum(c, class_weights[c] * (labels[n,*t] == c))",
    ),
    outputs=("loss", "mass", "p"),
    constants=("labels", "weights", "class_weights"),
    absent={"weights": 1.0, "class_weights": 1.0},
    expand=expand,
    cases=cases,
    source=_SOURCE,
)

# --- probabilities --------------------------------------------------------------------------------------------------


def soft_forward(
    xp: Namespace,
    logits: Array,
    target: Array,
    weights: Array | None = None,
    class_weights: Array | None = None,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array, Array]:
    p, log_p = softmax_forward(xp, logits), log_softmax_forward(xp, logits)
    losses = _surprise(xp, log_p, _marks(xp, cast(xp, target, logits), class_weights, label_smoothing))
    return (*weighted_mean(xp, losses, weights), p)


def soft_backward(
    xp: Namespace,
    dloss: Array,
    *,
    p: Array,
    target: Array,
    weights: Array | None,
    class_weights: Array | None,
    label_smoothing: float,
    mass: Array,
) -> Array:
    part = share(xp, dloss, weights, mass, p)
    return _delta(xp, part, p, _marks(xp, cast(xp, target, p), class_weights, label_smoothing))


def soft_shapes(
    logits: Shape,
    target: Shape,
    weights: Shape | None = None,
    class_weights: Shape | None = None,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Shape, Shape, Shape]:
    name = "softmax_cross_entropy_soft"
    _check(name, logits, weights, class_weights, label_smoothing)
    if target != logits:
        raise _misfit(name, logits, target)
    return (), (), logits


def soft_expand(o: Any, logits: Any, target: Any, weights: Any, class_weights: Any, *, label_smoothing: float) -> Any:
    return expanded_mean(o, _expanded(o, logits, target, class_weights, label_smoothing), weights)


def soft_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (4, 3)), ("sequence", (2, 3, 4)), ("batch of one", (1, 2))):
        target = rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])
        yield Case(label, logits=rng.normal(size=shape), target=target)
    z, target, w = rng.normal(size=(2, 3, 4)), rng.dirichlet(np.ones(4), size=(2, 3)), np.asarray([0.5, 1.0, 2.0, 0.0])
    yield Case("smoothing", logits=z, target=target, label_smoothing=0.1)
    yield Case("class weights", logits=z, target=target, class_weights=w)
    yield Case("targets that do not sum to 1", logits=z, target=2.0 * target, class_weights=w)
    yield Case("weights of samples", logits=z, target=target, weights=np.asarray([0.5, 2.0]))
    s = rng.uniform(size=(2, 3))
    yield Case("everything", logits=z, target=target, weights=s, class_weights=w, label_smoothing=0.3)
    nothing = {"loss": 0.0, "mass": 0.0, "dlogits": 0.0}
    yield Case("all weights 0", logits=z, target=target, weights=np.zeros(2), expect=nothing)
    far = np.asarray([[1000.0, 0.0, -1000.0]])
    known = {"loss": 1500.0, "p": [[1.0, 0.0, 0.0]], "dlogits": [[1.0, -0.5, -0.5]]}
    yield Case("extreme logits", logits=far, target=np.asarray([[0.0, 0.5, 0.5]]), expect=known)


softmax_cross_entropy_soft = rule(
    "softmax_cross_entropy_soft",
    soft_forward,
    soft_backward,
    shapes=soft_shapes,
    formulas=_formulas("target[n,*t,{c}]", "weights[n,*t]", " * Sum(c, p[n,*t,c])"),  # Σ_c p = 1 at every position t
    outputs=("loss", "mass", "p"),
    constants=("target", "weights", "class_weights"),
    absent={"weights": 1.0, "class_weights": 1.0},
    expand=soft_expand,
    cases=soft_cases,
    source=_SOURCE,
)
