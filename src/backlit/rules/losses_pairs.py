"""Similarity of vectors, and the losses of pairs that go by it: cosine_similarity, cosine_embedding, contrastive.

Shapes: x1[*N, D], x2 of the same shape, cos[*N]; for the losses x1[N, D], x2[N, D], target[N], weights[N] ≥ 0 or
absent, loss[] and mass[] = Σ_n w_n (N without weights). With cos = x1·x2 / (‖x1‖ ‖x2‖) and D = ‖x1 - x2‖::

    cosine_embedding: l = 1 - cos where target > 0 (they belong together), else max(cos - margin, 0)
    contrastive:      l = t D²/2 + (1 - t) max(margin - D, 0)²/2, t = 1 for those that belong together, 0 else

and L = Σ_n w_n l_n / Σ_n w_n. A norm below ``eps`` counts as ``eps``, so that cos is 0 of the vector 0. contrastive
pushes apart pairs along the line between them; where D = 0 there is no line, and the gradient is 0. cosine_similarity
and cosine_embedding are PyTorch's functions of these names. target and weights are constants.

InputError: different shapes of x1 and x2, target or weights of another length, no samples, an option out of range.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np

from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, order
from backlit.rules._losses import (
    cast,
    check_axes,
    check_option,
    check_same,
    check_weights,
    expanded_mean,
    share,
    weighted_mean,
)
from backlit.rules.base import Case, rule

EPS = 1e-8


def _norm(xp: Namespace, x: Array) -> Array:
    """‖x‖ over the last axis: x[…, D] -> […]."""
    return xp.sqrt(xp.sum(x * x, axis=-1))


def _cosine(xp: Namespace, x1: Array, x2: Array, eps: float) -> tuple[Array, Array, Array]:
    """(cos, norms of x1, of x2), norms at least ``eps``."""
    n1, n2 = (xp.maximum(n, xp.full_like(n, eps)) for n in (_norm(xp, x1), _norm(xp, x2)))
    return xp.sum(x1 * x2, axis=-1) / (n1 * n2), n1, n2


def _slopes(xp: Namespace, x: Array, y: Array, cos: Array, norms: tuple[Array, Array], *, eps: float) -> Any:
    """∂cos/∂x and ∂cos/∂y: (y/‖y‖ - cos x/‖x‖) / ‖x‖, the second term only where the norm is x's own."""
    (nx, ny), cos = (n[..., None] for n in norms), cos[..., None]
    own_x, own_y = (as_number(xp, n > eps, n) * cos for n in (nx, ny))
    return (y / ny - own_x * x / nx) / nx, (x / nx - own_y * y / ny) / ny


def similarity_forward(xp: Namespace, x1: Array, x2: Array, *, eps: float = EPS) -> tuple[Array, Array, Array]:
    return _cosine(xp, x1, x2, eps)


def similarity_backward(
    xp: Namespace, dcos: Array, *, x1: Array, x2: Array, cos: Array, norm1: Array, norm2: Array, eps: float
) -> tuple[Array, Array]:
    by1, by2 = _slopes(xp, x1, x2, cos, (norm1, norm2), eps=eps)
    return dcos[..., None] * by1, dcos[..., None] * by2


def similarity_shapes(x1: Shape, x2: Shape, *, eps: float = EPS) -> tuple[Shape, ...]:
    check_option("cosine_similarity", "eps", eps, "0 < eps < ∞", ok=0 < eps < inf)
    check_axes("cosine_similarity", 1, "x1[…, D]", x1=x1)
    check_same("cosine_similarity", x1=x1, x2=x2)
    return x1[:-1], x1[:-1], x1[:-1]


def _pieces_of_norms(xp: Namespace, x1: Array, x2: Array, eps: float) -> Array:
    """Which side of ``eps`` the norms are."""
    return order(xp, _norm(xp, x1), eps) + 3 * order(xp, _norm(xp, x2), eps)


def similarity_kinks(xp: Namespace, x1: Array, x2: Array, *, eps: float = EPS) -> Array:
    return _pieces_of_norms(xp, x1, x2, eps)


