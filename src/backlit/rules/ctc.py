"""ctc: connectionist temporal classification, the loss of a label sequence whose place in time is not known.

Shapes: logits[N, T, C]; labels[N, S], classes without the blank; input_lengths[N] and label_lengths[N] or absent;
weights[N] or absent. They give loss[], mass[], the probabilities p[N, T, C], surprise[N] = -ln P and, in the log
domain, said, alpha and beta[N, T, 2S+1]. Where input_lengths are absent all T frames count; where label_lengths are
absent a label ends at its first blank, so labels may be padded with the blank.

An alignment says at every frame a class or the blank; repetitions, then blanks, are dropped to read the label. The
states s of a label of length L are blank, l₁, blank, l₂, …, blank: 2L + 1 of them. said is ln p of the state's class,
alpha[t, s] the log of the sum of all ways to be in s at t, beta[t, s] of all ways to go on from there to the end::

    P = Σ over alignments of Π_t p[t, class] = Σ_s exp(alpha + beta) at any t
    L = Σ_n w_n (-ln P_n) / m,  m = Σ_n w_n
    ∂L/∂logits = w_n / m (p - share of P that is in a state of that class at t)

PyTorch's ``F.ctc_loss`` takes log_softmax(logits) as [T, N, C]; L is its ``reduction="sum"`` divided by N (its "mean"
also divides each sequence by the length of its label). A frame after its input's length counts as a sure blank, which
changes no label. A label that needs more frames than there are, one for each class and one between equal neighbours,
has P = 0 and is refused where data come in.

InputError: shapes that do not fit, a blank that is no class, a label of an impossible class or length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.types import Array, Namespace, Shape
from backlit.rules._arrays import as_number, listed
from backlit.rules._losses import check_axes, check_option, check_weights, expanded_mean, share, weighted_mean
from backlit.rules.base import Case, rule
from backlit.rules.softmax import log_softmax_forward, softmax_forward

NEVER = -1e30
"""The log of 0, finite: sums of it with anything stay what they mean."""


def forward(  # noqa: PLR0917 -- the operation has five inputs
    xp: Namespace,
    logits: Array,
    labels: Array,
    input_lengths: Array | None = None,
    label_lengths: Array | None = None,
    weights: Array | None = None,
    *,
    blank: int = 0,
) -> tuple[Array, ...]:
    classes = _state_classes(xp, labels, blank)
    said = _said(xp, logits, classes, input_lengths, blank)
    last = 2 * _label_lengths(xp, labels, label_lengths, blank)
    jumps = _jumps(xp, classes, blank, logits)
    alpha, beta = _alpha(xp, said, jumps), _beta(xp, said, jumps, last)
    surprise = -_logsum(xp, alpha[:, -1, :] + beta[:, -1, :])
    return (*weighted_mean(xp, surprise, weights), softmax_forward(xp, logits), surprise, said, alpha, beta)


def backward(
    xp: Namespace,
    dloss: Array,
    *,
    p: Array,
    labels: Array,
    input_lengths: Array | None,
    weights: Array | None,
    blank: int,
    mass: Array,
    surprise: Array,
    alpha: Array,
    beta: Array,
) -> Array:
    occupied = xp.exp(alpha + beta + surprise[:, None, None])
    delta = p - xp.matmul(occupied, _one_hot(xp, _state_classes(xp, labels, blank), p))
    part = share(xp, dloss, weights, mass, p)
    return part * (delta if input_lengths is None else delta * _heard(xp, p, input_lengths)[:, :, None])


# --- the states of a label --------------------------------------------------------------------------------------------


def _state_classes(xp: Namespace, labels: Array, blank: int) -> Array:
    """The class of every state: blank, l₁, blank, l₂, …, blank [N, 2S+1]."""
    blanks = xp.full_like(labels, blank)
    pairs = xp.reshape(xp.stack([blanks, labels], axis=2), (labels.shape[0], 2 * labels.shape[1]))
    return xp.concat([pairs, blanks[:, :1]], axis=1)


def _label_lengths(xp: Namespace, labels: Array, label_lengths: Array | None, blank: int) -> Array:
    """How many classes each label has: up to the first blank unless given."""
    if label_lengths is not None:
        return label_lengths
    places = xp.arange(labels.shape[1], dtype=labels.dtype)
    return xp.min(xp.where(labels == blank, places, xp.full_like(labels, labels.shape[1])), axis=1)


def _jumps(xp: Namespace, classes: Array, blank: int, like: Array) -> Array:
    """0 where a state may follow the one two before it, skipping a blank between different classes; else NEVER."""
    earlier = xp.concat([xp.full_like(classes[:, :2], blank), classes[:, :-2]], axis=1)
    allowed = xp.logical_and(classes != blank, classes != earlier)
    return NEVER * as_number(xp, xp.logical_not(allowed), xp.zeros(classes.shape, dtype=like.dtype))


def _one_hot(xp: Namespace, classes: Array, like: Array) -> Array:
    numbers = xp.arange(like.shape[-1], dtype=classes.dtype)
    chosen = classes[:, :, None] == numbers
    return xp.where(chosen, xp.ones(chosen.shape, dtype=like.dtype), xp.zeros(chosen.shape, dtype=like.dtype))


def _heard(xp: Namespace, logits: Array, input_lengths: Array) -> Array:
    """1 for frames within their input, 0 after it: [N, T]."""
    within = xp.arange(logits.shape[1], dtype=input_lengths.dtype) < input_lengths[:, None]
    return xp.where(within, xp.ones(within.shape, dtype=logits.dtype), xp.zeros(within.shape, dtype=logits.dtype))


def _said(xp: Namespace, logits: Array, classes: Array, input_lengths: Array | None, blank: int) -> Array:
    """The log probability of every state's class at every frame: [N, T, 2S+1]; a sure blank after the input's end."""
    states = xp.matrix_transpose(_one_hot(xp, classes, logits))
    found = xp.matmul(log_softmax_forward(xp, logits), states)
    if input_lengths is None:
        return found
    silence = xp.where(classes == blank, xp.zeros_like(found[:, 0, :]), xp.full_like(found[:, 0, :], NEVER))
    return xp.where(_heard(xp, logits, input_lengths)[:, :, None] > 0, found, silence[:, None, :])


# --- sums over alignments ---------------------------------------------------------------------------------------------


def _alpha(xp: Namespace, said: Array, jumps: Array) -> Array:
    state = said[:, 0, :] + _allowed(xp, said, xp.arange(said.shape[2]) <= 1)
    found = [state]
    for t in range(1, said.shape[1]):
        ways = [state, _shifted(xp, state, 1), _shifted(xp, state, 2) + jumps]
        state = said[:, t, :] + _logsum(xp, xp.stack(ways, axis=-1))
        found.append(state)
    return xp.stack(found, axis=1)


def _beta(xp: Namespace, said: Array, jumps: Array, last: Array) -> Array:
    places = xp.arange(said.shape[2], dtype=last.dtype)
    behind = last[:, None] - places
    state = _allowed(xp, said, xp.logical_and(behind >= 0, behind <= 1))
    found = [state]
    for t in range(said.shape[1] - 1, 0, -1):
        entered = said[:, t, :] + state
        ways = [entered, _shifted(xp, entered, -1), _shifted(xp, entered + jumps, -2)]
        state = _logsum(xp, xp.stack(ways, axis=-1))
        found.append(state)
    return xp.stack(found[::-1], axis=1)


def _allowed(xp: Namespace, said: Array, condition: Array) -> Array:
    """The log of 1 where the condition holds, else of 0: [N, 2S+1]."""
    like = said[:, 0, :]
    return xp.where(condition, xp.zeros_like(like), xp.full_like(like, NEVER))


def _shifted(xp: Namespace, a: Array, by: int) -> Array:
    """``a[N, 2S+1]`` moved along its states; what comes in is NEVER."""
    if a.shape[1] <= abs(by):
        return xp.full_like(a, NEVER)
    new = xp.full_like(a[:, : abs(by)], NEVER)
    return xp.concat([new, a[:, :-by]] if by > 0 else [a[:, -by:], new], axis=1)


def _logsum(xp: Namespace, a: Array) -> Array:
    """The log of the sum of exp(a) over the last axis."""
    most = xp.max(a, axis=-1, keepdims=True)
    return most[..., 0] + xp.log(xp.sum(xp.exp(a - most), axis=-1))


# --- what is taken and refused ----------------------------------------------------------------------------------------


def shapes(
    logits: Shape,
    labels: Shape,
    input_lengths: Shape | None = None,
    label_lengths: Shape | None = None,
    weights: Shape | None = None,
    *,
    blank: int = 0,
) -> tuple[Shape, ...]:
    check_axes("ctc", 3, "logits[N ≥ 1, T ≥ 1, C ≥ 2]", logits=logits)
    n = logits[0]
    if len(logits) != 3 or len(labels) != 2 or labels[0] != n or labels[1] == 0:
        expected = f"logits[N, T, C], labels[{n}, S ≥ 1]"
        raise InputError("shape_clash", rule="ctc", expected=expected, got=listed(logits=logits, labels=labels))
    for name, shape in (("input_lengths", input_lengths), ("label_lengths", label_lengths)):
        if shape not in (None, (n,)):
            raise InputError("shape_clash", rule="ctc", expected=f"{name}[{n}]", got=f"{name}{[*shape]}")
    check_weights("ctc", "logits", (n,), weights=weights)
    check_option("ctc", "blank", blank, f"0 ≤ blank < {logits[2]}", ok=0 <= blank < logits[2])
    states = (n, logits[1], 2 * labels[1] + 1)
    return (), (), logits, (n,), states, states, states


def requires(
    logits: Any,
    labels: Array,
    input_lengths: Array | None = None,
    label_lengths: Array | None = None,
    weights: Any = None,
    *,
    blank: int = 0,
) -> None:
    _, frames, classes = logits.shape
    lengths = np.asarray(_label_lengths(np, labels, label_lengths, blank))
    inputs = np.full(len(labels), frames) if input_lengths is None else np.asarray(input_lengths)
    for n, (label, length, heard) in enumerate(zip(np.asarray(labels), lengths, inputs, strict=True)):
        if not (0 <= length <= len(label) and 1 <= heard <= frames):
            expected = f"0 ≤ label_lengths ≤ {len(label)}, 1 ≤ input_lengths ≤ {frames}"
            raise InputError("ctc_length", row=n, expected=expected, got=f"{int(length)}, {int(heard)}")
        _require_label(label[: int(length)], n, int(heard), classes, blank)


def _require_label(label: Array, n: int, frames: int, classes: int, blank: int) -> None:
    if ((label < 0) | (label >= classes) | (label == blank)).any():
        expected = f"0 … {classes - 1}, ≠ {blank}"
        raise InputError("ctc_class", row=n, blank=blank, expected=expected, got=f"labels[{n}] = {label.tolist()}")
    repeats = int(np.sum(label[1:] == label[:-1]))
    if len(label) + repeats > frames:
        expected = f"T ≥ {len(label)} + {repeats} = {len(label) + repeats}"
        raise InputError("ctc_too_long", row=n, repeats=repeats, expected=expected, got=f"T = {frames}")


def cases(rng: Any) -> Iterator[Case]:
    def logits(*shape: int) -> Any:
        return rng.normal(size=shape)

    yield Case("two sequences", logits=logits(2, 4, 3), labels=np.asarray([[1, 2], [2, 1]]))
    yield Case("a repeated class needs a blank", logits=logits(1, 4, 3), labels=np.asarray([[1, 1]]))
    yield Case("only one alignment", logits=logits(1, 3, 2), labels=np.asarray([[1, 1]]))
    yield Case("padded labels, one empty", logits=logits(3, 3, 3), labels=np.asarray([[1, 2], [2, 0], [0, 0]]))
    given: dict[str, Any] = {"input_lengths": np.asarray([4, 2]), "label_lengths": np.asarray([2, 1])}
    yield Case("lengths", logits=logits(2, 4, 3), labels=np.asarray([[2, 1], [1, 1]]), **given)
    w = np.asarray([0.5, 2.0])
    yield Case("weights", logits=logits(2, 3, 3), labels=np.asarray([[2], [1]]), weights=w)
    yield Case("another blank", logits=logits(1, 3, 3), labels=np.asarray([[0, 1]]), blank=2)
    yield Case("one frame", logits=logits(1, 1, 2), labels=np.asarray([[1]]))
    nothing = {"loss": 0.0, "mass": 0.0, "dlogits": 0.0}
    yield Case("all weights 0", logits=logits(1, 2, 2), labels=np.asarray([[1]]), weights=np.zeros(1), expect=nothing)


# --- in smaller rules -------------------------------------------------------------------------------------------------


def expand(  # noqa: PLR0917 -- as forward
    o: Any, logits: Any, labels: Any, input_lengths: Any, label_lengths: Any, weights: Any, *, blank: int = 0
) -> Any:
    """The forward recursion alone: P is the sum of the ways that end in the last blank or the last class."""
    states = _states(o, labels, logits.shape[2], blank)
    silent = states[:, :, blank]
    said = o.log_softmax(logits, axis=-1) @ o.transpose(states, axes=(0, 2, 1))
    if input_lengths is not None:
        heard = o.less(np.arange(logits.shape[1])[None, :, None], o.reshape(input_lengths, shape=(-1, 1, 1)))
        said = o.where(heard, said, o.reshape(NEVER * (1.0 - silent), shape=(len(labels), 1, -1)))
    jumps = _jumps_of(o, states, silent)
    state = said[:, 0] + NEVER * (np.arange(silent.shape[1]) > 1)
    for t in range(1, logits.shape[1]):
        ways = o.stack(state, _later(o, state, 1), _later(o, state, 2) + jumps, axis=-1)
        state = said[:, t] + o.logsumexp(ways, axis=-1)
    surprise = -o.logsumexp(state + _ends(o, labels, label_lengths, blank), axis=-1)
    return expanded_mean(o, surprise, weights)


def _states(o: Any, labels: Any, classes: int, blank: int) -> Any:
    """1 for the class of every state, else 0: [N, 2S+1, C]."""
    n, s = labels.shape
    one_hot = o.where(o.equal(o.reshape(labels, shape=(n, s, 1)), np.arange(classes)), 1.0, 0.0)
    blanks = o.broadcast_to(np.arange(classes) == blank, shape=(n, s, classes))
    pairs = o.reshape(o.stack(blanks, one_hot, axis=2), shape=(n, 2 * s, classes))
    return o.concatenate(pairs, blanks[:, :1], axis=1)


def _jumps_of(o: Any, states: Any, silent: Any) -> Any:
    """As _jumps; the first two states have none before them."""
    same = o.sum(states[:, 2:] * states[:, :-2], axis=-1)
    return o.pad(NEVER * (1.0 - (1.0 - silent[:, 2:]) * (1.0 - same)), widths=((0, 0), (2, 0)), value=NEVER)


def _later(o: Any, state: Any, by: int) -> Any:
    return o.pad(state[:, :-by], widths=((0, 0), (by, 0)), value=NEVER)


def _ends(o: Any, labels: Any, label_lengths: Any, blank: int) -> Any:
    """0 for the last blank and the last class of every label, else NEVER."""
    n, s = labels.shape
    if label_lengths is None:
        label_lengths = o.min(o.where(o.equal(labels, blank), np.arange(s), s), axis=1)
    behind = 2.0 * o.reshape(label_lengths, shape=(n, 1)) - np.arange(2 * s + 1)
    return o.where(o.equal(behind * (behind - 1.0), 0.0), 0.0, NEVER)


# --- formulas ---------------------------------------------------------------------------------------------------------


def _class(s: str) -> str:
    return f"(labels[n,({s}-1)/2] if {s} - 2 * floor(({s}) / 2) == 1 else blank)"


def _move(s: str, by: str) -> str:
    apart = f"{_class(s)} != blank and {_class(s)} != {_class(f'({s}-2)')}"
    return f"(0 if {by} < 2 or ({apart}) else {NEVER})"


def _log_sum(term: str, over: str) -> str:
    """The log of Σ exp(term), its largest term taken out; ``{r}`` is the index."""
    first, second = (term.format(r=r) for r in ("r", "q"))
    most = f"Max({over.format(r='q')}, {second})"
    return f"({most} + log(Sum({over.format(r='r')}, exp({first} - {most}))))"


_CAME = _log_sum(f"(alpha[n,t-1,s-{{r}}] + {_move('s', '{r}')})", "{r} < 3")
_GOES = _log_sum(f"(beta[n,t+1,s+{{r}}] + said[n,t+1,s+{{r}}] + {_move('(s+{r})', '{r}')})", "{r} < 3")
_HEARD = "(input_lengths[n] < 0 or t < input_lengths[n])"
_COUNTED = "Sum(a < Count(b), Prod(b, labels[n,b] != blank if b <= a else 1))"
_LENGTH = f"(label_lengths[n] if label_lengths[n] >= 0 else {_COUNTED})"
_STARTS, _ENDS = f"0 if s <= 1 else {NEVER}", f"0 if s == 2 * {_LENGTH} or s == 2 * {_LENGTH} - 1 else {NEVER}"
_OCCUPIED = f"Sum(s, ({_class('s')} == c) * exp(alpha[n,t,s] + beta[n,t,s] + surprise[n]))"

ctc = rule(
    "ctc",
    forward,
    backward,
    shapes=shapes,
    formulas=(
        "loss = Sum(n, weights[n] * surprise[n]) / mass if mass != 0 else 0",
        "mass = Sum(n, weights[n])",
        f"surprise[n] = -{_log_sum('(alpha[n,Count(t)-1,{r}] + beta[n,Count(t)-1,{r}])', '{r}')}",
        "p[n,t,c] = exp(logits[n,t,c] - Max(i, logits[n,t,i])) / Sum(j, exp(logits[n,t,j] - Max(i, logits[n,t,i])))",
        f"said[n,t,s] = log(p[n,t,{_class('s')}]) if {_HEARD} else 0 if {_class('s')} == blank else {NEVER}",
        f"alpha[n,t,s] = said[n,t,s] + ({_CAME} if t > 0 else {_STARTS})",
        f"beta[n,t,s] = {_GOES} if t < Count(t) - 1 else {_ENDS}",
        f"dlogits[n,t,c] = dloss * weights[n] / mass * {_HEARD} * (p[n,t,c] - {_OCCUPIED}) if mass != 0 else 0",
    ),
    outputs=("loss", "mass", "p", "surprise", "said", "alpha", "beta"),
    constants=("labels", "input_lengths", "label_lengths", "weights"),
    absent={"input_lengths": -1.0, "label_lengths": -1.0, "weights": 1.0},
    requires=requires,
    expand=expand,
    cases=cases,
    source="Graves, Fernández, Gomez, Schmidhuber: Connectionist temporal classification, ICML 2006",
)
