"""The replay microscope: any past step of a run, done again bit for bit from the nearest snapshot."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from backlit.core.errors import FileError, InputError
from backlit.core.events import Bus
from backlit.core.types import Array
from backlit.engines import reference
from backlit.graph.graph import Graph
from backlit.train.fit import Trainer
from backlit.train.progress import Progress, require_same_hashes
from backlit.train.run import Run
from backlit.train.step import Samples, apply, gradients


@dataclass(frozen=True)
class Moment:
    """A step as it was: everything before its update, and what the update made of it."""

    trainer: Trainer
    """Stands before the step: ``trainer.progress`` holds parameters, state and optimizer state."""
    step: int

    @property
    def indices(self) -> list[Array]:
        """The samples of each mini-batch of the step, as indices into the training data."""
        return list(self.trainer.batches.of_step(self.step))

    @property
    def parts(self) -> list[Samples]:
        """The mini-batches of the step."""
        return self.trainer.feed.of_step(self.step)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the step."""
        t = self.trainer
        return t.settings.optimizer.schedule.rate(t.progress.schedule, self.step, t.steps, t.batches.per_epoch)

    def leaves(self, part: int = 0) -> tuple[Graph, dict[str, Array]]:
        """The graph of one mini-batch and the values of its leaves, masks included; InputError for one there is not."""
        t, parts = self.trainer, self.parts
        if not 0 <= part < len(parts):
            raise InputError(
                "run_part", where=f"step {self.step}", expected=f"0 <= part < {len(parts)}", got=repr(part)
            )
        samples = parts[part]
        graph = samples.graph(t.model, t.settings.loss, training=True)
        given = t.progress.params | t.progress.state | samples.given(graph)
        return graph, reference.leaves(graph, given, seed=t.settings.seed, step=self.step, part=part)

    def shares(self) -> list[tuple[float, dict[str, Array]]]:
        """(mass, gradients) of each mini-batch, where there are several; empty where the step has only one."""
        found = []
        for part in range(len(self.indices)) if len(self.indices) > 1 else ():
            graph, env = self.leaves(part)
            values, d = reference.value_and_grad(graph, env, graph.trainable)
            found.append((float(values[graph.outputs[2]]), {name: d[name] for name in graph.trainable}))
        return found

    def update(self) -> tuple[dict[str, Array], Mapping[str, Mapping[str, Array]], dict[str, Array]]:
        """(gradients given to the optimizer, its state before, parameters after)."""
        t, p = self.trainer, self.trainer.progress
        found = gradients(t.model, t.settings.loss, self.parts, p.state, seed=t.settings.seed, step=self.step)
        clipped = found.grads if t.settings.clip is None else t.settings.clip(np, found.grads)
        rate = self.learning_rate
        params, _ = apply(t.settings.optimizer, None, p.params, clipped, p.slots, lr=rate, t=self.step)
        return clipped, p.slots, params


def replay(run: Run, step: int, *, force: bool = False) -> Moment:
    """The moment of ``step`` (from 1) in a run, from the nearest snapshot before it.

    Where a snapshot was written after the step, the step is done and has to lead there, by the hashes of parameters,
    state and optimizer state. Raises InputError where the run has no such step or no data, FileError where the data are
    not those it was trained on, or the step leads elsewhere (``force`` goes on all the same).
    """
    if not 1 <= step <= max(run.step, 1):
        raise InputError("run_step", where=_where(run), expected=f"1 <= step <= {run.step}", got=repr(step))
    trainer = _trainer(run, force=force)
    moment = Moment(_forward(trainer, run.nearest(step - 1), step - 1), step)
    if not force and (told := _intact(run, step)) is not None:
        require_same_hashes(_proof(told), _proof(_after(moment)), "replay_differs", where=_where(run), step=step)
    return moment


def verify(run: Run, *, force: bool = False) -> list[tuple[int, bool]]:
    """Do every stretch between two snapshots again: (step of the later one, equal bit for bit) for each.

    What is done again is compared by the hashes of parameters, state and optimizer state. A damaged snapshot is not
    equal; the next stretch then goes on from what was done again. Raises FileError where the first one is damaged.
    """
    trainer, found = _trainer(run, force=force), []
    first, *later = run.snapshot_steps() or [0]
    here = run.nearest(first)
    for end in later:
        again, told = _forward(trainer, here, end).progress, _intact(run, end)
        found.append((end, told is not None and _proof(told) == _proof(again)))
        here = told or again
    return found


def _after(moment: Moment) -> Progress:
    """Where the run stands after the moment's step, whatever the end of an epoch brings left out."""
    t = replace(moment.trainer, model=copy.copy(moment.trainer.model))
    t.begin(copy.deepcopy(moment.trainer.progress))
    with np.errstate(all="ignore"):
        t.stepper.advance(t.progress, [moment.learning_rate])
        t.stepper.settle(t.progress)
    return t.progress


def _intact(run: Run, step: int) -> Progress | None:
    """The snapshot of ``step``; None where there is none, or it is damaged."""
    try:
        return run.nearest(step) if step in run.snapshot_steps() else None
    except FileError as error:
        if error.key not in ("file_damaged", "snapshot_damaged"):
            raise
    return None


def _proof(progress: Progress) -> dict[str, str]:
    return {group: digest for group, digest in progress.hashes().items() if group in ("params", "state", "slots")}


def _trainer(run: Run, *, force: bool) -> Trainer:
    if run.data is None or run.settings is None:
        raise InputError("run_data", where=_where(run))
    if not force:
        _require_same_data(run)
    model = copy.copy(run.model)
    model.frozen = run.record["model"]["frozen"]  # as it was then
    return Trainer(model, run.data.train, run.data.validation, run.settings, None, Bus(), None, {})


def _require_same_data(run: Run) -> None:
    assert run.data is not None
    told, tells = run.record.get("data", {}), run.data.fingerprints()
    for part in ("train", "validation"):
        if part in told and told[part] != tells[part]:
            raise FileError(
                "data_changed",
                where=f"{_where(run)}: {part}",
                expected=_brief(told[part]),
                got=_brief(tells[part]),
            )


def _where(run: Run) -> str:
    return str(run.dir or "run")


def _brief(digest: str | None) -> str:
    return "-" if digest is None else f"sha256 {digest[:16]}…"


def _forward(trainer: Trainer, start: Progress, step: int) -> Trainer:
    """Bring the trainer from a snapshot to the moment after ``step``."""
    trainer.begin(copy.deepcopy(start))
    trainer.until = step
    with np.errstate(all="ignore"):
        while trainer.progress.step < step:
            trainer.advance()
        trainer.stepper.settle(trainer.progress)
    return trainer
