"""Lowering: a graph as a list of calls on named buffers, forward, loss, backward, update. The list is the program."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backlit import rules
from backlit.core.types import Shape
from backlit.graph.graph import Graph, Node, differentiable_positions


@dataclass(frozen=True)
class Call:
    """One line of the listing: a kernel on buffers, and the nodes it was made from."""

    kernel: str
    arguments: tuple[str, ...]
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kernel}({', '.join(self.arguments)})"


@dataclass
class Lowering:
    """A graph on its way to a listing."""

    graph: Graph
    calls: list[Call] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    """Buffers that need a place in the arena."""
    views: dict[str, tuple[str, Shape]] = field(default_factory=dict)
    """Buffers that are another one in another shape."""
    closures: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """What has no kernel: a rule's own functions, copying into buffers. With any, the listing runs uncompiled."""
    biases: set[str] = field(default_factory=set)
    """Linear nodes whose bias and db are done by the activation's kernels."""
    written: set[str] = field(default_factory=set)
    """Gradients that have received a first share."""

    def run(self) -> Lowering:
        """Write down the whole step up to the gradients."""
        for node in self.graph.nodes:
            FORWARD.get(self._kind(node), forward_by_rule)(self, node)
        way = self.graph.depends_on(self.graph.trainable)
        for node in reversed(self.graph.nodes):
            if not way.isdisjoint(node.outputs):
                BACKWARD.get(self._kind(node), backward_by_rule)(self, node)
        return self

    def _kind(self, node: Node) -> str:
        return node.rule if CONDITIONS.get(node.rule, _always)(self, node) else ""

    # --- names and buffers --------------------------------------------------------------------------------------

    def value(self, name: str) -> str:
        """The buffer of a value, made when first asked for."""
        return self._buffer(identifier(name), self.graph.values[name].shape)

    def grad(self, name: str) -> str:
        """The buffer of ∂L/∂name; a trainable parameter's lies in the flat vector of gradients."""
        return self._buffer(f"d_{identifier(name)}", self.graph.values[name].shape)

    def _buffer(self, name: str, shape: Shape) -> str:
        if name not in self.views:
            self.shapes.setdefault(name, shape)
        return name

    def same(self, name: str, other: str, shape: Shape) -> str:
        """Let buffer ``name`` be ``other`` in ``shape``."""
        self.views[name] = (other, shape)
        return name

    def flat(self, name: str) -> str:
        """A buffer as a vector."""
        return self._as(name, "flat", (math.prod(self.shape_of(name)),))

    def rows(self, name: str) -> str:
        """A buffer as a matrix, its last axis kept."""
        shape = self.shape_of(name)
        return name if len(shape) == 2 else self._as(name, "rows", (math.prod(shape[:-1]), shape[-1]))

    def _as(self, name: str, ending: str, shape: Shape) -> str:
        if self.shape_of(name) == shape:
            return name
        return self.same(f"{name}_{ending}", name, shape)

    def storage(self, name: str) -> str:
        """The buffer that ``name`` is a view of, or itself."""
        while name in self.views and self.views[name][0]:
            name = self.views[name][0]
        return name

    def shape_of(self, name: str) -> Shape:
        """The shape of a buffer."""
        return self.views[name][1] if name in self.views else self.shapes[name]

    def emit(self, kernel: str, *arguments: str, node: Node | None = None, also: tuple[str, ...] = ()) -> None:
        """Add a call."""
        self.calls.append(Call(kernel, arguments, ((node.name,) if node else ()) + also))

    # --- gradients ----------------------------------------------------------------------------------------------

    def wants(self, name: str | None) -> bool:
        """True where a gradient by this value leads to a trainable parameter."""
        return name is not None and name in self.graph.depends_on(self.graph.trainable)

    def share(self, name: str, write: Callable[[str], None]) -> None:
        """Let ``write`` put a share of ∂L/∂name into a buffer: the gradient itself at first, else one that is added."""
        if name not in self.written:
            self.written.add(name)
            write(self.grad(name))
            return
        part = self._buffer(f"part{len(self.shapes)}_{identifier(name)}", self.graph.values[name].shape)
        write(part)
        self.emit("add_to", self.flat(self.grad(name)), self.flat(part))

    def move(self, name: str, buffer: str) -> None:
        """Let ∂L/∂name be ``buffer``, which nobody reads any more, or add it to what is there."""
        own = f"d_{identifier(name)}"
        if name not in self.written and own not in self.shapes and own not in self.views:
            self.written.add(name)
            self.same(own, buffer, self.graph.values[name].shape)
        else:
            self.share(name, lambda into: self.emit("copy", self.flat(buffer), self.flat(into)))

    def consumers(self, name: str) -> list[Node]:
        """Nodes that take the value."""
        return [node for node in self.graph.nodes if name in node.operands]


