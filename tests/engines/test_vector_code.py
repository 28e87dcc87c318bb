"""Instructions that are told outright, each by itself: tiles of every height and width, squares turned over."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

pytest.importorskip("numba")

import llvmlite.binding as llvm
from llvmlite import ir

from backlit.engines.fast import llvm_host, vector_code
from backlit.engines.fast.vector_code import TILE_TAKES, VECTORS, Code, rows_of_tiles, tile_module, vector_bytes
from engines.kernel_calls import close, needs_machine_code

pytestmark = needs_machine_code
REAL = ["float32", "float64"]


def linked(name, text, takes):
    """The function of a module of LLVM."""
    code = bytes(llvm_host.host().emit_object(llvm.parse_assembly(text)))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * takes)(llvm_host.linked(code, name, {}))


@pytest.fixture(scope="module")
def tiles():
    return {real: linked(f"tile_{real}", tile_module(f"tile_{real}", real), TILE_TAKES) for real in REAL}


@pytest.fixture(scope="module")
def turns():
    return {real: linked(f"turn_{real}", turning(f"turn_{real}", real), 5) for real in REAL}


def turning(name, real):
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 5), name)
    builder = ir.IRBuilder(function.append_basic_block())
    Code(builder, real).turn(function.args)
    builder.ret_void()
    return str(module)


def lanes(real):
    return Code(None, real).lanes


@pytest.mark.parametrize("real", REAL)
def test_a_vector_is_as_long_as_the_processor_s(real):
    assert lanes(real) * np.dtype(real).itemsize == vector_bytes() in {16, 32, 64}


def test_heights_fall_to_one_and_leave_registers_for_what_is_loaded():
    heights, registers = rows_of_tiles(), 32 if vector_bytes() == 64 else 16
    assert list(heights) == sorted(heights, reverse=True)
    assert heights[-1] == 1
    assert heights[0] * VECTORS + VECTORS < registers


@pytest.mark.parametrize("turned", [False, True], ids=["A", "A turned"])
@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("terms", [1, 2, 33])
@pytest.mark.parametrize("vectors", range(1, VECTORS + 1))
@pytest.mark.parametrize("rows", rows_of_tiles())
@pytest.mark.parametrize("real", REAL)
def test_a_tile_of_every_shape(tiles, real, rows, vectors, terms, add, turned):
    """For every number of columns that fit; what lies beside C stays as it is."""
    rng, size, most = np.random.default_rng(2), np.dtype(real).itemsize, vectors * lanes(real)
    A, B = rng.normal(size=(terms, rows) if turned else (rows, terms)).astype(real), rng.normal(size=(terms, most))
    B, wide = B.astype(real), (A.T if turned else A).astype(float) @ B.astype(float)
    step_i, step_k = (size, rows * size) if turned else (terms * size, size)
    for columns in {1, most - 1, most} - {0}:
        C = rng.normal(size=(rows + 1, most + 3)).astype(real)
        before = C.copy()
        tiles[real](
            vectors, rows, terms, A.ctypes.data, step_i, step_k, B.ctypes.data, most * size, C.ctypes.data,
            (most + 3) * size, add, columns,
        )  # fmt: skip
        close(C[:rows, :columns], wide[:, :columns] + add * before[:rows, :columns].astype(float), C.dtype, 64)
        C[:rows, :columns] = before[:rows, :columns]
        assert np.array_equal(C, before)


@pytest.mark.parametrize("real", REAL)
def test_a_square_is_turned_and_missing_lines_are_the_last(turns, real):
    n, size = lanes(real), np.dtype(real).itemsize
    x = np.random.default_rng(1).normal(size=(n, n + 2)).astype(real)
    for count in range(1, n + 1):
        y = np.full((n, n + 1), np.nan, real)
        turns[real](x.ctypes.data, x.shape[1] * size, count, y.ctypes.data, y.shape[1] * size)
        lines = [min(i, count - 1) for i in range(n)]
        assert np.array_equal(y[:, :n], x[lines, :n].T)
        assert np.isnan(y[:, n]).all()


@pytest.mark.parametrize("bytes_", [16, 32, 64])
def test_code_for_every_kind_of_processor_is_well_formed(monkeypatch, bytes_):
    monkeypatch.setattr(vector_code, "vector_bytes", lambda: bytes_)
    for real in REAL:
        module = llvm.parse_assembly(tile_module("tile", real))
        module.verify()
        assert f"<{bytes_ // np.dtype(real).itemsize} x " in str(module)
