"""Dense layers, elementwise rules and their losses, written down."""

from __future__ import annotations

from backlit import rules
from backlit.engines.fast.listing import CACHE_LINE, Lowering, identifier
from backlit.engines.fast.lowering import Write, lower, nothing
from backlit.graph.graph import Node

ELEMENTWISE = (
    "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "gelu", "gelu_tanh", "silu", "mish",
    "exp", "expm1", "log", "log1p", "sqrt",
)  # fmt: skip
"""Rules of one array with a kernel of their name and one for the gradient, which works in place of dy and reads what
the rule keeps, x or y. Where that is y, a may take the place of z."""
WITH_SLOPE = ("gelu", "gelu_tanh", "silu", "mish")
"""Those of them whose kernel can leave f'(z) where z lay, as nothing else reads it: both take one exponential."""

FEW = 64
"""A layer of more units than that on at most so many rows is done by way of zᵀ = W xᵀ; so is one that gives each thread
so many units or more, but fewer than there are rows: what is turned, or split, alone is the smaller matrix then."""
WIDE = 64
"""Rows of a gradient dW from which it is shared out by rows, as the update is: a core reads again what it wrote."""


def by_columns(rows: int, inputs: int, columns: int) -> int:
    """1 where a product with W [rows, columns] is shared out by columns, 0 where by rows.

    By columns a thread reads its part of W and all of x; by rows all of W, and of x what lies in its own cache.
    """
    return int(columns >= min(rows, FEW) and 2 * inputs * columns >= rows * (inputs + columns))


# --- linear, alone or with the relu behind it -------------------------------------------------------------------------


def linear(low: Lowering, node: Node) -> None:
    """z = x Wᵀ + b; a relu that follows alone is done by the same kernel, in place."""
    x, W, b = node.inputs
    z = low.rows(low.value(node.name))
    after = low.follower(node)
    relu = after if after is not None and after.rule == "relu" and b is not None else None
    if relu is not None:
        low.done.add(relu.name)
        low.same(identifier(relu.name), low.value(node.name), low.graph.values[relu.name].shape)
    also = (relu.name,) if relu else ()
    given, (rows, columns) = low.rows(low.value(x)), low.shape_of(z)
    inputs = low.shape_of(given)[1]
    work, across = 2 * rows * columns * inputs, by_columns(rows, inputs, columns)
    narrow = across and FEW <= columns // low.chunks < rows
    if b is not None and (rows <= FEW < columns or narrow):
        zt = low.scratch(node, "turned", (columns, rows))
        low.emit("linear_of_few", int(relu is not None), given, low.value(W), low.value(b), zt, z, extent=columns,
                 grain=CACHE_LINE, flops=work, node=node, also=also)  # fmt: skip
        return
    kernel, more = ("linear", [int(relu is not None)]) if b else ("product_nt", [])
    bias = [low.value(b)] if b else []
    low.emit(kernel, across, *more, given, low.value(W), *bias, z, extent=columns if across else rows,
             grain=CACHE_LINE if across else 1, flops=work, node=node, also=also)  # fmt: skip


def linear_back(low: Lowering, node: Node) -> None:
    """dW = δᵀ x and db = Σ_n δ, then dx = δ W."""
    x, W, b = node.inputs
    d, given = low.rows(low.grad(node.name)), low.rows(low.value(x))
    (rows, units), inputs = low.shape_of(d), low.shape_of(given)[1]
    work, across = 2 * rows * units * inputs, by_columns(rows, units, inputs)
    if low.wants(W):
        low.share(W, lambda into: _weights_grad(low, node, d, given, into))
    if low.wants(b) and f"d {b}" not in low.done:
        low.share(b, lambda into: low.emit("sum_rows", d, into, extent=units, grain=8, node=node))
    if low.wants(x):
        low.share(x, lambda into: low.emit(
            "product_nn", across, d, low.value(W), low.rows(into), extent=inputs if across else rows, flops=work,
            node=node,
        ))  # fmt: skip


