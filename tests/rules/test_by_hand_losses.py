"""Worked examples: losses, with their mass, and the error term δ of the prediction."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from mpmath import mp

from rules.by_hand import Worked, check

LN2, LN3, LN5 = mp.log(2), mp.log(3), mp.log(5)

PAIR = {"pred": [[2, 0, 1], [-1, 4, 3]], "target": [[1, 2, 1], [0, 1, 6]]}
"""Errors 1, -2, 0 and -1, 3, -3."""

REGRESSION = [
    Worked(
        "mse",
        "(1 + 4 + 0 + 1 + 9 + 9)/6, and 2 e/6",
        given=PAIR,
        gives={"loss": 4, "mass": 2},
        dy=3,
        gradients={"dpred": [[1, -2, 0], [-1, 3, -3]]},
    ),
    Worked(
        "mse",
        "weights 1 and 3: a quarter of 5/3 and three quarters of 19/3",
        given=PAIR | {"weights": [1, 3]},
        gives={"loss": Q(5, 12) + Q(57, 12), "mass": 4},
        dy=6,
        gradients={"dpred": [[1, -2, 0], [-3, 9, -9]]},
    ),
    Worked(
        "mae",
        "(1 + 2 + 0 + 1 + 3 + 3)/6, and signs over 6",
        given=PAIR,
        gives={"loss": Q(5, 3), "mass": 2},
        dy=6,
        gradients={"dpred": [[1, -1, 0], [-1, 1, -1]]},
    ),
    Worked(
        "mae",
        "a sample of weight 0 is as if it were not there",
        given=PAIR | {"weights": [0, 5]},
        gives={"loss": Q(7, 3), "mass": 5},
        dy=3,
        gradients={"dpred": [[0, 0, 0], [-1, 1, -1]]},
    ),
    Worked(
        "huber",
        "delta 2: 1/2, 2, 0 and 1/2, 2 (3 - 1) twice; slopes are cut at ±2",
        given=PAIR | {"delta": 2.0},
        gives={"loss": (Q(5, 2) + Q(17, 2)) / 6, "mass": 2},
        dy=6,
        gradients={"dpred": [[1, -2, 0], [-1, 2, -2]]},
    ),
    Worked(
        "huber",
        "delta 1 and weights: (1/2 + 3/2)/3 twice and (1/2 + 5/2 + 5/2)/3 once, over 3",
        given=PAIR | {"weights": [2, 1]},
        gives={"loss": (2 * Q(2, 3) + Q(11, 6)) / 3, "mass": 3},
        dy=9,
        gradients={"dpred": [[2, -2, 0], [-1, 1, -1]]},
    ),
]

LOGITS = [[0, LN2, LN3], [LN3, 0, 0]]
P = [[Q(1, 6), Q(2, 6), Q(3, 6)], [Q(3, 5), Q(1, 5), Q(1, 5)]]
LABELLED = {"logits": LOGITS, "labels": [2, 1]}
CROSS_ENTROPY = [
    Worked(
        "softmax_cross_entropy",
        "-(ln 1/2 + ln 1/5)/2 and (p - y)/2",
        given=LABELLED,
        gives={"loss": (LN2 + LN5) / 2, "mass": 2, "p": P},
        dy=2,
        gradients={"dlogits": [[Q(1, 6), Q(1, 3), -Q(1, 2)], [Q(3, 5), -Q(4, 5), Q(1, 5)]]},
    ),
    Worked(
        "softmax_cross_entropy",
        "weights of samples: 3 of 4 parts are the second",
        given=LABELLED | {"weights": [1, 3]},
        gives={"loss": (LN2 + 3 * LN5) / 4, "mass": 4, "p": P},
        dy=4,
        gradients={"dlogits": [[Q(1, 6), Q(1, 3), -Q(1, 2)], [Q(9, 5), -Q(12, 5), Q(3, 5)]]},
    ),
    Worked(
        "softmax_cross_entropy",
        "weights of classes: class 1 counts twice, in the loss and in the mass",
        given=LABELLED | {"class_weights": [5, 2, 1]},
        gives={"loss": (LN2 + 2 * LN5) / 3, "mass": 3, "p": P},
        dy=3,
        gradients={"dlogits": [[Q(1, 6), Q(1, 3), -Q(1, 2)], [Q(6, 5), -Q(8, 5), Q(2, 5)]]},
    ),
    Worked(
        "softmax_cross_entropy",
        "a label to be ignored: only the first sample is left",
        given=LABELLED | {"ignore": 1},
        gives={"loss": LN2, "mass": 1, "p": P},
        dy=6,
        gradients={"dlogits": [[1, 2, -3], [0, 0, 0]]},
    ),
    Worked(
        "softmax_cross_entropy",
        "label smoothing 3/4: y' = 1/4, 1/4, 1/2, the first row p itself but for 1/12",
        # -Σ y' ln p = (ln 6 + ln 3)/4 + ln 2/2 and (ln 5 - ln 3)/4 + ln 5/2 + ln 5/4
        given=LABELLED | {"label_smoothing": 0.75},
        gives={"loss": (3 * LN2 / 4 + LN3 / 2 + LN5 - LN3 / 4) / 2, "mass": 2, "p": P},
        dy=2,
        gradients={"dlogits": [[-Q(1, 12), Q(1, 12), 0], [Q(7, 20), -Q(3, 10), -Q(1, 20)]]},
        scale=1,
    ),
    Worked(
        "softmax_cross_entropy_soft",
        "targets 1/2, 1/2, 0 and p itself, where δ is 0",
        given={"logits": LOGITS, "target": [[Q(1, 2), Q(1, 2), 0], P[1]]},
        gives={"loss": ((2 * LN3 + LN2) / 2 + LN5 - 3 * LN3 / 5) / 2, "mass": 2, "p": P},
        dy=12,
        gradients={"dlogits": [[-2, -1, 3], [0, 0, 0]]},
        scale=6,
    ),
    Worked(
        "softmax_cross_entropy_soft",
        "weights of samples and of classes; the classes do not count in the mass",
        # first sample: marks 2, 0, 0; δ = 2 p - 2 y; second: marks 0, 1/2, 3/2; δ = 2 p - marks
        given={
            "logits": LOGITS,
            "target": [[1, 0, 0], [0, Q(1, 2), Q(1, 2)]],
            "weights": [3, 1],
            "class_weights": [2, 1, 3],
        },
        gives={"loss": (3 * 2 * (LN2 + LN3) + 2 * LN5) / 4, "mass": 4, "p": P},
        dy=4,
        gradients={"dlogits": [[-5, 2, 3], [Q(6, 5), -Q(1, 10), -Q(11, 10)]]},
    ),
]

YES_NO = {"logits": [[LN3, 0], [-LN2, LN2]], "targets": [[1, 0], [1, Q(1, 2)]]}
"""p = 3/4, 1/2 and 1/3, 2/3."""
OTHERS = [
    Worked(
        "binary_cross_entropy",
        "ln 4/3, ln 2, ln 3 and half of ln 3/2 + ln 3; δ = (p - t)/4",
        given=YES_NO,
        gives={"loss": (2 * LN2 - LN3 + LN2 + LN3 + (2 * LN3 - LN2) / 2) / 4, "mass": 2},
        dy=12,
        gradients={"dlogits": [[-Q(3, 4), Q(3, 2)], [-2, Q(1, 2)]]},
    ),
    Worked(
        "binary_cross_entropy",
        "a yes of the first class counts three times, and the second sample twice",
        # first: 3 ln 4/3 and ln 2; second: 3 ln 3 and (2 ln 3 - ln 2)/2
        given=YES_NO | {"weights": [1, 2], "pos_weight": [3, 1]},
        gives={"loss": ((7 * LN2 - 3 * LN3) / 2 + (3 * LN3 + LN3 - LN2 / 2)) / 3, "mass": 3},
        dy=6,
        gradients={"dlogits": [[-Q(3, 4), Q(1, 2)], [-4, Q(1, 3)]]},
    ),
    Worked(
        "kl_divergence",
        "Σ p ln(p/q) of two samples; an entry p = 0 adds nothing",
        # ln(1/2 : 1/3)/2 + ln(1/2 : 2/3)/2 and ln(1 : 1/5)
        given={"log_q": [[-LN3, LN2 - LN3], [-LN5, 2 * LN2 - LN5]], "p": [[Q(1, 2), Q(1, 2)], [1, 0]]},
        gives={"loss": (LN3 - 3 * LN2 / 2 + LN5) / 2, "mass": 2},
        dy=4,
        gradients={"dlog_q": [[-1, -1], [-2, 0]]},
        scale=4,
    ),
    Worked(
        "kl_divergence",
        "the mean over the axes between, and weights",
        given={
            "log_q": [[[-LN2, -LN2], [-LN3, LN2 - LN3]], [[-LN2, -LN2], [-LN2, -LN2]]],
            "p": [[[1, 0], [1, 0]], [[0, 1], [Q(1, 2), Q(1, 2)]]],
            "weights": [1, 3],
        },
        gives={"loss": ((LN2 + LN3) / 2 + 3 * LN2 / 2) / 4, "mass": 4},
        dy=8,
        gradients={"dlog_q": [[[-1, 0], [-1, 0]], [[0, -3], [-Q(3, 2), -Q(3, 2)]]]},
    ),
]
TABLE = REGRESSION + CROSS_ENTROPY + OTHERS


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_losses_by_hand(worked, dtype):
    check(worked, dtype)
