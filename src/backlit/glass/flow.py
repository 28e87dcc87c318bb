"""The δ-flow ledger: why δ is larger or smaller at a layer than at the layer above it.

On its way down from one layer's δ to the next, ∂L/∂· passes through nodes. Each multiplies its norm (the Frobenius norm
over the batch) by a gain, so that the quotient of two layers' ‖δ‖ is the product of the gains between them::

    δ(l) = (W(l+1)ᵀ δ(l+1)) ⊙ f'(z(l))        weights: ‖Wᵀδ‖ / ‖δ‖        slope: ‖(Wᵀδ) ⊙ f'‖ / ‖Wᵀδ‖

Normalisation, dropout and all other nodes have gains of the same form. Where several nodes use a value, the way goes
through the one that sends the most; ``branches`` is ‖sum of all‖ over ‖its share‖. At the top stands the loss, in two
factors: ``scale``, the 1/m of its mean over the mass m, and ``error``, ‖m ∂L/∂output‖. Where nothing arrives from above
a gain is 1, so that only the node that stopped δ shows 0.

What is usual: W drawn by the layer's usual initialiser with variance σ² multiplies ‖δ‖ by about σ√I, I being the number
of its inputs; an activation by the root mean square of f' just below and above 0; dropout at rate p by √(1/(1-p)).
Source: Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from backlit import rules
from backlit.core.i18n import say
from backlit.core.names import lookup
from backlit.core.tables import bar, html_table, text_table
from backlit.core.types import Array
from backlit.engines import reference
from backlit.glass.trace import Trace
from backlit.glass.verdict import Verdict, verdict
from backlit.graph.graph import Graph, Node
from backlit.nn import initializers
from backlit.nn.layer import ACTIVATIONS

CAUSES = ("weights", "slope", "normalisation", "dropout", "branches", "other", "scale", "error")
NORMALISING = ("batchnorm", "batchnorm_inference", "layernorm", "rmsnorm", "groupnorm", "instancenorm")
_NOT_ELEMENTWISE = ("softmax", "log_softmax")


@dataclass(frozen=True)
class Gain:
    """One factor of a layer's ‖δ‖."""

    cause: str
    """One of :data:`CAUSES`."""
    where: str
    """The node that it comes from; for ``branches`` the value at which gradients meet."""
    rule: str
    gain: float
    usual: float | None = None
    """What it is at the start of training, in expectation; None where nothing simple can be said."""
    basis: str = ""
    """What ``usual`` rests on: an initialiser, a rule."""
    dead: float | None = None
    """Share of units whose slope is 0 for every sample; None where it is no elementwise activation."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """For ``branches``: node -> its share in the sum, ⟨share, sum⟩/‖sum‖²; they add up to 1."""


@dataclass(frozen=True)
class Row:
    """One layer: its ‖δ‖, and what made it out of the ‖δ‖ above."""

    layer: str
    value: str
    """The value that δ is the gradient of: ``dense1.z``."""
    norm: float
    above: str
    """The value from whose gradient it comes: another layer's, or the loss."""
    ratio: float
    """‖δ‖ over the norm above."""
    gains: tuple[Gain, ...]
    """From above to here; their product is ``ratio``."""

    def factor(self, cause: str) -> float:
        """The product of the gains of that cause."""
        return math.prod(g.gain for g in self.gains if g.cause == cause)


@dataclass(frozen=True)
class FlowLedger:
    """How δ changes from layer to layer, the last layer first; prints itself, ``ledger["dense1"]`` is one row."""

    rows: tuple[Row, ...]
    samples: int

    def __getitem__(self, layer: str) -> Row:
        return lookup({row.layer: row for row in self.rows}, layer, "value")

    @cached_property
    def causes(self) -> tuple[str, ...]:
        """The causes that occur, in the order of :data:`CAUSES`."""
        found = {g.cause for row in self.rows for g in row.gains}
        return tuple(c for c in CAUSES if c in found)

    def verdict(self) -> Verdict:
        """What is unusual, which layer shows it and what causes it; as text, a sentence in the language in force."""
        return verdict(self)

    def as_dict(self) -> dict[str, Any]:
        """The ledger as JSON values; None for a number that is not finite."""
        rows = [asdict(row) | {"factors": {c: row.factor(c) for c in self.causes}} for row in self.rows]
        found: dict[str, Any] = _finite({"samples": self.samples, "layers": rows})
        return found | {"verdict": _finite(self.verdict().as_dict())}

    def __str__(self) -> str:
        title = say("flow_title", samples=self.samples)
        return "\n".join([title, "", *text_table(self._cells(), left={0, 2, self._columns}), "", str(self.verdict())])

    def _repr_html_(self) -> str:
        title, found = html.escape(say("flow_title", samples=self.samples)), html.escape(str(self.verdict()))
        return f"<p>{title}</p>{html_table(self._cells())}<p>{found}</p>"

    @property
    def _columns(self) -> int:
        return 4 + len(self.causes)

    def _cells(self) -> list[list[str]]:
        head = [*say("flow_columns").split("|"), *(say(f"flow_{c}") for c in self.causes), "log ‖δ‖"]
        return [head, *(self._line(row) for row in self.rows)]

    def _line(self, row: Row) -> list[str]:
        present = {g.cause for g in row.gains}
        factors = [f"{row.factor(c):.3g}" if c in present else "" for c in self.causes]
        return [row.layer, f"{row.norm:.3g}", row.above, f"{row.ratio:.3g}", *factors, bar(self._share(row.norm))]

    def _share(self, norm: float) -> float:
        """The length of a layer's bar: log ‖δ‖ over at least four decades below the largest."""
        logs = [math.log10(r.norm) for r in self.rows if 0 < r.norm < math.inf]
        if not 0 < norm < math.inf:
            return float(norm > 0)
        return 1.0 - (max(logs) - math.log10(norm)) / max(max(logs) - min(logs) + 0.5, 4.0)