def _weights_grad(low: Lowering, node: Node, d: str, x: str, into: str) -> None:
    """dW = δᵀ x, shared out by what it is of, or of many rows by chunks of these, which lie in each thread's cache."""
    (rows, units), inputs = low.shape_of(d), low.shape_of(x)[1]
    work, columns = 2 * rows * units * inputs, units < WIDE and inputs >= units
    if low.chunks == 1 or by_columns(rows, units, inputs):
        low.emit("product_tn", int(columns), d, x, into, extent=inputs if columns else units, flops=work, node=node)
        return
    parts = low.scratch(node, "parts", (low.chunks, units, inputs))
    low.emit("product_tn_of_chunks", d, x, parts, extent=low.chunks, flops=work, node=node)
    flat = low.shaped(parts, "by_chunk", (low.chunks, units * inputs))
    low.emit("sum_chunks", flat, low.flat(into), extent=units * inputs, grain=CACHE_LINE, node=node)


# --- elementwise ------------------------------------------------------------------------------------------------------


def activation(low: Lowering, node: Node) -> None:
    """a = f(z), in place of a linear node's z that only f reads, or with f'(z) there."""
    (x,) = node.operands
    z = low.value(x)
    in_place = _behind_linear(low, node) and "x" not in rules.get(node.rule).saved
    y = low.same(identifier(node.name), z, low.shape_of(z)) if in_place else low.value(node.name)
    low.entries(f"{node.rule}_with_slope" if _leaves_slope(low, node) else node.rule, z, y, *_numbers(node), node=node)


def _behind_linear(low: Lowering, node: Node) -> bool:
    """True where z is a linear node's that only f reads."""
    maker = low.graph.producer.get(node.operands[0])
    return maker is not None and maker.rule == "linear" and low.follower(maker) is node


def _leaves_slope(low: Lowering, node: Node) -> bool:
    return node.rule in WITH_SLOPE and _behind_linear(low, node) and low.wants(node.operands[0])


def _numbers(node: Node) -> list[float]:
    return [float(v) for v in node.attributes.values()]


def activation_back(low: Lowering, node: Node) -> None:
    """δ = da ⊙ f'(z) in place of da; behind a linear node a relu gives its db in the same pass."""
    (x,) = node.operands
    maker = low.graph.producer.get(x)
    d, y = low.grad(node.name), low.value(node.name)
    bias = maker.inputs[2] if maker is not None and _behind_linear(low, node) else None
    if node.rule == "relu" and low.wants(bias) and maker is not None:
        low.done.add(f"d {bias}")
        low.share(bias, lambda into: _bias_relu_back(low, node, maker.name, into))
    elif _leaves_slope(low, node):
        low.entries("multiply_by", d, low.value(x), node=node)
    else:
        kept = y if "y" in rules.get(node.rule).saved else low.value(x)
        low.entries(f"{node.rule}_grad", d, kept, *_numbers(node), node=node)
    low.move(x, d)


def _bias_relu_back(low: Lowering, node: Node, maker: str, into: str) -> None:
    """δ and db in one pass, by chunks of rows: threads that write side by side in a row wait for each other."""
    rows, values = low.rows(low.grad(node.name)), low.rows(low.value(node.name))
    units = low.shape_of(rows)[1]
    sums = low.scratch(node, "sums", (low.chunks, units)) if low.chunks > 1 else low.shaped(into, "row", (1, units))
    low.emit("bias_relu_grad", rows, values, sums, extent=low.chunks, node=node, also=(maker,))
    if low.chunks > 1:
        low.emit("sum_chunks", sums, into, extent=units, grain=CACHE_LINE, node=node)


def reshape(low: Lowering, node: Node) -> None:
    """The same buffer in another shape."""
    (x,) = node.operands
    low.same(identifier(node.name), low.value(x), low.graph.values[node.name].shape)


