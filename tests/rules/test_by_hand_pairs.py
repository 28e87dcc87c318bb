"""Worked examples: losses of masks, of rare classes and of pairs, negative sampling, normalised weights."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from mpmath import mp

from rules.by_hand import Worked, check

LN2, LN3, LN5 = mp.log(2), mp.log(3), mp.log(5)
LN5_3 = LN5 - LN3
MASK = {"logits": [[LN3, 0], [-LN3, LN3]], "targets": [[1, 0], [1, 1]]}
"""p = 3/4, 1/2 and 1/4, 3/4."""

MASKS = [
    Worked(
        "focal",
        "gamma 1, alpha 1/4: (1 - p) ln p of what is there, p ln(1 - p) of what is not",
        # 1/4 · 1/4 ln 4/3, 3/4 · 1/2 ln 2, 1/4 · 3/4 ln 4, 1/4 · 1/4 ln 4/3
        given=MASK | {"gamma": 1.0, "alpha": 0.25},
        gives={"loss": ((2 * LN2 - LN3) / 8 + 3 * LN2 / 8 + 3 * LN2 / 8) / 4, "mass": 2},
        dy=4,
        # δ of a hit: -alpha (1 - p) (p · -ln p + 1 - p); of a false alarm: (1 - alpha) p ((1 - p) · -ln(1 - p) + p)
        gradients={
            "dlogits": [
                [-(3 * (2 * LN2 - LN3) / 4 + Q(1, 4)) / 16, 3 * (LN2 / 2 + Q(1, 2)) / 8],
                [-3 * (LN2 / 2 + Q(3, 4)) / 16, -(3 * (2 * LN2 - LN3) / 4 + Q(1, 4)) / 16],
            ]
        },
    ),
    Worked(
        "focal",
        "gamma 0, alpha 1/2: half of the binary cross-entropy; the second sample counts three times",
        given=MASK | {"gamma": 0.0, "alpha": 0.5, "weights": [1, 3]},
        gives={"loss": ((3 * LN2 - LN3) / 4 + 3 * (4 * LN2 - LN3) / 4) / 4, "mass": 4},
        dy=16,
        gradients={"dlogits": [[-Q(1, 4), Q(1, 2)], [-Q(9, 4), -Q(3, 4)]]},
    ),
    Worked(
        "softmax_focal",
        "p = 3/5, 1/5, 1/5 of labels 0 and 2: (1 - p)² (-ln p) is 4/25 ln 5/3 and 16/25 ln 5",
        given={"logits": [[LN3, 0, 0], [LN3, 0, 0]], "labels": [0, 2], "gamma": 2.0},
        gives={"loss": (4 * LN5_3 + 16 * LN5) / 50, "mass": 2, "p": [[Q(3, 5), Q(1, 5), Q(1, 5)]] * 2},
        dy=50,
        # δ: (1 - p)² (2 p (-ln p) / (1 - p) + 1) times p - y
        gradients={
            "dlogits": [
                [-Q(2, 5) * 4 * (3 * LN5_3 + 1), Q(1, 5) * 4 * (3 * LN5_3 + 1), Q(1, 5) * 4 * (3 * LN5_3 + 1)],
                [Q(3, 5) * 16 * (LN5 / 2 + 1), Q(1, 5) * 16 * (LN5 / 2 + 1), -Q(4, 5) * 16 * (LN5 / 2 + 1)],
            ]
        },
    ),
    Worked(
        "softmax_focal",
        "gamma 1, alpha 10, 1, 5, weights 1 and 3, the second label ignored",
        given={"logits": [[LN3, 0, 0], [0, 0, 0]], "labels": [0, 1], "weights": [1, 3], "alpha": [10, 1, 5]}
        | {"gamma": 1.0, "ignore": 1},
        gives={"loss": 4 * LN5_3, "mass": 1, "p": [[Q(3, 5), Q(1, 5), Q(1, 5)], [Q(1, 3)] * 3]},
        dy=1,
        # δ: 10 (1 - p) (p (-ln p) / (1 - p) + 1) = 6 ln 5/3 + 4, times p - y
        gradients={"dlogits": [[-Q(2, 5) * (6 * LN5_3 + 4), *[Q(1, 5) * (6 * LN5_3 + 4)] * 2], [0, 0, 0]]},
    ),
    Worked(
        "dice",
        "2 (3/4) + 1 over 5/4 + 1 + 1, and 2 (1) + 1 over 1 + 2 + 1",
        given=MASK,
        gives={"loss": (Q(3, 13) + Q(1, 4)) / 2, "mass": 2, "dice": [Q(10, 13), Q(3, 4)], "total": [Q(13, 4), 4]},
        dy=2,
        # (D - 2 t) / total · p (1 - p): the slopes of p are 3/16, 1/4 and 3/16, 3/16
        gradients={
            "dlogits": [
                [(Q(10, 13) - 2) * Q(4, 13) * Q(3, 16), Q(10, 13) * Q(4, 13) / 4],
                [-Q(5, 16) * Q(3, 16), -Q(5, 16) * Q(3, 16)],
            ]
        },
    ),
    Worked(
        "dice",
        "smooth 2 and weights: 7/2 over 17/4, and 4 over 5",
        given=MASK | {"smooth": 2.0, "weights": [1, 4]},
        gives={"loss": (Q(3, 17) + 4 * Q(1, 5)) / 5, "mass": 5, "dice": [Q(14, 17), Q(4, 5)], "total": [Q(17, 4), 5]},
        dy=5,
        gradients={
            "dlogits": [
                [-Q(20, 17) * Q(4, 17) * Q(3, 16), Q(14, 17) * Q(4, 17) / 4],
                [-4 * Q(6, 25) * Q(3, 16), -4 * Q(6, 25) * Q(3, 16)],
            ]
        },
    ),
]

PAIRS = {"x1": [[3, 4], [1, 0]], "x2": [[4, 3], [3, 4]]}
"""cos 24/25 and 3/5; differences (-1, 1) and (-2, -4)."""

OF_PAIRS = [
    Worked(
        "cosine_similarity",
        "24/25 and 3/5; (x2/‖x2‖ - cos x1/‖x1‖)/‖x1‖",
        given=PAIRS,
        gives={"cos": [Q(24, 25), Q(3, 5)], "norm1": [5, 1], "norm2": [5, 5]},
        dy=[625, 125],
        gradients={
            "dx1": [[125 * (Q(4, 5) - Q(72, 125)), 125 * (Q(3, 5) - Q(96, 125))], [0, 100]],
            "dx2": [[125 * (Q(3, 5) - Q(96, 125)), 125 * (Q(4, 5) - Q(72, 125))], [25 * Q(16, 25), -25 * Q(12, 25)]],
        },
        scale=100,
    ),
    Worked(
        "cosine_embedding",
        "a pair that belongs together: 1/25; one that does not, margin 1/4: 3/5 - 1/4",
        given=PAIRS | {"target": [1, -1], "margin": 0.25},
        gives={
            "loss": (Q(1, 25) + Q(7, 20)) / 2,
            "mass": 2,
            "cos": [Q(24, 25), Q(3, 5)],
            "norm1": [5, 1],
            "norm2": [5, 5],
        },
        dy=1250,
        gradients={"dx1": [[-28, 21], [0, 500]], "dx2": [[21, -28], [80, -60]]},
        scale=500,
    ),
    Worked(
        "cosine_embedding",
        "beyond the margin nothing is left to do",
        given=PAIRS | {"target": [-1, -1], "margin": 0.75, "weights": [1, 3]},
        gives={"loss": Q(21, 400), "mass": 4, "cos": [Q(24, 25), Q(3, 5)], "norm1": [5, 1], "norm2": [5, 5]},
        dy=2500,
        gradients={"dx1": [[28, -21], [0, 0]], "dx2": [[-21, 28], [0, 0]]},
        scale=100,
    ),
    Worked(
        "contrastive",
        "together: D²/2 = 25/2; apart by 5 of 8: 3²/2, pushed by 3/5 of the difference",
        given={"x1": [[3, 4], [4, 3]], "x2": [[0, 0], [0, 0]], "target": [1, 0], "margin": 8.0},
        gives={"loss": Q(17, 2), "mass": 2, "distance": [5, 5]},
        dy=10,
        gradients={"dx1": [[15, 20], [-12, -9]], "dx2": [[-15, -20], [12, 9]]},
    ),
    Worked(
        "contrastive",
        "beyond the margin of 1, and weights",
        given={"x1": [[3, 4], [4, 3]], "x2": [[0, 0], [0, 0]], "target": [1, 0], "weights": [1, 4]},
        gives={"loss": Q(5, 2), "mass": 5, "distance": [5, 5]},
        dy=5,
        gradients={"dx1": [[3, 4], [0, 0]], "dx2": [[-3, -4], [0, 0]]},
    ),
    Worked(
        "negative_sampling",
        "σ = 3/4 of the true pair; 1/2 and 1/4 of the drawn ones: ln 4/3 + ln 2 + ln 4/3",
        given={"positive": [LN3], "negative": [[0, -LN3]]},
        gives={"loss": 5 * LN2 - 2 * LN3, "mass": 1},
        dy=4,
        gradients={"dpositive": [-1], "dnegative": [[2, 1]]},
    ),
    Worked(
        "negative_sampling",
        "weights 1 and 3",
        given={"positive": [LN3, 0], "negative": [[0], [LN3]], "weights": [1, 3]},
        gives={"loss": (3 * LN2 - LN3 + 3 * 3 * LN2) / 4, "mass": 4},
        dy=8,
        gradients={"dpositive": [-Q(1, 2), -3], "dnegative": [[1], [Q(9, 2)]]},
    ),
    Worked(
        "smooth_l1",
        "beta 2: 1/4, 3 - 1, 1/4 and 4 - 1; slopes are cut at ±1",
        given={"pred": [[1, 3], [-1, -4]], "target": [[0, 0], [0, 0]], "beta": 2.0},
        gives={"loss": Q(11, 8), "mass": 2},
        dy=8,
        gradients={"dpred": [[1, 2], [-1, -2]]},
    ),
    Worked(
        "smooth_l1",
        "beta 1 is Huber's function; weights",
        given={"pred": [[1, 3], [-1, -4]], "target": [[0, 1], [0, 0]], "weights": [2, 0]},
        gives={"loss": 1, "mass": 2},
        dy=2,
        gradients={"dpred": [[1, 1], [0, 0]]},
    ),
]

NORMS = [
    Worked(
        "weight_norm",
        "5/2 in the direction of (3, 4), and 1/2 in that of (0, 2)",
        given={"v": [[3, 4], [0, 2]], "g": [Q(5, 2), Q(1, 2)]},
        gives={"W": [[Q(3, 2), 2], [0, Q(1, 2)]], "norm": [5, 2]},
        dy=[[1, 2], [3, 4]],
        # g: 11/5 and 4; v: what is across the direction, times g/‖v‖
        gradients={"dv": [[-Q(4, 25), Q(3, 25)], [Q(3, 4), 0]], "dg": [Q(11, 5), 4]},
        scale=2,
    ),
    Worked(
        "weight_norm",
        "a kernel is one row",
        given={"v": [[[1, 1], [1, 1]]], "g": [4]},
        gives={"W": [[[2, 2], [2, 2]]], "norm": [2]},
        dy=[[[1, 0], [0, 0]]],
        gradients={"dv": [[[Q(3, 2), -Q(1, 2)], [-Q(1, 2), -Q(1, 2)]]], "dg": [Q(1, 2)]},
        scale=2,
    ),
    Worked(
        "spectral_norm",
        "sigma 4 of a diagonal matrix",
        given={"W": [[4, 1], [0, 2]], "u": [1, 0], "v": [1, 0]},
        gives={"y": [[1, Q(1, 4)], [0, Q(1, 2)]], "sigma": 4},
        dy=[[1, 0], [2, 4]],
        # ⟨dy, W⟩/sigma = 3 is taken from the entry at which u and v meet
        gradients={"dW": [[-Q(1, 2), 0], [Q(1, 2), 1]]},
        scale=2,
    ),
    Worked(
        "power_iteration",
        "(3, 4)/5, then (25, 0)/25",
        given={"W": [[3, 0], [4, 0]], "v": [1, 0]},
        gives={"u": [Q(3, 5), Q(4, 5)], "next": [1, 0]},
    ),
]

TABLE = MASKS + OF_PAIRS + NORMS


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_masks_pairs_and_norms_by_hand(worked, dtype):
    check(worked, dtype)
