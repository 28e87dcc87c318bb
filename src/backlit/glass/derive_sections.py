"""The sections of a derivation: what is said, and which equations stand where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from backlit.core.i18n import say
from backlit.glass.derive_blocks import Block, Code, Formulas, Heading, Table, Text, formulas
from backlit.glass.derive_equations import Equation, Equations, Gradient, Source
from backlit.glass.derive_expand import Longer, longer_way
from backlit.glass.derive_matrix import Product
from backlit.glass.derive_numbers import number
from backlit.glass.derive_symbols import layer_of
from backlit.glass.derive_update import first_rate, mark, update_equations
from backlit.graph.graph import Node
from backlit.optim.base import Optimizer

_KINDS = ["z", "a", "W", "b", "gamma", "beta", "mean", "var", "running_mean", "running_var", "mask"]


@dataclass(frozen=True)
class Sections:
    """Writes sections 1 to 7 from the equations of one trace."""

    equations: Equations
    optimizer: Optimizer

    @cached_property
    def layers(self) -> dict[str, list[Node]]:
        """The nodes of each layer, in order."""
        named = self.equations.symbols.layers
        return {name: [n for n in self.equations.trace.graph.nodes if layer_of(n.name) == name] for name in named}

    @cached_property
    def loss(self) -> Node:
        """The node of the loss."""
        return self.equations.trace.graph.producer[self.equations.trace.graph.outputs[0]]

    @cached_property
    def output(self) -> str:
        """What the loss is taken of."""
        return self.equations.trace.graph.outputs[1]

    @cached_property
    def longer(self) -> Longer | None:
        """The fused loss in smaller steps."""
        return longer_way(self.equations, self.loss) if self.output.endswith(".z") else None

    def all(self) -> Iterator[Block]:
        """All sections."""
        for part in ("network", "forward", "loss_function", "output_layer", "recursion", "gradients", "update"):
            yield from getattr(self, part)()

    # --- 1 ----------------------------------------------------------------------------------------------------------

    def network(self) -> Iterator[Block]:
        """The layers and the notation."""
        yield Heading(2, say("derive_head_network"))
        rows = [self._layer_row(name, nodes) for name, nodes in self.layers.items()]
        yield Table(tuple(say("derive_layers_columns").split("|")), tuple(rows))
        yield Table(tuple(say("derive_notation_columns").split("|")), tuple(self._notation()))
        yield Text(say("derive_rows"))

    def _layer_row(self, name: str, nodes: list[Node]) -> tuple[str, ...]:
        graph = self.equations.trace.graph
        made = {o for n in nodes for o in n.outputs}
        takes = [
            i
            for n in nodes
            for i in n.operands
            if i not in made and i not in (*graph.parameters, *graph.state, *graph.constants)
        ]
        owned = dict.fromkeys(i for n in nodes for i in n.operands if i in graph.parameters)
        main = [n for n in nodes if n.name not in graph.updates.values()]
        return (
            str(self.equations.symbols.layers[name]),
            f"`{name}`",
            " → ".join(n.rule for n in main),
            ", ".join(map(self._shaped, dict.fromkeys(takes))),
            self._shaped(main[-1].name),
            ", ".join(self._owned(p) for p in owned) or say("derive_none"),
        )

    def _shaped(self, name: str) -> str:
        return f"${self.symbol(name)}$ {self._shape(name)}"

    def _owned(self, name: str) -> str:
        frozen = f" ({say('derive_frozen')})" if name in self.equations.trace.graph.frozen else ""
        return self._shaped(name) + frozen

    def _shape(self, name: str) -> str:
        sizes = list(map(str, self.equations.trace.values[name].shape))
        owned = (*self.equations.trace.graph.parameters, *self.equations.trace.graph.state)
        return f"[{' × '.join(sizes if name in owned else ['$N$', *sizes[1:]])}]"

    def symbol(self, name: str) -> str:
        """A value's symbol in LaTeX."""
        return self.equations.symbols.mark(name).latex()

    def _notation(self) -> Iterator[tuple[str, str, str]]:
        values = self.equations.trace.graph.values
        yield "$(l)$", say("derive_symbol_layer"), ""
        yield r"$n,\ j,\ k$", say("derive_symbol_indices"), ""
        yield "$N$", say("derive_symbol_samples"), str(self.equations.samples)
        for name in self.equations.trace.graph.inputs[:-1]:
            yield f"${self.symbol(name)}$", say("derive_symbol_x"), f"`{name}`"
        yield "$y$", say("derive_symbol_y"), "`y`"
        for kind in _KINDS:
            if found := [n for n in values if n.endswith(f".{kind}") and layer_of(n) in self.layers]:
                letter = self.equations.symbols.mark(found[0]).letter
                yield f"${letter}^{{(l)}}$", say(f"derive_symbol_{kind}"), _some(found)
        if "loss.p" in values:
            yield "$p$", say("derive_symbol_p"), "`loss.p`"
        yield r"$\delta^{(l)}$", say("derive_symbol_delta"), "`t.delta(…)`"
        yield "$L$", say("derive_symbol_loss"), "`loss`"
        yield r"$\odot$", say("derive_symbol_hadamard"), ""
        yield r"$\alpha$", say("derive_symbol_rate"), "`learning_rate`"

    # --- 2, 3 -------------------------------------------------------------------------------------------------------

    def forward(self) -> Iterator[Block]:
        """The forward equations of each layer."""
        yield Heading(2, say("derive_head_forward"))
        yield Text(say("derive_forward_intro"))
        for name, nodes in self.layers.items():
            yield self._head(name)
            for node in nodes:
                yield from self._node_forward(node)

    def _head(self, name: str) -> Heading:
        return Heading(3, say("derive_head_layer", l=self.equations.symbols.layers[name], name=f"`{name}`"))

    def _node_forward(self, node: Node) -> Iterator[Block]:
        graph = self.equations.trace.graph
        if node.name in graph.updates.values():
            first = node.name == next(n.name for n in graph.nodes if n.name in graph.updates.values())
            if first:
                yield Text(say("derive_running"))
        found = self.equations.forward(node)
        lines = [line for e in found for line in self._forward_lines(node, e)]
        yield formulas(*lines)
        yield from self._notes(node, found)
        yield _code("forward", found[-1])

    def _forward_lines(self, node: Node, equation: Equation) -> Iterator[tuple[str, ...]]:
        left = equation.bold(equation.formula.target)
        if isinstance(equation.matrix, Product):
            yield left, equation.matrix.latex(equation.bold)
        elif node.name.endswith(".a") and self.equations.slope(node) is not None:
            inner = self.equations.symbols.mark(node.operands[0]).latex(bold=True)
            yield left, rf"f^{{{self.equations.symbols.mark(node.name).above}}}\left({inner}\right)"
        yield equation.left, equation.right

    def _notes(self, node: Node, found: list[Equation]) -> Iterator[Block]:
        if any(_reads_max(e) for e in found):
            yield Text(say("derive_max"))
        if any(e.formula.moves for e in found):
            yield Text(say("derive_source_of"))
        names = {n for e in found for n in e.formula.names}
        values = {n: v for n, v in node.attributes.items() if n in names and isinstance(v, int | float)}
        if values:
            listed = ", ".join(f"${found[0].printer.symbol(n)} = {_plain(v)}$" for n, v in values.items())
            yield Text(say("derive_with", values=listed))

    def loss_function(self) -> Iterator[Block]:
        """The loss, and where 1/N comes from."""
        yield Heading(2, say("derive_head_loss"))
        yield Text(say("derive_loss_intro"))
        found = [
            e
            for e in self.equations.forward(self.loss)
            if not (e.name == "loss.mass" and self.equations.symbols.counted)
        ]
        yield formulas(*((e.left, e.right) for e in found))
        yield from self._notes(self.loss, found)
        yield Text(say("derive_mean" if self.equations.symbols.counted else "derive_weighted"))
        yield _code("forward", found[-1])

    # --- 4, 5 -------------------------------------------------------------------------------------------------------

    def output_layer(self) -> Iterator[Block]:
        """δ of the output layer."""
        yield Heading(2, say("derive_head_output"))
        fused = self.output.endswith(".z")
        yield Text(say("derive_output_fused", rule=self.loss.rule) if fused else say("derive_output_plain"))
        yield from self._layer_backward(layer_of(self.output))
        if self.longer is not None:
            yield from self._longer(self.longer)

    def _longer(self, longer: Longer) -> Iterator[Block]:
        yield Text(say("derive_longer"))
        yield formulas(*((e.left, e.right) for e in longer.forward))
        if any(e.formula.moves for e in longer.forward):
            yield Text(say("derive_source_of"))
        yield Text(say("derive_longer_back"))
        yield formulas(*(self._share_line(g, i) for g in longer.backward for i in range(len(g.shares))))
        yield Text(say("derive_longer_same", gap=f"{longer.gap:.1e}"))

    def _share_line(self, gradient: Gradient, place: int) -> tuple[str, ...]:
        share = gradient.shares[place]
        left = share.left if place == 0 else ""
        right = share.right if place == 0 else rf"\cdots + {share.right}"
        return (left, *filter(None, [share.chain() if len(gradient.shares) == 1 else None]), right)

    def recursion(self) -> Iterator[Block]:
        """What flows back through every layer before the last."""
        rest = [name for name in reversed(self.layers) if name != layer_of(self.output) and self._reached(name)]
        yield Heading(2, say("derive_head_recursion"))
        yield Text(say("derive_recursion_intro" if rest else "derive_recursion_none"))
        for name in rest:
            yield self._head(name)
            yield from self._layer_backward(name)

    def _reached(self, layer: str) -> list[str]:
        """Values of a layer that a gradient flows to, last first."""
        made = [o for n in self.layers.get(layer, []) for o in n.outputs]
        return [o for o in reversed(made) if o in self.equations.trace.grads]

    def _layer_backward(self, layer: str) -> Iterator[Block]:
        for name in self._reached(layer):
            gradient = self.equations.gradient(name)
            if gradient is not None:
                yield from self._backward(gradient)

    def _backward(self, gradient: Gradient) -> Iterator[Block]:
        if len(gradient.shares) > 1:
            yield self._told("derive_consumers", gradient)
        yield self._gradient_lines(gradient)
        if any(s.formula.moves for s in gradient.shares):
            yield Text(say("derive_source_of"))
        yield from self._slope(gradient)
        yield from self._codes(gradient)

    def _told(self, key: str, gradient: Gradient) -> Text:
        names = ", ".join(f"`{n.name}`" for n in gradient.nodes)
        return Text(say(key, symbol=f"${self.symbol(gradient.name)}$", count=len(gradient.shares), names=names))

    def _gradient_lines(self, gradient: Gradient) -> Formulas:
        left = self.gradient_symbol(gradient)
        chains = [s.chain() for s in gradient.shares]
        whole = [" + ".join(c for c in chains if c)] if all(chains) else []
        return formulas((left, *whole, " + ".join(_term(s.right, i) for i, s in enumerate(gradient.shares))))

    def gradient_symbol(self, gradient: Gradient) -> str:
        """∂L/∂v, with the indices of the first share."""
        first = gradient.shares[0]
        if first.part is None:
            return first.left
        return rf"\frac{{\partial L}}{{\partial {self.equations.symbols.mark(gradient.name).latex(['q'])}}}"

    def _slope(self, gradient: Gradient) -> Iterator[Block]:
        """δ = (…) ⊙ f'(z), where an activation lies between; and the matrix form of what comes back."""
        bold = self._bold_gradient(gradient.name)
        slope = self.equations.slope(gradient.nodes[0]) if len(gradient.nodes) == 1 else None
        after = gradient.nodes[0].name
        if slope is None or not gradient.name.endswith(".z"):
            if (vector := self._vector(gradient)) is not None:
                yield Text(say("derive_vector"))
                yield formulas((bold, vector))
            return
        z, above = slope.printer.indexed(slope.rule.inputs[0], None), self.equations.symbols.mark(gradient.name)
        yield Text(say("derive_slope"))
        yield formulas((rf"f'^{{{above.above}}}\left({z}\right)", slope.right))
        times = rf"\odot f'^{{{above.above}}}\left({above.latex(bold=True)}\right)"
        known = self.equations.gradient(after)
        vector = None if known is None else self._vector(known)
        first = f"{self._bold_gradient(after)} {times}"
        yield Text(say("derive_vector"))
        yield formulas((bold, first, *([rf"\left({vector}\right) {times}"] if vector else [])))

    def _bold_gradient(self, name: str) -> str:
        delta = self.equations.symbols.gradient(name)
        if delta is not None:
            return delta.latex(bold=True)
        return rf"\frac{{\partial L}}{{\partial {self.equations.symbols.mark(name).latex(bold=True)}}}"

    def _vector(self, gradient: Gradient) -> str | None:
        """The sum of the shares for one sample as vectors; None where one is no product of a matrix and no copy."""
        found = [_vector_of(s) for s in gradient.shares]
        products = any(isinstance(s.matrix, Product) for s in gradient.shares)
        return " + ".join(v for v in found if v) if products and all(found) else None

    def _codes(self, gradient: Gradient) -> Iterator[Block]:
        for share in {s.source.place: s for s in gradient.shares}.values():
            yield _code("backward", share)

    # --- 6, 7 -------------------------------------------------------------------------------------------------------

    def gradients(self) -> Iterator[Block]:
        """∂L/∂θ of every parameter."""
        yield Heading(2, say("derive_head_gradients"))
        yield Text(say("derive_gradients_intro"))
        for layer in reversed(self.layers):
            own = [
                g
                for p in self.equations.trace.graph.trainable
                if layer_of(p) == layer and (g := self.equations.gradient(p))
            ]
            if own:
                yield self._head(layer)
                yield from self._parameters(own)

    def _parameters(self, found: list[Gradient]) -> Iterator[Block]:
        for gradient in found:
            if len(gradient.shares) > 1:
                yield self._told("derive_shared", gradient)
            forms = [s.matrix.latex(s.bold) if s.matrix else None for s in gradient.shares]
            whole = (self._bold_gradient(gradient.name), " + ".join(f for f in forms if f))
            yield Formulas((*self._gradient_lines(gradient).lines, *(formulas(whole).lines if all(forms) else ())))
        places = {s.source.place: s for g in found for s in g.shares}
        for share in places.values():
            yield _code("backward", share)

    def update(self) -> Iterator[Block]:
        """The optimizer's formulas."""
        yield Heading(2, say("derive_head_update"))
        kind = type(self.optimizer)
        yield Text(say("derive_update_intro", optimizer=kind.__name__))
        known = dict.fromkeys(("p", "g", *self.optimizer.slots), 1.0) | {"lr": 1.0, "t": 2}
        found = [e for e, _ in update_equations(self.optimizer, known)]
        yield Formulas(tuple((mark(e.name).latex(), r"\leftarrow", e.right) for e in found))
        options = {
            n: v
            for n, v in self.optimizer.options.items()
            if isinstance(v, int | float) and any(n in e.formula.names for e in found)
        }
        options = {"lr": first_rate(self.optimizer)} | options
        yield Text(
            say("derive_with", values=", ".join(f"${mark(n).latex()} = {_plain(v)}$" for n, v in options.items()))
        )
        source = Source.of(kind._rule)  # noqa: SLF001  the formulas stand there
        yield Code(say("derive_code_update", place=source.place), source, say("derive_code_above", place=source.place))


def _code(way: str, equation: Equation) -> Code:
    source = equation.source
    title = say("derive_code_forward" if way == "forward" else "derive_code_backward", place=source.place)
    return Code(title, source, say("derive_code_above", place=f"`{source.place}`"))


def _vector_of(share: Equation) -> str | None:
    if isinstance(share.matrix, Product):
        return share.matrix.latex(share.bold)
    kept = share.formula.expression
    return share.bold(kept.id) if isinstance(kept, ast.Name) and kept.id.startswith("d") else None


def _reads_max(equation: Equation) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "Max" for n in ast.walk(equation.formula.expression))


def _term(right: str, place: int) -> str:
    return rf"\left({right}\right)" if place and right.startswith("-") else right


def _some(names: list[str]) -> str:
    shown = [f"`{n}`" for n in names[:3]]
    return ", ".join([*shown, "…"] if len(names) > 3 else shown)


def _plain(value: float) -> str:
    return number(float(np.asarray(value)), 6)
