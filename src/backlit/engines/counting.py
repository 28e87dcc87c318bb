"""The counting engine: what a rule costs, found by running the rule itself on arrays that have a shape and no numbers.

:class:`Counter` is an array namespace; its arrays are :class:`Ghost`. Whatever a rule computes on them is counted:

- one FLOP for each entry of the result of an elementwise function or operator, be it ``+``, a division, ``exp``,
  ``tanh``, a comparison, ``where``, ``clip``, ``sign`` or a logical operation;
- 2·m·k·n for each product of matrices [m, k] and [k, n]: a multiplication and an addition for each of the k terms; the
  same for ``tensordot``;
- one FLOP for each entry that goes into a reduction (``sum``, ``mean``, ``max``, …);
- none for what makes, moves, selects or casts entries, nor for arithmetic of Python numbers.

Source of the count of products: Golub, Van Loan: Matrix Computations, 4th ed., Johns Hopkins 2013, section 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NoReturn

import numpy as np

from backlit import rules
from backlit.core.types import Array, Shape
from backlit.engines.reference import node_gradients
from backlit.graph.graph import Graph, Node
from backlit.rules._arrays import normal_axes, reduced

KINDS: Mapping[str, str] = {
    name: kind
    for kind, names in {
        "_elementwise": "abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_invert bitwise_or"
        " bitwise_xor ceil clip copysign cos cosh divide equal exp expm1 floor floor_divide greater greater_equal hypot"
        " isfinite isinf isnan less less_equal log log1p log2 log10 logaddexp logical_and logical_not logical_or"
        " logical_xor maximum minimum multiply negative not_equal positive pow reciprocal remainder round sign signbit"
        " sin sinh sqrt square subtract tan tanh trunc where",
        "_reduction": "sum prod mean max min all any argmax argmin",
        "_view": "reshape permute_dims matrix_transpose moveaxis expand_dims squeeze broadcast_to flip",
        "_filled": "zeros ones empty full",
        "_like": "zeros_like ones_like empty_like full_like",
        "_of_numpy": "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128"
        " finfo iinfo isdtype pi e inf nan newaxis",
    }.items()
    for name in names.split()
}
"""Functions of the array API standard besides the methods of :class:`Counter`: name -> the method that counts it."""


def _binary(function: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: getattr(self.counter, function)(self, other)


def _swapped(function: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: getattr(self.counter, function)(other, self)


def _unary(function: str) -> Callable[[Any], Any]:
    return lambda self: getattr(self.counter, function)(self)


@dataclass(frozen=True, eq=False)
class Ghost:
    """An array without numbers, made by :meth:`Counter.ghost`: operators and basic indexing work as on any array."""

    counter: Counter
    shape: Shape
    dtype: np.dtype[Any]

    __array_ufunc__ = None  # NumPy leaves number * ghost to the ghost

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the entries would take."""
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> Ghost:  # noqa: N802  the standard's name
        """Axes in reverse order."""
        return self.counter.ghost(self.shape[::-1], self.dtype)

    @property
    def mT(self) -> Ghost:  # noqa: N802  the standard's name
        """The last two axes swapped."""
        return self.counter.ghost((*self.shape[:-2], *self.shape[:-3:-1]), self.dtype)

    @property
    def stand_in(self) -> Array:
        """A NumPy array of this shape that takes the memory of one entry."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)

    def __getitem__(self, index: Any) -> Ghost:
        return self.counter.ghost(self.stand_in[index].shape, self.dtype)

    __add__ = _binary("add")
    __radd__ = _swapped("add")
    __sub__ = _binary("subtract")
    __rsub__ = _swapped("subtract")
    __mul__ = _binary("multiply")
    __rmul__ = _swapped("multiply")
    __truediv__ = _binary("divide")
    __rtruediv__ = _swapped("divide")
    __floordiv__ = _binary("floor_divide")
    __rfloordiv__ = _swapped("floor_divide")
    __mod__ = _binary("remainder")
    __rmod__ = _swapped("remainder")
    __pow__ = _binary("pow")
    __rpow__ = _swapped("pow")
    __matmul__ = _binary("matmul")
    __rmatmul__ = _swapped("matmul")
    __and__ = _binary("bitwise_and")
    __rand__ = _swapped("bitwise_and")
    __or__ = _binary("bitwise_or")
    __ror__ = _swapped("bitwise_or")
    __xor__ = _binary("bitwise_xor")
    __rxor__ = _swapped("bitwise_xor")
    __lt__ = _binary("less")
    __le__ = _binary("less_equal")
    __gt__ = _binary("greater")
    __ge__ = _binary("greater_equal")
    __eq__ = _binary("equal")
    __ne__ = _binary("not_equal")
    __neg__ = _unary("negative")
    __pos__ = _unary("positive")
    __abs__ = _unary("abs")
    __invert__ = _unary("bitwise_invert")
    __hash__ = object.__hash__

    def _no_number(self) -> NoReturn:
        raise TypeError(f"{self} has no values: what a rule does must depend on shapes and attributes only")

    __bool__ = __int__ = __float__ = __complex__ = __index__ = _no_number

    def __repr__(self) -> str:
        return f"Ghost({self.dtype}{list(self.shape)})"


class Counter:
    """An array namespace that counts in ``flops`` what is computed with its ghosts.

    Raises AttributeError, naming it, for a function that it does not know how to count.
    """

    def __init__(self) -> None:
        self.flops = 0

    def ghost(self, shape: Sequence[int], dtype: Any) -> Ghost:
        """An array of ``shape`` and ``dtype`` without numbers."""
        return Ghost(self, tuple(shape), np.dtype(dtype))

    def lap(self) -> int:
        """The FLOPs since the last lap; counting begins anew."""
        flops, self.flops = self.flops, 0
        return flops

    def __getattr__(self, name: str) -> Any:
        if name not in KINDS:
            raise AttributeError(
                f"Counter cannot count {name!r}: add it to the tables of {__name__}", name=name, obj=self
            )
        return getattr(np, name) if KINDS[name] == "_of_numpy" else partial(getattr(self, KINDS[name]), name)

    # --- what computes ------------------------------------------------------------------------------------------

    def _elementwise(self, name: str, *operands: Any, **options: Any) -> Ghost:
        shapes = (np.shape(o) for o in (*operands, *options.values()) if o is not None)
        shape = np.broadcast_shapes(*shapes)
        without = getattr(np, name)(*map(_emptied, operands), **{n: _emptied(o) for n, o in options.items()})
        self.flops += prod(shape)
        return self.ghost(shape, without.dtype)

    def _reduction(self, name: str, x: Ghost, *, axis: Any = None, keepdims: bool = False, **options: Any) -> Ghost:
        dtype = getattr(np, name)(np.ones(1, x.dtype), **options).dtype
        self.flops += x.size
        return self.ghost(reduced(x.shape, axis, keepdims=keepdims), dtype)

    def matmul(self, a: Ghost, b: Ghost) -> Ghost:
        """Products of the last two axes for every index of the others; a vector is a row, on the right a column."""
        if a.shape[-1] != b.shape[-2:][0]:
            raise ValueError(f"matmul of {a} and {b}")
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        columns = b.shape[-1:] if b.ndim > 1 else ()
        return self._product((*lead, *a.shape[-2:-1], *columns), a.shape[-1:], a, b)

    def tensordot(self, a: Ghost, b: Ghost, *, axes: Any = 2) -> Ghost:
        """The sum of products over ``axes``, as in the array API standard."""
        ours, theirs = (range(-axes, 0), range(axes)) if isinstance(axes, int) else axes
        ours, theirs = normal_axes(tuple(ours), a.ndim), normal_axes(tuple(theirs), b.ndim)
        summed = tuple(a.shape[k] for k in ours)
        if summed != tuple(b.shape[k] for k in theirs):
            raise ValueError(f"tensordot of {a} and {b} over {axes}")
        left, right = ([n for k, n in enumerate(x.shape) if k not in over] for x, over in ((a, ours), (b, theirs)))
        return self._product((*left, *right), summed, a, b)

    def _product(self, shape: Shape, summed: Shape, a: Ghost, b: Ghost) -> Ghost:
        self.flops += 2 * prod(shape) * prod(summed)
        return self.ghost(shape, np.result_type(a.dtype, b.dtype))

    # --- what makes and moves -----------------------------------------------------------------------------------

    def _view(self, name: str, x: Ghost, *arguments: Any, **options: Any) -> Ghost:
        return self.ghost(getattr(np, name)(x.stand_in, *arguments, **options).shape, x.dtype)

    def _filled(self, name: str, shape: int | Shape, *value: Any, dtype: Any = None) -> Ghost:
        found = getattr(np, name)(0, *map(_emptied, value), dtype=dtype).dtype
        return self.ghost((shape,) if isinstance(shape, int) else shape, found)

    def _like(self, _name: str, x: Ghost, *_value: Any, dtype: Any = None) -> Ghost:
        return self.ghost(x.shape, dtype or x.dtype)

    def arange(self, *bounds: Any, dtype: Any = None) -> Ghost:
        """As many entries as ``numpy.arange`` makes."""
        return self.asarray(np.arange(*bounds, dtype=dtype))

    def asarray(self, x: Any, *, dtype: Any = None, copy: bool | None = None) -> Ghost:  # noqa: ARG002  nothing to copy
        """A ghost of the shape of ``x``: another ghost, an array, a number, or nested lists of numbers."""
        found = x if isinstance(x, Ghost) else np.asarray(x)
        return self.ghost(found.shape, dtype or found.dtype)

    def astype(self, x: Ghost, dtype: Any, *, copy: bool = True) -> Ghost:  # noqa: ARG002  nothing to copy
        """The same shape in another dtype."""
        return self.ghost(x.shape, dtype)

    def concat(self, arrays: Sequence[Ghost], *, axis: int = 0) -> Ghost:
        """The arrays one after another along ``axis``."""
        first = arrays[0]
        (k,) = normal_axes(axis, first.ndim)
        length = sum(a.shape[k] for a in arrays)
        return self.ghost((*first.shape[:k], length, *first.shape[k + 1 :]), np.result_type(*(a.dtype for a in arrays)))

    def stack(self, arrays: Sequence[Ghost], *, axis: int = 0) -> Ghost:
        """The arrays one after another along a new axis."""
        return self.concat([self.expand_dims(a, axis=axis) for a in arrays], axis=axis)

    def unstack(self, x: Ghost, *, axis: int = 0) -> tuple[Ghost, ...]:
        """The parts of ``x`` along ``axis``, which goes."""
        (k,) = normal_axes(axis, x.ndim)
        return tuple(self.ghost((*x.shape[:k], *x.shape[k + 1 :]), x.dtype) for _ in range(x.shape[k]))

    def scatter_add(self, total: Ghost, at: Ghost, rows: Ghost) -> Ghost:  # noqa: ARG002  where they go costs nothing
        """``rows`` added to those of ``total`` that they are numbered by."""
        self.flops += rows.size
        return total

    def take(self, x: Ghost, indices: Ghost, *, axis: int = -1) -> Ghost:
        """Entries of ``x`` along ``axis``, one for each of ``indices``."""
        (k,) = normal_axes(axis, x.ndim)
        return self.ghost((*x.shape[:k], *indices.shape, *x.shape[k + 1 :]), x.dtype)


def _emptied(operand: Any) -> Any:
    """An array without entries in place of an array: NumPy then finds the dtype of a result and computes nothing."""
    return np.empty(0, operand.dtype) if hasattr(operand, "dtype") else operand


@dataclass(frozen=True)
class NodeCost:
    """What one node of a graph costs in one run."""

    name: str
    rule: str
    forward_flops: int
    backward_flops: int
    """FLOPs of the rule's whole backward and of adding its gradients to earlier ones; 0 where it is not run."""
    bytes_out: int
    """Bytes of all outputs."""
    saved: tuple[str, ...]
    """Values that this node's backward needs kept, parameters among them; other nodes may need the same ones."""
    bytes_saved: int
    """Bytes of ``saved``."""


