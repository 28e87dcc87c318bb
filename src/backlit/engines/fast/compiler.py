"""Kernels to machine code, by Numba: imported only where something has not been compiled before.

Importing it tells Numba what the functions that kernels are made of compile to: those that are registered in
:mod:`backlit.engines.fast.jit` to themselves, the matrix product, counters and pointers to instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from backlit.engines.fast import (
    jit,
    kernels_random,
    pointers,
    products,
    split_code,
    split_convolution,
    split_products,
    split_tiles,
    vector_code,
)
from backlit.engines.fast.llvm_host import host, make_known
from backlit.engines.fast.machine_code import (
    CONVOLUTION,
    GEMM,
    NEVER_CALLED,
    PRODUCTS,
    SPLIT,
    TILE,
    address_of_product,
    outside,
)
from backlit.engines.fast.processor import has_matrix_unit

_WORD = ir.IntType(64)
make_known(outside() | dict.fromkeys((*PRODUCTS, *TILE, *SPLIT), outside()[pointers.YIELD]))
"""While Numba compiles, products are known by name alone."""


def _options(assumed: frozenset[str]) -> dict[str, Any]:
    return {"nogil": True, "error_model": "numpy", "fastmath": set(assumed), "forceinline": True}


# --- functions that become part of kernels ----------------------------------------------------------------------------


def known() -> None:
    """Tell Numba of the functions that have been registered since it was told last."""
    for function, assumed in list(jit.ASSUMED.items()):
        _tell(function, assumed)
    for pick, (single, double) in list(jit.BY_TYPE.items()):
        _tell_choice(pick, single, double)


@cache
def _tell(function: Callable[..., Any], assumed: frozenset[str]) -> None:
    overload(function, jit_options=_options(assumed), strict=False)(lambda *_: function)


@cache
def _tell_choice(pick: Callable[..., Any], single: Callable[..., Any], double: Callable[..., Any]) -> None:
    bodies = (lambda x: single(x)), (lambda x: double(x))  # noqa: PLW0108  Numba wants a function written in Python
    overload(pick, jit_options=_options(frozenset({"contract"})))(lambda x: bodies[x != types.float32])


@overload(jit.span)
def _span(lo, hi):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  as Numba wants it
    return lambda lo, hi: range(np.uint64(lo), np.uint64(hi))


# --- instructions -----------------------------------------------------------------------------------------------------


def _instruction(build: Callable[..., Any], result: Any, *takes: Any) -> Any:
    """A function that compiled code calls, of arguments of these types: ``build(builder, arguments)`` writes it."""

    def write(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        found = build(builder, arguments)
        return ir.Constant(ir.IntType(8).as_pointer(), None) if found is None else found

    signature = result(*takes)
    names = ", ".join(f"a{i}" for i in range(len(takes)))
    space = {"signature": signature, "write": write}
    exec(f"def instruction(context, {names}): return signature, write", space)  # noqa: S102  a function of so many arguments
    return intrinsic(space["instruction"])


def _address(builder: Any, word: Any, kind: Any) -> Any:
    return builder.inttoptr(word, kind.as_pointer())


def _call(builder: Any, arguments: Any) -> None:
    code = ir.FunctionType(ir.VoidType(), [_WORD] * 4)
    builder.call(_address(builder, arguments[0], code), arguments[1:])


def _upper(builder: Any, arguments: Any) -> Any:
    wide = ir.IntType(128)
    product = builder.mul(*(builder.zext(n, wide) for n in arguments))
    return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), _WORD)


_SMALL_ARE_ZERO = 0x8040
"""Bits of an x86 processor's control word: results, and what is given, below the normal numbers count as 0."""


def _control(builder: Any, do: str, value: Any = None) -> Any:
    """The control word of floating-point numbers, as it is or to be."""
    kind = ir.IntType(32)
    with builder.goto_entry_block():
        place = builder.alloca(kind)
    if value is not None:
        builder.store(value, place)
    bytes_of = ir.IntType(8).as_pointer()
    name = f"llvm.x86.sse.{do}mxcsr"
    known = builder.module.globals.get(name)
    function = known or ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [bytes_of]), name)
    builder.call(function, [builder.bitcast(place, bytes_of)])
    return builder.load(place)


