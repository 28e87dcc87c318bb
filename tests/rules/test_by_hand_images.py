"""Worked examples: convolution, pooling, up-sampling and normalisation of images of few pixels."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest

from rules.by_hand import Worked, check


def image(*rows):
    """One sample with one channel."""
    return [[[[v] for v in row] for row in rows]]


SQUARE = image([1, 2, 3], [4, 5, 6], [7, 8, 9])

TABLE = [
    Worked(
        "conv2d",
        "the kernel 1 2 / 3 4 at four places: 1·1 + 2·2 + 4·3 + 5·4 + 1 = 38",
        # dx: each dz puts its kernel down where it stood; dW[p,q]: 1·x[p,q] + 10·x[p,q+1] + 100·x[p+1,q]
        given={"x": SQUARE, "W": image([1, 2], [3, 4]), "b": [1]},
        gives={"z": image([38, 48], [68, 78])},
        dy=image([1, 10], [100, 0]),
        gradients={
            "dx": image([1, 12, 20], [103, 234, 40], [300, 400, 0]),
            "dW": image([421, 532], [754, 865]),
            "db": [111],
        },
    ),
    Worked(
        "conv2d",
        "stride 2 with a rim of zeros: the kernel meets each corner once",
        given={"x": SQUARE, "W": image([1, 1], [1, 10]), "b": None, "stride": (2, 2), "padding": ((1, 0), (1, 0))},
        gives={"z": image([10, 32], [74, 109])},
        dy=image([1, 2], [3, 4]),
        gradients={"dx": image([10, 2, 20], [3, 4, 4], [30, 4, 40]), "dW": image([20, 36], [36, 64])},
    ),
    Worked(
        "conv2d",
        "two groups: each filter sees its own channel, which dilation 2 reads in the first and the third row",
        given={
            "x": [[[[1, 10]], [[2, 20]], [[3, 30]]]],
            "W": [[[[1]], [[2]]], [[[3]], [[4]]]],
            "b": [0, 5],
            "dilation": (2, 1),
            "groups": 2,
        },
        gives={"z": [[[[7, 155]]]]},
        dy=[[[[1, 2]]]],
        gradients={
            "dx": [[[[1, 6]], [[0, 0]], [[2, 8]]]],
            "dW": [[[[1]], [[3]]], [[[20]], [[60]]]],
            "db": [1, 2],
        },
    ),
    Worked(
        "conv1d",
        "a moving difference that sees only the past",
        given={"x": [[[1], [4], [9]]], "W": [[[-1], [1]]], "b": None, "padding": (1, 0)},
        gives={"z": [[[1], [3], [5]]]},
        dy=[[[1], [10], [100]]],
        gradients={"dx": [[[-9], [-90], [100]]], "dW": [[[410], [941]]]},
    ),
    Worked(
        "conv_transpose2d",
        "every pixel puts the kernel down, two apart",
        # dx: the kernel over dz at those places; dW[p,q] = Σ x·dz
        given={"x": image([1, 2]), "W": image([1, 10], [0, 3]), "b": [5], "stride": (1, 2)},
        gives={"z": image([6, 15, 7, 25], [5, 8, 5, 11])},
        dy=image([1, 2, 3, 4], [5, 6, 7, 8]),
        gradients={"dx": image([39, 67]), "dW": image([7, 10], [19, 22]), "db": [36]},
    ),
    Worked(
        "conv_transpose2d",
        "three overlapping in a row, the first column cut off",
        given={"x": image([1, 2, 3]), "W": image([1, 1]), "b": None, "padding": ((0, 0), (1, 0))},
        gives={"z": image([3, 5, 3])},
        dy=image([1, 10, 100]),
        gradients={"dx": image([1, 11, 110]), "dW": image([1 * 2 + 10 * 3, 1 + 20 + 300])},
    ),
    Worked(
        "max_pool2d",
        "the place of each maximum takes the gradient; of two fives the first",
        given={"x": image([1, 5, 0, 2], [5, 4, 8, 3]), "kernel": (2, 2), "stride": (2, 2)},
        gives={"y": image([5, 8]), "at": image([1, 2])},
        dy=image([10, 1]),
        gradients={"dx": image([0, 10, 0, 0], [0, 0, 1, 0])},
    ),
    Worked(
        "max_pool2d",
        "what is padded is no maximum, not even of negative numbers; a pixel may be the maximum of three windows",
        given={"x": image([-2, -1, -3]), "kernel": (1, 3), "stride": (1, 1), "padding": ((0, 0), (1, 1))},
        gives={"y": image([-1, -1, -1]), "at": image([2, 1, 0])},
        dy=image([1, 10, 100]),
        gradients={"dx": image([0, 111, 0])},
    ),
    Worked(
        "avg_pool2d",
        "zeros around count: the corner is a quarter of its window's sum",
        given={"x": image([4, 8], [12, 16]), "kernel": (2, 2), "stride": (2, 2), "padding": ((1, 1), (1, 1))},
        gives={"y": image([1, 2], [3, 4])},
        dy=image([4, 8], [12, 16]),
        gradients={"dx": image([1, 2], [3, 4])},
    ),
    Worked(
        "adaptive_avg_pool2d",
        "five columns in two parts of three: the middle one is in both",
        given={"x": image([3, 6, 9, 12, 15]), "size": (1, 2)},
        gives={"y": image([6, 12])},
        dy=image([3, 6]),
        gradients={"dx": image([1, 1, 3, 2, 2])},
    ),
    Worked(
        "upsample_nearest2d",
        "each pixel becomes a block, whose gradients add up",
        given={"x": image([1, 2]), "scale": (2, 2)},
        gives={"y": image([1, 1, 2, 2], [1, 1, 2, 2])},
        dy=image([1, 2, 3, 4], [5, 6, 7, 8]),
        gradients={"dx": image([14, 22])},
    ),
    Worked(
        "upsample_bilinear2d",
        "a quarter and three quarters of the way between two pixels; beyond the centres nothing changes",
        given={"x": image([0, 8]), "scale": (1, 2)},
        gives={"y": image([0, 2, 6, 8])},
        dy=image([1, 4, 8, 2]),
        gradients={"dx": image([1 + 3 + 2, 1 + 6 + 2])},
    ),
    Worked(
        "groupnorm",
        "two groups of two channels: 1, 3, 5, 7 and 6, 0, 4, 2, both of variance 5; eps 4 divides by 3",
        # dx = (g - mean of g - x̂·(mean of g x̂))/3 with g = 12, 0, 0, 0 in each group, at x̂ = -1 and at x̂ = 1/3
        given={
            "x": [[[1, 3, 6, 0], [5, 7, 4, 2]]],
            "gamma": [3, 3, 6, 3],
            "beta": [0, 0, 0, 9],
            "groups": 2,
            "eps": 4.0,
        },
        gives={"y": [[[-3, -1, 6, 6], [1, 3, 2, 8]]], "mean": [[4, 3]], "var": [[5, 5]]},
        dy=[[[4, 0, 0, 0], [0, 0, 2, 0]]],
        gradients={
            "dx": [[[2, -Q(4, 3), -Q(4, 3), -Q(2, 3)], [-Q(2, 3), 0, Q(26, 9), -Q(8, 9)]]],
            "dgamma": [-4, 0, Q(2, 3), 0],
            "dbeta": [4, 0, 2, 0],
        },
        scale=12,
    ),
    Worked(
        "instancenorm",
        "channels 1, 7 of variance 9 and 3, 3 of none; eps 16 divides by 5 and 4",
        given={"x": [[[1, 3], [7, 3]]], "gamma": [5, 8], "beta": [0, 1], "eps": 16.0},
        gives={"y": [[[-3, 1], [3, 1]]], "mean": [[4, 3]], "var": [[9, 0]]},
        dy=[[[1, 2], [0, 4]]],
        gradients={"dx": [[[Q(8, 25), -2], [-Q(8, 25), 2]]], "dgamma": [-Q(3, 5), 0], "dbeta": [1, 6]},
        scale=32,
    ),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_images_by_hand(worked, dtype):
    check(worked, dtype)
