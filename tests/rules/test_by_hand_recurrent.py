"""Worked examples: recurrence, with tanh(ln 2) = 3/5, tanh(ln 3) = 4/5 and sigmoid(ln 3) = 3/4."""

from __future__ import annotations

from fractions import Fraction as Q
from math import log

import numpy as np
import pytest

from rules.by_hand import Worked, check

LN2, LN3 = log(2), log(3)
C0 = 2 * (LN2 - 9 / 20)  # so that c = f c0 + i g = ln 2

TABLE = [
    Worked(
        "rnn",
        "two steps: what comes back to the first is U times δ of the second",
        # h = 3/5, then tanh(5/3 ln 3 · 3/5) = 4/5; δ₂ = 9/25, δ₁ = 16/25 (1 + U δ₂)
        given={"z": [[[LN2], [0]]], "U": [[Q(5, 3) * LN3]]},
        gives={"h": [[[Q(3, 5)], [Q(4, 5)]]]},
        gradients={"dz": [[[Q(16, 25) * (1 + Q(3, 5) * LN3)], [Q(9, 25)]]], "dU": [[Q(27, 125)]]},
    ),
    Worked(
        "rnn",
        "relu and an initial state; the second step is off and passes nothing back",
        # a = 1 + 2·3 = 7, then -20 + 2·7 = -6
        given={"z": [[[1], [-20]]], "U": [[2]], "h0": [[3]], "activation": "relu"},
        gives={"h": [[[7], [0]]]},
        dy=[[[5], [11]]],
        gradients={"dz": [[[5], [0]]], "dU": [[15]], "dh0": [[10]]},
    ),
    Worked(
        "rnn",
        "a masked step: 0 there, and the next begins with the initial state",
        # a = 1 + 2·3, outside, 4 + 2·3; both steps inside come from h0
        given={"z": [[[1], [9], [4]]], "U": [[2]], "h0": [[3]], "mask": [[1, 0, 1]], "activation": "relu"},
        gives={"h": [[[7], [0], [10]]]},
        dy=[[[5], [11], [1]]],
        gradients={"dz": [[[5], [0], [1]]], "dU": [[18]], "dh0": [[12]]},
    ),
    Worked(
        "lstm",
        "one step from a given state: i = 3/4, f = 1/2, g = 3/5, o = 3/4, c = ln 2",
        # dc = o (1 - 9/25) = 12/25; δi = dc g i (1-i), δf = dc c0 f (1-f), δg = dc i (1-g²), δo = tanh c o (1-o)
        given={
            "z": [[[LN3 - 2, -4, LN2 + 2, LN3]]],
            "U": [[1], [2], [-1], [0]],
            "h0": [[2]],
            "c0": [[C0]],
        },
        gives={
            "h": [[[Q(9, 20)]]],
            "c": [[[LN2]]],
            "i": [[[Q(3, 4)]]],
            "f": [[[Q(1, 2)]]],
            "g": [[[Q(3, 5)]]],
            "o": [[[Q(3, 4)]]],
        },
        gradients={
            "dz": [[[Q(27, 500), Q(3, 25) * C0, Q(144, 625), Q(9, 80)]]],
            "dU": [[Q(27, 250)], [Q(6, 25) * C0], [Q(288, 625)], [Q(9, 40)]],
            "dh0": [[Q(27, 500) + Q(6, 25) * C0 - Q(144, 625)]],
            "dc0": [[Q(6, 25)]],
        },
        scale=4,
    ),
    Worked(
        "lstm",
        "the same step where only the cell is handed on: dc = 1",
        given={
            "z": [[[LN3 - 2, -4, LN2 + 2, LN3]]],
            "U": [[1], [2], [-1], [0]],
            "h0": [[2]],
            "c0": [[C0]],
        },
        gives={
            "h": [[[Q(9, 20)]]],
            "c": [[[LN2]]],
            "i": [[[Q(3, 4)]]],
            "f": [[[Q(1, 2)]]],
            "g": [[[Q(3, 5)]]],
            "o": [[[Q(3, 4)]]],
        },
        dy={"c": 1},
        gradients={
            "dz": [[[Q(9, 80), C0 / 4, Q(12, 25), 0]]],
            "dU": [[Q(9, 40)], [C0 / 2], [Q(24, 25)], [0]],
            "dh0": [[Q(9, 80) + C0 / 2 - Q(12, 25)]],
            "dc0": [[Q(1, 2)]],
        },
        scale=4,
    ),
    Worked(
        "gru",
        "one step from a given state: reset = 3/4, update = 1/4, q = 4/3, new = 3/5",
        # δn = (1 - update)(1 - new²) = 12/25, δz = (h0 - new) update (1 - update), δr = δn q reset (1 - reset)
        given={
            "z": [[[LN3 - 2, -LN3 - 4, LN2 - 1]]],
            "U": [[1], [2], [1]],
            "b_n": [-Q(2, 3)],
            "h0": [[2]],
        },
        gives={
            "h": [[[Q(19, 20)]]],
            "reset": [[[Q(3, 4)]]],
            "update": [[[Q(1, 4)]]],
            "new": [[[Q(3, 5)]]],
            "q": [[[Q(4, 3)]]],
        },
        gradients={
            "dz": [[[Q(3, 25), Q(21, 80), Q(12, 25)]]],
            "dU": [[Q(6, 25)], [Q(21, 40)], [Q(18, 25)]],
            "db_n": [Q(9, 25)],
            "dh0": [[Q(251, 200)]],
        },
        scale=6,
    ),
    Worked(
        "ctc",
        "two frames, p of blank and class 1/4 and 3/4: the label is read from 1 1, 1 blank and blank 1",
        # P = 9/16 + 3/16 + 3/16 = 15/16; in the first frame 12/15 of P are in the class, in the second too
        given={"logits": [[[0, LN3], [0, LN3]]], "labels": [[1]]},
        gives={
            "loss": log(16 / 15),
            "mass": 1,
            "p": [[[Q(1, 4), Q(3, 4)]] * 2],
            "surprise": [log(16 / 15)],
            "said": [[[-2 * LN2, LN3 - 2 * LN2, -2 * LN2]] * 2],
            "alpha": [
                [
                    [-2 * LN2, LN3 - 2 * LN2, -1e30],
                    [-4 * LN2, log(12 / 16), log(3 / 16)],
                ]
            ],
            "beta": [[[LN3 - 2 * LN2, 0, -2 * LN2], [-1e30, 0, 0]]],
        },
        gradients={"dlogits": [[[Q(1, 4) - Q(3, 15), Q(3, 4) - Q(12, 15)]] * 2]},
    ),
    Worked(
        "ctc",
        "one way only: class, blank, class again; everything not on it is pushed down",
        given={"logits": [[[0, 0], [0, 0], [0, 0]]], "labels": [[1, 1]]},
        gives={
            "loss": 3 * LN2,
            "mass": 1,
            "p": [[[Q(1, 2)] * 2] * 3],
            "surprise": [3 * LN2],
            "said": [[[-LN2] * 5] * 3],
            "alpha": [
                [
                    [-LN2, -LN2, -1e30, -1e30, -1e30],
                    [-2 * LN2, -LN2, -2 * LN2, -1e30, -1e30],
                    [-3 * LN2, log(3 / 8), log(3 / 8), -3 * LN2, -1e30],
                ]
            ],
            "beta": [
                [
                    [-1e30, -2 * LN2, log(3 / 4), log(3 / 4), -2 * LN2],
                    [-1e30, -1e30, -LN2, 0, -LN2],
                    [-1e30, -1e30, -1e30, 0, 0],
                ]
            ],
        },
        gradients={"dlogits": [[[Q(1, 2), -Q(1, 2)], [-Q(1, 2), Q(1, 2)], [Q(1, 2), -Q(1, 2)]]]},
    ),
    Worked("stop_gradient", "the same numbers", given={"x": [1, -2]}, gives={"y": [1, -2]}),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_by_hand(worked, dtype):
    check(worked, dtype)