def _flush(builder: Any, _: Any) -> Any:
    if not host().triple.startswith("x86_64"):
        return ir.Constant(_WORD, 0)
    before = _control(builder, "st")
    _control(builder, "ld", builder.or_(before, ir.Constant(before.type, _SMALL_ARE_ZERO)))
    return builder.zext(before, _WORD)


def _restore(builder: Any, arguments: Any) -> None:
    if host().triple.startswith("x86_64"):
        _control(builder, "ld", builder.trunc(arguments[0], ir.IntType(32)))


_word, _pointer = types.int64, types.voidptr
pointer = _instruction(lambda b, a: _address(b, a[0], ir.IntType(8)), _pointer, _word)
_calls = _instruction(_call, types.void, *[_word] * 5)
_adds = _instruction(lambda b, a: b.atomic_rmw("add", _address(b, a[0], _WORD), a[1], "seq_cst"), _word, _word, _word)
_reads = _instruction(lambda b, a: b.load_atomic(_address(b, a[0], _WORD), "seq_cst", 8), _word, _word)
_flushes = _instruction(_flush, types.int64)
_restores = _instruction(_restore, types.void, _word)
_high = _instruction(_upper, types.uint64, types.uint64, types.uint64)

_yields = types.ExternalFunction(pointers.YIELD, types.int32())
_sleeps = types.ExternalFunction(pointers.SLEEP, types.int32(types.uint32))


def _means(function: Callable[..., Any], compiled: Callable[..., Any]) -> None:
    """Let compiled code that calls ``function`` do what ``compiled`` says, of the same parameters."""
    overload(function, strict=False)(lambda *_: compiled)


_means(pointers.call, lambda function, words, lo, hi, step: _calls(function, words, lo, hi, step))  # noqa: PLW0108
_means(pointers.fetch_add, lambda address, amount: _adds(address, amount))  # noqa: PLW0108
_means(pointers.fetch, lambda address: _reads(address))  # noqa: PLW0108
_means(pointers.flush_small, lambda: _flushes())  # noqa: PLW0108
_means(pointers.restore, lambda mode: _restores(mode))  # noqa: PLW0108
_means(pointers.give_way, lambda naps: _sleeps(pointers.NAP) if naps else _yields())
_means(kernels_random.plus, lambda a, b: a + b)
_means(kernels_random.times, lambda a, b: a * b)
_means(kernels_random.high_times, lambda a, b: _high(a, b))  # noqa: PLW0108


# --- the matrix product -----------------------------------------------------------------------------------------------


def _external(name: str, takes: int) -> Any:
    return types.ExternalFunction(name, types.void(*[_word] * takes))


