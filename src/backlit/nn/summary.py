"""What a model is made of, layer by layer, with its costs: data first, a plain-text table when printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from backlit.core.i18n import say
from backlit.core.tables import text_table
from backlit.core.types import Arrays, Shape
from backlit.graph.graph import Graph

if TYPE_CHECKING:
    from backlit.engines.counting import NodeCost


@dataclass(frozen=True)
class Row:
    """One layer, or one node that belongs to none, such as ``add1``."""

    layer: str
    output: Shape | None
    """Shape of its last value; None where a layer only holds parameters."""
    parameters: int
    """Numbers in its parameters; a shared layer's stand at its first call, ``dense1``, not at ``dense1@2``."""
    forward_flops: int
    backward_flops: int


@dataclass(frozen=True)
class Summary:
    """The layers of a model and their sums; FLOPs of one run, as :mod:`backlit.engines.counting` counts them."""

    name: str
    rows: tuple[Row, ...]
    frozen: int
    """Numbers in parameters that training leaves as they are."""

    @classmethod
    def of(cls, model_name: str, graph: Graph, params: Arrays) -> Summary:
        """The summary of ``graph``, its parameters being ``params``; staged for a batch of 1, FLOPs of one sample."""
        rows = tuple(_row(layer, graph, params, nodes) for layer, nodes in _layers(graph).items())
        return cls(model_name, rows, sum(params[name].size for name in graph.frozen))

    @cached_property
    def parameters(self) -> int:
        """Numbers in all parameters, frozen ones included."""
        return sum(row.parameters for row in self.rows)

    @cached_property
    def forward_flops(self) -> int:
        """FLOPs from the input to the output."""
        return sum(row.forward_flops for row in self.rows)

    @cached_property
    def backward_flops(self) -> int:
        """FLOPs from ∂L/∂(output) to the gradients of all trainable parameters."""
        return sum(row.backward_flops for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The summary as data, for ``--json``."""
        totals = {
            key: getattr(self, key) for key in ("name", "parameters", "frozen", "forward_flops", "backward_flops")
        }
        return totals | {"layers": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        title = say(
            "summary_title",
            name=self.name,
            parameters=self.parameters,
            frozen=self.frozen,
            flops=self.forward_flops,
            back=self.backward_flops,
        )
        lines = [say("summary_columns").split("|"), *(_cells(row) for row in self.rows)]
        return "\n".join([title, "", *text_table(lines, left=(0, 1))])


def _layers(graph: Graph) -> dict[str, list[NodeCost]]:
    """Costs of the nodes by layer, in the order in which layers and their parameters are first used."""
    from backlit.engines.counting import cost

    layers: dict[str, list[NodeCost]] = {}
    for node, found in zip(graph.nodes, cost(graph), strict=True):
        for name in (*(p for p in node.operands if p in graph.parameters), node.name):
            layers.setdefault(_owner(name), [])
        layers[_owner(node.name)].append(found)
    return layers | {owner: [] for owner in map(_owner, graph.parameters) if owner not in layers}


def _owner(name: str) -> str:
    """``dense1`` of ``dense1.z``; ``add1`` of ``add1``."""
    return name.rpartition(".")[0] or name


def _row(layer: str, graph: Graph, params: Arrays, nodes: list[NodeCost]) -> Row:
    return Row(
        layer,
        graph.values[nodes[-1].name].shape if nodes else None,
        sum(params[p].size for p in graph.parameters if _owner(p) == layer),
        sum(node.forward_flops for node in nodes),
        sum(node.backward_flops for node in nodes),
    )


def _cells(row: Row) -> list[str]:
    shape = "" if row.output is None else str(list(row.output))
    return [row.layer, shape, *(f"{n:,}" for n in (row.parameters, row.forward_flops, row.backward_flops))]
