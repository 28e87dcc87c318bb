"""Augmentation of a training batch: crop, flip, cut-out, rotation and mix-up, as functions of (seed, step, sample).

>>> bl.fit(model, (X, y), loss="softmax_cross_entropy", augment=[bl.augment.Crop(4), bl.augment.Flip()])

Images are x[N, H, W, C] or x[N, H, W]. What happens to a sample at a step is drawn by (seed, step, its place in the
list, its number in the data), so that a step done again sees the same batch bit for bit, and it does not matter which
samples share a mini-batch; mix-up alone pairs those of one. ``target=True`` moves targets that are images, labels or
masks y[N, H, W, …], together with the inputs. Validation and prediction see the data as they are.

An augmentation of your own is a frozen dataclass that derives from :class:`Augmentation` and defines ``apply``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.rng import generator, uniforms
from backlit.core.types import Array

Batch = tuple[Array, Array, Array | None]
"""(x[N, …], y[N, …], weights[N] or None)."""


@dataclass(frozen=True)
class Draw:
    """The random numbers of one augmentation for one mini-batch."""

    seed: int
    step: int
    name: str
    samples: Array
    """Numbers of the mini-batch's samples in the data."""
    part: int = 0
    """Which of the step's mini-batches it is, where it accumulates several."""

    def uniform(self, count: int) -> Array:
        """u[N, count] in [0, 1); each row belongs to its sample."""
        return uniforms(self.seed, self.step, self.name, self.samples, count)

    def generator(self) -> np.random.Generator:
        """A generator for what the mini-batch shares."""
        return generator(self.seed, self.step, f"{self.name}/{self.part}")


@dataclass(frozen=True)
class Augmentation:
    """Base of augmentations. ``apply`` gives the changed batch and leaves the one it is given as it is."""

    KINDS: ClassVar[dict[str, type[Augmentation]]] = {}
    """Augmentations by name, for reading a run."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Augmentation.KINDS[cls.__name__] = cls

    def apply(self, draw: Draw, batch: Batch) -> Batch:
        """The batch with its random change; each kind defines it."""
        raise NotImplementedError

    def check(self, x: tuple[int, ...], y: tuple[int, ...]) -> None:
        """InputError where data of these shapes cannot be changed so."""

    def as_dict(self) -> dict[str, Any]:
        """The augmentation as JSON values."""
        return {"kind": type(self).__name__} | {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class OfImages(Augmentation):
    """Base of those that move the pixels of each image by numbers of its own."""

    target: bool = field(default=False, kw_only=True)
    draws: ClassVar[int] = 1
    """How many uniform numbers an image takes."""

    def apply(self, draw: Draw, batch: Batch) -> Batch:
        x, y, w = batch
        u = draw.uniform(self.draws)
        return self.moved(x, u), self.moved(y, u, labels=True) if self.target else y, w

    def moved(self, images: Array, u: Array, *, labels: bool = False) -> Array:
        """The images changed by u[N, draws]; ``labels`` where they are a target, whose values must not be blended."""
        raise NotImplementedError

    def check(self, x: tuple[int, ...], y: tuple[int, ...]) -> None:
        where = f"augment: {type(self).__name__}"
        if len(x) not in (3, 4):
            raise InputError("augment_images", where=where, got=f"x{list(x)}")
        if self.target and y[:3] != x[:3]:
            expected = f"y[{', '.join(map(str, x[:3]))}, …]"
            raise InputError("augment_target", where=where, expected=expected, got=f"y{list(y)}")


@dataclass(frozen=True)
class Flip(OfImages):
    """Left and right changed over with probability ``p``."""

    p: float = 0.5

    def __post_init__(self) -> None:
        _require(self, "p", 0.0, 1.0)

    def moved(self, images: Array, u: Array, *, labels: bool = False) -> Array:  # noqa: ARG002
        return np.where(_over(u[:, 0] < self.p, images), images[:, :, ::-1], images)


@dataclass(frozen=True)
class Crop(OfImages):
    """A window of the image's own size out of the image with a border of ``padding`` pixels that hold ``fill``.

    The border of a target holds ``target_fill``. Source: He et al.: Deep residual learning, CVPR 2016, section 4.2.
    """

    padding: int = 4
    fill: float = 0.0
    target_fill: float = 0.0
    draws = 2

    def __post_init__(self) -> None:
        _require_count(self, "padding")

    def moved(self, images: Array, u: Array, *, labels: bool = False) -> Array:
        p, (height, width) = self.padding, images.shape[1:3]
        widths = [(0, 0), (p, p), (p, p), *[(0, 0)] * (images.ndim - 3)]
        padded = np.pad(images, widths, constant_values=self.target_fill if labels else self.fill)
        out = np.empty_like(images)
        for n, (top, left) in enumerate(np.floor(u * (2 * p + 1)).astype(np.int64)):
            out[n] = padded[n, top : top + height, left : left + width]
        return out


@dataclass(frozen=True)
class CutOut(OfImages):
    """A square of side ``size`` is filled with ``fill``; its centre is anywhere, so that part of it may lie outside.

    A target stays as it is. Source: DeVries, Taylor: Improved regularization of convolutional neural networks, 2017.
    """

    size: int = 8
    fill: float = 0.0
    draws = 2

    def __post_init__(self) -> None:
        _require_count(self, "size")

    def moved(self, images: Array, u: Array, *, labels: bool = False) -> Array:
        if labels:
            return images
        rows, columns = (self._hit(images.shape[k + 1], u[:, k]) for k in (0, 1))
        hit = rows[:, :, None] & columns[:, None, :]
        return np.where(hit[(..., *(None,) * (images.ndim - 3))], np.asarray(self.fill, images.dtype), images)

    def _hit(self, length: int, u: Array) -> Array:
        """Which of the places along an axis lie in each sample's square: [N, length]."""
        first = (np.floor(u * length).astype(np.int64) - self.size // 2)[:, None]
        places = np.arange(length)
        return (places >= first) & (places < first + self.size)


@dataclass(frozen=True)
class Rotate(OfImages):
    """The image turned about its centre by up to ``degrees`` either way; what comes from outside holds ``fill``.

    Values are interpolated bilinearly, those of a target taken from the nearest pixel (``target_fill`` outside).
    """

    degrees: float = 10.0
    fill: float = 0.0
    target_fill: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "degrees", 0.0, 180.0)

    def moved(self, images: Array, u: Array, *, labels: bool = False) -> Array:
        rows, columns = self._places(images.shape, np.deg2rad((2.0 * u[:, 0] - 1.0) * self.degrees))
        fill = self.target_fill if labels else self.fill
        if labels:
            return _pixels(images, np.floor(rows + 0.5), np.floor(columns + 0.5), fill)
        top, left = np.floor(rows), np.floor(columns)
        down, right = (_over(f, images).astype(images.dtype) for f in (rows - top, columns - left))
        upper, lower = (
            (1 - right) * _pixels(images, row, left, fill) + right * _pixels(images, row, left + 1, fill)
            for row in (top, top + 1)
        )
        return (1 - down) * upper + down * lower

    def _places(self, shape: tuple[int, ...], angles: Array) -> tuple[Array, Array]:
        """Where each pixel comes from: rows and columns [N, H, W]."""
        y, x = (np.arange(n) - (n - 1) / 2 for n in shape[1:3])
        cos, sin = (f(angles)[:, None, None] for f in (np.cos, np.sin))
        rows, columns = cos * y[:, None] - sin * x, sin * y[:, None] + cos * x
        return rows + (shape[1] - 1) / 2, columns + (shape[2] - 1) / 2


