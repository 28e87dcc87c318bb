"""Worked examples: sums, products, means, spreads and extremes over axes."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest

from rules.by_hand import Worked, check

M = [[1, 2, 3], [4, 5, 12]]
SPREAD = [[1, 3, 5, 7], [2, 2, 6, 6]]
"""Rows of mean 4, squares of the deviations 9 + 1 + 1 + 9 = 20 and 4 · 4 = 16."""
TIED = [[4, 1, 4], [0, 2, -1]]

TABLE = [
    Worked(
        "sum",
        "rows: every entry of a row gets its dy",
        given={"x": M, "axis": 1},
        gives={"y": [6, 21]},
        dy=[2, 7],
        gradients={"dx": [[2, 2, 2], [7, 7, 7]]},
    ),
    Worked(
        "sum",
        "columns, kept as a row",
        given={"x": M, "axis": 0, "keepdims": True},
        gives={"y": [[5, 7, 15]]},
        dy=[[1, 2, 3]],
        gradients={"dx": [[1, 2, 3], [1, 2, 3]]},
    ),
    Worked(
        "sum",
        "the outer axes of three",
        given={"x": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "axis": (0, 2)},
        gives={"y": [14, 22]},
        dy=[1, 10],
        gradients={"dx": [[[1, 1], [10, 10]], [[1, 1], [10, 10]]]},
    ),
    Worked(
        "prod",
        "all but one: 2·3, 1·3, 1·2 and 5·12, 4·12, 4·5",
        given={"x": M, "axis": 1},
        gives={"y": [6, 240]},
        dy=[1, 2],
        gradients={"dx": [[6, 3, 2], [120, 96, 40]]},
    ),
    Worked(
        "prod",
        "one zero: only it has a slope; two zeros: none has",
        given={"x": [[2, 0, 5], [0, 3, 0]], "axis": -1},
        gives={"y": [0, 0]},
        dy=[3, 7],
        gradients={"dx": [[0, 30, 0], [0, 0, 0]]},
    ),
    Worked(
        "prod",
        "all entries with their signs",
        given={"x": [[-1, 2], [3, -4]]},
        gives={"y": 24},
        dy=Q(1, 2),
        gradients={"dx": [[-12, 6], [4, -3]]},
    ),
    Worked(
        "mean",
        "columns of two entries: half of dy each",
        given={"x": M, "axis": 0},
        gives={"y": [Q(5, 2), Q(7, 2), Q(15, 2)]},
        dy=[2, 4, 6],
        gradients={"dx": [[1, 2, 3], [1, 2, 3]]},
    ),
    Worked(
        "mean",
        "all six",
        given={"x": M},
        gives={"y": Q(27, 6)},
        dy=3,
        gradients={"dx": [[Q(1, 2)] * 3] * 2},
    ),
    Worked(
        "var",
        "2 dy (x - 4)/4",
        given={"x": SPREAD, "axis": 1},
        gives={"y": [5, 4]},
        dy=[2, 1],
        gradients={"dx": [[-3, -1, 1, 3], [-1, -1, 1, 1]]},
    ),
    Worked(
        "var",
        "unbiased: divided by 3, not 4",
        given={"x": SPREAD, "axis": 1, "correction": 1, "keepdims": True},
        gives={"y": [[Q(20, 3)], [Q(16, 3)]]},
        dy=[[3], [6]],
        gradients={"dx": [[-6, -2, 2, 6], [-8, -8, 8, 8]]},
    ),
    Worked(
        "var",
        "columns of two: ((a - b)/2)², with slope ±dy (a - b)/2",
        given={"x": [[1, 10], [5, 4]], "axis": 0},
        gives={"y": [4, 9]},
        dy=[1, 10],
        gradients={"dx": [[-2, 30], [2, -30]]},
    ),
    Worked(
        "std",
        "dy (x - mean)/(n std): 2, 2, 6, 6 has mean 4 and deviation 2",
        given={"x": SPREAD[1:], "axis": 1},
        gives={"y": [2]},
        dy=[4],
        gradients={"dx": [[-1, -1, 1, 1]]},
    ),
    Worked(
        "std",
        "unbiased: 0, 6, 6, 0, 3 has mean 3 and squares 36 over 4, so that dy (x - 3)/(4 · 3)",
        given={"x": [0, 6, 6, 0, 3], "correction": 1},
        gives={"y": 3},
        dy=4,
        gradients={"dx": [-1, 1, 1, -1, 0]},
    ),
    Worked(
        "std",
        "no spread, no slope",
        given={"x": [[7, 7, 7]], "axis": 1},
        gives={"y": [0]},
        dy=[5],
        gradients={"dx": [[0, 0, 0]]},
    ),
    Worked(
        "max",
        "rows: two that tie halve dy",
        given={"x": TIED, "axis": 1},
        gives={"y": [4, 2]},
        dy=[6, 5],
        gradients={"dx": [[3, 0, 3], [0, 5, 0]]},
    ),
    Worked(
        "max",
        "all entries, kept",
        given={"x": TIED, "keepdims": True},
        gives={"y": [[4]]},
        dy=[[1]],
        gradients={"dx": [[Q(1, 2), 0, Q(1, 2)], [0, 0, 0]]},
    ),
    Worked(
        "min",
        "columns",
        given={"x": TIED, "axis": 0},
        gives={"y": [0, 1, -1]},
        dy=[1, 2, 3],
        gradients={"dx": [[0, 2, 0], [1, 0, 3]]},
    ),
    Worked(
        "min",
        "three that tie take a third each",
        given={"x": [2, 5, 2, 2]},
        gives={"y": 2},
        dy=9,
        gradients={"dx": [3, 0, 3, 3]},
    ),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_reductions_by_hand(worked, dtype):
    check(worked, dtype)
