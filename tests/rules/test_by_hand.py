"""Every rule has a worked example, and a wrong result does not pass for a right one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backlit.rules import REGISTRY
from rules import (
    test_by_hand_activations,
    test_by_hand_arithmetic,
    test_by_hand_attention,
    test_by_hand_images,
    test_by_hand_losses,
    test_by_hand_movement,
    test_by_hand_norms,
    test_by_hand_pairs,
    test_by_hand_products,
    test_by_hand_recurrent,
    test_by_hand_reductions,
    test_by_hand_softmax,
)
from rules.by_hand import Worked, array, check

FAMILIES = (
    test_by_hand_activations,
    test_by_hand_arithmetic,
    test_by_hand_attention,
    test_by_hand_images,
    test_by_hand_losses,
    test_by_hand_movement,
    test_by_hand_norms,
    test_by_hand_pairs,
    test_by_hand_products,
    test_by_hand_recurrent,
    test_by_hand_reductions,
    test_by_hand_softmax,
)
ALL = [worked for family in FAMILIES for worked in family.TABLE]


def test_every_rule_has_a_worked_example():
    assert {worked.rule for worked in ALL} == set(REGISTRY)


def test_no_example_is_written_twice():
    assert len({str(worked) for worked in ALL}) == len(ALL)


@pytest.mark.parametrize("worked", ALL, ids=str)
def test_every_gradient_of_an_example_is_read(worked):
    """One entry of one gradient off by a thousandth of the largest: the example fails."""
    for name, gradient in worked.gradients.items():
        parts = gradient if REGISTRY[worked.rule].variadic else [gradient]
        off = [array(part, np.float64) for part in parts]
        if not off[0].size:
            continue
        off[0].flat[-1] += 1e-3 * max(np.abs(off[0]).max(), worked.scale, 1.0)
        wrong = {name: off if REGISTRY[worked.rule].variadic else off[0].tolist()}
        with pytest.raises(AssertionError):
            check(replace(worked, gradients=worked.gradients | wrong), np.float64)


def test_an_example_names_every_output_and_every_gradient():
    product = {"rule": "mul", "says": "", "given": {"a": 2, "b": 3}}
    with pytest.raises(AssertionError, match="every gradient"):
        check(Worked(**product, gives={"y": 6}, gradients={"da": 3}), np.float64)
    with pytest.raises(AssertionError, match="every output"):
        check(Worked(**product, gives={}, gradients={"da": 3, "db": 2}), np.float64)
