"""Worked examples: softmax and its relatives, of logarithms of whole numbers."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from mpmath import mp

from rules.by_hand import Worked, check

LN = {n: mp.log(n) for n in range(1, 9)}
ODDS = [LN[1], LN[2], LN[3]]
"""e^x = 1, 2, 3, so that softmax is 1/6, 2/6, 3/6."""
TWO_ROWS = [[0, LN[3]], [LN[2], 0]]
"""softmax 1/4, 3/4 and 2/3, 1/3."""

TABLE = [
    Worked(
        "softmax",
        "1 : 2 : 3; y (dy - Σ dy y) with Σ dy y = (6 + 24 + 36)/6 = 11",
        given={"x": ODDS},
        gives={"y": [Q(1, 6), Q(2, 6), Q(3, 6)]},
        dy=[6, 12, 12],
        gradients={"dx": [-Q(5, 6), Q(1, 3), Q(1, 2)]},
    ),
    Worked(
        "softmax",
        "two rows apart; Σ dy y = 3 and 6",
        given={"x": TWO_ROWS},
        gives={"y": [[Q(1, 4), Q(3, 4)], [Q(2, 3), Q(1, 3)]]},
        dy=[[0, 4], [3, 12]],
        gradients={"dx": [[-Q(3, 4), Q(3, 4)], [-2, 2]]},
        scale=6,
    ),
    Worked(
        "softmax",
        "down the columns, where e^x is 1 : 2 and 3 : 1",
        given={"x": TWO_ROWS, "axis": 0},
        gives={"y": [[Q(1, 3), Q(3, 4)], [Q(2, 3), Q(1, 4)]]},
        dy=[[9, 0], [0, 16]],
        gradients={"dx": [[2, -3], [-2, 3]]},
        scale=12,
    ),
    Worked(
        "softmax",
        "all of dy alike: nothing can change a sum of 1",
        given={"x": ODDS},
        gives={"y": [Q(1, 6), Q(2, 6), Q(3, 6)]},
        dy=[5, 5, 5],
        gradients={"dx": [0, 0, 0]},
        scale=5,
    ),
    Worked(
        "log_softmax",
        "x - ln 6; dy - y Σ dy with Σ dy = 12",
        given={"x": ODDS},
        gives={"y": [-LN[6], LN[2] - LN[6], -LN[2]]},
        dy=[1, 5, 6],
        gradients={"dx": [-1, 1, 0]},
        scale=6,
    ),
    Worked(
        "log_softmax",
        "minus the log-likelihood of the second and the first class: p less the one that was",
        given={"x": TWO_ROWS},
        gives={"y": [[-LN[4], LN[3] - LN[4]], [LN[2] - LN[3], -LN[3]]]},
        dy=[[0, -1], [-1, 0]],
        gradients={"dx": [[Q(1, 4), -Q(1, 4)], [-Q(1, 3), Q(1, 3)]]},
        scale=1,
    ),
    Worked(
        "log_softmax",
        "down the columns",
        given={"x": TWO_ROWS, "axis": 0},
        gives={"y": [[-LN[3], LN[3] - LN[4]], [LN[2] - LN[3], -LN[4]]]},
        dy=[[3, 4], [0, 4]],
        gradients={"dx": [[2, -2], [-2, 2]]},
        scale=8,
    ),
    Worked(
        "logsumexp",
        "ln(1 + 2 + 3); its gradient is softmax",
        given={"x": ODDS},
        gives={"y": LN[6]},
        dy=6,
        gradients={"dx": [1, 2, 3]},
    ),
    Worked(
        "logsumexp",
        "rows, kept: ln 4 and ln 3",
        given={"x": TWO_ROWS, "axis": 1, "keepdims": True},
        gives={"y": [[LN[4]], [LN[3]]]},
        dy=[[4], [6]],
        gradients={"dx": [[1, 3], [4, 2]]},
    ),
    Worked(
        "logsumexp",
        "everything: ln(1 + 3 + 2 + 1)",
        given={"x": TWO_ROWS, "axis": (0, 1)},
        gives={"y": LN[7]},
        dy=14,
        gradients={"dx": [[2, 6], [4, 2]]},
    ),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_softmax_by_hand(worked, dtype):
    check(worked, dtype)


def test_the_matrix_of_derivatives_of_softmax_is_diag_p_less_p_p():
    """p = 1/6, 1/3, 1/2: row i of the Jacobian is p_i (δ_ij - p_j), one dy = e_i at a time."""
    jacobian = [[Q(5, 36), -Q(2, 36), -Q(3, 36)], [-Q(2, 36), Q(8, 36), -Q(6, 36)], [-Q(3, 36), -Q(6, 36), Q(9, 36)]]
    p = [Q(1, 6), Q(2, 6), Q(3, 6)]
    for i, row in enumerate(jacobian):
        dy = [int(i == j) for j in range(3)]
        check(Worked("softmax", f"row {i}", {"x": ODDS}, {"y": p}, dy, {"dx": row}), np.float64)
