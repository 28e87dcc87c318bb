"""Augmentation: what each kind does, entry by entry; whose numbers it goes by; what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from backlit.core.errors import InputError, UnknownNameError
from backlit.data import augment
from backlit.data.augment import Augmentation, Crop, CutOut, Draw, Flip, MixUp, Rotate

SHAPES = [(6, 5, 7, 2), (6, 4, 4)]


def drawn(samples=6, name="augment0", step=3, part=0):
    return Draw(0, step, name, np.arange(samples), part)


def images(shape=(6, 5, 7, 2), dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def applied(kind, x, y=None, w=None, draw=None):
    before = x.copy()
    found = kind.apply(draw or drawn(len(x)), (x, np.zeros(len(x)) if y is None else y, w))
    assert x.tobytes() == before.tobytes(), "the batch it was given is left as it is"
    assert found[0].dtype == x.dtype
    assert found[0].shape == x.shape
    return found


def shifted(image, down, right, fill):
    """The image moved by so many places, by the definition."""
    out = np.full_like(image, fill)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            if 0 <= i + down < image.shape[0] and 0 <= j + right < image.shape[1]:
                out[i, j] = image[i + down, j + right]
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flip_mirrors_about_half_of_the_images(shape):
    x = images(shape)
    found = applied(Flip(), x)[0]
    mirrored = [np.array_equal(f, [row[::-1] for row in image]) for f, image in zip(found, x, strict=True)]
    kept = [np.array_equal(f, image) for f, image in zip(found, x, strict=True)]
    assert [a != b for a, b in zip(mirrored, kept, strict=True)] == [True] * 6
    assert 0 < sum(mirrored) < 6
    assert np.array_equal(applied(Flip(0.0), x)[0], x)
    assert np.array_equal(applied(Flip(1.0), x)[0], x[:, :, ::-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_is_the_image_moved_by_at_most_the_padding(shape):
    x = images(shape)
    found = applied(Crop(2, fill=9.0), x)[0]
    places = set()
    for f, image in zip(found, x, strict=True):
        moves = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if np.array_equal(f, shifted(image, i, j, 9.0))]
        assert len(moves) == 1
        places |= set(moves)
    assert len(places) > 2


def test_every_move_of_a_crop_is_as_frequent():
    x = np.tile(np.arange(9.0).reshape(1, 3, 3), (5000, 1, 1)) + 1
    centre = applied(Crop(1), x)[0][:, 1, 1]
    np.testing.assert_allclose(np.bincount(centre.astype(int) - 1, minlength=9), 5000 / 9, rtol=0.15)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cut_out_is_a_square_that_may_reach_over_the_edge(shape):
    x = images((200, *shape[1:]))
    found = applied(CutOut(3, fill=5.0), x)[0]
    sides = set()
    for f, image in zip(found, x, strict=True):
        cut = (f == 5.0).reshape(*shape[1:3], -1)
        assert (cut.all(axis=-1) == cut.any(axis=-1)).all(), "all channels of a pixel"
        rows, columns = np.flatnonzero(cut.any(axis=(1, 2))), np.flatnonzero(cut.any(axis=(0, 2)))
        assert cut.any(axis=-1).sum() == len(rows) * len(columns), "one rectangle"
        assert np.array_equal(f[~cut[..., 0]], image[~cut[..., 0]])
        sides.add((len(rows), len(columns)))
    assert sides == {(a, b) for a in (2, 3) for b in (2, 3)}


def turned(image, angle, fill):
    """Bilinear interpolation at the place each pixel comes from, one pixel at a time."""
    height, width = image.shape[:2]
    out = np.empty_like(image, np.float64)
    for i in range(height):
        for j in range(width):
            y, x = i - (height - 1) / 2, j - (width - 1) / 2
            row = np.cos(angle) * y - np.sin(angle) * x + (height - 1) / 2
            column = np.sin(angle) * y + np.cos(angle) * x + (width - 1) / 2
            total = np.zeros(image.shape[2:])
            for r in (int(np.floor(row)), int(np.floor(row)) + 1):
                for c in (int(np.floor(column)), int(np.floor(column)) + 1):
                    inside = 0 <= r < height and 0 <= c < width
                    total = total + (1 - abs(row - r)) * (1 - abs(column - c)) * (image[r, c] if inside else fill)
            out[i, j] = total
    return out


def test_a_rotation_turns_about_the_centre():
    x, draw = images((4, 5, 5, 2), "float64"), drawn(4)
    found = applied(Rotate(30.0, fill=2.0), x, draw=draw)[0]
    angles = np.deg2rad((2 * draw.uniform(1)[:, 0] - 1) * 30)
    for f, image, angle in zip(found, x, angles, strict=True):
        np.testing.assert_allclose(f, turned(image, angle, 2.0), rtol=1e-10, atol=1e-12)
    assert np.array_equal(applied(Rotate(0.0), x)[0], x)


def test_a_quarter_turn_of_labels_is_exact():
    y = np.arange(9).reshape(1, 3, 3)
    quarter = Rotate(90.0, target=True).moved(y, np.ones((1, 1)), labels=True)
    assert quarter[0].tolist() == np.rot90(y[0], -1).tolist() or quarter[0].tolist() == np.rot90(y[0]).tolist()
    assert quarter.dtype == y.dtype


@pytest.mark.parametrize("kind", [Flip(target=True), Crop(2, target=True), Rotate(40.0, target=True)])
def test_targets_that_are_images_move_along(kind):
    y = np.random.default_rng(1).integers(1, 9, size=(6, 5, 7))
    x = y[..., None].astype(np.float64)
    moved, target, _ = applied(kind, x, y)
    assert target.dtype == y.dtype
    if not isinstance(kind, Rotate):
        assert np.array_equal(moved[..., 0], target)
    assert set(np.unique(target)) <= set(range(9))
    kept = applied(Crop(2), x, y)[1]
    assert kept is y, "without target=True it is left alone"


def test_a_cut_out_leaves_the_target():
    y = np.ones((6, 5, 7), int)
    assert np.array_equal(applied(CutOut(4, target=True), images(), y)[1], y)


# --- mix-up ---------------------------------------------------------------------------------------------------------


def test_mix_up_blends_inputs_and_targets_by_the_same_share():
    x, y = images((50, 3), "float64"), np.random.default_rng(2).integers(0, 4, 50)
    mixed, target, w = applied(MixUp(1.0, classes=4), x, y, draw=drawn(50))
    assert w is None
    np.testing.assert_allclose(target.sum(axis=1), 1.0)
    rng = drawn(50).generator()
    other, share = rng.permutation(50), rng.beta(1.0, 1.0, 50)
    for i in range(50):
        np.testing.assert_allclose(mixed[i], share[i] * x[i] + (1 - share[i]) * x[other[i]], rtol=1e-12)
        want = np.zeros(4)
        want[y[i]] += share[i]
        want[y[other[i]]] += 1 - share[i]
        np.testing.assert_allclose(target[i], want, rtol=1e-12)
    assert 0.3 < share.mean() < 0.7


def test_mix_up_of_values_and_small_alpha():
    x = images((400, 2), "float64")
    mixed, target, _ = applied(MixUp(0.05), x, x[:, :1] * 2, draw=drawn(400))
    np.testing.assert_allclose(target, 2 * mixed[:, :1], rtol=1e-12)
    near = np.minimum(np.abs(mixed - x).max(axis=1), 1.0) < 0.05
    assert 0.3 < near.mean() < 0.9, "most shares are near 0 or 1"


def test_mix_up_with_weights_is_the_mixture_of_the_losses():
    """Σ w̃ l(x̃, ỹ) = Σ λ w_i l(x̃, y_i) + (1 - λ) w_j l(x̃, y_j) for a loss that is linear in the target."""
    x, y, w = images((8, 3), "float64"), np.arange(8) % 3, np.array([0.0, 1, 2, 0, 3, 0, 1, 5])
    mixed, target, weights = applied(MixUp(1.0, classes=3), x, y, w, drawn(8))
    rng = drawn(8).generator()
    other, share = rng.permutation(8), rng.beta(1.0, 1.0, 8)
    loss = -np.log(np.exp(mixed) / np.exp(mixed).sum(axis=1, keepdims=True))
    rows = np.arange(8)
    whole = share * w * loss[rows, y] + (1 - share) * w[other] * loss[rows, y[other]]
    np.testing.assert_allclose(weights * (target * loss).sum(axis=1), whole, rtol=1e-12, atol=1e-15)


# --- whose numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Flip(), Crop(3), CutOut(4), Rotate(20.0)])
def test_an_image_goes_by_numbers_of_its_own(kind):
    x = images((8, 6, 6, 1))
    whole = applied(kind, x, draw=drawn(8))[0]
    order = np.array([5, 2, 7])
    part = applied(kind, x[order], draw=Draw(0, 3, "augment0", order))[0]
    assert part.tobytes() == whole[order].tobytes()


@pytest.mark.parametrize("kind", [Flip(), Crop(3), CutOut(4), Rotate(20.0), MixUp()])
def test_every_step_seed_and_place_draws_anew(kind):
    x = images((8, 6, 6, 1))
    seen = {
        applied(kind, x, draw=d)[0].tobytes()
        for d in (drawn(8), drawn(8, step=4), drawn(8, "augment1"), Draw(1, 3, "augment0", np.arange(8)))
    }
    assert len(seen) == 4
    assert applied(kind, x, draw=drawn(8))[0].tobytes() in seen


# --- as settings ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Brighter(Augmentation):
    """One of the user's own."""

    most: float = 0.1

    def apply(self, draw, batch):
        x, y, w = batch
        return x + (self.most * draw.uniform(1)[:, :, None]).astype(x.dtype), y, w