def identifier(name: str) -> str:
    """A dotted name as a Python name of its own: ``dense1.z`` -> ``dense1_z``, ``d_dense1.z`` -> ``d__dense1_z``."""
    spelled = re.sub(r"[^\w.@]", lambda sign: f"_{ord(sign[0])}_", name.replace("_", "__"))
    return ("_" if name[:1].isdigit() else "") + re.sub(r"[.@]", "_", spelled)


def _always(_: Lowering, __: Node) -> bool:
    return True


# --- the table of kernels: rule -> how it is written down -----------------------------------------------------------

ACTIVATIONS = {"relu": "relu_grad", "tanh": "tanh_grad", "sigmoid": "sigmoid_grad"}
"""Elementwise rules whose backward reads their output only, with the kernel of that backward."""


def linear(low: Lowering, node: Node) -> None:
    """z = x Wᵀ; the bias is added by the activation's kernel where one follows alone."""
    x, W, b = node.inputs
    z = low.rows(low.value(node.name))
    low.emit("product_nt", low.rows(low.value(str(x))), low.value(str(W)), z, node=node)
    if b is None or _fused_activation(low, node) == "relu":
        return
    low.emit("bias", z, low.value(b), node=node)


def _fused_activation(low: Lowering, node: Node) -> str:
    """The activation that takes a linear node's z alone, "" where there is none."""
    users = low.consumers(node.name)
    alone = len(users) == 1 and users[0].rule in ACTIVATIONS and node.name not in low.graph.outputs
    return users[0].rule if alone and node.inputs[2] is not None else ""


def linear_back(low: Lowering, node: Node) -> None:
    """dW = δᵀ x, dx = δ W, db = Σ_n δ where no activation's kernel has summed it."""
    x, W, b = node.inputs
    d = low.rows(low.grad(node.name))
    if low.wants(W):
        low.share(str(W), lambda into: low.emit("product_tn", d, low.rows(low.value(str(x))), into, node=node))
    if low.wants(b) and node.name not in low.biases:
        low.share(str(b), lambda into: low.emit("sum_rows", d, into, node=node))
    if low.wants(x):
        low.share(str(x), lambda into: low.emit("product_nn", d, low.value(str(W)), low.rows(into), node=node))


def activation(low: Lowering, node: Node) -> None:
    """a = f(z), in place of z where only f reads it."""
    (x,) = node.operands
    maker = low.graph.producer.get(x)
    fused = maker is not None and maker.rule == "linear" and bool(_fused_activation(low, maker))
    z = low.value(x)
    y = low.same(identifier(node.name), z, low.shape_of(z)) if fused else low.value(node.name)
    if fused and node.rule == "relu" and maker is not None:
        low.emit("bias_relu", low.rows(z), low.value(str(maker.inputs[2])), node=node, also=(maker.name,))
    else:
        low.emit(node.rule, low.flat(z), low.flat(y), node=node)