def _pixels(images: Array, rows: Array, columns: Array, fill: float) -> Array:
    """images[n, rows[n], columns[n]], ``fill`` where that lies outside."""
    height, width = images.shape[1:3]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    r, c = (np.where(inside, k, 0).astype(np.int64) for k in (rows, columns))
    found = images[np.arange(len(images))[:, None, None], r, c]
    return np.where(_over(inside, found), found, np.asarray(fill, images.dtype))


@dataclass(frozen=True)
class MixUp(Augmentation):
    """Each sample becomes λ of itself and 1 - λ of another of its mini-batch, its target too; λ ~ Beta(alpha, alpha).

    Integer labels become probabilities of ``classes`` classes, the model's outputs unless told, which
    softmax_cross_entropy takes; figures such as the accuracy then go by the largest. With weights w the pair weighs
    λ w_i + (1 - λ) w_j, and each target counts by its share of that, so that a loss that is linear in the target is the
    mixture of the two. Source: Zhang, Cisse, Dauphin, Lopez-Paz: mixup, ICLR 2018.
    """

    alpha: float = 0.2
    classes: int | None = None

    def __post_init__(self) -> None:
        _require(self, "alpha", 1e-6, 1e6)

    def apply(self, draw: Draw, batch: Batch) -> Batch:
        x, y, w = batch
        if y.dtype.kind in "iu":
            assert self.classes is not None
            y = np.eye(self.classes, dtype=x.dtype)[y]
        rng = draw.generator()
        other, share = rng.permutation(len(x)), rng.beta(self.alpha, self.alpha, len(x))
        mixed, of_target = _mixed(x, other, share), share
        if w is not None:
            total = share * w + (1 - share) * w[other]
            of_target = np.divide(share * w, total, out=share.copy(), where=total > 0)
            w = total.astype(w.dtype)
        return mixed, _mixed(y, other, of_target), w


def _mixed(a: Array, other: Array, share: Array) -> Array:
    own = _over(share, a).astype(a.dtype)
    return own * a + (1 - own) * a[other]


def _over(x: Array, like: Array) -> Array:
    """``x[N, …]`` with axes of length 1 appended until it has as many axes as ``like``."""
    return x.reshape(*x.shape, *(1,) * (like.ndim - x.ndim))


# --- as settings of a run -------------------------------------------------------------------------------------------


def chosen(augment: Any) -> tuple[Augmentation, ...]:
    """What ``fit`` is given, as a tuple: None, one augmentation, or several in order. InputError for anything else."""
    several = augment is not None and not isinstance(augment, Augmentation)
    given = tuple(augment) if several and isinstance(augment, Iterable) else () if augment is None else (augment,)
    if not all(isinstance(a, Augmentation) for a in given):
        raise InputError("augment_kind", where="fit", got=repr(augment))
    return given


def from_configs(told: Iterable[Mapping[str, Any]]) -> tuple[Augmentation, ...]:
    """The inverse of :meth:`Augmentation.as_dict` for several; UnknownNameError for a kind that does not exist here."""
    return tuple(lookup(Augmentation.KINDS, t["kind"], "augmentation")(**_without(t, "kind")) for t in told)


def _without(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in told.items() if k != name}


def _require(made: Augmentation, option: str, low: float, high: float) -> None:
    value = getattr(made, option)
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        _refuse(made, option, f"{low:g} <= {option} <= {high:g}")


def _require_count(made: Augmentation, option: str) -> None:
    value = getattr(made, option)
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        _refuse(made, option, "1, 2, 3, …")


def _refuse(made: Augmentation, option: str, expected: str) -> None:
    got = repr(getattr(made, option))
    raise InputError("option_range", where=type(made).__name__, option=option, expected=expected, got=got)
