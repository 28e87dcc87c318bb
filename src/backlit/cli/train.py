"""``backlit train``: options to a run, its figures on the test part, and what to type next."""

from __future__ import annotations

import shlex
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

import backlit as bl
from backlit import optim
from backlit.cli import show
from backlit.cli.commands import Train
from backlit.cli.jobs import Job, made
from backlit.cli.options import Answer
from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.core.types import Array
from backlit.train import metrics
from backlit.train.rundir import RunDir

UPDATES = 6000
"""How many updates are enough for small data; ``--epochs`` defaults to as many epochs, within these bounds."""
FEWEST_EPOCHS, MOST_EPOCHS = 20, 200
USUAL_RATE = {"adam": 2e-3, "adamw": 2e-3}
"""Learning rates that do better under a schedule than the optimizer's own default."""
SCHEDULES: dict[str, Any] = {
    kind.name: kind
    for kind in (
        optim.Constant, optim.Cosine, optim.OneCycle, optim.Exponential, optim.StepDecay, optim.ReduceOnPlateau,
    )
}  # fmt: skip
OPTIMIZERS: dict[str, Any] = {
    kind.name: kind
    for kind in (
        optim.SGD, optim.Adagrad, optim.Adadelta, optim.RMSprop, optim.Adam, optim.AdamW, optim.NAdam, optim.Lion,
    )
}  # fmt: skip


def answer(options: Train) -> Answer:
    """Train as told; exit code 130 where Ctrl-C ended it."""
    job = Job.of(options)
    place = folder(options, job.data.name)
    if not options.quiet:
        show.note(job.data.describe())
    if options.resume and not RunDir(place).exists:
        show.note(say("train_nothing_to_resume", place=place))
    run = fit(job, options, place)
    if run.interrupted:
        again = command_to_resume(options.words, place)
        show.note(say("train_interrupted", step=run.step, place=place, command=again))
        return Answer(_facts(run) | {"resume": again}, code=130)
    found, matrix = score(job, run)
    run.record["test"] = found
    RunDir(place).write_record(run.record)
    shown = matrix if options.confusion else None
    data = _facts(run) | {"test": found} | ({} if shown is None else {"confusion": shown.tolist()})
    return Answer(data, (*report(job, run, found, shown), say("train_next", place=run.dir)))


def fit(job: Job, options: Train, place: Path) -> bl.Run:
    """:func:`backlit.fit` with the options of the command line."""
    samples = len(job.data.train[1])
    return bl.fit(
        job.model(options), job.pair("train"), loss=job.loss, validation=job.pair("validation"), run_dir=place,
        optimizer=optimizer(options), epochs=options.epochs or usual_epochs(samples, options),
        batch_size=options.batch_size, seed=options.seed, engine=options.engine, accumulate=options.accumulate,
        resume=options.resume, overwrite=options.overwrite, snapshot_every=options.snapshot_every,
        clip=None if options.clip is None else bl.ClipByGlobalNorm(options.clip),
        class_weight=_class_weight(job, options),
        metrics=["accuracy"] if job.data.classes else None, until="converged" if options.until_converged else None,
        early_stopping=_early_stopping(job, options), progress=not options.quiet,
        notes={"data": job.data.as_dict(), "source": job.source, "class_weight": _class_weight(job, options)},
    )  # fmt: skip


def optimizer(options: Train) -> optim.Optimizer:
    """The optimizer by name with the learning-rate schedule by name."""
    usual = USUAL_RATE.get(options.optimizer) or made(OPTIMIZERS, options.optimizer, "optimizer").learning_rate
    schedule = made(SCHEDULES, options.schedule, "schedule", learning_rate=usual if options.lr is None else options.lr)
    found = {"learning_rate": schedule, "l2": options.l2, "weight_decay": options.weight_decay}
    chosen: optim.Optimizer = made(OPTIMIZERS, options.optimizer, "optimizer", **found)
    return chosen


