"""The instructions of a product by a matrix unit, one by one, against the same written with NumPy."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import llvm_host, processor, split_code
from backlit.engines.fast.split_code import TAKES
from backlit.engines.fast.split_tiles import LINES, PARTS, STEP, TERMS, TILE
from engines.kernel_calls import needs_machine_code

pytestmark = [
    needs_machine_code,
    pytest.mark.skipif(not processor.has_matrix_unit(), reason="this processor has no matrix unit that Linux lends"),
]
RNG = np.random.default_rng(12)


@pytest.fixture(scope="module")
def do():
    """Each function by its name, on addresses."""
    import llvmlite.binding as llvm

    text = split_code.split_module([f"test_{name}" for name in TAKES])
    code = bytes(llvm_host.host().emit_object(llvm.parse_assembly(text)))
    return {
        name: ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * takes)(llvm_host.linked(code, f"test_{name}", {}))
        for name, takes in TAKES.items()
    }


def aligned(size, dtype=np.uint8):
    """Zeros that begin with a cache line."""
    given = np.zeros(size + 64, np.uint8)
    start = -given.ctypes.data % 64
    return given[start : start + size].view(dtype)


def parts(x):
    """A float32 in three bfloat16, each the rest rounded to nearest: the upper halves of their bits."""
    found, rest = [], x.astype(np.float32)
    for _ in range(PARTS):
        upper = (rest.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
        found.append((upper >> 16).astype(np.uint16))
        rest = rest - upper.view(np.float32)
    assert not rest.any()
    return found


def numbers(*shape):
    return (RNG.normal(size=shape) * 10.0 ** RNG.integers(-5, 5, shape)).astype(np.float32)


def tile_of(low, high):
    """Three tiles: lines of low and high, number beside number."""
    return [np.stack(pair, -1).reshape(LINES, TERMS) for pair in zip(parts(low), parts(high), strict=True)]


def written(memory, part):
    at = 2 * TILE * part
    return memory[at : at + TILE].view(np.uint16).reshape(LINES, TERMS)


# --- splitting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [128, 640])
def test_lines_are_split_in_three_parts_side_by_side(do, step):
    x, memory = numbers(LINES, step // 4), aligned(STEP)
    do["split"](LINES, x.ctypes.data, LINES, x.ctypes.data + 64, LINES, step, memory.ctypes.data, 2 * TILE)
    for part, want in enumerate(tile_of(x[:, :LINES], x[:, LINES:TERMS])):
        assert np.array_equal(written(memory, part), want)
        assert not memory[2 * TILE * part + TILE : 2 * TILE * (part + 1)].any()  # the second tile's place


@pytest.mark.parametrize(("wide_low", "wide_high"), [(16, 7), (5, 0), (0, 0), (1, 1)])
def test_what_is_beyond_a_line_counts_as_0_and_is_not_read(do, wide_low, wide_high):
    x, memory = numbers(LINES, TERMS), aligned(STEP)
    x[:, wide_low:LINES] = x[:, LINES + wide_high :] = np.nan
    do["split"](LINES, x.ctypes.data, wide_low, x.ctypes.data + 64, wide_high, 128, memory.ctypes.data, 2 * TILE)
    x[np.isnan(x)] = 0
    for part, want in enumerate(tile_of(x[:, :LINES], x[:, LINES:])):
        assert np.array_equal(written(memory, part), want)


@pytest.mark.parametrize("lines", [-1, 0, 1, 9])
def test_as_many_lines_as_are_asked_for(do, lines):
    x, memory = numbers(LINES, TERMS), aligned(STEP)
    memory[:] = 0xAB
    do["split"](lines, x.ctypes.data, LINES, x.ctypes.data + 64, LINES, 128, memory.ctypes.data, 2 * TILE)
    whole = tile_of(x[:, :LINES], x[:, LINES:])
    for part, want in enumerate(whole):
        assert np.array_equal(written(memory, part)[: max(lines, 0)], want[: max(lines, 0)])
        assert np.all(written(memory, part)[max(lines, 0) :] == 0xABAB)


@pytest.mark.parametrize("apart", [4096, 640])
def test_numbers_are_packed_one_behind_the_other(do, apart):
    """Five vectors, part by part so many bytes apart; nothing else is written."""
    x, memory = numbers(5 * LINES), aligned(2 * apart + 1024)
    memory[:] = 0xAB
    do["pack"](5, x.ctypes.data, memory.ctypes.data, apart)
    for part, want in enumerate(parts(x)):
        found = memory[part * apart :].view(np.uint16)
        assert np.array_equal(found[: x.size], want)
        assert np.all(found[x.size : x.size + 16] == 0xABAB)


@pytest.mark.parametrize(("lines", "wide"), [(16, 16), (3, 16), (16, 5), (0, 4), (1, 1)])
def test_a_square_is_turned(do, lines, wide):
    x, memory = numbers(LINES, 40), aligned(TILE, np.float32).reshape(LINES, LINES)
    want = np.zeros((LINES, LINES), np.float32)
    want[:wide, :lines] = x[:lines, :wide].T
    x[lines:] = x[:, wide:] = np.nan
    do["turn_some"](x.ctypes.data, 160, lines, wide, memory.ctypes.data)
    assert np.array_equal(memory, want)


# --- multiplying ------------------------------------------------------------------------------------------------------


def laid(matrix, tiles):
    """Memory with the steps of 32 lines by their terms; ``tiles`` of 16 lines and 32 terms, part by part."""
    steps = matrix.shape[1] // TERMS
    memory = aligned(steps * STEP)
    for s in range(steps):
        for half in range(2):
            some = matrix[half * LINES : (half + 1) * LINES, s * TERMS : (s + 1) * TERMS]
            for part, tile in enumerate(tiles(some)):
                at = s * STEP + 2 * TILE * part + half * TILE
                memory[at : at + TILE] = np.ascontiguousarray(tile).reshape(-1).view(np.uint8)
    return memory


def steps_of(rows):
    """32 rows of A, term t beside t + 16."""
    return laid(rows, lambda some: tile_of(some[:, :LINES], some[:, LINES:]))


def columns_of(columns):
    """32 columns of B by pairs of terms, t and t + 16."""
    return laid(columns, lambda some: tile_of(some.T[:LINES], some.T[LINES:]))


def paired(columns):
    """The same, term 2t beside 2t + 1."""
    return laid(columns, lambda some: [v.reshape(LINES, LINES, 2).transpose(1, 0, 2) for v in parts(some)])


def in_use(do, rows=LINES):
    """A function by its name, within one that sets the unit up for so many rows of A and leaves it."""
    import llvmlite.binding as llvm
    from llvmlite import ir

    names = {name: f"test_{rows}_{name}" for name in TAKES}
    module, word, outer = ir.Module(), ir.IntType(64), f"test_{rows}_around_{do}"
    kind = ir.FunctionType(ir.VoidType(), [word] * TAKES[do])
    inner, around = ir.Function(module, kind, names[do]), ir.Function(module, kind, outer)
    code = split_code.SplitCode(ir.IRBuilder(around.append_basic_block()))
    code.begin([ir.Constant(word, rows)])
    code.builder.call(inner, around.args)
    code.end(())
    code.builder.ret_void()
    whole = llvm.parse_assembly(str(module))
    whole.link_in(llvm.parse_assembly(split_code.split_module(list(names.values()))))
    place = llvm_host.linked(bytes(llvm_host.host().emit_object(whole)), outer, {})
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * TAKES[do])(place)


@pytest.fixture(scope="module")
def multiply():
    """The function of that name, with the unit set up."""
    return in_use("multiply")


def check_square(C, A, B):
    exact, size = A.astype(np.float64) @ B.T.astype(np.float64), np.abs(A).astype(np.float64) @ np.abs(B).T
    assert np.abs((C[:, : 2 * LINES] - exact) / size).max() < 2.0**-20
    assert np.isnan(C[:, 2 * LINES :]).all()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_square_of_products(multiply, steps):
    A, B = numbers(2 * LINES, steps * TERMS), numbers(2 * LINES, steps * TERMS)
    C = np.full((2 * LINES, 50), np.nan, np.float32)
    left, right = steps_of(A), columns_of(B)
    multiply(steps, left.ctypes.data, right.ctypes.data, C.ctypes.data, 200, 0, 0, 0, 0, 0)
    check_square(C, A, B)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize(("steps", "ahead"), [(1, 1), (4, 3), (5, 5)])
def test_a_tile_is_split_beside_a_square_of_products(multiply, steps, ahead, turned):
    """As many steps of it as are asked for, to the bit, and the products are none the worse."""
    A, B = numbers(2 * LINES, steps * TERMS), numbers(2 * LINES, steps * TERMS)
    C = np.full((2 * LINES, 50), np.nan, np.float32)
    left, right, memory = steps_of(A), columns_of(B), aligned(steps * STEP)
    following = numbers(LINES, steps * TERMS)  # columns of B by their terms
    X = following if turned else np.ascontiguousarray(following.T)
    given = ahead, turned, X.ctypes.data, X.strides[0], memory.ctypes.data
    multiply(steps, left.ctypes.data, right.ctypes.data, C.ctypes.data, 200, *given)
    check_square(C, A, B)
    want = columns_of(np.vstack([following, np.zeros_like(following)]))  # a place for the second tile
    assert np.array_equal(memory[: ahead * STEP], want[: ahead * STEP])
    assert not memory[ahead * STEP :].any()


def packed(image):
    """Memory with an image's parts one behind the other, and bytes from part to part."""
    apart = 2 * image.size + 64
    memory = aligned(PARTS * apart)
    for part, values in enumerate(parts(image)):
        memory[part * apart : part * apart + 2 * image.size] = values.reshape(-1).view(np.uint8)
    return memory, apart