def flow(trace: Trace) -> FlowLedger:
    """How ‖δ‖ of each layer of a trace comes from that of the layer above, cause by cause.

    A layer is a node that multiplies data by weights, and its δ the gradient of what it makes. Needs values and
    gradients of the trace only, so one read from a file will do.
    """
    way = _Way(trace)
    with np.errstate(all="ignore"):  # a trace may hold what is not finite
        rows = [way.row(node) for node in reversed(trace.graph.nodes) if way.counts(node)]
    return FlowLedger(tuple(rows), len(trace.values[trace.graph.inputs[0]]))


# --- the way of δ ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Share:
    """What one node sends to a value: its norm, and its part of the sum."""

    node: Node
    norm: float
    part: float


@dataclass(frozen=True)
class _Way:
    """The gradients of a trace with what each node contributed to them."""

    trace: Trace

    @cached_property
    def norms(self) -> dict[str, float]:
        """‖∂L/∂v‖ by value."""
        return {name: norm(g) for name, g in self.trace.grads.items()}

    @cached_property
    def weights(self) -> frozenset[str]:
        """Parameters, and what is made of parameters alone."""
        graph = self.trace.graph
        return _reached(graph, graph.parameters) - _reached(graph, graph.inputs)

    @cached_property
    def shares(self) -> dict[str, list[_Share]]:
        """What each value's gradient is the sum of."""
        found: dict[str, list[_Share]] = {}
        for node in self.trace.graph.nodes:
            for name, g in self._sent(node).items():
                part = _part(g, self.trace.grads[name])
                found.setdefault(name, []).append(_Share(node, norm(g), part))
        return found

    def _sent(self, node: Node) -> dict[str, Array]:
        """The gradients that a node sends on, those of one value added up."""
        sent: dict[str, Array] = {}
        if not any(o in self.trace.grads for o in node.outputs):
            return sent
        for name, g in reference.node_gradients(node, self.trace.values, self.trace.grads, np):
            if name in self.trace.grads and name not in self.weights:
                sent[name] = sent[name] + g if name in sent else g
        return sent

    def multiplies(self, node: Node) -> bool:
        """True for a node that multiplies by weights: it takes some with two axes or more."""
        return any(i in self.weights and len(self.trace.graph.values[i].shape) > 1 for i in node.operands)

    def counts(self, node: Node) -> bool:
        """True where the node's output is a layer's z with a δ; a recurrent layer multiplies by U behind its z."""
        layers_z = f"{node.name.rpartition('.')[0]}.z"
        own = node.name == layers_z or layers_z not in self.trace.grads
        return own and self.multiplies(node) and node.name in self.trace.grads and node.name not in self.weights

    def row(self, node: Node) -> Row:
        """The row of a layer: up to the next layer, or the loss."""
        gains, value = [], node.name
        while True:
            gains += self._met(value)
            if value not in self.shares:
                break
            above = self._main(value).node
            gains += self._of_node(above, value)
            value = next(o for o in above.outputs if o in self.trace.grads)
            if self.counts(above):
                break
        ratio = quotient(self.norms[node.name], self.norms[value])
        return Row(
            node.name.rpartition(".")[0] or node.name,
            node.name,
            self.norms[node.name],
            value,
            ratio,
            tuple(gains[::-1]),
        )

    def _main(self, value: str) -> _Share:
        return max(self.shares[value], key=lambda s: s.norm)

    def _met(self, value: str) -> list[Gain]:
        """The factor of a value at which gradients of several nodes meet."""
        shares = self.shares.get(value, [])
        if len(shares) < 2:
            return []
        gain = quotient(self.norms[value], self._main(value).norm)
        return [Gain("branches", value, "", gain, parts={s.node.name: s.part for s in shares})]

    def _of_node(self, node: Node, value: str) -> list[Gain]:
        """The factors of passing back through a node to ``value``."""
        out = next(o for o in node.outputs if o in self.trace.grads)
        gain = quotient(self._main(value).norm, self.norms[out])
        rule = rules.get(node.rule)
        if "mass" in rule.outputs:
            mass = float(self.trace.values[node.outputs[rule.outputs.index("mass")]]) or 1.0
            return [Gain("error", node.name, node.rule, gain * mass), Gain("scale", node.name, node.rule, 1 / mass)]
        cause = self._cause(node)
        usual, basis = _USUAL.get(cause, _nothing_known)(self.trace.graph, node)
        return [Gain(cause, node.name, node.rule, gain, usual, basis, self._dead(node) if cause == "slope" else None)]

    def _cause(self, node: Node) -> str:
        known = dict.fromkeys(ACTIVATIONS, "slope") | dict.fromkeys(NORMALISING, "normalisation")
        return "weights" if self.multiplies(node) else (known | {"dropout": "dropout"}).get(node.rule, "other")

    def _dead(self, node: Node) -> float | None:
        """The share of units, along the last axis, whose slope is 0 for all samples."""
        x = self.trace.values[node.operands[0]]
        if node.rule in _NOT_ELEMENTWISE or x.ndim < 2:
            return None
        unit = np.ones_like(x)
        f = reference.node_gradients(node, self.trace.values, {node.name: unit}, np)
        slopes = next(iter(f))[1].reshape(-1, x.shape[-1])
        return float(np.mean(~slopes.any(axis=0)))


