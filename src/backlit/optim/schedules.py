"""Learning rates over time: pure functions of the step, and one that also watches a metric.

A step counts from 1; ``total`` is the number of steps of the run and ``per_epoch`` that of an epoch. A schedule that
watches keeps what it has seen in a plain dict that JSON can hold, so a training loop treats all alike::

    state = schedule.initial()
    lr = schedule.rate(state, step, total, per_epoch)       # before each update
    state = schedule.observe(state, metric)                 # after each epoch
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from backlit.optim.recipe import Count, Fraction, NonNegative, Number, Positive, Recipe, Share

ScheduleState: TypeAlias = dict[str, Any]
"""Plain numbers by name, None for one not yet known."""


@dataclass(frozen=True)
class Moment:
    """A point in the run."""

    step: int
    total: int
    per_epoch: int

    @property
    def epoch(self) -> int:
        """Epochs done before this step."""
        return (self.step - 1) // self.per_epoch


class Schedule(Recipe):
    """Base of the schedules. Rates are above 0, floors at least 0. Raises InputError for options out of range."""

    @property
    def monitor(self) -> str | None:
        """Name of the metric to observe; None leaves the choice to the training loop."""
        return None

    def __call__(self, step: int, total: int, per_epoch: int) -> float:
        """Learning rate of update ``step`` where no metric has been observed."""
        return self.rate(self.initial(), step, total, per_epoch)

    def initial(self) -> ScheduleState:
        """State before the first observation."""
        return {}

    def observe(self, state: Mapping[str, Any], metric: float) -> ScheduleState:
        """State after an epoch that ended with this metric; the given one is left as it is."""
        del metric
        return dict(state)

    def rate(self, state: Mapping[str, Any], step: int, total: int, per_epoch: int) -> float:
        """Learning rate of update ``step``, which counts from 1."""
        return self._at(Moment(step, total, per_epoch), state)

    def _at(self, now: Moment, state: Mapping[str, Any], /) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule, name="constant"):
    """The same rate always."""

    learning_rate: Positive

    def _at(self, _now: Moment, _state: Mapping[str, Any], /) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class StepDecay(Schedule, name="step_decay"):
    """Multiplied by ``factor`` every so many epochs: lr factor^⌊epoch / every⌋, epochs from 0. PyTorch's StepLR."""

    learning_rate: Positive
    every: Count = 10
    factor: Share = 0.1

    def _at(self, now: Moment, _state: Mapping[str, Any], /) -> float:
        return self.learning_rate * self.factor ** (now.epoch // self.every)


@dataclass(frozen=True)
class Exponential(Schedule, name="exponential"):
    """Multiplied by ``factor`` after every epoch: lr factor^epoch, epochs from 0. PyTorch's ExponentialLR."""

    learning_rate: Positive
    factor: Share = 0.95

    def _at(self, now: Moment, _state: Mapping[str, Any], /) -> float:
        return self.learning_rate * self.factor**now.epoch


@dataclass(frozen=True)
class Cosine(Schedule, name="cosine"):
    """Half a cosine from ``learning_rate`` to ``floor``: floor + (lr - floor) (1 + cos(π (step - 1) / total)) / 2.

    PyTorch's CosineAnnealingLR with T_max = total, stepped at every update; beyond ``total`` it stays at the floor.
    Source: Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts, ICLR 2017 (without restarts).
    """

    learning_rate: Positive
    floor: NonNegative = 0.0

    def _at(self, now: Moment, _state: Mapping[str, Any], /) -> float:
        return _cosine(self.learning_rate, self.floor, min((now.step - 1) / now.total, 1.0))


@dataclass(frozen=True)
class Warmup(Schedule, name="warmup"):
    """Rises in a straight line over the first ``steps`` updates, then follows ``schedule`` from its own first step.

    The rate starts at the share ``start`` of the schedule's first rate; that schedule sees the remaining total - steps.
    It is PyTorch's SequentialLR of LinearLR(start) and the schedule. Source: Goyal et al.: Accurate, large minibatch
    SGD: training ImageNet in 1 hour, 2017.
    """

    schedule: Schedule
    steps: Count
    start: Share = 1 / 3

    @property
    def monitor(self) -> str | None:
        """The metric of the wrapped schedule."""
        return self.schedule.monitor

    def initial(self) -> ScheduleState:
        """State of the wrapped schedule."""
        return self.schedule.initial()

    def observe(self, state: Mapping[str, Any], metric: float) -> ScheduleState:
        """What the wrapped schedule makes of it."""
        return self.schedule.observe(state, metric)

    def _at(self, now: Moment, state: Mapping[str, Any], /) -> float:
        risen = min((now.step - 1) / self.steps, 1.0)
        step, total = max(now.step - self.steps, 1), max(now.total - self.steps, 1)
        return self.schedule.rate(state, step, total, now.per_epoch) * (self.start + (1.0 - self.start) * risen)


@dataclass(frozen=True)
class OneCycle(Schedule, name="one_cycle"):
    """Up in the first share ``rise`` of the run, then down to almost nothing, along half cosines or straight lines.

    From learning_rate / start_divisor up to learning_rate, down to learning_rate / (start_divisor end_divisor) at the
    last step, and so beyond it. PyTorch's OneCycleLR with two phases and constant momentum. Source: Smith, Topin:
    Super-convergence: very fast training of neural networks using large learning rates, 2017.
    """

    learning_rate: Positive
    rise: Fraction = 0.3
    start_divisor: Positive = 25.0
    end_divisor: Positive = 1e4
    curve: Literal["cosine", "linear"] = "cosine"

    def _at(self, now: Moment, _state: Mapping[str, Any], /) -> float:
        curve = _cosine if self.curve == "cosine" else _line
        low, top = self.learning_rate / self.start_divisor, self.rise * now.total - 1
        done, last = min(now.step, now.total) - 1, now.total - 1
        if done <= top:
            return curve(low, self.learning_rate, done / top if top else 1.0)
        return curve(self.learning_rate, low / self.end_divisor, (done - top) / (last - top))


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule, name="reduce_on_plateau"):
    """Multiplied by ``factor`` once the metric has not improved for more than ``patience`` epochs.

    PyTorch's ReduceLROnPlateau, except that a threshold relative to a best below zero is taken of its size, so that an
    improvement is never a step back. ``mode`` says whether a smaller ("min") or a larger metric ("max") is better; an
    improvement must exceed ``threshold``, relative to the best ("rel") or absolute ("abs"). After a reduction the next
    ``cooldown`` epochs do not count. The rate stays at least ``floor``; a reduction by no more than ``eps`` is not
    made. ``metric`` names what to observe, None leaves it to the training loop. A metric that is NaN is no improvement.
    """

    learning_rate: Positive
    factor: Fraction = 0.1
    patience: Number = 10
    threshold: NonNegative = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    mode: Literal["min", "max"] = "min"
    cooldown: Number = 0
    floor: NonNegative = 0.0
    eps: NonNegative = 1e-8
    metric: str | None = None

    @property
    def monitor(self) -> str | None:
        """The option ``metric``."""
        return self.metric

    def initial(self) -> ScheduleState:
        """The rate, the best metric (None: none yet), epochs since it, and epochs of cooldown left."""
        return {"learning_rate": self.learning_rate, "best": None, "bad": 0, "cooldown": 0}

    def observe(self, state: Mapping[str, Any], metric: float) -> ScheduleState:
        """State after an epoch that ended with this metric: the rate is reduced where patience is at an end."""
        better, cooling = self._better(float(metric), state["best"]), state["cooldown"] > 0
        best = float(metric) if better else state["best"]
        bad = 0 if better or cooling else state["bad"] + 1
        new = dict(state) | {"best": best, "bad": bad, "cooldown": state["cooldown"] - int(cooling)}
        return self._reduced(new) if bad > self.patience else new

    def _at(self, _now: Moment, state: Mapping[str, Any], /) -> float:
        return float(state["learning_rate"])

    def _better(self, metric: float, best: float | None) -> bool:
        sign = 1.0 if self.mode == "min" else -1.0
        if best is None:
            return sign * metric < math.inf
        margin = self.threshold * (abs(best) if self.threshold_mode == "rel" else 1.0)
        return sign * metric < sign * best - margin

    def _reduced(self, state: ScheduleState) -> ScheduleState:
        old = state["learning_rate"]
        new = max(old * self.factor, self.floor)
        return state | {"learning_rate": new if old - new > self.eps else old, "bad": 0, "cooldown": self.cooldown}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0


def _line(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
