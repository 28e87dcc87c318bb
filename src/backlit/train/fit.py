"""fit: the training loop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backlit import optim
from backlit.core.environment import environment
from backlit.core.errors import FileError, NumericError
from backlit.core.events import Bus, EpochDone, Listener, Notice, RunEnded, RunStarted, SnapshotSaved, StepDone
from backlit.core.names import lookup
from backlit.core.types import Array
from backlit.nn import losses, store
from backlit.nn.model import Model
from backlit.nn.targets import ignored
from backlit.train import jumps, metrics
from backlit.train.batches import Batches
from backlit.train.engine import chosen
from backlit.train.feeding import Feed, Feeding, settled, workers_for
from backlit.train.inputs import output_shape, prepared
from backlit.train.metrics import Metric
from backlit.train.progress import Progress
from backlit.train.recording import Recorder
from backlit.train.run import Data, Run
from backlit.train.rundir import Memory, RunDir, plain
from backlit.train.settings import Settings, check_options, require_same
from backlit.train.step import Samples
from backlit.train.stepping import Stepper, Stretch, stepper
from backlit.train.stopping import Converged, EarlyStopping, better_sign


def fit(
    model: Model,
    data: Any,
    *,
    loss: str | losses.Loss,
    optimizer: str | optim.Optimizer = "adam",
    epochs: int = 10,
    batch_size: int = 32,
    validation: Any = None,
    seed: int = 0,
    engine: str = "auto",
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    shuffle: bool = True,
    accumulate: int = 1,
    sample_weight: Any = None,
    class_weight: Any = None,
    clip: optim.Clip | None = None,
    metrics: Sequence[str | Metric] | None = None,
    early_stopping: EarlyStopping | bool | None = None,
    until: Converged | str | None = None,
    callbacks: Sequence[Listener] = (),
    snapshot_every: int | None = None,
    snapshot_mb: float = 256.0,
    record: bool = True,
    notes: dict[str, Any] | None = None,
    augment: Any = None,
    buckets: Any = None,
    workers: int | None = None,
) -> Run:
    """Train ``model`` on ``data`` = (X, y) and return the :class:`Run`.

    Arrays hold samples along the first axis: X[N, …] (a tuple of arrays for several inputs); y[N] integer labels, or
    values y[N, K] (y[N] for one output). An unbuilt model is built for X with ``seed``; the trained parameters are in
    ``model.params``. A memory-mapped array, or the path of an ``.npy`` file, stays in its file: it is checked once, and
    then read a mini-batch at a time.

    - ``loss``, ``optimizer``: a name or a recipe; the optimizer's learning rate may be a schedule.
    - ``epochs`` (the most there will be), ``batch_size``, ``shuffle``, ``seed``: the order of samples is a function of
      seed and epoch alone. ``accumulate`` mini-batches make one step, their gradients combined by weight.
    - ``validation`` = (X, y): its loss and metrics are reported as ``val_…`` after each epoch.
    - ``sample_weight`` w[N], ``class_weight`` (one number a class, or "balanced"): the loss is Σ w l / Σ w.
    - ``clip``: a clipping recipe. ``metrics``: names or recipes; by loss unless told.
    - ``early_stopping`` (True: on ``val_loss``) and ``until`` ("converged"): stop before the last epoch.
    - ``run_dir``: write ``run.json``, ``metrics.jsonl`` and snapshots there: at the start, each epoch's end, every
      ``snapshot_every`` steps, and on Ctrl-C, at most ``snapshot_mb`` in all. With ``resume`` go on from the last
      snapshot (from the start where there is no run yet), ending bit for bit where the uninterrupted run ends; all
      settings must be the same, but ``epochs`` may grow. ``overwrite`` replaces a run that is already there.
    - ``record``: keep norms of each layer while training, in ``run.recording`` and ``recording.safetensors``
      (:mod:`backlit.train.recording` says which); it changes no number of the run.
    - ``callbacks``: called with each event (:mod:`backlit.core.events`); one that answers "stop" ends the run.
    - ``notes``: JSON values for ``run.json``.
    - ``augment``: changes of each training batch, in order, drawn by (seed, step, sample), ``bl.augment.Crop(4)``, ….
    - ``buckets`` (True, or ``bl.data.Buckets(…)``): mini-batches of samples of similar length; each sample still comes
      once an epoch, and the order of mini-batches is shuffled.
    - ``workers``: threads that prepare mini-batches ahead, 0 for none; one where batches are augmented or read from a
      file, unless told. It changes no number of the run.

    Raises InputError for arrays or options that do not fit, FileError for what cannot be read or written, NumericError
    where a loss, gradient or new parameter is not finite, naming step, node and last good snapshot; ``model.params``
    are then those before that step.
    """
    check_options(callbacks, snapshot_every, snapshot_mb, notes)
    settings = Settings.of(
        loss=loss, optimizer=optimizer, metrics_=metrics, early_stopping=early_stopping, until=until, epochs=epochs,
        batch_size=batch_size, seed=seed, shuffle=shuffle, accumulate=accumulate, clip=clip, engine=engine,
        augment=augment, buckets=buckets,
    )  # fmt: skip
    settings.check_monitors(validation=validation is not None)
    weights = {"sample_weight": sample_weight, "class_weight": class_weight}
    train, held = prepared(model, data, validation, settings, **weights)
    settings = replace(settings, augment=settled(settings.augment, train, output_shape(model, train), settings.loss))
    place = None if run_dir is None else RunDir(Path(run_dir), snapshot_mb)
    bus, notes = Bus(list(callbacks)), dict(notes or {})
    trainer = Trainer(model, train, held, settings, place, bus, snapshot_every, notes, record=record)
    with trainer.interruptible(), trainer.loading(workers), np.errstate(all="ignore"):
        return trainer.run(resume=resume, overwrite=overwrite)


@dataclass(repr=False)  # signal.signal asks for the repr of a handler: a method of this
class Trainer:
    """One run of fit: carries ``progress`` from step to step and tells the bus."""

    model: Model
    train: Samples
    validation: Samples | None
    settings: Settings
    place: RunDir | None
    bus: Bus
    snapshot_every: int | None
    notes: dict[str, Any]
    record: bool = False
    clock: Callable[[], float] = time.perf_counter
    wish: str = ""
    """Why to stop after this step; empty to go on."""
    until: int | None = None
    """The step to stand at in the end; the run's last one where none is given."""
    started: float = 0.0
    """When the epoch began, by the clock."""
    result: Run = field(init=False)
    progress: Progress = field(init=False)
    recorder: Recorder | None = field(init=False, default=None)
    automatic: bool = field(init=False, default=False)
    """Whether the engine is still to be chosen, or was."""
    feeding: Feeding | None = field(init=False, default=None)
    """Where steps take their mini-batches from, if not from ``feed`` itself."""

    def __post_init__(self) -> None:
        self.automatic = self.settings.engine == "auto"

    @cached_property
    def stepper(self) -> Stepper:
        """Who does the steps."""
        options = {"recorder": self.recorder, "feed": self.feeding or self.feed, "tell": self._notice}
        return stepper(self.settings.engine, self.model, self.train, self.settings, self.batches, **options)

    @cached_property
    def feed(self) -> Feed:
        """The mini-batches of every step."""
        return Feed.of(self.train, self.settings, self.batches)

    @cached_property
    def batches(self) -> Batches:
        """The order of samples."""
        s = self.settings
        arrange = None if s.buckets is None else s.buckets.arrangement(self.train.inputs, s.batch_size)
        return Batches(len(self.train), s.batch_size, s.seed, s.shuffle, s.accumulate, arrange)

    @cached_property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.batches.per_epoch * self.settings.epochs

    def run(self, *, resume: bool, overwrite: bool) -> Run:
        """Train from the start, or from the last snapshot, to the end."""
        notice = self._settle_engine()
        self.result = Run(self.model, place=self.place or Memory(), settings=self.settings)
        self.result.data = Data(self.train, self.validation)
        resumed = self._start(resume=resume, overwrite=overwrite)
        self._tell(RunStarted(self.progress.step, self.steps, self.settings.epochs, len(self.train)))
        if notice:
            self._notice(notice)
        if not resumed:
            self._save()
        if self.place is not None and not resumed:
            self.place.write_record(self.result.record)  # last: where it is, there is a snapshot to go on from
        self.started = self.clock()
        while not self.progress.reason and self.progress.step < self.steps:
            self.advance()
            self._after_step()
        return self._end()

    def _settle_engine(self) -> str:
        """Choose an engine where none was; gives the reason where it is not the fast one, in a line."""
        if not self.automatic:
            return ""
        graph = self.train.rows(slice(0, 1)).graph(self.model, self.settings.loss, training=True)
        s = self.settings
        engine, why = chosen(graph, batch_size=s.batch_size, steps=self.steps, accumulate=s.accumulate)
        self.settings = replace(s, engine=engine)
        return why

    def _notice(self, text: str) -> None:
        self._tell(Notice(text))

    def begin(self, progress: Progress) -> None:
        """Stand at ``progress``, without a result to report to."""
        self.progress, self.result = progress, Run(self.model)
        vars(self).pop("stepper", None)
        self.model.params, self.model.state = progress.params, progress.state

    def advance(self) -> None:
        """Do some steps, and what comes with the end of an epoch after its last one."""
        self._stretch()
        if self.progress.step % self.batches.per_epoch == 0:
            self._end_epoch(self.clock() - self.started)
            self.started = self.clock()

    # --- start and end ------------------------------------------------------------------------------------------

    def _start(self, *, resume: bool, overwrite: bool) -> bool:
        """Set the progress to the beginning, or to the last snapshot; True where it is the latter."""
        graph = self.train.rows(slice(0, 1)).graph(self.model, self.settings.loss, training=True)
        fast = self.settings.engine == "fast"
        self.recorder = Recorder.of(graph, self.steps, fast=fast) if self.record else None
        trainable = {n: p for n, p in self.model.params.items() if n not in graph.frozen}
        slots = optim.init_state(np, self.settings.optimizer, trainable)
        schedule = self.settings.optimizer.schedule.initial()
        self.progress = Progress(0, dict(self.model.params), dict(self.model.state), slots, schedule)
        self.result.record = self._record()
        if self.place is None:
            return False
        if resume and self.place.exists:
            self._resume(self.place)
            return True
        if self.place.exists and not overwrite:
            raise FileError("run_exists", where=str(self.place.path), step=max(self.place.snapshots(), default=0))
        self.place.clear()
        return False

    def _resume(self, place: RunDir) -> None:
        """Go on from the last snapshot; the run must be the same but for its number of epochs."""
        old = place.read_record()
        told = old["settings"]
        engine = told["engine"] if self.automatic else self.settings.engine
        self.result.settings = self.settings = replace(self.settings, threads=told.get("threads", 1), engine=engine)
        new = self._record()
        for part, free in (("settings", "epochs"), ("model", "seed"), ("data", "")):
            told, tells = ({k: v for k, v in plain(r[part]).items() if k != free} for r in (old, new))
            require_same(told, tells, str(place.path), part)
        self.progress = p = place.last()
        store.fill(self.model, p.params | p.state, str(place.path))
        p.params, p.state = dict(self.model.params), dict(self.model.state)
        if p.reason == "interrupted" or (p.reason == "epochs" and p.step < self.steps):
            p.reason = ""
        for row in place.cut_metrics(p.step):
            self.result.add(row)
        if self.recorder is not None:
            self.recorder.go_on(place.read_recording(), p.step)
        self.result.record = old | new
        place.write_record(self.result.record)

    def _record(self) -> dict[str, Any]:
        return {
            "settings": self.settings.as_dict(),
            "model": store.header(self.model),
            "data": {"samples": len(self.train)} | Data(self.train, self.validation).fingerprints(),
            "environment": environment(),
            "notes": self.notes,
        }

    def _end(self) -> Run:
        """Give the model the outcome, write the last snapshot and the result."""
        p = self.progress
        p.reason = p.reason or "epochs"
        self.result.step, self.result.reason = p.step, p.reason
        self._save()
        self.model.params, self.model.state = p.outcome
        if self.place is not None:
            self.result.record["result"] = {
                "reason": p.reason,
                "step": p.step,
                "seconds": sum(self.result.history.get("seconds", [])),
            }
            self.place.write_record(self.result.record)
        self._tell(RunEnded(p.step, p.reason))
        return self.result

    # --- one step -----------------------------------------------------------------------------------------------

    def _stretch(self) -> None:
        """Do the next step, or several where nothing happens between them that somebody must see."""
        p, count = self.progress, self._free_steps()
        first, per_epoch = p.step + 1, self.batches.per_epoch
        schedule = self.settings.optimizer.schedule
        rates = [schedule.rate(p.schedule, first + i, self.steps, per_epoch) for i in range(count)]
        try:
            found = self.stepper.advance(p, rates)
        except NumericError as error:
            raise self._not_finite(**error.values) from None
        self._add(found, rates[-1])
        self._tell_steps(first, found, rates)

    def _free_steps(self) -> int:
        """Steps up to the next snapshot or the epoch's end; one where a listener wants to see each."""
        p, per_epoch = self.progress, self.batches.per_epoch
        every = self.snapshot_every or per_epoch
        left = min(per_epoch - p.step % per_epoch, every - p.step % every, (self.until or self.steps) - p.step)
        return min(left, self.stepper.longest) if all(getattr(c, "coarse", False) for c in self.bus.listeners) else 1

    def _tell_steps(self, first: int, found: Stretch, rates: list[float]) -> None:
        """Tell of the step; of several that nobody has to see one by one, as of the last with all their samples."""
        if self.bus.listeners:
            last, epoch = first + len(rates) - 1, self.batches.epoch_of(first)
            self._tell(StepDone(last, epoch, found.losses[-1], self.batches.count(first, len(rates)), rates[-1]))

    def _not_finite(self, **values: Any) -> NumericError:
        kept = [] if self.place is None else list(self.place.snapshots().values())
        return NumericError("not_finite_step", **values | {"snapshot": kept[-1] if kept else "-"})

    def _add(self, found: Stretch, rate: float) -> None:
        """Add steps to the sums of the epoch, one after another, so that it does not matter how they were grouped."""
        sums, s = self.progress.sums, self.settings
        self.progress.jumps = jumps.watch(self.progress.jumps, found.losses)
        loss, mass = map(float, sums.get("loss", (0.0, 0.0)))
        norm, count = map(float, sums.get("gradient_norm", (0.0, 0.0)))
        for i, m in enumerate(found.masses):
            loss, mass, norm, count = loss + found.losses[i] * m, mass + m, norm + found.norms[i], count + 1.0
        sums |= {
            "loss": np.array([loss, mass]),
            "gradient_norm": np.array([norm, count]),
            "learning_rate": np.array(rate),
        }
        for output, part in found.seen:
            self._add_metrics(output, part, s.batch_size)

    def _add_metrics(self, output: Array, part: Samples, size: int) -> None:
        """Add a stretch's metrics batch by batch, or at once where that gives the same bits."""
        if part.weights is None and output.ndim == 2 and all(m.counts for m in self.settings.metrics):
            size = max(len(part), 1)
        for i in range(0, len(part), size):
            rows = slice(i, i + size)
            for name, batch in metric_sums(self.settings, output[rows], part.rows(rows)).items():
                self.progress.add(name, batch)

    def _after_step(self) -> None:
        if self._snapshot_due():
            self.progress.jumps = jumps.close(self.progress.jumps, self.progress.step)
        if self.wish and not self.progress.reason:
            self.progress.reason = self.wish
        if not self.progress.reason and self._snapshot_due():
            self._save()

    def _snapshot_due(self) -> bool:
        every = self.snapshot_every or self.batches.per_epoch
        return self.progress.step % every == 0 or self.progress.step % self.batches.per_epoch == 0

    # --- an epoch's end -----------------------------------------------------------------------------------------

    def _end_epoch(self, seconds: float) -> None:
        p = self.progress
        row = self._figures() | {"seconds": seconds}
        p.sums = {}
        self._observe(row)
        self.result.add(row)
        if self.place is not None:
            self.place.append_metrics(row)
        self._tell(EpochDone(int(row["epoch"]), p.step, row))

    def _figures(self) -> dict[str, float]:
        p, s = self.progress, self.settings
        (total, mass), (norms, count) = p.sums["loss"], p.sums["gradient_norm"]
        row = {"epoch": self.batches.epoch_of(p.step), "step": p.step, "loss": total / mass if mass else 0.0}
        row |= metrics.results(s.metrics, p.sums)
        if self.validation is not None:
            row |= self._validate(self.validation)
        row |= {"learning_rate": float(p.sums["learning_rate"]), "gradient_norm": norms / count}
        return {name: value if isinstance(value, int) else float(value) for name, value in row.items()}

    def _validate(self, samples: Samples) -> dict[str, float]:
        found = self.stepper.evaluate(samples)
        batches = [metric_sums(self.settings, out, part) for out, part, *_ in found.seen]
        total = {name: np.sum([sums[name] for sums in batches], axis=0) for name in batches[0]}
        return {"val_loss": found.loss} | metrics.results(self.settings.metrics, total, "val_")

    def _observe(self, row: dict[str, float]) -> None:
        """Let the schedule and the stopping rules see the epoch's figures."""
        p, s = self.progress, self.settings
        schedule = s.optimizer.schedule
        usual = "val_loss" if "val_loss" in row else "loss"
        p.schedule = schedule.observe(p.schedule, lookup(row, schedule.monitor or usual, "metric"))
        if s.early_stopping is not None:
            p.stopping = s.early_stopping.observe(p.stopping, row, better_sign(s.early_stopping.monitor, s.metrics))
            if s.early_stopping.restore_best and p.stopping["improved"]:
                self.stepper.settle(p)
                p.best = p.params | p.state
        if s.converged is not None:
            p.converged = s.converged.observe(p.converged, row)
        stops = (("early_stopping", p.stopping), ("converged", p.converged))
        p.reason = next((name for name, seen in stops if seen.get("stop")), p.reason)

    # --- talking ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        assert self.result.place is not None
        self.stepper.settle(self.progress)
        if self.recorder is not None:
            self.result.place.save_recording(self.recorder)  # before the snapshot: going on cuts what it has too much
        path = self.result.place.save(self.progress)
        if path is not None:
            self._tell(SnapshotSaved(self.progress.step, str(path)))

    def _tell(self, event: Any) -> None:
        if any(isinstance(answer, str) and answer == "stop" for answer in self.bus.emit(event)):
            self.wish = self.wish or "stopped"

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C asks the run to stop after the step it is in; a second one stops it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    @contextmanager
    def loading(self, workers: int | None) -> Iterator[None]:
        """Prepare mini-batches ahead in so many threads, see :func:`workers_for`."""
        count = workers_for(workers, self.feed)
        if not count:
            yield
            return
        from backlit.train.loading import Loader

        with Loader(self.feed, self.steps, count) as self.feeding:
            yield

    def _interrupt(self, *_: object) -> None:
        if self.wish == "interrupted":
            raise KeyboardInterrupt
        self.wish = "interrupted"


def metric_sums(settings: Settings, out: Array, part: Samples) -> dict[str, Array]:
    """The sums of each metric by name over some samples."""
    return metrics.collect(settings.metrics, out, part.target, part.weight, ignore=ignored(settings.loss))
