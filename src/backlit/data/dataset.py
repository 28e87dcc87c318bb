"""What loading gives: three pairs of model-ready arrays, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from backlit.core.i18n import say
from backlit.core.types import Array, Shape
from backlit.data.fingerprints import fingerprint
from backlit.data.preprocessing import Preprocessing
from backlit.data.remarks import Remark
from backlit.data.scaling import Target

Pair: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split and ready for a model.

    Inputs are ``X[N, …]`` float32: ``X[N, F]`` of a table, ``X[N, H, W, C]`` of images, ``X[N, T, 1]`` of sounds.
    Targets are int64 labels ``y[N]`` counted from 0 (``y[N, H, W]``, one a pixel, where images are segmented), or for
    regression float32 ``y[N, K]``, standardised; ``target.to_units`` turns predictions back.
    """

    name: str
    train: Pair
    validation: Pair | None
    """None where nothing is held out for validation."""

    test: Pair | None
    """None where nothing is held out for testing."""

    features: tuple[str, ...]
    """A name for each number of a sample, in row-major order."""

    preprocessing: Preprocessing
    """What made X of the raw table or array, fitted on the training part only; applies to new files too."""

    target: Target
    remarks: tuple[Remark, ...] = ()
    groups: Mapping[str, Array] = field(default_factory=dict)
    """Part -> the name of who or what each of its samples comes from, ``[N]``; empty where that is not known."""

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return self.target.task

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names by label; None for regression."""
        return self.target.classes

    @property
    def sample_shape(self) -> Shape:
        """Shape of one sample, what ``model.build`` takes."""
        return tuple(self.train[0].shape[1:])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, one sentence each, in the language in force."""
        return tuple(remark.text() for remark in self.remarks)

    @property
    def parts(self) -> dict[str, Pair]:
        """The parts that there are, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: pair for name, pair in found.items() if pair is not None}

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of all arrays: equal exactly where a run would see the same numbers."""
        return fingerprint(array for pair in self.parts.values() for array in pair)

    def flattened(self) -> Dataset:
        """The same data with samples as rows, ``X[N, F]``; predictions from files follow."""
        train, validation, test = (_flat(pair) for pair in (self.train, self.validation, self.test))
        assert train is not None
        fitted = self.preprocessing.flattened()
        return replace(self, train=train, validation=validation, test=test, preprocessing=fitted)

    def describe(self) -> str:
        """Name, task, shape, classes or target, and the notes, as lines of text in the language in force."""
        X, _ = self.train
        head = say(
            "describe_head",
            name=self.name,
            task=say(f"task_{self.task}"),
            samples=len(X),
            shape=list(self.sample_shape),
        )
        return "\n".join([head, *(f"  {line}" for line in (self.target.describe(), *self.notes))])

    def as_dict(self) -> dict[str, Any]:
        """Everything but the arrays, for ``run.json``; see ``Preprocessing.from_dict`` and ``Target.from_dict``."""
        return {
            "name": self.name,
            "task": self.task,
            "samples": {name: len(y) for name, (_, y) in self.parts.items()},
            "features": list(self.features),
            "preprocessing": self.preprocessing.to_dict(),
            "target": self.target.to_dict(),
            "remarks": [[r.key, dict(r.values)] for r in self.remarks],
            "sha256": self.sha256,
        }


def _flat(pair: Pair | None) -> Pair | None:
    return pair and (pair[0].reshape(len(pair[0]), -1), pair[1])