def _expanded_cosine(o: Any, x1: Any, x2: Any, eps: float) -> Any:
    n1, n2 = (o.maximum(o.sqrt(o.sum(x * x, axis=-1)), eps) for x in (x1, x2))
    return o.sum(x1 * x2, axis=-1) / (n1 * n2)


def similarity_cases(rng: Any) -> Iterator[Case]:
    for label, shape in (("matrix", (4, 3)), ("sequence", (2, 3, 4)), ("single vectors", (5,))):
        yield Case(label, x1=rng.normal(size=shape), x2=rng.normal(size=shape))
    yield Case("short vectors", x1=0.1 * rng.normal(size=(2, 3)), x2=4.0 * np.ones((2, 3)), eps=1.0)
    known = {"cos": 0.0, "norm1": EPS, "norm2": 5.0}
    yield Case("zero", x1=np.zeros((1, 2)), x2=np.asarray([[3.0, 4.0]]), on_kink=True, expect=known)


_PARTS = tuple(f"norm{i}[*n] = max(sqrt(Sum(k, x{i}[*n,k]**2)), eps)" for i in (1, 2))
_COS = "cos[*n] = Sum(k, x1[*n,k] * x2[*n,k]) / (norm1[*n] * norm2[*n])"


def _derivative(i: int, j: int, n: str, eps: str = "eps") -> str:
    """∂cos/∂xi as a formula."""
    own = f"(cos[{n}] * x{i}[{n},k] / norm{i}[{n}] if norm{i}[{n}] > {eps} else 0)"
    return f"(x{j}[{n},k] / norm{j}[{n}] - {own}) / norm{i}[{n}]"


cosine_similarity = rule(
    "cosine_similarity",
    similarity_forward,
    similarity_backward,
    shapes=similarity_shapes,
    formulas=(
        _COS,
        *_PARTS,
        f"dx1[*n,k] = dcos[*n] * {_derivative(1, 2, '*n')}",
        f"dx2[*n,k] = dcos[*n] * {_derivative(2, 1, '*n')}",
    ),
    outputs=("cos", "norm1", "norm2"),
    kinks=similarity_kinks,
    kink_note="a norm of eps counts as no longer the vector's own",
    expand=lambda o, x1, x2, *, eps=EPS: _expanded_cosine(o, x1, x2, eps),
    cases=similarity_cases,
    source="Salton, Wong, Yang: A vector space model for automatic indexing, Communications of the ACM 18(11), 1975",
)


# --- losses of pairs ------------------------------------------------------------------------------------------------


def _check_pair(name: str, x1: Shape, x2: Shape, target: Shape, weights: Shape | None) -> None:
    check_axes(name, 2, "x1[N, D]", x1=x1)
    check_same(name, x1=x1, x2=x2)
    check_axes(name, 1, "x1[N, D], target[N]", target=target)
    check_same(name, **{"samples of x1": x1[:-1], "target": target})
    check_weights(name, "x1", x1[:1], weights=weights)


def embedding_forward(
    xp: Namespace, x1: Array, x2: Array, target: Array, weights: Array | None = None, *, margin: float = 0.0
) -> tuple[Array, ...]:
    cos, n1, n2 = _cosine(xp, x1, x2, EPS)
    apart = cos - margin
    entries = xp.where(target > 0, 1.0 - cos, xp.where(apart > 0, apart, xp.zeros_like(apart)))
    return *weighted_mean(xp, entries, weights), cos, n1, n2


def embedding_backward(
    xp: Namespace,
    dloss: Array,
    *,
    x1: Array,
    x2: Array,
    target: Array,
    weights: Array | None,
    margin: float,
    mass: Array,
    cos: Array,
    norm1: Array,
    norm2: Array,
) -> tuple[Array, Array]:
    slope = xp.where(target > 0, -xp.ones_like(cos), as_number(xp, cos > margin, cos))
    dcos = share(xp, dloss, weights, mass, cos) * slope
    return similarity_backward(xp, dcos, x1=x1, x2=x2, cos=cos, norm1=norm1, norm2=norm2, eps=EPS)


