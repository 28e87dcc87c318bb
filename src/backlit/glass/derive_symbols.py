r"""The textbook's symbols for a graph: layer l has ``z^{(l)}``, ``a^{(l)}``, ``W^{(l)}``, ``\delta^{(l)}``.

Layers are counted in the order in which they are computed; a value that is its layer's only result is its activation a.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from backlit.graph.graph import Graph
from backlit.rules._formula_print import ATOM, FRACTION, SUM, LatexPrinter
from backlit.rules._formula_syntax import index_name, indices_of, is_over_index, is_setting, subscripts
from backlit.rules.formula import Formula

_LETTERS = {
    "mean": r"\mu",
    "var": r"{\sigma^{2}}",
    "running_mean": r"\bar{\mu}",
    "running_var": r"\bar{v}",
    "mean_square": "q",
    "gamma": r"\gamma",
    "beta": r"\beta",
    "mask": "m",
}
_RENAMED = (("o", "j"), ("i", "k"), ("c", "j"), ("i", "j"))
"""Indices as the textbook names them: unit j of this layer, unit k of the one before."""
_SPARE = ("j", "k", "i", "m", "r", "s")
_AXES = {0: (), 1: ("n",), 2: ("n", "j"), 3: ("n", "t", "j"), 4: ("n", "h", "w", "j")}


@dataclass(frozen=True)
class Mark:
    """A letter and what stands above it: ``a`` and ``(1)``."""

    letter: str
    above: str = ""

    def latex(self, indices: tuple[str, ...] | list[str] = (), *, bold: bool = False) -> str:
        """The symbol with its indices below."""
        letter = _bold(self.letter) if bold else self.letter
        below = f"_{{{','.join(indices)}}}" if indices else ""
        return letter + below + (f"^{{{self.above}}}" if self.above else "")


def _bold(letter: str) -> str:
    return rf"\mathbf{{{letter}}}" if letter.isalpha() else rf"\boldsymbol{{{letter}}}"


@dataclass(frozen=True)
class Symbols:
    """The symbols of one graph."""

    graph: Graph

    @cached_property
    def layers(self) -> dict[str, int]:
        """Number of each layer, from 1; what serves the loss alone is no layer."""
        names = (layer_of(node.name) for node in self.graph.nodes)
        counted = dict.fromkeys(n for n in names if n not in ("loss", "target"))
        return {name: i for i, name in enumerate(counted, start=1)}

    @cached_property
    def last(self) -> int:
        """The number of the output layer."""
        return self.layers.get(layer_of(self.graph.outputs[1]), 0) if len(self.graph.outputs) > 1 else 0

    def mark(self, name: str) -> Mark:
        """The symbol of a value of the graph."""
        known = {"loss": Mark("L"), "loss.p": Mark("p"), "loss.mass": Mark("N" if self.counted else "M")}
        known |= {"x": Mark("a", "(0)"), "y": Mark("y"), "target": Mark("y"), "weights": Mark("w")}
        if name in known:
            return known[name]
        layer, _, kind = name.partition(".")
        if layer not in self.layers:
            return self._leaf(name)
        above = f"({self.layers[layer]})"
        if not kind or kind == "a":
            return Mark("a", above)
        after = kind.endswith(".next")
        kind = kind.removesuffix(".next")
        letter = _LETTERS.get(kind, kind if len(kind) == 1 else rf"\mathrm{{{kind}}}".replace("_", r"\_"))
        return Mark(letter, above + (r"\prime" if after else ""))

    def gradient(self, name: str) -> Mark | None:
        """δ for a weighted input z; None for others, which are written as ∂L/∂a."""
        mark = self.mark(name)
        return Mark(r"\delta", mark.above) if name.endswith(".z") else None

    @cached_property
    def counted(self) -> bool:
        """True where the loss's mass is the number of samples."""
        return "weights" not in self.graph.inputs

    def _leaf(self, name: str) -> Mark:
        letter = name.rstrip("0123456789")
        short = letter if len(letter) == 1 else letter[:1]
        return Mark(short, f"[{name[len(letter) :]}]") if len(name) > len(letter) else Mark(rf"\mathrm{{{name}}}")


def layer_of(name: str) -> str:
    """``batchnorm1`` for ``batchnorm1.running_mean.next``."""
    return name.partition(".")[0]


