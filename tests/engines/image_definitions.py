"""Convolution and pooling of images by their definitions: loops over indices, in float64."""

from __future__ import annotations

from itertools import product

import numpy as np


def windows(x, kernel, stride, padding, dilation):
    """(place (p, q) of a kernel, what it sees at every position [N, H', W', C]) with zeros around the image."""
    (top, bottom), (left, right) = padding
    wide = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    rows, columns = (
        (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(wide.shape[1:3], kernel, stride, dilation, strict=True)
    )
    for p, q in product(*map(range, kernel)):
        h, w = p * dilation[0] + np.arange(rows) * stride[0], q * dilation[1] + np.arange(columns) * stride[1]
        yield (p, q), (h, w), wide[:, h[:, None], w]


def convolved(x, W, b, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)):
    """z = x * W + b."""
    found = windows(x, W.shape[1:3], stride, padding, dilation)
    return sum(np.einsum("nijc,fc->nijf", seen, W[:, p, q]) for (p, q), _, seen in found) + b


def convolution_gradients(d, x, W, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)):
    """(dx, dW, db) of δ: every product of :func:`convolved` gives each of its factors the other one times δ."""
    (top, bottom), (left, right) = padding
    dx, dW = np.pad(np.zeros_like(x), ((0, 0), (top, bottom), (left, right), (0, 0))), np.zeros_like(W)
    for (p, q), (h, w), seen in windows(x, W.shape[1:3], stride, padding, dilation):
        dW[:, p, q] = np.einsum("nijf,nijc->fc", d, seen)
        np.add.at(dx, (slice(None), h[:, None], w), np.einsum("nijf,fc->nijc", d, W[:, p, q]))
    return dx[:, top : top + x.shape[1], left : left + x.shape[2]], dW, d.sum((0, 1, 2))