def _reached(graph: Graph, names: tuple[str, ...]) -> frozenset[str]:
    """The values ``names`` and all that is computed from them."""
    found = set(names)
    for node in graph.nodes:
        if not found.isdisjoint(node.operands):
            found.update(node.outputs)
    return frozenset(found)


def norm(a: Array) -> float:
    """The Frobenius norm in float64, without overflow on the way."""
    wide = np.asarray(a, np.float64)
    largest = float(np.max(np.abs(wide), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm((wide / largest).ravel()))


def quotient(a: float, b: float) -> float:
    """A / b; 1 where b is 0."""
    return a / b if b else 1.0


def _part(share: Array, total: Array) -> float:
    """⟨share, total⟩ / ‖total‖²; 0 where the total is."""
    size = norm(total)
    if size == 0.0 or not math.isfinite(size):
        return 0.0
    return float(np.vdot(share.astype(np.float64) / size, total.astype(np.float64) / size))


# --- what is usual --------------------------------------------------------------------------------------------------


def _usual_weights(graph: Graph, node: Node) -> tuple[float | None, str]:
    """σ√I of the initialiser that a dense layer with this activation has unless told."""
    layer = node.name.removesuffix(".z")
    activation = graph.producer.get(f"{layer}.a")
    chosen = initializers.for_activation(activation.rule if activation else None)
    if node.rule != "linear" or layer == node.name or not isinstance(chosen, initializers.VarianceScaling):
        return None, ""
    outputs, inputs = graph.values[node.operands[1]].shape
    fan = {"in": inputs, "out": outputs, "mean": (inputs + outputs) / 2}[chosen.fan]
    return math.sqrt(chosen.scale * inputs / fan), next(n for n, i in initializers.NAMED.items() if i == chosen)


def _usual_slope(_graph: Graph, node: Node) -> tuple[float | None, str]:
    """The root mean square of f' just below and just above 0."""
    if node.rule in _NOT_ELEMENTWISE:
        return None, ""
    rule, x = rules.get(node.rule), np.asarray([-1e-6, 1e-6])
    outputs = rule.call(np, x, **node.attributes)
    slopes = rule.gradients(np, [np.ones(2)], rule.saved_from((x,), outputs, node.attributes))[0]
    return float(np.sqrt(np.mean(slopes**2))), node.rule


def _usual_dropout(graph: Graph, node: Node) -> tuple[float | None, str]:
    mask = graph.masks.get(node.operands[1])
    return (1 / math.sqrt(1 - mask.rate), node.rule) if mask else (None, "")


def _nothing_known(_graph: Graph, _node: Node) -> tuple[float | None, str]:
    return None, ""


_USUAL: dict[str, Callable[[Graph, Node], tuple[float | None, str]]] = {
    "weights": _usual_weights,
    "slope": _usual_slope,
    "dropout": _usual_dropout,
}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