def activation_back(low: Lowering, node: Node) -> None:
    """δ = da ⊙ f'(z) in place of da; after a linear node also db, in the same pass."""
    (x,) = node.operands
    maker = low.graph.producer.get(x)
    d, y = low.grad(node.name), low.value(node.name)
    if (
        maker is not None
        and maker.rule == "linear"
        and node.rule == "relu"
        and _fused_activation(low, maker)
        and low.wants(maker.inputs[2])
    ):
        b = str(maker.inputs[2])
        low.biases.add(maker.name)
        low.share(
            b, lambda into: low.emit("bias_relu_grad", low.rows(d), low.rows(y), into, node=node, also=(maker.name,))
        )
    else:
        low.emit(ACTIVATIONS[node.rule], low.flat(d), low.flat(y), node=node)
    low.move(x, d)


def reshape(low: Lowering, node: Node) -> None:
    """The same buffer in another shape."""
    (x,) = node.operands
    low.same(identifier(node.name), low.value(x), low.graph.values[node.name].shape)


def reshape_back(low: Lowering, node: Node) -> None:
    """The same gradient in another shape."""
    low.move(node.operands[0], low.grad(node.name))


def elementwise(kernel: str) -> Callable[[Lowering, Node], None]:
    """A rule of two arrays of one shape."""

    def write(low: Lowering, node: Node) -> None:
        a, b = (low.flat(low.value(i)) for i in node.operands)
        low.emit(kernel, a, b, low.flat(low.value(node.name)), node=node)

    return write


def add_back(low: Lowering, node: Node) -> None:
    """da = db = dy."""
    d = low.grad(node.name)
    for x in node.operands:
        if low.wants(x):
            low.share(x, lambda into: low.emit("copy", low.flat(d), low.flat(into), node=node))


def dropout_back(low: Lowering, node: Node) -> None:
    """dx = dy ⊙ mask, in place of dy."""
    x, mask = node.operands
    d = low.grad(node.name)
    low.emit("multiply", low.flat(d), low.flat(low.value(mask)), low.flat(d), node=node)
    low.move(x, d)


def fused_loss(low: Lowering, node: Node) -> None:
    """Loss and δ in one pass: ∂L/∂L = 1, so δ can be written at once."""
    pred, target = node.operands[:2]
    low.written.add(pred)
    z, y, d = low.value(pred), low.value(target), low.grad(pred)
    if node.rule == "softmax_cross_entropy":
        arguments = [low.rows(z), low.flat(y), low.rows(d)]
    else:
        arguments = [*map(low.flat, (z, y, d)), str(low.shape_of(z)[0])]
    low.emit(node.rule, *arguments, "stats", node=node)


def nothing(_: Lowering, __: Node) -> None:
    """The fused loss has written δ already."""


FORWARD: dict[str, Callable[[Lowering, Node], None]] = {
    "linear": linear,
    **dict.fromkeys(ACTIVATIONS, activation),
    "reshape": reshape,
    "add": elementwise("add"),
    "dropout": elementwise("multiply"),
    "softmax_cross_entropy": fused_loss,
    "mse": fused_loss,
}
BACKWARD: dict[str, Callable[[Lowering, Node], None]] = {
    "linear": linear_back,
    **dict.fromkeys(ACTIVATIONS, activation_back),
    "reshape": reshape_back,
    "add": add_back,
    "dropout": dropout_back,
    "softmax_cross_entropy": nothing,
    "mse": nothing,
}


def _plain_loss(low: Lowering, node: Node) -> bool:
    """A loss without weights or options, at the end of the graph, of a prediction that nothing else reads."""
    alone = all(i is None for i in node.inputs[2:]) and node.name == low.graph.outputs[0]
    rule = rules.get(node.rule)
    usual = all(node.attributes[k] == v for k, v in rule.defaults.items())
    return alone and usual and len(low.consumers(node.operands[0])) == 1


def _same_shapes(low: Lowering, node: Node) -> bool:
    """Both inputs have the output's shape."""
    shapes = [low.graph.values[i].shape for i in node.operands]
    return all(s == low.graph.values[node.name].shape for s in shapes) and len(set(node.operands)) == 2


