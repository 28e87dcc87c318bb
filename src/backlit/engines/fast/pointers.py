"""What a table of calls needs of the machine: numbers that are addresses, and counters that threads share."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_WORD = ir.IntType(64)


@intrinsic
def pointer(_: Any, address: Any) -> Any:
    """An address, an int64, as a pointer that ``numba.carray`` takes."""

    def build(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), build


@intrinsic
def call(_: Any, function: Any, words: Any, lo: Any, hi: Any, step: Any) -> Any:
    """Call the machine code at address ``function`` as f(words, lo, hi, step), all int64."""

    def build(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        code = ir.FunctionType(ir.VoidType(), [_WORD] * 4).as_pointer()
        builder.call(builder.inttoptr(arguments[0], code), arguments[1:])

    return types.void(function, words, lo, hi, step), build


@intrinsic
def fetch_add(_: Any, address: Any, amount: Any) -> Any:
    """Add to the int64 at ``address`` as one indivisible act, and give what it was before."""

    def build(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(address, amount), build


@intrinsic
def fetch(_: Any, address: Any) -> Any:
    """The int64 at ``address`` as it is now, whichever thread wrote it."""

    def build(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(arguments[0], _WORD.as_pointer()), "seq_cst", 8)

    return types.int64(address), build
