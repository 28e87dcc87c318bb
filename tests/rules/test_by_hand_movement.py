"""Worked examples: entries moved, repeated, chosen, cut off and dropped."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest

from rules.by_hand import Worked, check

M = [[1, 2, 3], [4, 5, 6]]
DY = [[10, 20, 30], [40, 50, 60]]

MOVED = [
    Worked(
        "reshape",
        "row by row, and back",
        given={"x": M, "shape": (3, 2)},
        gives={"y": [[1, 2], [3, 4], [5, 6]]},
        dy=[[10, 20], [30, 40], [50, 60]],
        gradients={"dx": DY},
    ),
    Worked(
        "reshape",
        "a size left open",
        given={"x": M, "shape": (-1,)},
        gives={"y": [1, 2, 3, 4, 5, 6]},
        dy=[10, 20, 30, 40, 50, 60],
        gradients={"dx": DY},
    ),
    Worked(
        "transpose",
        "rows become columns",
        given={"x": M, "axes": (1, 0)},
        gives={"y": [[1, 4], [2, 5], [3, 6]]},
        dy=[[10, 40], [20, 50], [30, 60]],
        gradients={"dx": DY},
    ),
    Worked(
        "transpose",
        "a cycle of three axes is undone by the cycle the other way",
        given={"x": [[[1, 2, 3], [4, 5, 6]]], "axes": (2, 0, 1)},
        gives={"y": [[[1, 4]], [[2, 5]], [[3, 6]]]},
        dy=[[[10, 40]], [[20, 50]], [[30, 60]]],
        gradients={"dx": [DY]},
    ),
    Worked(
        "broadcast_to",
        "a row twice: dy of both copies is added",
        given={"x": [1, 2, 3], "shape": (2, 3)},
        gives={"y": [[1, 2, 3], [1, 2, 3]]},
        dy=DY,
        gradients={"dx": [50, 70, 90]},
    ),
    Worked(
        "broadcast_to",
        "a column three times",
        given={"x": [[1], [2]], "shape": (2, 3)},
        gives={"y": [[1, 1, 1], [2, 2, 2]]},
        dy=DY,
        gradients={"dx": [[60], [150]]},
    ),
    Worked(
        "concatenate",
        "each part gets the piece of dy where it lies",
        given={"xs": [[[1], [4]], [[2, 3], [5, 6]]], "axis": 1},
        gives={"y": M},
        dy=DY,
        gradients={"dxs": [[[10], [40]], [[20, 30], [50, 60]]]},
    ),
    Worked(
        "stack",
        "along a new last axis",
        given={"xs": [[1, 4], [2, 5], [3, 6]], "axis": -1},
        gives={"y": M},
        dy=DY,
        gradients={"dxs": [[10, 40], [20, 50], [30, 60]]},
    ),
    Worked(
        "pad",
        "what was put around has no gradient",
        given={"x": [[1, 2]], "widths": ((1, 0), (0, 1)), "value": 9},
        gives={"y": [[9, 9, 9], [1, 2, 9]]},
        dy=DY,
        gradients={"dx": [[40, 50]]},
    ),
]

CHOSEN = [
    Worked(
        "slice",
        "every other column from the end; the rest gets 0",
        given={"x": M, "index": (slice(None), slice(None, None, -2))},
        gives={"y": [[3, 1], [6, 4]]},
        dy=[[10, 20], [30, 40]],
        gradients={"dx": [[20, 0, 10], [40, 0, 30]]},
    ),
    Worked(
        "slice",
        "one entry, with a new axis",
        given={"x": M, "index": (-1, None, 1)},
        gives={"y": [5]},
        dy=[7],
        gradients={"dx": [[0, 0, 0], [0, 7, 0]]},
    ),
    Worked(
        "take",
        "a row taken twice gets both gradients",
        given={"x": [[1, 2], [3, 4], [5, 6]], "indices": [2, 0, 2]},
        gives={"y": [[5, 6], [1, 2], [5, 6]]},
        dy=[[1, 2], [10, 20], [100, 200]],
        gradients={"dx": [[10, 20], [0, 0], [101, 202]]},
    ),
    Worked(
        "take",
        "columns by a table of indices, one from the end",
        given={"x": M, "indices": [[0, -1]], "axis": 1},
        gives={"y": [[[1, 3]], [[4, 6]]]},
        dy=[[[10, 20]], [[30, 40]]],
        gradients={"dx": [[10, 0, 20], [30, 0, 40]]},
    ),
    Worked(
        "where",
        "the side that was not chosen gets 0; the number b gets the sum of its copies",
        given={"condition": [[1, 0, 1], [0, 0, 1]], "a": M, "b": -1},
        gives={"y": [[1, -1, 3], [-1, -1, 6]]},
        dy=DY,
        gradients={"da": [[10, 0, 30], [0, 0, 60]], "db": 20 + 40 + 50},
    ),
    Worked(
        "dropout",
        "a quarter dropped, the others times 4/3",
        given={"x": [3, 6, -9, 12], "mask": [Q(4, 3), 0, Q(4, 3), Q(4, 3)]},
        gives={"y": [4, 0, -12, 16]},
        dy=[3, 3, 6, -3],
        gradients={"dx": [4, 0, 8, -4]},
    ),
    Worked(
        "dropout",
        "a whole column at once",
        given={"x": M, "mask": [2, 0, 2]},
        gives={"y": [[2, 0, 6], [8, 0, 12]]},
        dy=DY,
        gradients={"dx": [[20, 0, 60], [80, 0, 120]]},
    ),
]

BOUNDED = [
    Worked(
        "abs",
        "slopes -1, 0 at the kink, 1",
        given={"x": [-3, 0, Q(1, 2)]},
        gives={"y": [3, 0, Q(1, 2)]},
        dy=[10, 20, 30],
        gradients={"dx": [-10, 0, 30]},
    ),
    Worked(
        "maximum",
        "above, below, tied",
        given={"a": [1, 5, 4], "b": [3, 2, 4]},
        gives={"y": [3, 5, 4]},
        dy=[10, 20, 30],
        gradients={"da": [0, 20, 15], "db": [10, 0, 15]},
    ),
    Worked(
        "maximum",
        "with one number for all",
        given={"a": M, "b": 4},
        gives={"y": [[4, 4, 4], [4, 5, 6]]},
        dy=DY,
        gradients={"da": [[0, 0, 0], [20, 50, 60]], "db": 10 + 20 + 30 + 20},
    ),
    Worked(
        "minimum",
        "a row with a column",
        given={"a": [[2, 4]], "b": [[3], [1]]},
        gives={"y": [[2, 3], [1, 1]]},
        dy=[[1, 10], [100, 1000]],
        gradients={"da": [[1, 0]], "db": [[10], [1100]]},
    ),
    Worked(
        "minimum",
        "tied",
        given={"a": [7], "b": [7]},
        gives={"y": [7]},
        dy=[3],
        gradients={"da": [Q(3, 2)], "db": [Q(3, 2)]},
    ),
    Worked(
        "clip",
        "outside 0, on the bounds 1",
        given={"x": [-2, -1, 0, 2, 5], "low": -1, "high": 2},
        gives={"y": [-1, -1, 0, 2, 2]},
        dy=[1, 2, 3, 4, 5],
        gradients={"dx": [0, 2, 3, 4, 0]},
    ),
    Worked(
        "clip",
        "from below only",
        given={"x": [-2, 100], "low": 0},
        gives={"y": [0, 100]},
        dy=[1, 2],
        gradients={"dx": [0, 2]},
    ),
]
TABLE = MOVED + CHOSEN + BOUNDED


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_movement_by_hand(worked, dtype):
    check(worked, dtype)