CONDITIONS: dict[str, Callable[[Lowering, Node], bool]] = {
    "softmax_cross_entropy": _plain_loss,
    "mse": _plain_loss,
    "add": _same_shapes,
    "dropout": _same_shapes,
}
"""When a rule's kernel fits a node; where it does not, the rule's own functions do the work."""


# --- rules without a kernel -----------------------------------------------------------------------------------------


def forward_by_rule(low: Lowering, node: Node) -> None:
    """Call the rule's forward and copy what it gives into the buffers."""
    name = f"{identifier(node.name)}_forward"
    low.closures[name] = _forward_closure(node)
    inputs = [low.value(i) for i in node.operands]
    low.emit(name, *inputs, *(low.value(o) for o in node.outputs), node=node)
    if node.name == low.graph.outputs[0]:
        low.emit("keep_loss", low.value(node.outputs[0]), low.value(low.graph.outputs[2]), "stats", node=node)


def _forward_closure(node: Node) -> Callable[..., None]:
    import numpy as np

    rule, present = rules.get(node.rule), [i is not None for i in node.inputs]

    def forward(*buffers: Any) -> None:
        given = iter(buffers)
        inputs = [next(given) if there else None for there in present]
        for into, found in zip(given, rule.call(np, *inputs, **node.attributes), strict=True):
            into[...] = found

    return forward


def backward_by_rule(low: Lowering, node: Node) -> None:
    """Call the rule's backward and copy, or add, what it gives."""
    rule = rules.get(node.rule)
    asked = [(v, i) for v, i in differentiable_positions(node) if low.wants(v)]
    seeds = [o for o, kind in zip(node.outputs, rule.outputs, strict=True) if kind in rule.differentiated]
    if node.name == low.graph.outputs[0]:
        low.written.add(node.name)
        low.emit("one", low.grad(node.name), node=node)
    for seed in seeds:
        if seed not in low.written:
            low.written.add(seed)
            low.emit("zero", low.flat(low.grad(seed)), node=node)
    name = f"{identifier(node.name)}_backward"
    parts = [f"{name}_{i}" for _, i in asked]
    for (value, _), part in zip(asked, parts, strict=True):
        low.shapes[part] = low.graph.values[value].shape
    low.closures[name] = _backward_closure(node, len(seeds), [i for _, i in asked])
    values = [low.value(v) for v in (*node.operands, *node.outputs)]
    low.emit(name, *(low.grad(s) for s in seeds), *values, *parts, node=node)
    for (value, _), part in zip(asked, parts, strict=True):
        low.share(value, lambda into, part=part: low.emit("copy", low.flat(part), low.flat(into), node=node))  # type: ignore[misc]


def _backward_closure(node: Node, seeds: int, positions: list[int]) -> Callable[..., None]:
    import numpy as np

    rule, present = rules.get(node.rule), [i is not None for i in node.inputs]

    def backward(*buffers: Any) -> None:
        d, given = buffers[:seeds], iter(buffers[seeds:])
        inputs = tuple(next(given) if there else None for there in present)
        outputs = tuple(next(given) for _ in node.outputs)
        found = rule.gradients(np, d, rule.saved_from(inputs, outputs, node.attributes))
        for into, position in zip(given, positions, strict=True):
            into[...] = found[position]

    return backward


def lifetimes(low: Lowering, lasting: Mapping[str, Shape]) -> dict[str, tuple[int, int]]:
    """(first, last) call that touches each buffer of the arena; ``lasting`` ones are needed from beginning to end."""
    uses: dict[str, tuple[int, int]] = {}
    for at, call in enumerate(low.calls):
        for argument in call.arguments:
            name = low.storage(argument)
            first, _ = uses.get(name, (at, at))
            uses[name] = (first, at)
    return {n: (0, len(low.calls)) if n in lasting else uses.get(n, (0, 0)) for n in low.shapes}
