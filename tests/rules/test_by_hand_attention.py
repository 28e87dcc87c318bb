"""Worked examples: rows of a table, and attention with weights of thirds and quarters."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from mpmath import mp

from rules.by_hand import Worked, check

LN2, LN3 = mp.log(2), mp.log(3)

TABLE = [
    Worked(
        "embedding",
        "row 2 was taken twice, row 1 never",
        given={"indices": [[2, 0], [0, 2], [3, 2]], "E": [[1, 2], [3, 4], [5, 6], [7, 8]]},
        gives={"y": [[[5, 6], [1, 2]], [[1, 2], [5, 6]], [[7, 8], [5, 6]]]},
        dy=[[[1, 10], [2, 20]], [[3, 30], [4, 40]], [[5, 50], [6, 60]]],
        gradients={"dE": [[5, 50], [0, 0], [11, 110], [5, 50]]},
    ),
    Worked(
        "attention",
        "scores ln 3 and 0 give 3/4 and 1/4; δ of a score is weight · dy (v - y)",
        given={"q": [[[1]]], "k": [[[LN3], [0]]], "v": [[[8], [4]]]},
        gives={"y": [[[7]]], "weights": [[[[Q(3, 4), Q(1, 4)]]]]},
        dy=[[[4]]],
        gradients={"dq": [[[3 * LN3]]], "dk": [[[3], [-3]]], "dv": [[[3], [1]]]},
    ),
    Worked(
        "attention",
        "two heads of one column each: 3/4, 1/4 in the first, 1/3, 2/3 in the second",
        given={"q": [[[1, 1]]], "k": [[[LN3, 0], [0, LN2]]], "v": [[[8, 3], [4, 9]]], "heads": 2},
        gives={"y": [[[7, 7]]], "weights": [[[[Q(3, 4), Q(1, 4)]], [[Q(1, 3), Q(2, 3)]]]]},
        dy=[[[4, 3]]],
        gradients={"dq": [[[3 * LN3, 4 * LN2]]], "dk": [[[3, -4], [-3, 4]]], "dv": [[[3, 1], [1, 2]]]},
        scale=8,
    ),
    Worked(
        "attention",
        "four columns in a head: scores are halved",
        given={"q": [[[2, 0, 0, 4]]], "k": [[[LN3, 5, 5, 0], [0, 5, 5, 0]]], "v": [[[8], [4]]]},
        gives={"y": [[[7]]], "weights": [[[[Q(3, 4), Q(1, 4)]]]]},
        dy=[[[4]]],
        gradients={
            "dq": [[[Q(3, 2) * LN3, 0, 0, 0]]],
            "dk": [[[3, 0, 0, 6], [-3, 0, 0, -6]]],
            "dv": [[[3], [1]]],
        },
        scale=15,
    ),
    Worked(
        "attention",
        "causal: the first query sees the first key alone, whatever its score",
        given={"q": [[[1], [1]]], "k": [[[LN3], [0]]], "v": [[[8], [4]]], "causal": True},
        gives={"y": [[[8], [7]]], "weights": [[[[1, 0], [Q(3, 4), Q(1, 4)]]]]},
        dy=[[[5], [4]]],
        gradients={"dq": [[[0], [3 * LN3]]], "dk": [[[3], [-3]]], "dv": [[[8], [1]]]},
        scale=40,
    ),
    Worked(
        "attention",
        "a hidden key has weight 0 and gets no gradient, however well it matches",
        given={"q": [[[1]]], "k": [[[LN3], [100], [0]]], "v": [[[8], [1000], [4]]], "mask": [[1, 0, 1]]},
        gives={"y": [[[7]]], "weights": [[[[Q(3, 4), 0, Q(1, 4)]]]]},
        dy=[[[4]]],
        gradients={"dq": [[[3 * LN3]]], "dk": [[[3], [0], [-3]]], "dv": [[[3], [0], [1]]]},
    ),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_worked_example(worked, dtype):
    check(worked, dtype)