@pytest.mark.parametrize(
    "kind", [Flip(0.25), Crop(3, 1.0, target=True), CutOut(5), Rotate(12.5), MixUp(0.4, classes=7), Brighter(0.3)]
)
def test_settings_come_back(kind):
    assert augment.from_configs([kind.as_dict()]) == (kind,)


def test_what_fit_may_be_given():
    assert augment.chosen(None) == ()
    assert augment.chosen(Flip()) == (Flip(),)
    assert augment.chosen([Flip(), Crop()]) == (Flip(), Crop())
    assert augment.chosen(a for a in [Flip()]) == (Flip(),)
    for wrong in ("flip", [Flip], 3, [Flip(), None]):
        with pytest.raises(InputError) as caught:
            augment.chosen(wrong)
        assert caught.value.key == "augment_kind"
    with pytest.raises(UnknownNameError, match="Flip"):
        augment.from_configs([{"kind": "Flop"}])


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (Flip, {"p": 1.5}, "0 <= p <= 1"),
        (Flip, {"p": "often"}, "0 <= p <= 1"),
        (Crop, {"padding": 0}, "1, 2, 3, …"),
        (Crop, {"padding": 1.5}, "1, 2, 3, …"),
        (CutOut, {"size": True}, "1, 2, 3, …"),
        (Rotate, {"degrees": -1.0}, "0 <= degrees <= 180"),
        (MixUp, {"alpha": 0.0}, "1e-06 <= alpha <= 1e+06"),
        (MixUp, {"alpha": float("nan")}, "1e-06 <= alpha <= 1e+06"),
    ],
)
def test_options_out_of_range(kind, settings, expected):
    with pytest.raises(InputError) as caught:
        kind(**settings)
    assert (caught.value.key, caught.value.part("expected")) == ("option_range", expected)
    assert kind.__name__ in str(caught.value)


def test_shapes_that_are_no_images():
    for shape in ((8, 5), (8,), (8, 2, 2, 2, 2)):
        with pytest.raises(InputError) as caught:
            Crop().check(shape, (8,))
        assert caught.value.key == "augment_images"
    with pytest.raises(InputError) as caught:
        Flip(target=True).check((8, 5, 6, 1), (8, 5))
    assert caught.value.part("expected") == "y[8, 5, 6, …]"
    Flip(target=True).check((8, 5, 6, 1), (8, 5, 6))
    MixUp().check((8, 5), (8,))
