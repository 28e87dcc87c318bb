"""Worked examples: matrix products and the dense layer."""

from __future__ import annotations

import numpy as np
import pytest

from rules.by_hand import Worked, check

TABLE = [
    Worked(
        "matmul",
        "da = dy bᵀ, db = aᵀ dy",
        given={"a": [[1, 2, 3], [4, 5, 6]], "b": [[1, 0], [0, 1], [2, -1]]},
        gives={"y": [[1 + 6, 2 - 3], [4 + 12, 5 - 6]]},
        dy=[[1, 10], [100, 1000]],
        gradients={
            "da": [[1, 10, 2 - 10], [100, 1000, 200 - 1000]],
            "db": [[401, 4010], [502, 5020], [603, 6030]],
        },
    ),
    Worked(
        "matmul",
        "a row times a column is a number; both gradients are the other one",
        given={"a": [[2, 3]], "b": [[5], [7]]},
        gives={"y": [[31]]},
        dy=[[2]],
        gradients={"da": [[10, 14]], "db": [[4], [6]]},
    ),
    Worked(
        "matmul",
        "a column times a row: sums of dy weighted by the other",
        given={"a": [[1], [2]], "b": [[3, 4, 5]]},
        gives={"y": [[3, 4, 5], [6, 8, 10]]},
        dy=[[1, 0, 2], [0, 3, 0]],
        gradients={"da": [[13], [12]], "db": [[1, 6, 2]]},
    ),
    Worked(
        "matmul",
        "one matrix for a batch of two: its gradient is the sum over them",
        given={"a": [[[1, 2]], [[3, 4]]], "b": [[1, 1], [0, 2]]},
        gives={"y": [[[1, 5]], [[3, 11]]]},
        dy=[[[1, 10]], [[100, 1000]]],
        gradients={
            "da": [[[11, 20]], [[1100, 2000]]],
            "db": [[1 + 300, 10 + 3000], [2 + 400, 20 + 4000]],
        },
    ),
    Worked(
        "linear",
        "one sample: dW is δ times x, an outer product",
        given={"x": [[1, 2, 3]], "W": [[1, 0, -1], [2, 1, 0]], "b": [10, 20]},
        gives={"z": [[8, 24]]},
        dy=[[2, 5]],
        gradients={"dx": [[12, 5, -2]], "dW": [[2, 4, 6], [5, 10, 15]], "db": [2, 5]},
    ),
    Worked(
        "linear",
        "two samples: dW and db add up over them, dx does not",
        given={"x": [[1, 2], [3, -4]], "W": [[1, 1], [0, 2], [-1, 0]], "b": [0, 1, 2]},
        gives={"z": [[3, 5, 1], [-1, -7, -1]]},
        dy=[[1, 2, 3], [10, 20, 30]],
        gradients={
            "dx": [[1 - 3, 1 + 4], [10 - 30, 10 + 40]],
            "dW": [[1 + 30, 2 - 40], [2 + 60, 4 - 80], [3 + 90, 6 - 120]],
            "db": [11, 22, 33],
        },
    ),
    Worked(
        "linear",
        "no bias, and a sequence of two steps",
        given={"x": [[[1], [2]]], "W": [[3], [-1]], "b": None},
        gives={"z": [[[3, -1], [6, -2]]]},
        dy=[[[1, 10], [100, 1000]]],
        gradients={"dx": [[[3 - 10], [300 - 1000]]], "dW": [[201], [2010]]},
    ),
    Worked(
        "linear",
        "a single vector",
        given={"x": [2, 3], "W": [[1, -1]], "b": [5]},
        gives={"z": [4]},
        dy=[7],
        gradients={"dx": [7, -7], "dW": [[14, 21]], "db": [7]},
    ),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_products_by_hand(worked, dtype):
    check(worked, dtype)