class Printer(LatexPrinter):
    """Formulas with the symbols of a graph; ``counts`` says how many values each index has."""

    def __init__(
        self,
        formula: Formula,
        marks: Mapping[str, Mark],
        ranks: Mapping[str, int],
        counts: Mapping[str, str],
        *,
        samples: bool = True,
    ) -> None:
        super().__init__()
        self.of, self.marks, self.counts = formula, marks, counts
        self.ranks = ranks if formula.elementwise else {}
        self.letters = _renamed(formula)
        rank = max(self.ranks.values(), default=0)
        self.axes = _AXES.get(rank, ()) if samples else _AXES.get(rank + 1, ())[1:]

    def shown(self) -> tuple[str, ...]:
        """The indices of the target as they are printed."""
        if self.of.indices is None:
            return self.axes[len(self.axes) - self.ranks.get(self.of.target, len(self.axes)) :]
        return tuple(self.letters.get(i.lstrip("*"), i.lstrip("*")) for i in self.of.indices)

    def align(self, letters: tuple[str, ...]) -> None:
        """Print the target with these indices, as the other terms of a sum have them; the rest makes room."""
        own = self.shown()
        if len(own) != len(letters) or self.of.moves:
            return
        if self.of.indices is None:
            self.axes = self.axes[: len(self.axes) - len(letters)] + letters
            return
        named = dict(zip((i.lstrip("*") for i in self.of.indices), letters, strict=True))
        others = sorted(_letters_of(self.of) - named.keys())
        free = [x for x in _SPARE if x not in letters]
        for old in others:
            now = self.letters.get(old, old)
            named[old] = now if now not in named.values() else next(x for x in free if x not in named.values())
        self.letters = named

    def left(self) -> str:
        """The target."""
        indices = None if self.of.indices is None else [i.lstrip("*") for i in self.of.indices]
        return self.named(self.of.target, indices)[0]

    def right(self) -> str:
        """The expression; a gradient of something broadcast is a sum over what it was broadcast to."""
        missing = self.missing()
        sums = rf"\sum_{{{','.join(missing)}}} " if missing else ""
        return sums + self.term(self.of.expression, SUM if missing else 0)

    def missing(self) -> tuple[str, ...]:
        """Axes that an elementwise gradient is summed over."""
        own = self.ranks.get(self.of.target, len(self.axes))
        return self.axes[: len(self.axes) - own] if self.of.target.startswith("d") else ()

    def is_gradient(self, name: str) -> bool:
        return name not in self.marks and name.startswith("d") and name[1:] in self.marks

    def indexed(self, name: str, indices: list[str] | None) -> str:
        if name not in self.marks:
            return super().indexed(name, indices)
        if indices is None and (rank := self.ranks.get(name, 0)):
            indices = list(self.axes[len(self.axes) - rank :])
        return self.marks[name].latex([self.letters.get(i, i) for i in indices or ()])

    def named(self, name: str, indices: list[str] | None) -> tuple[str, int]:
        if self.is_gradient(name) and indices is None and name in self.ranks:
            indices = list(self.axes[len(self.axes) - self.ranks[name] :])
        return super().named(name, indices)

    def visit_Name(self, node: ast.Name) -> tuple[str, int]:
        return (self.letters[node.id], ATOM) if node.id in self.letters else super().visit_Name(node)

    def visit_Subscript(self, node: ast.Subscript) -> tuple[str, int]:
        assert isinstance(node.value, ast.Name)
        plain = (ast.Name, ast.Starred)
        items = [index_name(i) if isinstance(i, plain) else self.visit(i)[0] for i in subscripts(node)]
        if is_setting(node):
            return self.indexed(node.value.id, items), ATOM
        return self.named(node.value.id, items)

    def power(self, node: ast.BinOp) -> tuple[str, int]:
        base = self.term(node.left, ATOM)
        base = base if "^" not in base or base.startswith(r"\left(") else self.parentheses(base)
        return f"{base}^{{{self.term(node.right, 0)}}}", FRACTION

    def quotient(self, node: ast.BinOp) -> tuple[str, int]:
        by = self.term(node.right, 0).removesuffix(r" \cdot 1")
        return self.visit(node.left) if by == "1" else (rf"\frac{{{self.term(node.left, 0)}}}{{{by}}}", FRACTION)

    def letter(self, name: str) -> str:
        return self.letters.get(name, name)

    def over(self, name: str, indices: list[ast.expr], body: ast.expr) -> tuple[str, int]:
        count = r" \cdot ".join(self.counts.get(index_name(i), "N") for i in indices)
        if name == "Count":
            return count, ATOM
        if name == "Mean":
            share = "" if count == "1" else rf"\frac{{1}}{{{count}}} "
            return rf"{share}\sum_{{{','.join(self.ranges(indices))}}} {self.term(body, SUM)}", SUM
        return super().over(name, indices, body)


def _letters_of(formula: Formula) -> set[str]:
    """All indices of a formula, bound ones included."""
    calls = (n for n in ast.walk(formula.expression) if is_over_index(n))
    bound = {index_name(i) for n in calls if isinstance(n, ast.Call) for i in indices_of(n)}
    return bound | {i.lstrip("*") for i in formula.indices or ()}


def _renamed(formula: Formula) -> dict[str, str]:
    used = {n.id for n in ast.walk(formula.expression) if isinstance(n, ast.Name)}
    used |= {i.lstrip("*") for i in formula.indices or ()}
    found: dict[str, str] = {}
    for old, new in _RENAMED:
        if old in used and old not in found and new not in used | {*found.values()}:
            found[old] = new
    return found
