"""Kernels of losses with weights: shares[n] = w_n/Σ w of each row, its loss, and δ of the loss in the same pass.

Every row is a sample's entries, or a position's classes; losses[n] is the row's own, not yet shared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backlit.engines.fast.jit import inlined, kernel, ordered, span
from backlit.engines.fast.kernels_loss import highest
from backlit.engines.fast.kernels_norms import total
from backlit.engines.fast.vector_gates import sigmoid, softplus
from backlit.engines.fast.vector_math import exp, log

Array = Any


# --- what a row counts ------------------------------------------------------------------------------------------------


@kernel
def shares_of(lo: int, hi: int, weights: Array, shares: Array, mass: Array) -> None:
    """mass = Σ weights, each of which stands for a row or for several in turn; shares[n] = w_n/mass, 0 of no mass."""
    times, whole = shares.size // weights.size, 0.0
    for n in range(weights.size):
        whole += np.float64(weights[n]) * times
    mass[0] = whole
    for n in range(shares.size):
        shares[n] = weights[n // times] / whole if whole > 0.0 else 0.0


@kernel
def shares_of_labels(
    lo: int, hi: int, labels: Array, weights: Array, classes: Array, ignore: int, ignoring: int, shares: Array,
    mass: Array,
) -> None:  # fmt: skip
    """mass = Σ s_n w_label, s_n the position's weight, 0 where the label is ignored; shares[n] = s_n/mass."""
    times, whole = labels.size // weights.size, 0.0
    for n in range(labels.size):
        if not (ignoring and labels[n] == ignore):
            whole += np.float64(weights[n // times]) * np.float64(classes[labels[n]])
    mass[0] = whole
    for n in range(labels.size):
        off = whole == 0.0 or (ignoring and labels[n] == ignore)
        shares[n] = 0.0 if off else weights[n // times] / whole


@kernel
def weighted_loss(lo: int, hi: int, losses: Array, shares: Array, loss: Array) -> None:
    """loss = Σ shares ⊙ losses."""
    whole = 0.0
    for n in range(losses.size):
        if shares[n] != 0:
            whole += np.float64(shares[n]) * np.float64(losses[n])
    loss[0] = whole


@kernel
def times_number(lo: int, hi: int, x: Array, number: Array, y: Array) -> None:
    """y = number x."""
    factor = number[0]
    for i in span(lo, hi):
        y[i] = factor * x[i]


# --- regression: rows of errors, their loss the mean over the row -----------------------------------------------------


@kernel
def squared_errors(lo: int, hi: int, pred: Array, target: Array, shares: Array, d: Array, losses: Array) -> None:
    """losses[n] = mean e², δ = shares 2 e/K, e = pred - target."""
    one = pred.dtype.type(1.0 / pred.shape[1])
    for n in span(lo, hi):
        share, whole = shares[n] * one, pred.dtype.type(0)
        for k in range(pred.shape[1]):
            e = pred[n, k] - pred.dtype.type(target[n, k])
            whole += e * e
            d[n, k] = share * (e + e)
        losses[n] = whole * one


@kernel
def absolute_errors(lo: int, hi: int, pred: Array, target: Array, shares: Array, d: Array, losses: Array) -> None:
    """losses[n] = mean |e|, δ = shares sign(e)/K, e = pred - target."""
    one, zero = pred.dtype.type(1.0 / pred.shape[1]), pred.dtype.type(0)
    for n in span(lo, hi):
        share, whole = shares[n] * one, zero
        for k in range(pred.shape[1]):
            e = pred[n, k] - pred.dtype.type(target[n, k])
            whole += abs(e)
            d[n, k] = share if e > zero else -share if e < zero else e * zero
        losses[n] = whole * one


@kernel
def huber_errors(
    lo: int, hi: int, pred: Array, target: Array, shares: Array, d: Array, losses: Array, delta: float, scale: float
) -> None:
    """losses[n] = scale mean f(e), f = e²/2 up to delta and delta (|e| - delta/2) beyond, e = pred - target."""
    one, most, half = pred.dtype.type(scale / pred.shape[1]), pred.dtype.type(delta), pred.dtype.type(0.5)
    for n in span(lo, hi):
        share, whole = shares[n] * one, pred.dtype.type(0)
        for k in range(pred.shape[1]):
            e = pred[n, k] - pred.dtype.type(target[n, k])
            size = abs(e)
            near = most if size > most else size
            whole += near * (size - half * near)
            cut = most if e > most else e
            d[n, k] = share * (-most if cut < -most else cut)
        losses[n] = whole * one


@kernel
def distances(
    lo: int, hi: int, log_q: Array, p: Array, shares: Array, d: Array, losses: Array, share_of_place: float
) -> None:
    """losses[n] = Σ p (ln p - ln q)/T, δ = -shares p/T, over a row's T distributions; 0 ln 0 = 0."""
    one, zero, whole = log_q.dtype.type(share_of_place), log_q.dtype.type(0), log_q.dtype.type(1)
    for n in span(lo, hi):
        share, sum_ = shares[n] * one, zero
        for k in range(log_q.shape[1]):
            t = log_q.dtype.type(p[n, k])
            sum_ += t * (log(t if t > zero else whole) - log_q[n, k]) if t > zero else zero
            d[n, k] = -share * t
        losses[n] = sum_ * one


# --- yes or no, from logits -------------------------------------------------------------------------------------------


@kernel
def yes_or_no(
    lo: int, hi: int, z: Array, target: Array, positive: Array, shares: Array, d: Array, losses: Array
) -> None:
    """losses[n] = mean(q t softplus(-z) + (1 - t) softplus(z)), δ its slope; q[k] in turn along the row."""
    width = z.shape[1]
    one, unit = z.dtype.type(1.0 / width), z.dtype.type(1)
    for n in span(lo, hi):
        share, whole, row = shares[n] * one, z.dtype.type(0), d[n]
        for first in range(0, width, positive.size):
            for i in range(positive.size):
                k = first + i
                t, s = z.dtype.type(target[n, k]), z[n, k]
                yes, no = z.dtype.type(positive[i]) * t, unit - t
                whole += yes * softplus(-s) + no * softplus(s)
                row[k] = share * (no * sigmoid(s) - yes * sigmoid(-s))
        losses[n] = whole * one


@kernel
def focal_errors(
    lo: int, hi: int, z: Array, target: Array, shares: Array, d: Array, losses: Array, gamma: float, alpha: float
) -> None:
    """losses[n] = mean(α t (1 - p)^γ (-ln p) + (1 - α)(1 - t) p^γ (-ln(1 - p))), p = σ(z), and δ its slope."""
    one, unit, power = z.dtype.type(1.0 / z.shape[1]), z.dtype.type(1), z.dtype.type(gamma)
    some, rest = z.dtype.type(alpha), z.dtype.type(1.0 - alpha)
    for n in span(lo, hi):
        share, whole = shares[n] * one, z.dtype.type(0)
        for k in range(z.shape[1]):
            t, s = z.dtype.type(target[n, k]), z[n, k]
            miss, hit, p, q = softplus(-s), softplus(s), sigmoid(s), sigmoid(-s)
            yes, no = some * t * exp(-power * hit), rest * (unit - t) * exp(-power * miss)
            whole += yes * miss + no * hit
            d[n, k] = share * (no * (power * q * hit + p) - yes * (power * p * miss + q))
        losses[n] = whole * one


@kernel
def dice_errors(
    lo: int, hi: int, z: Array, target: Array, shares: Array, d: Array, losses: Array, dice: Array, whole: Array,
    smooth: float,
) -> None:  # fmt: skip
    """dice = (2 Σ p t + s)/(Σ p + Σ t + s), losses[n] = 1 - dice, δ = shares (dice - 2 t)/total p (1 - p), p = σ(z)."""
    two, more = z.dtype.type(2), z.dtype.type(smooth)
    for n in span(lo, hi):
        both, size = z.dtype.type(0), z.dtype.type(0)
        for k in range(z.shape[1]):
            t, p = z.dtype.type(target[n, k]), sigmoid(z[n, k])
            both += p * t
            size += p + t
        size += more
        found = (two * both + more) / size
        dice[n], whole[n], losses[n] = found, size, z.dtype.type(1) - found
        share = shares[n] / size
        for k in range(z.shape[1]):
            slope = found - two * z.dtype.type(target[n, k])
            d[n, k] = share * slope * sigmoid(z[n, k]) * sigmoid(-z[n, k])


# --- one class of many, from logits -----------------------------------------------------------------------------------


@inlined
def softmax_into(z: Array, p: Array) -> tuple[Any, Any]:
    """p = softmax(z); gives the largest entry and ln Σ e^(z - largest), exact also next to a far larger entry."""
    top, others = highest(z), -1.0
    for c in range(z.size):
        p[c] = exp(z[c] - top)
    for c in range(z.size):
        others += np.float64(p[c])
    share = z.dtype.type(1) / total(p)
    for c in span(0, z.size):
        p[c] *= share
    return top, z.dtype.type(math.log1p(others))


@ordered
def weighted_softmax(
    lo: int, hi: int, z: Array, labels: Array, classes: Array, shares: Array, d: Array, losses: Array, p: Array,
    smoothing: float,
) -> None:  # fmt: skip
    """losses[n] = -Σ_c m ln p and δ = shares (p Σ m - m) for m = w ⊙ ((1 - smoothing) onehot + smoothing/C)."""
    width, sure = z.shape[1], z.dtype.type(1.0 - smoothing)
    even, zero = z.dtype.type(smoothing / width), z.dtype.type(0)
    for n in span(lo, hi):
        top, rest = softmax_into(z[n], p[n])
        share, loss, marks = shares[n], zero, zero
        for c in range(width):
            own = even + sure if share != 0 and labels[n] == c else even
            mark = z.dtype.type(classes[c]) * own
            marks += mark
            d[n, c] = mark
            if mark != zero:
                loss += mark * (rest - (z[n, c] - top))
        for c in range(width):
            d[n, c] = share * (p[n, c] * marks - d[n, c])
        losses[n] = loss


@ordered
def weighted_softmax_soft(
    lo: int, hi: int, z: Array, target: Array, classes: Array, shares: Array, d: Array, losses: Array, p: Array,
    smoothing: float,
) -> None:  # fmt: skip
    """The same for a target of probabilities: marks = w ⊙ ((1 - smoothing) target + smoothing/C)."""
    width, sure = z.shape[1], z.dtype.type(1.0 - smoothing)
    even, zero = z.dtype.type(smoothing / width), z.dtype.type(0)
    for n in span(lo, hi):
        top, rest = softmax_into(z[n], p[n])
        share, loss, marks = shares[n], zero, zero
        for c in range(width):
            mark = z.dtype.type(classes[c]) * (sure * z.dtype.type(target[n, c]) + even)
            marks += mark
            d[n, c] = mark
            if mark != zero:
                loss += mark * (rest - (z[n, c] - top))
        for c in range(width):
            d[n, c] = share * (p[n, c] * marks - d[n, c])
        losses[n] = loss
