"""Worked examples: activations where their exponentials are whole numbers, and mpmath for the error function."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from mpmath import mp

from rules.by_hand import Worked, check

LN2, LN3 = mp.log(2), mp.log(3)

RECTIFIERS = [
    Worked(
        "relu",
        "nothing from the left, nor from 0 itself",
        given={"x": [[-3, 0, 2], [Q(1, 4), -1, 5]]},
        gives={"y": [[0, 0, 2], [Q(1, 4), 0, 5]]},
        dy=[[1, 2, 3], [4, 5, 6]],
        gradients={"dx": [[0, 0, 3], [4, 0, 6]]},
    ),
    Worked(
        "leaky_relu",
        "a quarter from the left",
        given={"x": [-8, 0, 2], "slope": 0.25},
        gives={"y": [-2, 0, 2]},
        dy=[4, 8, 3],
        gradients={"dx": [1, 2, 3]},
    ),
    Worked(
        "leaky_relu",
        "a hundredth unless told otherwise",
        given={"x": [-100, 100]},
        gives={"y": [-1, 100]},
        dy=[100, 5],
        gradients={"dx": [1, 5]},
    ),
    Worked(
        "elu",
        "at -ln 2: 1/2 - 1, with slope 1/2",
        given={"x": [-LN2, -LN3, 0, 3]},
        gives={"y": [-Q(1, 2), -Q(2, 3), 0, 3]},
        dy=[2, 6, 5, 7],
        gradients={"dx": [1, 2, 5, 7]},
    ),
    Worked(
        "elu",
        "alpha 3 times as deep",
        given={"x": [-LN2, 0, 3], "alpha": 3.0},
        gives={"y": [-Q(3, 2), 0, 3]},
        dy=[2, 1, 7],
        gradients={"dx": [3, 3, 7]},
    ),
]

# α and λ from what defines them: for x ~ N(0, 1), selu(x) has mean 0 and variance 1. Over x < 0, where selu is
# λα (e^x - 1), E[e^x] = √e Φ(-1) and E[e^2x] = e² Φ(-2); over x > 0, E[x] = 1/√(2π) and E[x²] = 1/2.
_E1, _E2 = mp.sqrt(mp.e) * mp.ncdf(-1), mp.e**2 * mp.ncdf(-2)
ALPHA = 1 / mp.sqrt(2 * mp.pi) / (mp.mpf(1) / 2 - _E1)
SCALE = 1 / mp.sqrt(mp.mpf(1) / 2 + ALPHA**2 * (_E2 - 2 * _E1 + mp.mpf(1) / 2))
RECTIFIERS += [
    Worked(
        "selu",
        "λ on the right, λα e^x on the left",
        given={"x": [2, -LN2, -LN3]},
        gives={"y": [2 * SCALE, -SCALE * ALPHA / 2, -SCALE * ALPHA * 2 / 3]},
        dy=[1, 2, 3],
        gradients={"dx": [SCALE, SCALE * ALPHA, SCALE * ALPHA]},
    ),
]

SIGMOIDS = [
    Worked(
        "sigmoid",
        "odds of 1:1, 3:1, 1:3, 1:2; slope y (1 - y)",
        given={"x": [0, LN3, -LN3, -LN2]},
        gives={"y": [Q(1, 2), Q(3, 4), Q(1, 4), Q(1, 3)]},
        dy=[4, 16, 32, 9],
        gradients={"dx": [1, 3, 6, 2]},
    ),
    Worked(
        "tanh",
        "(4 - 1)/(4 + 1) and (9 - 1)/(9 + 1); slope 1 - y²",
        given={"x": [0, LN2, -LN3]},
        gives={"y": [0, Q(3, 5), -Q(4, 5)]},
        dy=[7, 25, 100],
        gradients={"dx": [7, 16, 36]},
    ),
    Worked(
        "softplus",
        "ln(1 + e^x); slope sigmoid(x)",
        given={"x": [0, LN3, -LN3, -LN2]},
        gives={"y": [LN2, 2 * LN2, mp.log(mp.mpf(4) / 3), mp.log(mp.mpf(3) / 2)]},
        dy=[4, 4, 8, 9],
        gradients={"dx": [2, 3, 2, 3]},
    ),
]


def normal_cdf(x):
    return (1 + mp.erf(x / mp.sqrt(2))) / 2


def normal_pdf(x):
    return mp.exp(-(mp.mpf(x) ** 2) / 2) / mp.sqrt(2 * mp.pi)


def tanh_gate(x):
    return (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))) / 2


POINTS = [mp.mpf(p) / 4 for p in (-8, -3, 1, 4, 12)]
GATES = [
    Worked(
        "silu",
        "x/(1 + e^-x); slope p + x p (1 - p)",
        given={"x": [0, LN3, -LN3]},
        gives={"y": [0, 3 * LN3 / 4, -LN3 / 4]},
        dy=[2, 16, 16],
        gradients={"dx": [1, 12 + 3 * LN3, 4 - 3 * LN3]},
    ),
    Worked(
        "mish",
        "e^x = 2: tanh(ln 3) = 4/5, slope 4/5 + x (1 - 16/25) 2/3; e^x = 1/2: tanh(ln(3/2)) = 5/13",
        given={"x": [0, LN2, -LN2]},
        gives={"y": [0, 4 * LN2 / 5, -5 * LN2 / 13]},
        dy=[5, 25, 169],
        gradients={"dx": [3, 20 + 6 * LN2, 65 - (169 - 25) * LN2 / 3]},
    ),
    Worked(
        "gelu",
        "x Φ(x); slope Φ(x) + x φ(x)",
        given={"x": POINTS},
        gives={"y": [x * normal_cdf(x) for x in POINTS]},
        dy=[1, 2, 3, 4, 5],
        gradients={"dx": [k * (normal_cdf(x) + x * normal_pdf(x)) for k, x in enumerate(POINTS, 1)]},
    ),
    Worked(
        "gelu",
        "at 0 half of dy goes through",
        given={"x": 0},
        gives={"y": 0},
        dy=3,
        gradients={"dx": Q(3, 2)},
    ),
    Worked(
        "gelu_tanh",
        "the approximation by tanh, its slope by mpmath's differentiation",
        given={"x": POINTS},
        gives={"y": [x * tanh_gate(x) for x in POINTS]},
        dy=[1, 2, 3, 4, 5],
        gradients={"dx": [k * mp.diff(lambda t: t * tanh_gate(t), x) for k, x in enumerate(POINTS, 1)]},
    ),
]
TABLE = RECTIFIERS + SIGMOIDS + GATES


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("worked", TABLE, ids=str)
def test_activations_by_hand(worked, dtype):
    check(worked, dtype)
