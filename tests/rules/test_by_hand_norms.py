"""Worked examples: normalisation, with eps chosen so that every root is rational."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest

from rules.by_hand import Worked, check

TABLE = [
    Worked(
        "layernorm",
        "variance 5 and eps 4 divide by 3: x̂ = -1, -1/3, 1/3, 1",
        # g = dy γ = 12, 0, 12, 0 with mean 6 and mean of g x̂ = -2, so that dx = (g - 6 + 2 x̂)/3
        given={"x": [1, 3, 5, 7], "gamma": [2, 3, 3, 1], "beta": [0, 1, 0, 10], "eps": 4.0},
        gives={"y": [-2, 0, 1, 11], "mean": 4, "var": 5},
        dy=[6, 0, 4, 0],
        gradients={
            "dx": [Q(4, 3), -Q(20, 9), Q(20, 9), -Q(4, 3)],
            "dgamma": [-6, 0, Q(4, 3), 0],
            "dbeta": [6, 0, 4, 0],
        },
        scale=12,
    ),
    Worked(
        "layernorm",
        "two samples, each by its own variance 1 or 25; eps 24 divides by 5 and 7",
        # x̂ = ∓1/5 and ∓5/7; g = 35, 140 and 105, 0; mean of g x̂ = 21/2 and -75/2
        given={"x": [[0, 2], [1, 11]], "gamma": [35, 70], "beta": [1, 0], "eps": 24.0},
        gives={"y": [[-6, 14], [-24, 50]], "mean": [1, 6], "var": [1, 25]},
        dy=[[1, 2], [3, 0]],
        gradients={
            "dx": [[-Q(252, 25), Q(252, 25)], [Q(180, 49), -Q(180, 49)]],
            "dgamma": [-Q(82, 35), Q(2, 5)],
            "dbeta": [4, 2],
        },
        scale=140,
    ),
    Worked(
        "rmsnorm",
        "mean square (1 + 49)/2 and eps 11 divide by 6; nothing is subtracted first",
        # g = 12, 12 with mean of g x̂ = 8; dx = (12 - 8 x̂)/6
        given={"x": [1, 7], "gamma": [6, 12], "eps": 11.0},
        gives={"y": [1, 14], "mean_square": 25},
        dy=[2, 1],
        gradients={"dx": [Q(16, 9), Q(4, 9)], "dgamma": [Q(1, 3), Q(7, 6)]},
        scale=12,
    ),
    Worked(
        "rmsnorm",
        "two samples share gamma, whose gradient is the sum",
        given={"x": [[1, 7], [-5, 5]], "gamma": [1, 1], "eps": 11.0},
        gives={"y": [[Q(1, 6), Q(7, 6)], [-Q(5, 6), Q(5, 6)]], "mean_square": [25, 25]},
        dy=[[6, 0], [0, 6]],
        gradients={"dx": [[Q(71, 72), -Q(7, 72)], [Q(25, 72), Q(47, 72)]], "dgamma": [1, 5]},
        scale=6,
    ),
    Worked(
        "batchnorm",
        "columns of variance 5 and 1; eps 5/4 divides by 5/2 and 3/2",
        # x̂ = ∓6/5, ∓2/5 and ∓2/3; γ/std = 2 in both; dx = 2 (dy - (dβ + x̂ dγ)/4)
        given={"x": [[1, 0], [3, 2], [5, 0], [7, 2]], "gamma": [5, 3], "beta": [1, 0], "eps": 1.25},
        gives={"y": [[-5, -2], [-1, 2], [3, -2], [7, 2]], "mean": [4, 1], "var": [5, 1]},
        dy=[[5, 1], [0, 2], [0, 3], [0, 6]],
        gradients={
            "dx": [
                [Q(39, 10), -Q(28, 9)],
                [-Q(37, 10), -Q(26, 9)],
                [-Q(13, 10), Q(8, 9)],
                [Q(11, 10), Q(46, 9)],
            ],
            "dgamma": [-6, Q(8, 3)],
            "dbeta": [5, 12],
        },
        scale=12,
    ),
    Worked(
        "batchnorm",
        "a batch of one has no variance: y = beta, whatever x is",
        given={"x": [[3, -8]], "gamma": [2, 5], "beta": [1, 0], "eps": 1.0},
        gives={"y": [[1, 0]], "mean": [3, -8], "var": [0, 0]},
        dy=[[7, 9]],
        gradients={"dx": [[0, 0]], "dgamma": [0, 0], "dbeta": [7, 9]},
        scale=18,
    ),
    Worked(
        "batchnorm_inference",
        "running statistics are constants: dx = dy γ/std, nothing is subtracted",
        # the roots are 2 and 3; x̂ is 0, 1 and 2/3, 4/3
        given={
            "x": [[1, 2], [3, 4]],
            "gamma": [4, 3],
            "beta": [1, -1],
            "mean": [1, 0],
            "var": [3, 8],
            "eps": 1.0,
        },
        gives={"y": [[1, 1], [5, 3]]},
        dy=[[1, 2], [4, 3]],
        gradients={"dx": [[2, 2], [8, 3]], "dgamma": [4, Q(16, 3)], "dbeta": [5, 5]},
    ),
    Worked(
        "running_average",
        "nine tenths of the old and one of the new",
        given={"old": [0, 10], "new": [4, 8]},
        gives={"y": [Q(2, 5), Q(49, 5)]},
    ),
    Worked(
        "running_average",
        "the new variance made unbiased first: n/(n - 1) = 3/2",
        given={"old": [0, 10], "new": [4, 8], "momentum": 0.25, "scale": 1.5},
        gives={"y": [Q(3, 2), Q(21, 2)]},
    ),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_norms_by_hand(worked, dtype):
    check(worked, dtype)