def embedding_shapes(
    x1: Shape, x2: Shape, target: Shape, weights: Shape | None = None, *, margin: float = 0.0
) -> tuple[Shape, ...]:
    check_option("cosine_embedding", "margin", margin, "-1 ≤ margin < 1", ok=-1 <= margin < 1)
    _check_pair("cosine_embedding", x1, x2, target, weights)
    return (), (), x1[:1], x1[:1], x1[:1]


def embedding_kinks(
    xp: Namespace, x1: Array, x2: Array, target: Array, weights: Array | None = None, *, margin: float = 0.0
) -> Array:
    pieces = order(xp, _cosine(xp, x1, x2, EPS)[0], margin)
    apart = xp.where(target > 0, xp.zeros_like(pieces), pieces)
    return _pieces_of_norms(xp, x1, x2, EPS) + 9 * apart


def embedding_expand(o: Any, x1: Any, x2: Any, target: Any, weights: Any, *, margin: float = 0.0) -> Any:
    cos = _expanded_cosine(o, x1, x2, EPS)
    return expanded_mean(o, o.where(o.greater(target, 0.0), 1.0 - cos, o.relu(cos - margin)), weights)


def _pair_cases(rng: Any, apart: float) -> Iterator[Case]:
    """Pairs of which ``target`` 1 marks those that belong together and ``apart`` the others."""
    x1, x2, t = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), np.asarray([1.0, apart, apart, 1.0])
    yield Case("pairs", x1=x1, x2=x2, target=t)
    yield Case("margin", x1=x1, x2=x2, target=t, margin=0.5)
    yield Case("batch of one", x1=x1[:1], x2=x2[:1], target=t[1:2])
    yield Case("weights", x1=x1, x2=x2, target=t, weights=np.asarray([0.5, 2.0, 0.0, 1.25]))
    nothing = {"loss": 0.0, "mass": 0.0, "dx1": 0.0, "dx2": 0.0}
    yield Case("all weights 0", x1=x1, x2=x2, target=t, weights=np.zeros(4), expect=nothing)


def embedding_cases(rng: Any) -> Iterator[Case]:
    yield from _pair_cases(rng, -1.0)
    known = {"loss": 0.0, "dx1": 0.0, "dx2": 0.0}
    pair = {"x1": np.asarray([[1.0, 0.0]]), "x2": np.asarray([[0.0, 2.0]])}
    yield Case("at the margin", **pair, target=np.asarray([-1.0]), on_kink=True, expect=known)


_N = "weights[n] / mass"
_ENTRY = "(1 - cos[n] if target[n] > 0 else max(cos[n] - margin, 0))"
_PUSH = "(-1 if target[n] > 0 else 1 if cos[n] > margin else 0)"

cosine_embedding = rule(
    "cosine_embedding",
    embedding_forward,
    embedding_backward,
    shapes=embedding_shapes,
    formulas=(
        f"loss = Sum(n, weights[n] * {_ENTRY}) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        _COS.replace("*n", "n"),
        *(part.replace("*n", "n").replace("eps", str(EPS)) for part in _PARTS),
        *(
            f"dx{i}[n,k] = dloss * {_N} * {_PUSH} * {_derivative(i, j, 'n', str(EPS))} if mass != 0 else 0"
            for i, j in ((1, 2), (2, 1))
        ),
    ),
    outputs=("loss", "mass", "cos", "norm1", "norm2"),
    constants=("target", "weights"),
    absent={"weights": 1.0},
    kinks=embedding_kinks,
    kink_note="∂L/∂cos = 0 where cos = margin",
    expand=embedding_expand,
    cases=embedding_cases,
    source="Bromley et al.: Signature verification using a siamese time delay neural network, NIPS 1993",
)


def contrastive_forward(
    xp: Namespace, x1: Array, x2: Array, target: Array, weights: Array | None = None, *, margin: float = 1.0
) -> tuple[Array, Array, Array]:
    t, distance = cast(xp, target, x1), _norm(xp, x1 - x2)
    near = _short_of(xp, distance, margin)
    entries = (t * distance * distance + (1.0 - t) * near * near) / 2.0
    return *weighted_mean(xp, entries, weights), distance


