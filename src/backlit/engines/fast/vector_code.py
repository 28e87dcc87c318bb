"""What LLVM's own vectoriser does not find, told outright: a tile of a matrix product held in registers, and a turn.

A processor with vectors of 512 bits has 32 registers for them: 12 rows of two vectors each leave eight for what is
loaded. With 256 bits there are 16, with 128 bits 16 or more: six rows, four rows. The tile's entries are sums in the
order of k, so what is computed does not depend on how a product is cut into tiles.

Source: Goto, van de Geijn: Anatomy of high-performance matrix multiplication, ACM TOMS 34(3), 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

Value = Any
_WORD, _INDEX, _BIT = ir.IntType(64), ir.IntType(32), ir.IntType(1)
TILE_TAKES = 12
"""Arguments of a tile."""
VECTORS = 2
"""Vectors side by side in a row of a tile, at most."""


def vector_bytes() -> int:
    """The length of this processor's vectors."""
    features = llvm.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


def rows_of_tiles() -> tuple[int, ...]:
    """How many rows a tile may have: as many as leave registers for what is loaded, and less."""
    most = {64: 12, 32: 6, 16: 4}[vector_bytes()]
    return tuple(rows for rows in (12, 8, 6, 4, 2, 1) if rows <= most)


@dataclass
class Code:
    """Writes instructions on vectors of ``real`` numbers, "float32" or "float64", where ``builder`` stands."""

    builder: Any
    real: str

    @cached_property
    def number(self) -> Any:
        """One number."""
        return ir.FloatType() if self.real == "float32" else ir.DoubleType()

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return 4 if self.real == "float32" else 8

    @property
    def lanes(self) -> int:
        """Numbers of a vector."""
        return vector_bytes() // self.size

    @cached_property
    def vector(self) -> Any:
        """A vector of numbers."""
        return ir.VectorType(self.number, self.lanes)

    def function(self, name: str, result: Any, *takes: Any) -> Any:
        """A function of LLVM's own."""
        known = self.builder.module.globals.get(name)
        return known or ir.Function(self.builder.module, ir.FunctionType(result, takes), name)

    @property
    def kind(self) -> str:
        """How LLVM spells the type of a vector."""
        return f"v{self.lanes}f{8 * self.size}"

    # --- addresses, loads and stores ------------------------------------------------------------------------------

    def at(self, address: Value, kind: Any, offset: Value | int = 0) -> Value:
        """A pointer so many bytes behind an address."""
        b, moved = self.builder, offset if isinstance(offset, ir.Value) else ir.Constant(_WORD, offset)
        return b.inttoptr(b.add(address, moved), kind.as_pointer())

    def load(self, address: Value, offset: Value | int = 0) -> Value:
        """A vector, wherever it lies."""
        return self.builder.load(self.at(address, self.vector, offset), align=self.size)

    def store(self, vector: Value, address: Value, offset: Value | int = 0) -> None:
        """The same back."""
        self.builder.store(vector, self.at(address, self.vector, offset), align=self.size)

    def everywhere(self, number: Value, kind: Any = None) -> Value:
        """A vector whose numbers are all the same."""
        none = ir.Constant(kind or self.vector, ir.Undefined)
        one = self.builder.insert_element(none, number, ir.Constant(_INDEX, 0))
        return self.builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(_INDEX, self.lanes), None))

    def places(self, numbers: Sequence[int]) -> Value:
        """Constant places within two vectors."""
        return ir.Constant(ir.VectorType(_INDEX, self.lanes), list(numbers))

    # --- a tile -----------------------------------------------------------------------------------------------------

    def tile(self, arguments: Sequence[Value]) -> None:
        """C[rows, columns] = A B, or C + A B where ``add``, of as many rows as a tile may have.

        ``arguments``: vectors, rows, k, A, step_i, step_k (bytes between A's rows and columns), B, step_b (k lines of
        so many vectors), C, step_c, add, columns.
        """
        b = self.builder
        vectors, rows, *rest = arguments
        behind = b.append_basic_block("behind")
        switch = b.switch(b.add(b.mul(vectors, ir.Constant(_WORD, 64)), rows), behind)
        for v in range(1, VECTORS + 1):
            for r in rows_of_tiles():
                case = b.append_basic_block(f"tile{r}x{v}")
                switch.add_case(ir.Constant(_WORD, 64 * v + r), case)
                b.position_at_end(case)
                self._tile(r, v, *rest)
                b.branch(behind)
        b.position_at_end(behind)
        b.ret_void()

    def _tile(
        self, rows: int, vectors: int, k: Value, A: Value, step_i: Value, step_k: Value, B: Value, step_b: Value,
        C: Value, step_c: Value, add: Value, columns: Value,
    ) -> None:  # fmt: skip
        sums = self._sums(rows, vectors, k, A, step_i, step_k, B, step_b)
        b, lines = self.builder, [self.builder.mul(step_c, ir.Constant(_WORD, i)) for i in range(rows)]
        places = [self.at(C, self.vector, b.add(lines[i], ir.Constant(_WORD, self._across(v)))) for i, v in sums]
        whole = b.icmp_signed(">=", columns, ir.Constant(_WORD, vectors * self.lanes))
        adds = b.icmp_signed("!=", add, ir.Constant(_WORD, 0))
        with b.if_else(whole) as (full, partly):
            with full, b.if_else(adds) as (more, new):
                with more:
                    for place, found in zip(places, sums.values(), strict=True):
                        b.store(b.fadd(b.load(place, align=self.size), found), place, align=self.size)
                with new:
                    for place, found in zip(places, sums.values(), strict=True):
                        b.store(found, place, align=self.size)
            with partly:
                for (_, v), place, found in zip(sums, places, sums.values(), strict=True):
                    self._store_first(columns, v, adds, place, found)

    def _across(self, vector: int) -> int:
        return vector * self.lanes * self.size

    def _sums(
        self, rows: int, vectors: int, k: Value, A: Value, step_i: Value, step_k: Value, B: Value, step_b: Value
    ) -> dict[tuple[int, int], Value]:
        """Σ_k A[i, k] B[k, vector] of every row and vector, in a loop over k that keeps them in registers."""
        b, entry, each = self.builder, self.builder.block, [(i, v) for i in range(rows) for v in range(vectors)]
        few = [
            ir.Constant(_WORD, 0),
            step_i,
            b.mul(step_i, ir.Constant(_WORD, 2)),
            b.mul(step_i, ir.Constant(_WORD, 3)),
        ]
        firsts = [b.add(A, b.mul(step_i, ir.Constant(_WORD, i))) for i in range(0, rows, 4)]
        loop, done = b.append_basic_block("terms"), b.append_basic_block("sums")
        b.branch(loop)
        b.position_at_end(loop)
        left, panel, fourth = b.phi(_WORD), b.phi(_WORD), [b.phi(_WORD) for _ in firsts]
        before = {at: b.phi(self.vector) for at in each}
        fused = self.function(f"llvm.fma.{self.kind}", self.vector, *[self.vector] * 3)
        parts = [self.load(panel, self._across(v)) for v in range(vectors)]
        entries = [self.at(fourth[i // 4], self.number, few[i % 4]) for i in range(rows)]
        factors = [self.everywhere(b.load(entry, align=self.size)) for entry in entries]
        after = {(i, v): b.call(fused, [factors[i], parts[v], before[i, v]]) for i, v in each}
        next_ = b.sub(left, ir.Constant(_WORD, 1)), b.add(panel, step_b), *(b.add(a, step_k) for a in fourth)
        b.cbranch(b.icmp_signed(">", next_[0], ir.Constant(_WORD, 0)), loop, done)
        zero = ir.Constant(self.vector, None)
        starts = [(left, k), (panel, B), *zip(fourth, firsts, strict=True), *((p, zero) for p in before.values())]
        for (phi, start), following in zip(starts, [*next_, *after.values()], strict=True):
            phi.add_incoming(start, entry)
            phi.add_incoming(following, loop)
        b.position_at_end(done)
        return after

    def _store_first(self, columns: Value, vector: int, adds: Value, place: Value, found: Value) -> None:
        """Store what lies within so many columns."""
        b, words = self.builder, ir.VectorType(_WORD, self.lanes)
        mine = ir.Constant(words, [vector * self.lanes + lane for lane in range(self.lanes)])
        mask = b.icmp_signed("<", mine, self.everywhere(columns, words))
        zero, align = ir.Constant(self.vector, None), ir.Constant(_INDEX, self.size)
        pointer, bits = self.vector.as_pointer(), ir.VectorType(_BIT, self.lanes)
        kind = f"{self.kind}.p0{self.kind}"
        load = self.function(f"llvm.masked.load.{kind}", self.vector, pointer, _INDEX, bits, self.vector)
        store = self.function(f"llvm.masked.store.{kind}", ir.VoidType(), self.vector, pointer, _INDEX, bits)
        old = b.call(load, [place, align, mask, zero])
        b.call(store, [b.select(adds, b.fadd(old, found), found), place, align, mask])

    # --- moving vectors ---------------------------------------------------------------------------------------------

    def move(self, arguments: Sequence[Value]) -> None:
        """A vector from one address to another: from, to."""
        self.store(self.load(arguments[0]), arguments[1])

    def turn(self, arguments: Sequence[Value]) -> None:
        """A square of as many lines as a vector is long, turned over its diagonal: from, step, lines, to, step.

        Where there are fewer ``lines``, the last stands for those that are missing.
        """
        b = self.builder
        start, step, count, into, step_into = arguments
        last = b.sub(count, ir.Constant(_WORD, 1))
        numbers = [ir.Constant(_WORD, r) for r in range(self.lanes)]
        rows = [b.select(b.icmp_signed("<", r, last), r, last) for r in numbers]
        lines = self.turned([self.load(start, b.mul(row, step)) for row in rows])
        for r, line in zip(numbers, lines, strict=True):
            self.store(line, into, b.mul(r, step_into))

    @property
    def rounds(self) -> int:
        """How often a square's lines are interleaved until it is turned."""
        return self.lanes.bit_length() - 1

    def turned(self, lines: list[Value]) -> list[Value]:
        """A square of as many lines as a vector is long, turned over its diagonal."""
        for _ in range(self.rounds):
            lines = self.interleaved(lines)
        return lines

    def interleaved(self, lines: list[Value]) -> list[Value]:
        """Each of the first half of a square's lines and its partner of the second, number beside number."""
        half = self.lanes // 2
        low, high = (
            self.places([first + i // 2 + i % 2 * self.lanes for i in range(self.lanes)]) for first in (0, half)
        )
        pairs = [(lines[r], lines[r + half]) for r in range(half)]
        return [self.builder.shuffle_vector(*pair, places) for pair in pairs for places in (low, high)]


def tile_module(name: str, real: str) -> str:
    """The function ``name`` that does a tile, as LLVM's text."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_WORD] * TILE_TAKES), name)
    Code(ir.IRBuilder(function.append_basic_block()), real).tile(function.args)
    return str(module)