def usual_epochs(samples: int, options: Train) -> int:
    """Epochs for UPDATES updates: many for small data, few for large."""
    steps = -(-samples // (options.batch_size * options.accumulate))
    return min(max(-(-UPDATES // steps), FEWEST_EPOCHS), MOST_EPOCHS)


def _class_weight(job: Job, options: Train) -> str | None:
    if options.class_weight is None:
        return None
    if options.class_weight != "balanced" or job.one_hot or job.data.classes is None:
        raise InputError("cli_class_weight", where=job.data.name, got=f"{options.class_weight} ({job.data.task})")
    return "balanced"


def _early_stopping(job: Job, options: Train) -> bl.EarlyStopping | None:
    if options.early_stopping is None:
        return None
    if job.data.validation is None:
        raise InputError("cli_no_validation", where=job.data.name)
    return bl.EarlyStopping(patience=options.early_stopping)


def folder(options: Train, name: str) -> Path:
    """``--out``, or ``runs/<name>``: the last such run to go on with or replace, else the first number that is free."""
    if options.out is not None:
        return options.out
    names = chain([name], (f"{name}-{i}" for i in count(2)))
    places = (Path("runs") / numbered for numbered in names)
    taken = list(takewhile(lambda place: RunDir(place).exists, places))
    if taken and (options.resume or options.overwrite):
        return taken[-1]
    return Path("runs") / (f"{name}-{len(taken) + 1}" if taken else name)


def command_to_resume(words: tuple[str, ...], place: Path) -> str:
    """The command line that goes on with a run: the same, with its folder and ``--resume``."""
    kept = [word for word in words if word not in ("--resume", "--overwrite")]
    out = [] if any(word == "--out" or word.startswith("--out=") for word in kept) else ["--out", str(place)]
    return shlex.join(["backlit", *kept, *out, "--resume"])


# --- results --------------------------------------------------------------------------------------------------------


def score(job: Job, run: bl.Run) -> tuple[dict[str, float], Array | None]:
    """Figures on the test part (validation where there is none), and the confusion matrix of classes."""
    pair = job.data.test or job.data.validation
    if pair is None:
        return {}, None
    X, y = pair
    with np.errstate(all="ignore"):
        out = run.model.predict(X)
        classes = job.data.classes
        matrix = metrics.confusion_matrix(y, out, classes=len(classes)) if classes else None
        return {"samples": len(y)} | figures(job, out, y), matrix


def figures(job: Job, out: Array, y: Array) -> dict[str, float]:
    """Accuracy of classes; of quantities R² and, in their units, the mean absolute and the root mean square error."""
    weights = np.ones(len(y))
    if job.data.classes:
        accuracy = metrics.METRICS["accuracy"]
        return {"accuracy": accuracy.result(accuracy.collect(out, y, weights))}
    to_units = job.data.target.to_units
    chosen = metrics.get(("r2", "mae", "rmse"))
    return metrics.results(chosen, {m.name: m.collect(to_units(out), to_units(y), weights) for m in chosen})


def _facts(run: bl.Run) -> dict[str, Any]:
    history = {name: values[-1] for name, values in run.history.items() if name not in ("seconds", "learning_rate")}
    parameters = sum(p.size for p in run.model.params.values())
    known = {"run": str(run.dir), "step": run.step, "reason": run.reason, "parameters": parameters}
    return known | {"seconds": _seconds(run), "last_epoch": history}


def _seconds(run: bl.Run) -> float:
    return sum(run.history.get("seconds", []))


def report(job: Job, run: bl.Run, found: dict[str, float], matrix: Array | None = None) -> tuple[Any, ...]:
    """What :func:`score` found out, and where the run lies, as text."""
    tested = _tested(job, found) if found else ()
    confusion = () if matrix is None else (say("confusion_title"), _matrix_table(job, matrix))
    epochs, seconds = len(run.history.get("epoch", ())), f"{_seconds(run):.1f}"
    how = {"epochs": epochs, "seconds": seconds, "reason": say(f"reason_{run.reason}")}
    return *tested, *confusion, say("train_run", place=run.dir, step=run.step, **how)


def _tested(job: Job, found: dict[str, float]) -> tuple[str, ...]:
    part = say("part_test" if job.data.test else "part_validation")
    shown = "  ".join(f"{say(f'figure_{name}')} {_figure(name, found[name])}" for name in found if name != "samples")
    line = say("train_test", part=part, figures=shown, samples=f"{found['samples']:,}")
    return (line,) if job.data.classes else (line, say("train_units", target=job.data.target.name))


def _figure(name: str, value: float) -> str:
    return f"{value:.4f}" if name in ("accuracy", "r2") else f"{value:.6g}"


def _matrix_table(job: Job, matrix: Array) -> Any:
    names = job.data.classes or ()
    rows = [[name, *(str(n) if n else "·" for n in row)] for name, row in zip(names, matrix.tolist(), strict=True)]
    return show.table([say("confusion_corner"), *names], rows)
