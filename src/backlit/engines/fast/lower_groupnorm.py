"""Group, instance and root-mean-square normalisation, written down."""

from __future__ import annotations

import math

from backlit.engines.fast.listing import CACHE_LINE, Lowering
from backlit.engines.fast.lower_norms import APART, eps_of, scale_and_shift
from backlit.engines.fast.lowering import lower
from backlit.graph.graph import Node


def groupnorm(low: Lowering, node: Node) -> None:
    """Each sample by itself: mean, variance, then y."""
    x, gamma, beta = map(low.value, node.operands)
    y, mean, var = map(low.value, node.outputs)
    images = _places(low, x)
    samples, _, channels = low.shape_of(images)
    low.emit("groupnorm", low.shape_of(mean)[1], images, gamma, beta, mean, var,
             low.scratch(node, "work", (samples, 2, channels)), _places(low, y), eps_of(node), extent=samples,
             node=node)  # fmt: skip


def groupnorm_back(low: Lowering, node: Node) -> None:
    """The sums of each sample and channel, dgamma and dbeta from them, then dx."""
    x, gamma, _ = map(low.value, node.operands)
    _, mean, var = map(low.value, node.outputs)
    images, d = _places(low, x), _places(low, low.grad(node.name))
    samples, _, channels = low.shape_of(images)
    sums, eps = low.scratch(node, "sums", (samples, 2, channels)), eps_of(node)
    low.emit("groupnorm_sums", d, images, mean, var, sums, eps, extent=samples, node=node)
    if samples and any(map(low.wants, node.operands[1:])):
        scale_and_shift(low, node, sums)
    if low.wants(node.operands[0]):
        work = low.scratch(node, "terms", (samples, 4, channels))
        low.share(node.operands[0], lambda into: low.emit(
            "groupnorm_grad", d, images, gamma, mean, var, sums, work, _places(low, into), eps, extent=samples,
            node=node))  # fmt: skip


def _places(low: Lowering, x: str) -> str:
    """Images as [N, places, C]."""
    samples, *places, channels = low.shape_of(x)
    return low.shaped(x, "places", (samples, math.prod(places), channels))


def rmsnorm(low: Lowering, node: Node) -> None:
    """Each row by itself."""
    x, gamma = map(low.value, node.operands)
    y, mean_square = map(low.value, node.outputs)
    rows = low.rows(x)
    low.emit("rmsnorm", rows, gamma, low.rows(y), low.flat(mean_square), eps_of(node), extent=low.shape_of(rows)[0],
             node=node)  # fmt: skip


def rmsnorm_back(low: Lowering, node: Node) -> None:
    """dgamma in chunks of rows; dx row by row."""
    x, gamma = map(low.value, node.operands)
    d, rows, size = low.rows(low.grad(node.name)), low.rows(x), low.flat(low.value(node.outputs[1]))
    channels = low.shape_of(rows)[1]
    if low.wants(node.operands[1]):
        sums = low.scratch(node, "sums", (low.chunks, channels + APART * CACHE_LINE))
        low.emit("rmsnorm_sums", d, rows, size, sums, eps_of(node), extent=low.chunks, node=node)
        low.share(node.operands[1], lambda into: low.emit("sum_chunks", sums, into, extent=channels, grain=CACHE_LINE,
                                                          node=node))  # fmt: skip
    if low.wants(node.operands[0]):
        low.share(node.operands[0], lambda into: low.emit(
            "rmsnorm_grad", d, rows, gamma, size, low.rows(into), eps_of(node), extent=low.shape_of(rows)[0],
            node=node))  # fmt: skip


lower("groupnorm", groupnorm, groupnorm_back)
lower("instancenorm", groupnorm, groupnorm_back)
lower("rmsnorm", rmsnorm, rmsnorm_back)
