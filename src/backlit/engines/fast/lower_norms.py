"""Normalisations, written down."""

from __future__ import annotations

from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lowering import FUSED, lower, nothing
from backlit.graph.graph import Node

APART = 4
"""Rows between the sums of two threads, so that neither waits for what the other writes next to its own."""


def batchnorm(low: Lowering, node: Node) -> None:
    """Moments in chunks of rows, then y; a relu that follows alone is done by the same kernel, in place."""
    x, gamma, beta = map(low.value, node.operands)
    y, mean, var = map(low.value, node.outputs)
    rows, out = low.rows(x), low.rows(y)
    count, channels = low.shape_of(rows)
    sums = low.scratch(node, "moments", (low.chunks, 4 + APART, channels))
    low.emit("moments", rows, sums, extent=low.chunks, node=node)
    low.emit("merge_moments", sums, count, mean, var, extent=channels, grain=CACHE_LINE, node=node)
    relu = _relu_behind(low, node, y)
    low.emit(
        "batchnorm", len(relu), rows, gamma, beta, mean, var, out, eps_of(node), extent=count, node=node, also=relu
    )


def _relu_behind(low: Lowering, node: Node, y: str) -> tuple[str, ...]:
    """The name of a relu that follows alone, which is then done, in place of y."""
    after = low.follower(node)
    if after is None or after.rule != "relu":
        return ()
    low.done |= {after.name, f"d {after.name}"}
    low.same(identifier(after.name), y, low.shape_of(y))
    return (after.name,)


def batchnorm_of_prediction(low: Lowering, node: Node) -> None:
    """y by the running moments; a relu that follows alone is done by the same kernel."""
    x, gamma, beta, mean, var = map(low.value, node.operands)
    y = low.value(node.name)
    rows, out, relu = low.rows(x), low.rows(y), _relu_behind(low, node, y)
    low.emit("batchnorm", len(relu), rows, gamma, beta, mean, var, out, eps_of(node), extent=low.shape_of(rows)[0],
             node=node, also=relu)  # fmt: skip


def _no_gradient(low: Lowering, node: Node) -> bool:
    """True where nothing is asked for but the output."""
    return not any(map(low.wants, node.operands))


def batchnorm_back(low: Lowering, node: Node) -> None:
    """dgamma and dbeta in chunks of rows, then dx."""
    x, gamma, _ = map(low.value, node.operands)
    y, mean, var = map(low.value, node.outputs)
    after = low.follower(node)
    relu = after is not None and after.rule == "relu"
    d = low.rows(low.grad(after.name if relu and after is not None else node.name))
    rows, sums, eps = low.rows(x), sums_of_chunks(low, node), eps_of(node)
    low.emit("batchnorm_sums", int(relu), d, rows, low.rows(y), mean, var, sums, eps, extent=low.chunks, node=node)
    dgamma, dbeta = scale_and_shift(low, node, sums)
    if low.wants(node.operands[0]):
        low.share(node.operands[0], lambda into: low.emit(
            "batchnorm_grad", d, rows, gamma, mean, var, dgamma, dbeta, low.rows(into), eps,
            extent=low.shape_of(d)[0], node=node))  # fmt: skip


def sums_of_chunks(low: Lowering, node: Node) -> str:
    """Two sums of each channel for every chunk."""
    return low.scratch(node, "sums", (low.chunks, 2 + APART, low.graph.values[node.operands[0]].shape[-1]))


def scale_and_shift(low: Lowering, node: Node, sums: str) -> tuple[str, str]:
    """dgamma and dbeta from the chunks' sums, shared where they are wanted; gives both for this node alone."""
    chunks, rows, channels = low.shape_of(sums)
    both = low.scratch(node, "dgamma_dbeta", (2, channels))
    low.emit("sum_chunks", low.shaped(sums, "by_chunk", (chunks, rows * channels)), low.flat(both), extent=2 * channels,
             grain=CACHE_LINE, node=node)  # fmt: skip
    names = low.scratch(node, "dgamma", (channels,)), low.scratch(node, "dbeta", (channels,))
    for row, (name, vector) in enumerate(zip(names, node.operands[1:3], strict=True)):
        low.emit("row", both, row, name, extent=channels, grain=CACHE_LINE, node=node)
        if low.wants(vector):
            low.share(vector, lambda into, name=name: low.entries("copy", name, into, node=node))  # type: ignore[misc]
    return names


def eps_of(node: Node) -> float:
    """What is added to a variance."""
    return float(node.attributes["eps"])


def batchnorm_inference(low: Lowering, node: Node) -> None:
    """y by statistics that are given."""
    x, gamma, beta, mean, var = map(low.value, node.operands)
    rows = low.rows(x)
    low.emit("batchnorm", 0, rows, gamma, beta, mean, var, low.rows(low.value(node.name)), eps_of(node),
             extent=low.shape_of(rows)[0], node=node)  # fmt: skip


def batchnorm_inference_back(low: Lowering, node: Node) -> None:
    """dgamma and dbeta in chunks of rows, and dx."""
    x, gamma, _, mean, var = map(low.value, node.operands)
    d, rows, eps = low.rows(low.grad(node.name)), low.rows(x), eps_of(node)
    if any(map(low.wants, node.operands[1:3])):
        sums = sums_of_chunks(low, node)
        low.emit("batchnorm_sums", 0, d, rows, rows, mean, var, sums, eps, extent=low.chunks, node=node)
        scale_and_shift(low, node, sums)
    if low.wants(node.operands[0]):
        low.share(node.operands[0], lambda into: low.emit(
            "batchnorm_inference_grad", d, gamma, var, low.rows(into), eps, extent=low.shape_of(d)[0],
            node=node))  # fmt: skip


def running_average(low: Lowering, node: Node) -> None:
    """The next running average."""
    old, new = map(low.value, node.operands)
    a = node.attributes
    low.entries("running_average", old, new, low.value(node.name), float(a["momentum"]), float(a["scale"]), node=node)


def layernorm(low: Lowering, node: Node) -> None:
    """Each row by itself, in one pass."""
    x, gamma, beta = map(low.value, node.operands)
    y, mean, var = map(low.value, node.outputs)
    rows = low.rows(x)
    low.emit("layernorm", rows, gamma, beta, low.rows(y), low.flat(mean), low.flat(var), eps_of(node),
             extent=low.shape_of(rows)[0], node=node)  # fmt: skip


def layernorm_back(low: Lowering, node: Node) -> None:
    """dgamma and dbeta in chunks of rows; dx row by row."""
    x, gamma, _ = map(low.value, node.operands)
    _, mean, var = map(low.value, node.outputs)
    d, rows, sums = low.rows(low.grad(node.name)), low.rows(x), sums_of_chunks(low, node)
    statistics = low.flat(mean), low.flat(var)
    if any(map(low.wants, node.operands[1:])):
        low.emit("layernorm_sums", d, rows, *statistics, sums, eps_of(node), extent=low.chunks, node=node)
        scale_and_shift(low, node, sums)
    if low.wants(node.operands[0]):
        low.share(node.operands[0], lambda into: low.emit(
            "layernorm_grad", d, rows, gamma, *statistics, low.rows(into), eps_of(node), extent=low.shape_of(rows)[0],
            node=node))  # fmt: skip


lower("batchnorm", batchnorm, batchnorm_back)
lower("batchnorm_inference", batchnorm_of_prediction, nothing, _no_gradient, FUSED)
lower("batchnorm_inference", batchnorm_inference, batchnorm_inference_back)
lower("layernorm", layernorm, layernorm_back)
lower("running_average", running_average, nothing)
