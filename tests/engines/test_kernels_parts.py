"""Kernels that combine a step's parts, against Σ m g / Σ m."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.engines.fast import kernels_parts
from engines.kernel_calls import close, untested

SIZE = 37


def test_every_kernel_is_tested_here():
    assert not untested(kernels_parts, __file__)


@pytest.mark.parametrize("masses", [[3.0], [2.0, 5.0, 1.0], [0.0, 4.0, 0.0, 2.0], [0.0, 0.0, 1.5]], ids=str)
def test_parts_come_together_by_mass(run, draw, masses):
    grads = [draw(SIZE) for _ in masses]
    losses, total, share = draw(len(masses)).astype(float), draw(SIZE), np.zeros(5)
    for loss, mass, grad in zip(losses, masses, grads, strict=True):
        g = grad.copy()
        run("weigh", 1, np.array([loss, mass]), share)
        run("combine", SIZE, g, total, share)
        assert np.array_equal(g, total)
    weights = np.array(masses) / sum(masses)
    assert share[0] == pytest.approx(weights @ losses, rel=1e-12)
    assert share[1] == sum(masses)
    close(total, np.einsum("p,pi->i", weights, np.array(grads, float)), draw.dtype)


def test_without_mass_the_first_part_stands(run, draw):
    first, total, share = draw(SIZE), draw(SIZE), np.zeros(5)
    for loss, g in ((2.0, first.copy()), (7.0, draw(SIZE))):
        run("weigh", 1, np.array([loss, 0.0]), share)
        run("combine", SIZE, g, total, share)
    assert share[:2].tolist() == [2.0, 0.0]
    assert np.array_equal(total, first)
