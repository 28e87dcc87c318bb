"""The toys: balanced, made from the seed alone, and of the shape their names say."""

from __future__ import annotations

import numpy as np
import pytest

from backlit.core.errors import InputError
from backlit.data import load
from backlit.data.toys import TOYS, points


@pytest.mark.parametrize("name", TOYS)
def test_the_seed_decides(name):
    first, again, other = (load(name, seed=seed) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256
    assert [len(y) for _, y in first.parts.values()] == [600, 200, 200]
    assert first.train[0].dtype == np.float32
    assert first.train[1].dtype == np.int64
    assert (first.sample_shape, first.features, first.classes) == ((2,), ("x1", "x2"), ("0", "1"))


@pytest.mark.parametrize("name", TOYS)
def test_classes_are_balanced_in_every_part(name):
    for _, y in load(name, size=300).parts.values():
        assert abs(y.mean() - 0.5) <= 0.5 / len(y) + 1e-9


@pytest.mark.parametrize("name", TOYS)
def test_points_lie_about_the_origin(name):
    X, _ = points(name, 4000, 0)
    assert np.abs(X).max() < 2.1
    assert np.abs(X.mean(axis=0)).max() < 0.06


def test_xor_is_one_where_the_signs_differ():
    X, y = points("xor", 500, 7)
    assert np.array_equal(y, [int((a > 0) != (b > 0)) for a, b in X])
    assert np.abs(X).min() >= 0.1
    corners = {(a > 0, b > 0) for a, b in X}
    assert len(corners) == 4


def test_circles_have_their_radii():
    X, y = points("circles", 2000, 0)
    radius = np.hypot(*X.T)
    assert np.isclose(radius[y == 0].mean(), 1.0, atol=0.01)
    assert np.isclose(radius[y == 1].mean(), 0.5, atol=0.01)


def test_moons_lie_on_half_circles():
    X, y = points("moons", 2000, 0)
    centres = np.where(y[:, None] == 0, [-0.5, -0.25], [0.5, 0.25])
    assert np.isclose(np.hypot(*(X - centres).T).mean(), 1.0, atol=0.02)
    up = (X - centres)[:, 1] > -0.35
    assert up[y == 0].all()
    assert ((X - centres)[:, 1] < 0.35)[y == 1].all()


def test_spiral_arms_are_half_a_turn_apart():
    X, y = points("spirals", 2000, 0)
    arm = X * np.where(y == 0, 1.0, -1.0)[:, None]
    radius = np.hypot(*arm.T)
    unwound = np.exp(1j * (np.arctan2(arm[:, 1], arm[:, 0]) - 3 * np.pi * radius))
    assert np.abs(unwound.mean() - 1) < 0.03


@pytest.mark.parametrize("name", TOYS)
def test_no_straight_line_separates_them(name):
    """Least squares on the coordinates stays far from right, so there is something to learn."""
    X, y = points(name, 1000, 0)
    A = np.column_stack([X, np.ones(len(X))])
    right = ((A @ np.linalg.lstsq(A, 2.0 * y - 1, rcond=None)[0] > 0) == y).mean()
    assert right < 0.92


def test_size_and_validation():
    data = load("moons", size=50, validation=0)
    assert data.validation is None
    assert [len(y) for _, y in data.parts.values()] == [40, 10]
    assert len(load("moons", size=50, validation=0.5).validation[1]) == 25


@pytest.mark.parametrize("size", [0, 9, 10.5, "many", True])
def test_sizes_that_make_no_toy(size):
    with pytest.raises(InputError, match="size cannot be"):
        load("xor", size=size)