def _short_of(xp: Namespace, distance: Array, margin: float) -> Array:
    """How much the distance is short of the margin, 0 where it is not."""
    return xp.maximum(margin - distance, xp.zeros_like(distance))


def contrastive_backward(
    xp: Namespace,
    dloss: Array,
    *,
    x1: Array,
    x2: Array,
    target: Array,
    weights: Array | None,
    margin: float,
    mass: Array,
    distance: Array,
) -> tuple[Array, Array]:
    t, apart = cast(xp, target, x1), distance > 0
    push = xp.where(apart, _short_of(xp, distance, margin), xp.zeros_like(distance))
    factor = t - (1.0 - t) * push / xp.where(apart, distance, xp.ones_like(distance))
    dx1 = (share(xp, dloss, weights, mass, distance) * factor)[..., None] * (x1 - x2)
    return dx1, -dx1


def contrastive_shapes(
    x1: Shape, x2: Shape, target: Shape, weights: Shape | None = None, *, margin: float = 1.0
) -> tuple[Shape, ...]:
    check_option("contrastive", "margin", margin, "0 < margin < ∞", ok=0 < margin < inf)
    _check_pair("contrastive", x1, x2, target, weights)
    return (), (), x1[:1]


def contrastive_kinks(
    xp: Namespace, x1: Array, x2: Array, target: Array, weights: Array | None = None, *, margin: float = 1.0
) -> Array:
    distance = _norm(xp, x1 - x2)
    return order(xp, distance, margin) + order(xp, distance, 0.0)


def contrastive_expand(o: Any, x1: Any, x2: Any, target: Any, weights: Any, *, margin: float = 1.0) -> Any:
    distance = o.sqrt(o.sum(o.power(x1 - x2, 2.0), axis=-1))
    entries = (target * o.power(distance, 2.0) + (1.0 - target) * o.power(o.relu(margin - distance), 2.0)) / 2.0
    return expanded_mean(o, entries, weights)


def contrastive_cases(rng: Any) -> Iterator[Case]:
    yield from _pair_cases(rng, 0.0)
    near = rng.normal(size=(3, 2))
    yield Case("close pairs", x1=near, x2=near + 0.5 * rng.normal(size=(3, 2)), target=np.zeros(3), margin=2.0)
    same = np.asarray([[1.0, 2.0]])
    known = {"loss": 0.5, "dx1": 0.0, "dx2": 0.0}
    yield Case("no distance", x1=same, x2=same + 0.0, target=np.asarray([0.0]), on_kink=True, expect=known)


_NEAR, _FAR = "target[n] * distance[n]**2", "(1 - target[n]) * max(margin - distance[n], 0)**2"
_FACTOR = "(target[n] - ((1 - target[n]) * max(margin - distance[n], 0) / distance[n] if distance[n] > 0 else 0))"

contrastive = rule(
    "contrastive",
    contrastive_forward,
    contrastive_backward,
    shapes=contrastive_shapes,
    formulas=(
        f"loss = Sum(n, weights[n] * ({_NEAR} + {_FAR}) / 2) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        "distance[n] = sqrt(Sum(k, (x1[n,k] - x2[n,k])**2))",
        f"dx1[n,k] = dloss * {_N} * {_FACTOR} * (x1[n,k] - x2[n,k]) if mass != 0 else 0",
        f"dx2[n,k] = dloss * {_N} * {_FACTOR} * (x2[n,k] - x1[n,k]) if mass != 0 else 0",
    ),
    outputs=("loss", "mass", "distance"),
    constants=("target", "weights"),
    absent={"weights": 1.0},
    kinks=contrastive_kinks,
    kink_note="∂L/∂x = 0 where x1 = x2; at D = margin only the second derivative jumps",
    expand=contrastive_expand,
    cases=contrastive_cases,
    source="Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping, CVPR 2006",
)
