"""Worked examples: arithmetic with broadcasting, powers, exponentials, trigonometry, comparisons."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from mpmath import mp

from rules.by_hand import Worked, check

LN2, LN3, SIN1, COS1 = mp.log(2), mp.log(3), mp.sin(1), mp.cos(1)
HALF_ROOT = mp.sqrt(2) / 2

BINARY = [
    Worked(
        "add",
        "a row under every row: its gradient is the sum of the columns",
        given={"a": [[1, 2, 3], [4, 5, 6]], "b": [10, 20, 30]},
        gives={"y": [[11, 22, 33], [14, 25, 36]]},
        dy=[[1, 2, 3], [5, 7, 11]],
        gradients={"da": [[1, 2, 3], [5, 7, 11]], "db": [6, 9, 14]},
    ),
    Worked(
        "add",
        "a column and a row: sums of rows and of columns",
        given={"a": [[1], [2]], "b": [[10, 20, 30]]},
        gives={"y": [[11, 21, 31], [12, 22, 32]]},
        dy=[[1, 2, 4], [8, 16, 32]],
        gradients={"da": [[7], [56]], "db": [[9, 18, 36]]},
    ),
    Worked(
        "sub",
        "a number taken from a matrix gets minus the sum of dy",
        given={"a": [[5, 1], [2, 8]], "b": 3},
        gives={"y": [[2, -2], [-1, 5]]},
        dy=[[1, 2], [3, 4]],
        gradients={"da": [[1, 2], [3, 4]], "db": -10},
    ),
    Worked(
        "sub",
        "the other way round",
        given={"a": 3, "b": [5, 1, 4]},
        gives={"y": [-2, 2, -1]},
        dy=[2, 7, -4],
        gradients={"da": 5, "db": [-2, -7, 4]},
    ),
    Worked(
        "neg",
        "every sign turns, zero stays",
        given={"x": [[3, -2], [0, Q(1, 2)]]},
        gives={"y": [[-3, 2], [0, -Q(1, 2)]]},
        dy=[[1, 2], [3, 4]],
        gradients={"dx": [[-1, -2], [-3, -4]]},
    ),
    Worked(
        "mul",
        "each factor gets dy times the other",
        given={"a": [2, -3, 0], "b": [5, 7, 11]},
        gives={"y": [10, -21, 0]},
        dy=[1, 2, 3],
        gradients={"da": [5, 14, 33], "db": [2, -6, 0]},
    ),
    Worked(
        "mul",
        "a row scales two rows: its gradient adds up over them",
        given={"a": [[1, 2], [4, 5]], "b": [3, -1]},
        gives={"y": [[3, -2], [12, -5]]},
        dy=[[2, 10], [3, 100]],
        gradients={"da": [[6, -10], [9, -100]], "db": [2 * 1 + 3 * 4, 10 * 2 + 100 * 5]},
    ),
    Worked(
        "div",
        "da = dy/b and db = -dy a/b²",
        given={"a": [3, -8, 0], "b": [4, 2, -5]},
        gives={"y": [Q(3, 4), -4, 0]},
        dy=[16, 3, 5],
        gradients={"da": [4, Q(3, 2), -1], "db": [-3, 6, 0]},
    ),
    Worked(
        "div",
        "one divisor for all: -(1·1 + 2·2 + 3·3)/4",
        given={"a": [1, 2, 3], "b": 2},
        gives={"y": [Q(1, 2), 1, Q(3, 2)]},
        dy=[1, 2, 3],
        gradients={"da": [Q(1, 2), 1, Q(3, 2)], "db": -Q(14, 4)},
    ),
    Worked(
        "power",
        "2³, 3², 4^(1/2), 2⁻²: b a^(b-1), and y ln a",
        given={"a": [2, 3, 4, 2], "b": [3, 2, Q(1, 2), -2]},
        gives={"y": [8, 9, 2, Q(1, 4)]},
        dy=[1, 2, 8, 16],
        gradients={"da": [12, 12, 2, -4], "db": [8 * LN2, 18 * LN3, 16 * 2 * LN2, 4 * LN2]},
    ),
    Worked(
        "power",
        "a square of whole numbers of both signs; the exponent has no gradient where a ≤ 0",
        given={"a": [-3, 0, 2], "b": 2},
        gives={"y": [9, 0, 4]},
        dy=[1, 10, 100],
        gradients={"da": [-6, 0, 400], "db": 400 * LN2},
    ),
]

UNARY = [
    Worked(
        "exp",
        "the slope is the value",
        given={"x": [0, LN2, -LN3]},
        gives={"y": [1, 2, Q(1, 3)]},
        dy=[5, 7, 9],
        gradients={"dx": [5, 14, 3]},
    ),
    Worked(
        "expm1",
        "one less than exp, the same slope, and x itself near zero",
        given={"x": [LN2, -LN3, Q(1, 2**50)]},
        gives={"y": [1, -Q(2, 3), mp.mpf(2) ** -50]},
        dy=[3, 6, 1],
        gradients={"dx": [6, 2, 1]},
    ),
    Worked(
        "log",
        "slope 1/x",
        given={"x": [1, 2, Q(1, 3)]},
        gives={"y": [0, LN2, -LN3]},
        dy=[1, 6, 2],
        gradients={"dx": [1, 3, 6]},
    ),
    Worked(
        "log1p",
        "slope 1/(1 + x), and x itself near zero",
        given={"x": [1, 2, -Q(1, 2), Q(1, 2**50)]},
        gives={"y": [LN2, LN3, -LN2, mp.mpf(2) ** -50]},
        dy=[1, 6, 2, 1],
        gradients={"dx": [Q(1, 2), 2, 4, 1]},
    ),
    Worked(
        "sqrt",
        "slope 1/(2 √x)",
        given={"x": [1, 9, Q(4, 25)]},
        gives={"y": [1, 3, Q(2, 5)]},
        dy=[1, 12, 1],
        gradients={"dx": [Q(1, 2), 2, Q(5, 4)]},
    ),
    Worked(
        "sin",
        "0, π/2, π/4 and 1 radian",
        given={"x": [0, mp.pi / 2, mp.pi / 4, 1]},
        gives={"y": [0, 1, HALF_ROOT, SIN1]},
        dy=[3, 5, 2, 1],
        gradients={"dx": [3, 0, 2 * HALF_ROOT, COS1]},
    ),
    Worked(
        "cos",
        "its slope is minus the sine",
        given={"x": [0, mp.pi / 2, mp.pi / 4, -1]},
        gives={"y": [1, 0, HALF_ROOT, COS1]},
        dy=[3, 5, 2, 1],
        gradients={"dx": [0, -5, -2 * HALF_ROOT, SIN1]},
    ),
]

SIDES = {"a": [[1, 2, 3], [4, 2, 0]], "b": 2}
COMPARISONS = [
    Worked("greater", "below, tied, above", given=SIDES, gives={"y": [[0, 0, 1], [1, 0, 0]]}),
    Worked("greater_equal", "below, tied, above", given=SIDES, gives={"y": [[0, 1, 1], [1, 1, 0]]}),
    Worked("less", "below, tied, above", given=SIDES, gives={"y": [[1, 0, 0], [0, 0, 1]]}),
    Worked("less_equal", "below, tied, above", given=SIDES, gives={"y": [[1, 1, 0], [0, 1, 1]]}),
    Worked("equal", "below, tied, above", given=SIDES, gives={"y": [[0, 1, 0], [0, 1, 0]]}),
    Worked("not_equal", "below, tied, above", given=SIDES, gives={"y": [[1, 0, 1], [1, 0, 1]]}),
]
TABLE = BINARY + UNARY + COMPARISONS


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_arithmetic_by_hand(worked, dtype):
    check(worked, dtype)