@pytest.mark.parametrize("rows", [16, 7, 1])
@pytest.mark.parametrize(("lines", "steps"), [(1, 1), (3, 2), (2, 5)])
def test_tiles_that_lie_apart_and_overlap(rows, lines, steps):
    """Rows of A begin 8 numbers apart in lines of an image; the four tiles of C lie anywhere."""
    first, second, between = 3, 40, 8
    image, run = numbers(lines, 400), steps * TERMS
    filters = numbers(2 * LINES, lines * run)
    A = [
        np.stack([image[:, at + between * r : at + between * r + run].reshape(-1) for r in range(rows)])
        for at in (first, second)
    ]
    (left, apart), right = packed(image), paired(filters)
    C = [np.full((rows + 1, width), np.nan, np.float32) for width in (20, 33, 20, 33)]
    start = left.ctypes.data
    in_use("multiply_apart", rows)(
        lines, steps, start + 2 * first, start + 2 * second, 2 * between, apart, 2 * TERMS, 2 * 400,
        right.ctypes.data, right.ctypes.data + TILE, 2 * TILE, STEP, steps * STEP,
        *(tile.ctypes.data for tile in C), 4 * 20, 4 * 33,
    )  # fmt: skip
    for tile, (a, b) in zip(C, [(a, b) for a in A for b in (filters[:LINES], filters[LINES:])], strict=True):
        exact, size = a.astype(np.float64) @ b.T.astype(np.float64), np.abs(a).astype(np.float64) @ np.abs(b).T
        assert np.abs((tile[:rows, :LINES] - exact) / size).max() < 2.0**-20
        assert np.isnan(tile[rows:]).all()
        assert np.isnan(tile[:, LINES:]).all()


@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (32, 50), (5, 32), (32, 17), (3, 2), (0, 4)])
def test_sums_are_put_or_added_where_c_has_a_place(do, rows, columns, add):
    sums, C = aligned(4 * 2 * LINES * 2 * LINES, np.float32), numbers(40, 60)
    sums[:] = numbers(sums.size)
    before, wide = C.copy(), min(columns, 2 * LINES)
    do["settle"](sums.ctypes.data, C[4:, 6:].ctypes.data, 240, rows, columns, add)
    want = before.copy()
    square = sums.reshape(2 * LINES, 2 * LINES)[:rows, :wide]
    want[4 : 4 + rows, 6 : 6 + wide] = before[4 : 4 + rows, 6 : 6 + wide] + square if add else square
    assert np.array_equal(C, want)
