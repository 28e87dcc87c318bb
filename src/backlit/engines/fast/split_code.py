"""Products of float32 by a processor's matrix unit (AMX), which multiplies tiles of bfloat16 and sums in float32.

A float32 has 24 significant bits, a bfloat16 has 8: x = x₀ + x₁ + x₂ exactly, each part the rest rounded to nearest.
Of the nine products of parts of a and b the six largest are summed; what is left out is at most 2⁻²⁴ |a b|, as what a
product of float32 rounds off is. Six products cost less than one by vectors: the unit does sixteen times as many.

The unit takes numbers below 2⁻¹²⁶ for 0. An infinite a or b makes NaN of its sums, and so do finite numbers from
3.39e38 on, which bfloat16 has none above.

Source: Henry, Tang, Heinecke: Leveraging the bfloat16 artificial intelligence datatype for higher-precision
computations, ARITH 2019; Intel: Architecture instruction set extensions programming reference, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from backlit.engines.fast.split_tiles import LINES, PARTS, STEP, TERMS, TILE
from backlit.engines.fast.vector_code import Code, Value

_WORD, _INDEX, _HALF, _BYTE, _BIT = (ir.IntType(bits) for bits in (64, 32, 16, 8, 1))
_SUMS, _LEFT, _RIGHT = (0, 1, 2, 3), (4, 5), (6, 7)
_ORDER = ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0))
"""Parts of A and of B that are multiplied, so that mostly only one of the two has to be loaded."""


@dataclass(frozen=True)
class Tiles:
    """Two tiles: their addresses, bytes from row to row, and from part to part."""

    at: tuple[Value, Value]
    row: Value
    apart: Value


class SplitCode(Code):
    """Instructions that split tiles of float32 and multiply what they were split in."""

    def __init__(self, builder: Any) -> None:
        super().__init__(builder, "float32")

    def _number(self, value: int, kind: Any = _WORD) -> Value:
        return ir.Constant(kind, value)

    def _all(self, value: int) -> Value:
        return ir.Constant(ir.VectorType(_INDEX, LINES), [value] * LINES)

    # --- splitting ----------------------------------------------------------------------------------------------------

    def split(self, arguments: Sequence[Value]) -> None:
        """Lines of two vectors in three parts, number beside number.

        ``arguments``: lines, low, wide_low (how many numbers of it count, the others are 0), high, wide_high, step
        (bytes from line to line), to, apart (bytes from part to part).
        """
        lines, low, wide_low, high, wide_high, step, to, apart = arguments
        masks = self._mask(wide_low), self._mask(wide_high)

        def line(low: Value, high: Value, to: Value) -> None:
            self._split(self._some(low, masks[0]), self._some(high, masks[1]), to, apart)

        self._loop(lines, line, (low, step), (high, step), (to, self._number(64)))
        self.builder.ret_void()

    def _loop(self, count: Value, body: Callable[..., None], *moving: tuple[Value, Value]) -> None:
        """``body`` so many times, on addresses that begin somewhere and move by so many bytes."""
        b, one = self.builder, self._number(1)
        entry, loop, done = b.block, b.append_basic_block("loop"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed(">", count, self._number(0)), loop, done)
        b.position_at_end(loop)
        left, *places = (b.phi(_WORD) for _ in (count, *moving))
        body(*places)
        rest = b.sub(left, one)
        following = [rest, *(b.add(place, step) for place, (_, step) in zip(places, moving, strict=True))]
        for phi, start, after in zip((left, *places), (count, *(start for start, _ in moving)), following, strict=True):
            phi.add_incoming(start, entry)
            phi.add_incoming(after, b.block)
        b.cbranch(b.icmp_signed(">", rest, self._number(0)), loop, done)
        b.position_at_end(done)

    def _split(self, low: Value, high: Value, to: Value, apart: Value) -> None:
        b, words = self.builder, ir.VectorType(_HALF, 2 * LINES)
        upper = ir.Constant(ir.VectorType(_BIT, 2 * LINES), [0, 1] * LINES)
        for part, (one, other) in enumerate(zip(self._parts(low), self._parts(high), strict=True)):
            both = b.select(upper, b.bitcast(other, words), b.bitcast(b.lshr(one, self._all(LINES)), words))
            b.store(both, self.at(to, words, self._part(part, apart)), align=4)

    def _part(self, part: int, apart: Value) -> Value:
        """Where a part begins, so many bytes behind the one before."""
        return self.builder.mul(apart, self._number(part))

    def pack(self, arguments: Sequence[Value]) -> None:
        """Vectors of numbers in three parts, number behind number: vectors, from, to, apart (from part to part)."""
        b, (vectors, start, to, apart) = self.builder, arguments
        halves = ir.VectorType(_HALF, LINES)

        def vector(start: Value, to: Value) -> None:
            for part, bits in enumerate(self._parts(self.load(start))):
                there = self.at(to, halves, self._part(part, apart))
                b.store(b.trunc(b.lshr(bits, self._all(LINES)), halves), there, align=4)

        self._loop(vectors, vector, (start, self._number(4 * LINES)), (to, self._number(2 * LINES)))
        b.ret_void()

    def _parts(self, x: Value) -> list[Value]:
        """The bits of a vector's three parts, as float32."""
        b, bits, found = self.builder, ir.VectorType(_INDEX, LINES), []
        for _ in range(PARTS - 1):
            nearest = b.add(b.bitcast(x, bits), self._all(0x8000))
            found.append(b.and_(nearest, self._all(0xFFFF0000)))
            x = b.fsub(x, b.bitcast(found[-1], self.vector))
        return [*found, b.bitcast(x, bits)]

    def turn_some(self, arguments: Sequence[Value]) -> None:
        """A square of 16 lines turned over its diagonal: from, step, lines, wide, to; what is beyond them is 0."""
        b = self.builder
        start, step, lines, wide, to = arguments
        mask, none, rows = self._mask(wide), self._mask(self._number(0)), [self._number(r) for r in range(LINES)]
        masks = [b.select(b.icmp_signed("<", r, lines), mask, none) for r in rows]
        square = [self._some(b.add(start, b.mul(step, r)), some) for r, some in zip(rows, masks, strict=True)]
        for r, line in enumerate(self.turned(square)):
            self.store(line, to, 64 * r)
        b.ret_void()

    def _mask(self, count: Value) -> Value:
        """The first ``count`` numbers of a vector, as bits."""
        words = ir.VectorType(_INDEX, LINES)
        mine = ir.Constant(words, list(range(LINES)))
        few = self.builder.icmp_signed("<", mine, self.everywhere(self.builder.trunc(count, _INDEX), words))
        return self.builder.bitcast(few, _HALF)

    def _some(self, address: Value, mask: Value) -> Value:
        """The numbers there that a mask names, 0 for the others."""
        takes = self.vector.as_pointer(), _INDEX, ir.VectorType(_BIT, LINES), self.vector
        load = self.function(f"llvm.masked.load.{self.kind}.p0{self.kind}", self.vector, *takes)
        where = self.at(address, self.vector), self._number(4, _INDEX), self.builder.bitcast(mask, takes[2])
        return self.builder.call(load, [*where, ir.Constant(self.vector, None)])

    def _store_some(self, vector: Value, address: Value, mask: Value) -> None:
        """The numbers that a mask names back there."""
        takes = self.vector, self.vector.as_pointer(), _INDEX, ir.VectorType(_BIT, LINES)
        store = self.function(f"llvm.masked.store.{self.kind}.p0{self.kind}", ir.VoidType(), *takes)
        where = self.at(address, self.vector), self._number(4, _INDEX), self.builder.bitcast(mask, takes[3])
        self.builder.call(store, [vector, *where])

    # --- multiplying --------------------------------------------------------------------------------------------------

    def begin(self, arguments: Sequence[Value]) -> None:
        """Set the unit up: eight tiles of lines of 64 bytes, so many rows of A and C, 16 lines of B."""
        shape = bytes([1, 0, *[0] * 14, *[64, 0] * 8, *[0] * 16, *[LINES] * 8, *[0] * 8])
        kind = ir.ArrayType(_BYTE, len(shape))
        with self.builder.goto_entry_block():
            place = self.builder.alloca(kind)
        place.align = 64
        self.builder.store(ir.Constant(kind, bytearray(shape)), place)
        rows = self.builder.trunc(arguments[0], _BYTE)
        for tile in (*_SUMS, *_LEFT):
            self.builder.store(rows, self.builder.gep(place, [self._number(0), self._number(48 + tile)]))
        pointer = self.builder.bitcast(place, _BYTE.as_pointer())
        self.builder.call(self.function("llvm.x86.ldtilecfg", ir.VoidType(), _BYTE.as_pointer()), [pointer])

    def end(self, _: Sequence[Value]) -> None:
        """Leave the unit as if nobody had used it: a thread whose tiles are empty is switched faster."""
        self.builder.call(self.function("llvm.x86.tilerelease", ir.VoidType()), [])

    def multiply(self, arguments: Sequence[Value]) -> None:
        """C = A B of two tiles of each; beside it, as vectors have nothing to do, a tile of what is next is split.

        ``arguments``: steps, A, B, C, step_c (bytes of a row); ahead (how many steps to split of what is next, none of
        them partly), turned, X, line (bytes from line to line of X), to.
        """
        b = self.builder
        steps, A, B, C, step_c, ahead, turned, X, line, to = arguments
        self._clear()
        none, turns = self._number(0), b.icmp_signed("!=", turned, self._number(0))
        whole = self._number(STEP)
        for beside, count, move in (
            (self._splitting, b.select(turns, none, ahead), b.mul(line, self._number(TERMS))),
            (self._turning, b.select(turns, ahead, none), self._number(4 * TERMS)),
        ):
            self._loop(
                count,
                lambda A, B, X, to, beside=beside: self._step(
                    self._together(A), self._together(B), beside(X, line, to)
                ),
                (A, whole), (B, whole), (X, move), (to, whole),
            )  # fmt: skip
        done = b.mul(ahead, whole)
        self._loop(
            b.sub(steps, ahead), lambda A, B: self._step(self._together(A), self._together(B)),
            (b.add(A, done), whole), (b.add(B, done), whole),
        )  # fmt: skip
        for tile in _SUMS:
            rows = b.add(C, b.mul(step_c, self._number(tile // 2 * LINES)))
            self._whole("tilestored64", tile, rows, 64 * (tile % 2), step_c)
        b.ret_void()

    def _splitting(self, X: Value, line: Value, to: Value) -> Iterator[None]:
        """Split a tile of 16 lines and the 16 after them, piece by piece."""
        b = self.builder
        far = b.add(X, b.mul(line, self._number(LINES)))
        for r in range(LINES):
            down = b.mul(line, self._number(r))
            self._split(
                self.load(X, down), self.load(far, down), b.add(to, self._number(64 * r)), self._number(2 * TILE)
            )
            yield

    def _turning(self, X: Value, line: Value, to: Value) -> Iterator[None]:
        """The same of a tile that is given turned: 16 lines of 32 numbers."""
        b = self.builder
        with b.goto_entry_block():
            place = b.alloca(ir.ArrayType(_BYTE, TILE))
        place.align = 64
        near = b.ptrtoint(place, _WORD)
        lines: list[Value] = []
        for half in range(2):
            for r, low in enumerate(lines):
                self.store(low, near, 64 * r)
            lines = [self.load(X, b.add(b.mul(line, self._number(r)), self._number(64 * half))) for r in range(LINES)]
            for _ in range(self.rounds):
                lines = self.interleaved(lines)
                yield
        for r, high in enumerate(lines):
            self._split(self.load(near, 64 * r), high, b.add(to, self._number(64 * r)), self._number(2 * TILE))
            yield

    def settle(self, arguments: Sequence[Value]) -> None:
        """C = sums, or C + sums where ``add``, of a square of them: sums, C, step_c, rows, columns, add."""
        b = self.builder
        sums, C, step_c, rows, columns, add = arguments
        masks = self._mask(columns), self._mask(b.sub(columns, self._number(LINES)))
        adds = b.icmp_signed("!=", add, self._number(0))

        def row(sums: Value, C: Value) -> None:
            for half, mask in enumerate(masks):
                new, place = self.load(sums, 64 * half), b.add(C, self._number(64 * half))
                self._store_some(b.select(adds, b.fadd(self._some(place, mask), new), new), place, mask)

        self._loop(rows, row, (sums, self._number(128)), (C, step_c))
        b.ret_void()

    def multiply_apart(self, arguments: Sequence[Value]) -> None:
        """C = Σ A B of tiles that lie apart, in a loop of steps in a loop of lines.

        ``arguments``: lines, steps; addresses of the two tiles of A, bytes from row to row, from part to part, to the
        next step and to the next line; the two of B, the last three likewise; addresses of four tiles of C, row by
        row, and bytes from row to row of those in the left column and in the right.
        """
        b = self.builder
        lines, steps, A0, A1, row, apart, move, line, B0, B1, apart_B, move_B, line_B, *C = arguments
        self._clear()

        def step(A0: Value, A1: Value, B0: Value, B1: Value) -> None:
            self._step(Tiles((A0, A1), row, apart), Tiles((B0, B1), self._number(64), apart_B))

        def steps_of(*starts: Value) -> None:
            self._loop(steps, step, *zip(starts, (move, move, move_B, move_B), strict=True))

        self._loop(lines, steps_of, (A0, line), (A1, line), (B0, line_B), (B1, line_B))
        for tile in _SUMS:
            self._whole("tilestored64", tile, C[tile], 0, C[4 + tile % 2])
        b.ret_void()

    def _clear(self) -> None:
        for tile in _SUMS:
            self.builder.call(self.function("llvm.x86.tilezero", ir.VoidType(), _BYTE), [self._number(tile, _BYTE)])

    def _together(self, address: Value) -> Tiles:
        """Two tiles that lie together with their parts."""
        two = address, self.builder.add(address, self._number(TILE))
        return Tiles(two, self._number(64), self._number(2 * TILE))

    def _step(self, A: Tiles, B: Tiles, beside: Iterable[None] = ()) -> None:
        """32 terms of all four tiles' sums, with a piece of what is ``beside`` after each product."""
        times = self.function("llvm.x86.tdpbf16ps", ir.VoidType(), *[_BYTE] * 3)
        there, pieces = (-1, -1), iter(beside)
        for parts in _ORDER:
            for now, before, tiles, lie in zip(parts, there, (_LEFT, _RIGHT), (A, B), strict=True):
                if now != before:
                    for tile, address in zip(tiles, lie.at, strict=True):
                        self._whole("tileloadd64", tile, address, self._part(now, lie.apart), lie.row)
            there = parts
            for tile in _SUMS:
                three = (tile, _LEFT[tile // 2], _RIGHT[tile % 2])
                self.builder.call(times, [self._number(t, _BYTE) for t in three])
                next(pieces, None)
        for _ in pieces:
            pass

    def _whole(self, do: str, tile: int, address: Value, offset: Value | int, step: Value) -> None:
        pointer = _BYTE.as_pointer()
        function = self.function(f"llvm.x86.{do}", ir.VoidType(), _BYTE, pointer, _WORD)
        self.builder.call(function, [self._number(tile, _BYTE), self.at(address, _BYTE, offset), step])


TAKES = {"split": 8, "turn_some": 5, "pack": 4, "multiply": 10, "multiply_apart": 19, "settle": 6}
"""Arguments of what is a function by itself."""


def split_module(names: Sequence[str]) -> str:
    """The functions of :data:`TAKES` under these names, as LLVM's text."""
    module = ir.Module()
    for name, (do, takes) in zip(names, TAKES.items(), strict=True):
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_WORD] * takes), name)
        getattr(SplitCode(ir.IRBuilder(function.append_basic_block())), do)(function.args)
    return str(module)