def cost(graph: Graph) -> list[NodeCost]:
    """What each node costs, in the order of the graph, with the FLOPs of this module's convention.

    backward is that of the reference engine from the graph's first output to its trainable parameters: a node that is
    not on the way costs nothing, one that is runs its rule's whole backward, unused gradients included.
    """
    xp = Counter()
    values = {value.name: xp.ghost(value.shape, value.dtype) for value in graph.values.values()}
    backward = dict(_backward_flops(graph, values, xp))
    return [_node_cost(node, values, xp, backward.get(node.name)) for node in graph.nodes]


def _node_cost(node: Node, values: Mapping[str, Ghost], xp: Counter, backward: int | None) -> NodeCost:
    rules.get(node.rule).call(xp, *(None if i is None else values[i] for i in node.inputs), **node.attributes)
    out = sum(values[o].nbytes for o in node.outputs)
    saved = () if backward is None else _saved(node, values)
    return NodeCost(node.name, node.rule, xp.lap(), backward or 0, out, saved, sum(values[s].nbytes for s in saved))


def _backward_flops(graph: Graph, values: Mapping[str, Ghost], xp: Counter) -> Iterator[tuple[str, int]]:
    """(node, FLOPs) along the walk of :func:`backlit.engines.reference.backward`."""
    on_the_way, output = graph.depends_on(graph.trainable), graph.outputs[0]
    d: dict[str, Ghost] = {output: values[output]}
    for node in reversed(graph.nodes):
        if on_the_way.isdisjoint(node.outputs) or d.keys().isdisjoint(node.outputs):
            continue
        for name, gradient in node_gradients(node, values, d, xp):
            if name in on_the_way:
                d[name] = d[name] + gradient if name in d else gradient
        yield node.name, xp.lap()


def _saved(node: Node, values: Mapping[str, Ghost]) -> tuple[str, ...]:
    inputs = tuple(None if i is None else values[i] for i in node.inputs)
    kept = rules.get(node.rule).saved_from(inputs, tuple(values[o] for o in node.outputs), node.attributes)
    ghosts = {id(g) for value in kept.values() for g in (value if isinstance(value, tuple) else (value,))}
    return tuple(n for n in dict.fromkeys((*node.operands, *node.outputs)) if id(values[n]) in ghosts)