def reshape_back(low: Lowering, node: Node) -> None:
    """The same gradient in another shape."""
    low.move(node.operands[0], low.grad(node.name))


def of_two(kernel: str) -> Write:
    """A rule of two arrays of one shape."""

    def write(low: Lowering, node: Node) -> None:
        low.entries(kernel, *map(low.value, node.operands), low.value(node.name), node=node)

    return write


def add_back(low: Lowering, node: Node) -> None:
    """da = db = dy; the one that is asked for last takes dy's place."""
    d, wanted = low.grad(node.name), [x for x in node.operands if low.wants(x)]
    for x in wanted[:-1]:
        low.share(x, lambda into: low.entries("copy", d, into, node=node))
    low.move(wanted[-1], d)


def dropout_back(low: Lowering, node: Node) -> None:
    """dx = dy ⊙ mask, in place of dy."""
    x, mask = node.operands
    d = low.grad(node.name)
    low.entries("multiply_by", d, low.value(mask), node=node)
    low.move(x, d)


# --- losses -----------------------------------------------------------------------------------------------------------


def softmax_cross_entropy(low: Lowering, node: Node) -> None:
    """Loss and δ in one pass: ∂L/∂L = 1, so δ can be written at once; each row's loss is summed in order after it."""
    pred, target = node.operands[:2]
    low.written.add(pred)
    z, d = low.rows(low.value(pred)), low.rows(low.grad(pred))
    rows = low.shape_of(z)[0]
    each = low.scratch(node, "losses", (rows,))
    smoothing = float(node.attributes["label_smoothing"])
    low.emit("softmax_cross_entropy", z, low.flat(low.value(target)), d, each, smoothing, extent=rows, node=node)
    low.emit("mean_loss", each, rows, rows, "stats", node=node)


def mse(low: Lowering, node: Node) -> None:
    """Loss and δ in one pass."""
    pred, target = node.operands[:2]
    low.written.add(pred)
    z, y, d = low.rows(low.value(pred)), low.value(target), low.rows(low.grad(pred))
    y = low.shaped(y, "rows", low.shape_of(z))
    rows, columns = low.shape_of(z)
    each = low.scratch(node, "losses", (rows,))
    low.emit("mse", z, y, d, each, extent=rows, node=node)
    low.emit("mean_loss", each, rows * columns, low.graph.values[pred].shape[0], "stats", node=node)


def _plain_loss(low: Lowering, node: Node, *free: str) -> bool:
    """A loss without weights or options but the ``free``, at the graph's end, of what nothing else reads."""
    alone = all(i is None for i in node.inputs[2:]) and node.name == low.graph.outputs[0]
    usual = all(node.attributes[k] == v for k, v in rules.get(node.rule).defaults.items() if k not in free)
    values, pred = low.graph.values, node.operands[0]
    return alone and usual and len(low.consumers(pred)) == 1 and len(values[pred].shape) > 1 and low.wants(pred)


def _labelled(low: Lowering, node: Node) -> bool:
    """A plain loss of [N, …, C] with integer labels [N, …]."""
    values, pred, target = low.graph.values, *node.operands[:2]
    return _plain_loss(low, node, "label_smoothing") and values[target].shape == values[pred].shape[:-1]


def _same_shapes(low: Lowering, node: Node) -> bool:
    """Both inputs have the output's shape."""
    shapes = [low.graph.values[i].shape for i in node.operands]
    return all(s == low.graph.values[node.name].shape for s in shapes) and len(set(node.operands)) == 2


lower("linear", linear, linear_back)
for _rule in ELEMENTWISE:
    lower(_rule, activation, activation_back)
lower("reshape", reshape, reshape_back)

lower("dropout", of_two("multiply"), dropout_back, _same_shapes)
lower("softmax_cross_entropy", softmax_cross_entropy, nothing, _labelled)
lower("mse", mse, nothing, _plain_loss)
