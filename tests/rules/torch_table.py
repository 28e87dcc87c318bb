"""PyTorch's equivalent of each rule, and why a rule or a case has none. The functions take the torch module first."""

from __future__ import annotations

from typing import Any

from backlit.interop import images_torch


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)


def _reduction(name: str) -> Any:
    def reduce(t: Any, x: Any, *, axis: Any, keepdims: bool, **more: Any) -> Any:
        axes = _axes(x, axis)  # to PyTorch () means all axes
        return (
            getattr(t, name)(x, dim=axes, keepdim=keepdims, **more)
            if axes
            else getattr(t, name)(x[None], dim=0, **more)
        )

    return reduce


def _prod(t: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    for k in sorted((k % x.ndim for k in _axes(x, axis)), reverse=True):  # torch.prod takes one axis
        x = t.prod(x, dim=k, keepdim=keepdims)
    return x


def _weighted(losses: Any, weights: Any) -> Any:
    """Σ_n w_n mean(losses of n) / Σ_n w_n."""
    if weights is None:
        return losses.mean()
    each = losses.reshape(losses.shape[0], -1).mean(dim=1)
    return (each * weights).sum() / weights.sum()


def _pointwise_loss(name: str) -> Any:
    def loss(t: Any, pred: Any, target: Any, weights: Any, **options: Any) -> Any:
        return _weighted(getattr(t.nn.functional, name)(pred, target, reduction="none", **options), weights)

    return loss


def _bce(t: Any, logits: Any, targets: Any, weights: Any, pos_weight: Any) -> Any:
    f = t.nn.functional.binary_cross_entropy_with_logits
    return _weighted(f(logits, targets, reduction="none", pos_weight=pos_weight), weights)


def _per_distribution(losses: Any, weights: Any) -> tuple[Any, Any]:
    """Losses and weights of all distributions in a row; weights of samples count for all distributions of theirs."""
    if weights is None:
        return losses.reshape(-1), None
    spread = weights.reshape(*weights.shape, *(1,) * (losses.ndim - weights.ndim))
    return losses.reshape(-1), spread.expand(losses.shape).reshape(-1)


def _kl(t: Any, log_q: Any, p: Any, weights: Any) -> Any:
    each, w = _per_distribution(t.nn.functional.kl_div(log_q, p, reduction="none").sum(dim=-1), weights)
    return each.mean() if w is None else (each * w).sum() / w.sum()


def _cross_entropy(
    t: Any, logits: Any, labels: Any, weights: Any, class_weights: Any, *, label_smoothing: float, ignore: int | None
) -> Any:
    flat, y = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    options = {
        "weight": class_weights,
        "label_smoothing": label_smoothing,
        "ignore_index": -100 if ignore is None else ignore,
    }
    if weights is None:
        return t.nn.functional.cross_entropy(flat, y, **options)
    each = t.nn.functional.cross_entropy(flat, y, reduction="none", **options).reshape(labels.shape)
    each, w = _per_distribution(each, weights)
    counted = (y != ignore) * (1.0 if class_weights is None else class_weights[y.clamp(min=0)])
    return (each * w).sum() / (w * counted).sum()


def _soft_cross_entropy(
    t: Any, logits: Any, target: Any, weights: Any, class_weights: Any, *, label_smoothing: float
) -> Any:
    flat, y = (v.reshape(-1, v.shape[-1]) for v in (logits, target))
    f = t.nn.functional.cross_entropy
    each = f(flat, y, reduction="none", weight=class_weights, label_smoothing=label_smoothing).reshape(
        logits.shape[:-1]
    )
    each, w = _per_distribution(each, weights)
    return each.mean() if w is None else (each * w).sum() / w.sum()


def _focal(t: Any, logits: Any, targets: Any, weights: Any, *, gamma: float, alpha: float) -> Any:
    log_p, log_q = t.nn.functional.logsigmoid(logits), t.nn.functional.logsigmoid(-logits)
    yes, no = (1 - t.sigmoid(logits)) ** gamma * log_p, t.sigmoid(logits) ** gamma * log_q
    return _weighted(-alpha * targets * yes - (1 - alpha) * (1 - targets) * no, weights)


def _softmax_focal(
    t: Any, logits: Any, labels: Any, weights: Any, alpha: Any, *, gamma: float, ignore: int | None
) -> Any:
    y = labels.clamp(min=0)
    surprise = t.nn.functional.cross_entropy(logits.moveaxis(-1, 1), y, reduction="none")
    others = t.softmax(logits, dim=-1).scatter(-1, y[..., None], 0.0).sum(dim=-1)
    each, w = _per_distribution((1 if alpha is None else alpha[y]) * others**gamma * surprise, weights)
    s = (labels.reshape(-1) != ignore) * (t.ones_like(each) if w is None else w)
    return (s * each).sum() / s.sum()


def _dice(t: Any, logits: Any, targets: Any, weights: Any, *, smooth: float) -> Any:
    p, y = (v.reshape(len(logits), -1) for v in (t.sigmoid(logits), targets))
    return _weighted(1 - (2 * (p * y).sum(dim=1) + smooth) / (p.sum(dim=1) + y.sum(dim=1) + smooth), weights)


def _cosine_embedding(t: Any, x1: Any, x2: Any, target: Any, weights: Any, *, margin: float) -> Any:
    f = t.nn.functional.cosine_embedding_loss
    return _weighted(f(x1, x2, target, margin=margin, reduction="none"), weights)


def _contrastive(t: Any, x1: Any, x2: Any, target: Any, weights: Any, *, margin: float) -> Any:
    d = t.linalg.vector_norm(x1 - x2, dim=1)
    return _weighted((target * d**2 + (1 - target) * t.relu(margin - d) ** 2) / 2, weights)


def _negative_sampling(t: Any, positive: Any, negative: Any, weights: Any) -> Any:
    log = t.nn.functional.logsigmoid
    return _weighted(-log(positive) - log(-negative).sum(dim=1), weights)


def _weight_norm(t: Any, v: Any, g: Any) -> Any:
    return t._weight_norm(v, g.reshape(-1, *(1,) * (v.ndim - 1)), 0)


def _spectral_norm(t: Any, W: Any, u: Any, v: Any) -> Any:
    return W / t.vdot(u, t.mv(W.flatten(1), v.flatten()))


def _power_iteration(t: Any, W: Any, v: Any, *, eps: float) -> Any:
    return t.nn.functional.normalize(t.mv(W.flatten(1), v.flatten()), dim=0, eps=eps)


def _channels_last(t: Any, x: Any, *args: Any, **options: Any) -> Any:
    rows = x.reshape(-1, x.shape[-1])
    return t.nn.functional.batch_norm(rows, *args, **options).reshape(x.shape)


def _slice(t: Any, x: Any, *, index: Any) -> Any:
    return x[index]


def _take(t: Any, x: Any, indices: Any, *, axis: int) -> Any:
    rows = t.index_select(x, axis, indices.reshape(-1) % x.shape[axis])
    k = axis % x.ndim
    return rows.reshape(*x.shape[:k], *indices.shape, *x.shape[k + 1 :])


def _pad(t: Any, x: Any, *, widths: Any, value: float) -> Any:
    flat = [n for pair in reversed(widths) for n in pair]
    return t.nn.functional.pad(x, flat, value=value) if flat else x


def _logsumexp(t: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return t.logsumexp(x, dim=_axes(x, axis), keepdim=keepdims)


def _attention(t: Any, q: Any, k: Any, v: Any, mask: Any, *, heads: int, causal: bool) -> Any:
    Q, K, V = (a.unflatten(-1, (heads, -1)).transpose(1, 2) for a in (q, k, v))
    if mask is not None:
        mask = (mask if mask.ndim == 3 else mask[:, None])[:, None] != 0
        if causal:
            mask = mask & t.ones(q.shape[1], k.shape[1], dtype=t.bool).tril()
    causal = causal and mask is None
    return t.nn.functional.scaled_dot_product_attention(Q, K, V, mask, is_causal=causal).transpose(1, 2).flatten(2)


def _scan(name: str) -> Any:
    """PyTorch's recurrent layer on given input products: its input weights are the identity."""

    def run(t: Any, z: Any, U: Any, *given: Any, activation: str = "") -> Any:
        *states, mask = given
        bias = states.pop(0) if name == "gru" else None
        states = [t.zeros(len(z), U.shape[1], dtype=z.dtype) if s is None else s for s in states]
        biases = [] if bias is None else [t.zeros_like(U[:, 0]), t.cat([t.zeros_like(bias), t.zeros_like(bias), bias])]
        run_it = getattr(t._VF, f"rnn_{activation}" if activation else name)
        lengths = t.full((len(z),), z.shape[1]) if mask is None else mask.sum(dim=1).long()
        packed = t.nn.utils.rnn.pack_padded_sequence(z, lengths, batch_first=True, enforce_sorted=False)
        ordered = [s[packed.sorted_indices][None] for s in states]
        hx = ordered[0]
        weights = [t.eye(z.shape[2], dtype=z.dtype), U, *biases]
        out = run_it(packed.data, packed.batch_sizes, hx, weights, bool(biases), 1, 0.0, False, False)[0]
        made = t.nn.utils.rnn.PackedSequence(out, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return t.nn.utils.rnn.pad_packed_sequence(made, batch_first=True, total_length=z.shape[1])[0]

    return run


def _lstm(t: Any, z: Any, U: Any, h0: Any, c0: Any, mask: Any) -> Any:
    """PyTorch's LSTMCell step by step, for h and c of all steps."""
    start = [t.zeros(len(z), U.shape[1], dtype=z.dtype) if s is None else s for s in (h0, c0)]
    alive = t.ones(z.shape[:2], dtype=z.dtype) if mask is None else mask
    (h, c), made = start, []
    for k in range(z.shape[1]):
        if k:
            h, c = (t.where(alive[:, k - 1, None] != 0, s, first) for s, first in zip((h, c), start, strict=True))
        h, c = (s * alive[:, k, None] for s in t._VF.lstm_cell(z[:, k], (h, c), t.eye(z.shape[2], dtype=z.dtype), U))
        made.append((h, c))
    return tuple(t.stack(states, dim=1) for states in zip(*made, strict=True))


def _ctc(t: Any, logits: Any, labels: Any, inputs: Any, lengths: Any, weights: Any, *, blank: int) -> Any:
    inputs = t.full((len(logits),), logits.shape[1]) if inputs is None else inputs
    lengths = (labels != blank).long().cumprod(dim=1).sum(dim=1) if lengths is None else lengths
    log_p = t.log_softmax(logits, dim=-1).transpose(0, 1)
    each = t.nn.functional.ctc_loss(log_p, labels, inputs, lengths, blank=blank, reduction="none")
    return each.mean() if weights is None else (each * weights).sum() / weights.sum()


def _max_pairs(name: str) -> Any:
    return lambda t, a, b: getattr(t, name)(a, b)


TABLE: dict[str, Any] = {
    "linear": lambda t, x, W, b: t.nn.functional.linear(x, W, b),
    "matmul": lambda t, a, b: t.matmul(a, b),
    **{name: _max_pairs(name) for name in ("add", "sub", "mul", "div", "maximum", "minimum")},
    "power": lambda t, a, b: t.pow(a, b),
    **{
        name: (lambda t, x, name=name: getattr(t, name)(x))
        for name in ("neg", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "abs", "sigmoid", "tanh")
    },
    "greater": lambda t, a, b: t.gt(a, b),
    "greater_equal": lambda t, a, b: t.ge(a, b),
    "less": lambda t, a, b: t.lt(a, b),
    "less_equal": lambda t, a, b: t.le(a, b),
    "equal": lambda t, a, b: t.eq(a, b),
    "not_equal": lambda t, a, b: t.ne(a, b),
    "where": lambda t, condition, a, b: t.where(condition, a, b),
    "clip": lambda t, x, low, high: t.clip(x, low, high),
    "sum": _reduction("sum"),
    "prod": _prod,
    "mean": _reduction("mean"),
    "var": _reduction("var"),
    "std": _reduction("std"),
    "max": _reduction("amax"),
    "min": _reduction("amin"),
    "reshape": lambda t, x, shape: t.reshape(x, shape),
    "transpose": lambda t, x, axes: t.permute(x, axes),
    "broadcast_to": lambda t, x, shape: t.broadcast_to(x, shape),
    "concatenate": lambda t, *xs, axis: t.concatenate(xs, dim=axis),
    "stack": lambda t, *xs, axis: t.stack(xs, dim=axis),
    "slice": _slice,
    "take": _take,
    "pad": _pad,
    "relu": lambda t, x: t.relu(x),
    "leaky_relu": lambda t, x, slope: t.nn.functional.leaky_relu(x, slope),
    "elu": lambda t, x, alpha: t.nn.functional.elu(x, alpha),
    "selu": lambda t, x: t.selu(x),
    "softplus": lambda t, x: t.nn.functional.softplus(x),
    "gelu": lambda t, x: t.nn.functional.gelu(x),
    "gelu_tanh": lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
    "silu": lambda t, x: t.nn.functional.silu(x),
    "mish": lambda t, x: t.nn.functional.mish(x),
    "softmax": lambda t, x, axis: t.softmax(x, dim=axis),
    "log_softmax": lambda t, x, axis: t.log_softmax(x, dim=axis),
    "logsumexp": _logsumexp,
    "batchnorm": lambda t, x, gamma, beta, eps: _channels_last(t, x, None, None, gamma, beta, training=True, eps=eps),
    "batchnorm_inference": lambda t, x, g, b, mean, var, eps: _channels_last(t, x, mean, var, g, b, eps=eps),
    "running_average": lambda t, old, new, momentum, scale: t.lerp(old, scale * new, momentum),
    "layernorm": lambda t, x, gamma, beta, eps: t.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, eps),
    "rmsnorm": lambda t, x, gamma, eps: t.nn.functional.rms_norm(x, x.shape[-1:], gamma, eps),
    "embedding": lambda t, indices, E: t.nn.functional.embedding(indices, E),
    "attention": _attention,
    **{name: _scan(name) for name in ("rnn", "gru")},
    "lstm": _lstm,
    "stop_gradient": lambda t, x: x.detach(),
    "ctc": _ctc,
    **images_torch.EQUIVALENTS,
    "mse": _pointwise_loss("mse_loss"),
    "mae": _pointwise_loss("l1_loss"),
    "huber": _pointwise_loss("huber_loss"),
    "smooth_l1": _pointwise_loss("smooth_l1_loss"),
    "focal": _focal,
    "softmax_focal": _softmax_focal,
    "dice": _dice,
    "cosine_similarity": lambda t, x1, x2, eps: t.nn.functional.cosine_similarity(x1, x2, dim=-1, eps=eps),
    "cosine_embedding": _cosine_embedding,
    "contrastive": _contrastive,
    "negative_sampling": _negative_sampling,
    "weight_norm": _weight_norm,
    "spectral_norm": _spectral_norm,
    "power_iteration": _power_iteration,
    "binary_cross_entropy": _bce,
    "kl_divergence": _kl,
    "softmax_cross_entropy": _cross_entropy,
    "softmax_cross_entropy_soft": _soft_cross_entropy,
}

WITHOUT: dict[str, str] = {
    "dropout": "PyTorch draws the mask itself; the rule takes it as an input, and is a product",
}
"""Rules that PyTorch does not have, each with the reason."""

_NOTHING = "PyTorch divides 0 by 0 where nothing counts; here the loss and its gradient are 0"
OTHERWISE: dict[tuple[str, str], str] = {
    **{(name, "all weights 0"): _NOTHING for name in ("mse", "mae", "huber", "binary_cross_entropy", "kl_divergence")},
    **{(name, "all weights 0"): _NOTHING for name in ("smooth_l1", "focal", "dice", "negative_sampling")},
    **{(name, "all weights 0"): _NOTHING for name in ("cosine_embedding", "contrastive", "ctc")},
    ("softmax_cross_entropy", "all ignored"): _NOTHING,
    ("softmax_focal", "all ignored"): _NOTHING,
    ("softmax_cross_entropy_soft", "all weights 0"): _NOTHING,
    (
        "power",
        "whole powers of what is not positive",
    ): "the gradient by the exponent is NaN in PyTorch for a negative base",
    ("batchnorm", "batch of one"): "PyTorch refuses to normalise over one value",
    ("attention", "no queries"): "PyTorch's kernel is undefined for no queries",
    ("cosine_similarity", "short vectors"): "PyTorch lets the gradient through a norm that it has replaced by eps",
    ("cosine_embedding", "at the margin"): "PyTorch has the slope 1 there",
    ("slice", "backwards"): "PyTorch has no negative steps",
    **{
        (name, f"{prefix}{label}"): "PyTorch's sequences begin at the first step and have no gaps"
        for name, prefix in (("rnn", ""), ("rnn", "relu, "), ("gru", ""))
        for label in ("padded in front, initial state", "two sequences in a row")
    },
}
"""Cases (rule, label) where PyTorch defines something else, each with the reason."""
