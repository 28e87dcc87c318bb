"""The mini-batches of a run as its steps take them: gathered, in the model's dtype, augmented.

What a step is fed with is a pure function of the step's number, so it can be made ahead of time in another thread, or
years later by the replay microscope, and is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.core.types import Array, Shape
from backlit.nn.losses import Loss
from backlit.nn.targets import ignored
from backlit.train.batches import Batches
from backlit.train.settings import Settings
from backlit.train.step import Samples

if TYPE_CHECKING:
    from backlit.data.augment import Augmentation, MixUp


class Feeding(Protocol):
    """Gives the mini-batches of any step."""

    @property
    def prepares(self) -> bool:
        """Whether a mini-batch is more than rows of the arrays as they are."""

    def of_step(self, step: int) -> list[Samples]:
        """The mini-batches of ``step``, from 1."""


@dataclass(frozen=True)
class Feed:
    """Mini-batches, each made when it is asked for."""

    train: Samples
    batches: Batches
    augment: tuple[Augmentation, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, train: Samples, settings: Settings, batches: Batches) -> Feed:
        """The mini-batches of a run with these settings."""
        return cls(train, batches, settings.augment, settings.seed)

    @property
    def prepares(self) -> bool:
        """Whether a mini-batch is more than rows of the arrays as they are."""
        return bool(self.augment) or self.train.lazy

    def of_step(self, step: int) -> list[Samples]:
        """The mini-batches of ``step``, from 1. What goes wrong says at which of them."""
        return [self._part(step, part, index) for part, index in enumerate(self.batches.of_step(step))]

    def _part(self, step: int, part: int, index: Array) -> Samples:
        with noted(step, part, index), np.errstate(all="ignore"):
            return self._augmented(self.train.rows(index), step, part, index)

    def _augmented(self, samples: Samples, step: int, part: int, index: Array) -> Samples:
        if not self.augment:
            return samples
        from backlit.data.augment import Draw

        for place, augmentation in enumerate(self.augment):
            draw = Draw(self.seed, step, f"augment{place}", index, part)
            x, y, w = augmentation.apply(draw, (samples.inputs[0], samples.target, samples.weights))
            samples = replace(samples, inputs=(x,), target=y, weights=w)
        return samples


@contextmanager
def noted(step: int, part: int, index: Array) -> Iterator[None]:
    """Add to an error which mini-batch was being prepared."""
    try:
        yield
    except Exception as error:
        shown = ", ".join(map(str, index[:8].tolist())) + (", …" if len(index) > 8 else "")
        error.add_note(say("feeding_note", step=step, part=part, samples=f"[{shown}]"))
        raise


def workers_for(choice: Any, feed: Feed) -> int:
    """How many threads prepare mini-batches: ``choice``, or one where there is something to prepare."""
    if choice is None:
        return int(feed.prepares)
    if isinstance(choice, bool) or not isinstance(choice, int) or choice < 0:
        expected = "None, 0, 1, 2, …"
        raise InputError("option_range", where="fit", option="workers", expected=expected, got=repr(choice))
    return choice


def settled(augment: Sequence[Augmentation], train: Samples, output: Shape, loss: Loss) -> tuple[Augmentation, ...]:
    """The augmentations, checked against the data; mix-up knows the number of classes. InputError where one cannot be.

    ``output`` is the shape of the model's output[N, …].
    """
    if not augment:
        return ()
    from backlit.data.augment import MixUp

    if len(train.inputs) > 1:
        raise InputError("augment_inputs", where="fit", got=", ".join(f"x{list(x.shape)}" for x in train.inputs))
    for a in augment:
        a.check(train.inputs[0].shape, train.target.shape)
    return tuple(_with_classes(a, train, output, loss) if isinstance(a, MixUp) else a for a in augment)


def _with_classes(mixup: MixUp, train: Samples, output: Shape, loss: Loss) -> MixUp:
    y = train.target
    if y.dtype.kind not in "iu":
        return mixup
    if loss.name != "softmax_cross_entropy" or ignored(loss) is not None or y.ndim != len(output) - 1:
        raise InputError("augment_mixup", where="fit", loss=loss.name, got=f"y{list(y.shape)}: {y.dtype}")
    return replace(mixup, classes=mixup.classes or output[-1])