@overload(products.gemm)
def _gemm(ta, tb, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    name, size = (GEMM[0], 4) if C.dtype == types.float32 else (GEMM[1], 8)
    product = _external(name, 12)

    def compiled(ta, tb, m, n, k, A, a, lda, B, b, ldb, beta, C, c, ldc):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        ia, ib, ic = A.ctypes.data + a * size, B.ctypes.data + b * size, C.ctypes.data + c * size
        product(int(ta), int(tb), m, n, k, ia, lda, ib, ldb, int(beta != 0), ic, ldc)

    return compiled


@overload(split_convolution.split_filters)
def _split_filters(lines, run, filters, W, into):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    split = _external(CONVOLUTION[0], 5)
    return lambda lines, run, filters, W, into: split(lines, run, filters, W.ctypes.data, into.ctypes.data)


@overload(split_convolution.convolve)
def _convolve(rows, columns, channels, kh, kw, padded, chunk, filters, z, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    convolve = _external(CONVOLUTION[1], 9)

    def compiled(rows, columns, channels, kh, kw, padded, chunk, filters, z, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        X, Z = padded[chunk].ctypes.data, z[n].ctypes.data
        convolve(rows, columns, channels, kh, kw, X, filters.ctypes.data, z.shape[3], Z)

    return compiled


@overload(split_convolution.correlate)
def _correlate(rows, columns, channels, kh, kw, padded, errors, chunk, parts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    correlate = _external(CONVOLUTION[2], 9)

    def compiled(rows, columns, channels, kh, kw, padded, errors, chunk, parts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        X, E, P = padded[chunk].ctypes.data, errors[chunk].ctypes.data, parts[chunk].ctypes.data
        correlate(rows, columns, channels, kh, kw, X, E, errors.shape[2], P)

    return compiled


def gemm_code(name: str, unit: str) -> bytes:
    """The object code of a matrix product, exported as ``unit``."""
    real = ("float32", "float64")[GEMM.index(name)]
    code, heights = vector_code.Code(None, real), vector_code.rows_of_tiles()
    instructions = _instructions(real, code.lanes, heights[0])
    product = products.compiled_gemm(code.size, code.lanes, heights, instructions)
    also = vector_code.tile_module(TILE[GEMM.index(name)], real)
    if real == "float32" and has_matrix_unit():
        product = _either(split_products.compiled_split_gemm(instructions | _of_matrix_unit()), product)
        return object_code(product, [_word] * 12, unit, also, split_code.split_module(SPLIT))
    return object_code(product, [_word] * 12, unit, also)


def convolution_code(name: str, unit: str) -> bytes:
    """The object code of what a convolution by a matrix unit is made of, exported as ``unit``."""
    code, it = _instructions("float32", split_tiles.LINES, 1) | _of_matrix_unit(), split_convolution
    makers = (
        it.compiled_split_filters,
        it.compiled_convolve,
        lambda code: it.compiled_correlate(code, split_products.splitting(code)),
    )
    function = makers[CONVOLUTION.index(name)](code)
    return object_code(function, [_word] * function.__code__.co_argcount, unit, split_code.split_module(SPLIT))


def _either(split: Callable[..., None], plain: Callable[..., None]) -> Callable[..., None]:
    """The product of tiles of parts where that pays, the plain one elsewhere."""
    worth, split, plain = (njit(**_plain())(f) for f in (split_products.worth, split, plain))

    def product(ta, tb, m, n, k, A, lda, B, ldb, add, C, ldc):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if worth(m, n, k):
            split(ta, tb, m, n, k, A, lda, B, ldb, add, C, ldc)
        else:
            plain(ta, tb, m, n, k, A, lda, B, ldb, add, C, ldc)

    return product


def _of_matrix_unit() -> dict[str, Any]:
    """What is done by functions of their own, and what by instructions."""
    own = {do: _external(name, takes) for name, (do, takes) in zip(SPLIT, split_code.TAKES.items(), strict=True)}
    begin, end = (
        _instruction(lambda b, a, do=do: getattr(split_code.SplitCode(b), do)(a), types.void, *[_word] * takes)
        for do, takes in (("begin", 1), ("end", 0))
    )
    return {
        **own,
        "begin": begin,
        "end": end,
        "stack_block": _stack(split_products.BLOCK),
        "stack_panels": _stack(2 * split_products.PANEL),
        "stack_edge": _stack(split_products.EDGE),
        "stack_turned": _stack(2 * split_tiles.TILE),
        "stack_band": _stack(split_convolution.BAND),
        "stack_square": _stack(split_convolution.EDGE + 64),
        "stack_errors": _stack(split_convolution.ERRORS),
    }


def _stack(size: int) -> Any:
    return _instruction(lambda b, _: _on_stack(b, size), _word)


def _instructions(real: str, lanes: int, high: int) -> dict[str, Any]:
    number, size = (types.float32, 4) if real == "float32" else (types.float64, 8)

    def written(do: str, takes: int) -> Any:
        return _instruction(lambda b, a: getattr(vector_code.Code(b, real), do)(a), types.void, *[_word] * takes)

    def load(builder: Any, arguments: Any) -> Any:
        it = vector_code.Code(builder, real)
        return builder.load(it.at(arguments[0], it.number), align=size)

    def store(builder: Any, arguments: Any) -> None:
        it = vector_code.Code(builder, real)
        builder.store(arguments[0], it.at(arguments[1], it.number), align=size)

    return {
        "tile": _external(TILE[real != "float32"], vector_code.TILE_TAKES),
        "turn": written("turn", 5),
        "move": written("move", 2),
        "load": _instruction(load, number, _word),
        "store": _instruction(store, types.void, number, _word),
        "stack_panel": _stack(size * products.PART * vector_code.VECTORS * lanes),
        "stack_rows": _stack(size * (products.PART * products.BLOCK * high + lanes)),
        "inlined": njit(**_options(jit.FAST)),
        "zero": np.dtype(real).type(0),
    }


def _on_stack(builder: Any, size: int) -> Any:
    """The address of so many bytes of the function's own."""
    with builder.goto_entry_block():
        place = builder.alloca(ir.ArrayType(ir.IntType(8), size))
    place.align = 64
    return builder.ptrtoint(place, _WORD)


# --- object code ------------------------------------------------------------------------------------------------------


def kernel_code(text: str, name: str, kernel: Callable[..., Any]) -> bytes:
    """The object code of ``name``(words, lo, hi, step), the function ``call`` of a text that unpacks and calls."""
    known()
    space = {"kernel": kernel, "pointer": pointer, "carray": numba.carray, "types": types}
    exec(compile(text, name, "exec"), space)  # noqa: S102  our own text, of a kernel's arguments
    return object_code(space["call"], [_word] * 4, name)


@cache
def checked(name: str) -> Callable[..., Any]:
    """A kernel that raises IndexError where an index is out of bounds, for tests with ``NUMBA_BOUNDSCHECK``."""
    known()
    make_known({name: address_of_product(name) for name in (PRODUCTS if has_matrix_unit() else GEMM)})
    kernel = jit.KERNELS[name]
    return njit(kernel, **_options(jit.ASSUMED[kernel]) | {"boundscheck": True})  # type: ignore[no-any-return]


def object_code(function: Callable[..., Any], takes: Sequence[Any], name: str, *also: str) -> bytes:
    """A function of numbers as object code that exports it under ``name`` with the calling convention of C.

    ``also`` are modules of LLVM with what it calls.
    """
    signature = types.void(*takes)
    made = njit(signature, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_plain())(function)
    (found,) = made.overloads.values()
    text = found.library.get_llvm_str() + _exported(found.fndesc.llvm_func_name, len(takes), name)
    module = llvm.parse_assembly(text)
    for more in also:
        module.link_in(llvm.parse_assembly(more))
    module.verify()
    _require_known(module)
    return bytes(host().emit_object(module))


def _require_known(module: Any) -> None:
    """RuntimeError where code needs what is not there without Numba: it allocates, or raises."""
    needed = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    if unknown := sorted(n for n in needed if n.startswith(("NRT_", "Py", "numba_")) and n not in NEVER_CALLED):
        raise RuntimeError(f"a kernel may neither allocate nor raise, this one needs {', '.join(unknown)}")


def _plain() -> dict[str, Any]:
    return {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": set(jit.FAST)}


def _exported(inner: str, count: int, name: str) -> str:
    """Numba's functions also take a place for what they return and one for an exception; nobody reads either."""
    takes = ", ".join(f"i64 %a{i}" for i in range(count))
    return f"""
define void @"{name}"({takes}) {{
  %returned = alloca i8*
  %raised = alloca {{i8*, i32, i8*, i8*, i32}}*
  %status = call i32 @"{inner}"(i8** %returned, {{i8*, i32, i8*, i8*, i32}}** %raised, {takes})
  ret void
}}
"""
