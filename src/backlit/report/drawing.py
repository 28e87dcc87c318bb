"""The model's graph drawn in layers: every arrow leads downwards, from the data to the loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from backlit import rules
from backlit.graph.graph import Graph, Node
from backlit.nn.layer import ACTIVATIONS

WIDTH, HEIGHT, GAP, DROP = 138, 46, 14, 28
MOST = 60
"""With more nodes than this each layer is one box."""
_NORMALISING = ("batchnorm", "layernorm", "rmsnorm", "dropout")


@dataclass(frozen=True)
class Box:
    """What is drawn as one: a node, a layer, or an input."""

    name: str
    rule: str
    shape: tuple[int, ...]
    takes: tuple[str, ...]
    """Names of the boxes whose arrows end here."""
    kind: str
    """``data``, ``weights``, ``slope``, ``norm``, ``loss`` or ``plain``: the colour."""


def drawing(graph: Graph) -> str:
    """The graph of a training step as SVG; parameters, masks and running averages are left out."""
    boxes = _boxes(graph)
    if len(boxes) > MOST:
        boxes = _by_layer(boxes)
    ranks = _ranks(boxes)
    places = _places(boxes, ranks)
    swing = max((_bend(places[t], places[b.name]) for b in boxes for t in b.takes), default=0.0)
    across = max(x for x, _ in places.values()) + WIDTH + 2 + swing
    down = max(y for _, y in places.values()) + HEIGHT + 2
    arrows = "".join(_arrow(places[source], places[b.name]) for b in boxes for source in b.takes)
    drawn = "".join(_box(b, *places[b.name]) for b in boxes)
    return (
        f'<div class="scroll"><svg class="graph" style="width:{across:.0f}px" viewBox="0 0 {across:.0f} {down:.0f}" '
        f'role="img">{arrows}{drawn}</svg></div>'
    )


def _boxes(graph: Graph) -> list[Box]:
    """Inputs and the nodes that lead to the loss, in order."""
    nodes = list(_leading_to_loss(graph))
    owner = {out: node.name for node in nodes for out in node.outputs} | {name: name for name in graph.inputs}
    used = {i for node in nodes for i in node.operands}
    found = [Box(i, "", graph.values[i].shape, (), "data") for i in graph.inputs if i in used]
    for node in nodes:
        takes = dict.fromkeys(owner[i] for i in node.operands if i in owner)
        found.append(Box(node.name, node.rule, graph.values[node.name].shape, tuple(takes), _kind(graph, node)))
    return found


def _leading_to_loss(graph: Graph) -> Iterable[Node]:
    needed, found = {graph.outputs[0]}, []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.operands)
            found.append(node)
    return reversed(found)


def _kind(graph: Graph, node: Node) -> str:
    if node.name == graph.outputs[0]:
        return "loss"
    if any(i in graph.parameters and len(graph.values[i].shape) > 1 for i in node.operands):
        return "weights"
    known = dict.fromkeys(ACTIVATIONS, "slope") | dict.fromkeys(_NORMALISING, "norm")
    return "plain" if rules.get(node.rule).moves else known.get(node.rule, "plain")


def _by_layer(boxes: list[Box]) -> list[Box]:
    """Boxes of one layer as one; what they take from outside it."""
    layer = {b.name: b.name.rpartition(".")[0] or b.name for b in boxes}
    found: dict[str, Box] = {}
    for b in boxes:
        name = layer[b.name]
        old = found.get(name, Box(name, "", b.shape, (), b.kind))
        takes = dict.fromkeys((*old.takes, *(layer[t] for t in b.takes if layer[t] != name)))
        rule = " · ".join(part for part in (old.rule, b.rule) if part)
        found[name] = Box(name, rule, b.shape, tuple(takes), old.kind)
    return list(found.values())


def _ranks(boxes: list[Box]) -> dict[str, int]:
    """How many arrows lie at least above a box; targets stand just above the loss."""
    ranks: dict[str, int] = {}
    for b in boxes:
        ranks[b.name] = 1 + max((ranks.get(t, 0) for t in b.takes), default=-1)
    below = {t: [b.name for b in boxes if t in b.takes] for t in ranks}
    for b in reversed(boxes):
        if not b.takes and below[b.name]:
            ranks[b.name] = min(ranks[u] for u in below[b.name]) - 1
    return ranks


def _places(boxes: list[Box], ranks: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Left upper corners: each rank in a row of its own, ordered by where its arrows come from, centred."""
    rows: dict[int, list[Box]] = {}
    for b in boxes:
        rows.setdefault(ranks[b.name], []).append(b)
    widest = max(sum(r == 0 or bool(b.takes) for b in row) for r, row in rows.items()) * (WIDTH + GAP) - GAP
    places: dict[str, tuple[float, float]] = {}
    for rank, row in sorted(rows.items()):
        row.sort(key=lambda b: _mean([places[t][0] for t in b.takes if t in places], widest))
        beside = sum(rank > 0 and not b.takes for b in row)  # targets and the like stand beside, not in the middle
        start = max(0.0, (widest - (len(row) - beside) * (WIDTH + GAP) + GAP) / 2)
        for i, b in enumerate(row):
            places[b.name] = (1 + start + i * (WIDTH + GAP), 1 + rank * (HEIGHT + DROP))
    return places


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _bend(source: tuple[float, float], target: tuple[float, float]) -> float:
    """How far an arrow must swing out where a straight one would run through the boxes between; 0 where none are."""
    rows = (target[1] - source[1]) / (HEIGHT + DROP)
    return min(36 + 8 * rows, 100) if source[0] == target[0] and rows > 1 else 0.0


def _arrow(source: tuple[float, float], target: tuple[float, float]) -> str:
    """From the foot of one box to the head of another; from side to side where it goes round some."""
    if bend := _bend(source, target):
        x, y1, y2 = source[0] + WIDTH, source[1] + HEIGHT / 2, target[1] + HEIGHT / 2
        curve = f"M{x:.0f} {y1:.0f}C{x + bend:.0f} {y1:.0f} {x + bend:.0f} {y2:.0f} {x + 1:.0f} {y2:.0f}"
        head = f"M{x + 7:.0f} {y2 - 4:.0f}l-6 4l6 4"
    else:
        x1, y1, x2, y2 = source[0] + WIDTH / 2, source[1] + HEIGHT, target[0] + WIDTH / 2, target[1]
        half = (y2 - y1) / 2
        curve = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + half:.0f} {x2:.0f} {y2 - half:.0f} {x2:.0f} {y2 - 1:.0f}"
        head = f"M{x2 - 4:.0f} {y2 - 7:.0f}l4 6l4 -6"
    return f'<path class="arrow" d="{curve}"/><path class="head" d="{head}"/>'


def _box(b: Box, x: float, y: float) -> str:
    shape = f"[{', '.join(map(str, b.shape))}]" if b.shape else ""
    lines = (b.name, " ".join(part for part in (b.rule, shape) if part))
    first, second = (
        text if len(text) <= most else f"{text[: most - 1]}…" for text, most in zip(lines, (18, 23), strict=True)
    )
    return (
        f'<g class="box {b.kind}"><title>{escape(" ".join(lines))}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>'
        f'<text class="mid name" x="{x + WIDTH / 2:.0f}" y="{y + 19:.0f}">{escape(first)}</text>'
        f'<text class="mid" x="{x + WIDTH / 2:.0f}" y="{y + 36:.0f}">{escape(second)}</text></g>'
    )
