"""``backlit derive``: backpropagation derived for a run's network, or for the one that ``backlit train`` would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import backlit as bl
from backlit.cli.commands import Derive
from backlit.cli.jobs import Job, is_run
from backlit.cli.options import Answer
from backlit.core.i18n import language, say
from backlit.glass.derive import Derivation, derive


def answer(options: Derive) -> Answer:
    """The document on standard output as Markdown, or in a file; with a run's own loss and optimizer."""
    model, job, optimizer = _of_run(options) if is_run(options.data) else _of_data(options)
    X, y = job.data.train
    batch = slice(options.samples)
    found = derive(model, X[batch], job.targets(y[batch]), loss=job.loss, optimizer=optimizer, lang=language())
    place = _place(options)
    if place is None:
        return Answer(_data(found, None), (found.markdown().rstrip(),))
    found.save(place)
    return Answer(_data(found, place), (say("derive_written", path=place, count=len(found.entries)),))


def _of_run(options: Derive) -> tuple[bl.Model, Job, Any]:
    run = bl.open_run(options.data)
    assert run.settings is not None
    return run.model, Job.of_run(run), run.settings.optimizer


def _of_data(options: Derive) -> tuple[bl.Model, Job, Any]:
    job = Job.of(options)
    return job.model(options), job, options.optimizer


def _place(options: Derive) -> Path | None:
    """Where the document goes; None for standard output."""
    if options.out is not None or not options.html:
        return options.out
    return (Path(options.data) if is_run(options.data) else Path()) / "derivation.html"


def _data(found: Derivation, place: Path | None) -> dict[str, Any]:
    entries = [
        {"name": e.name, "index": list(e.index), "formula": e.computed, "stored": e.stored} for e in found.entries
    ]
    worst = max(e.deviation for e in found.entries)
    text = {"file": str(place)} if place else {"markdown": found.markdown()}
    return {"title": found.title, "lang": found.lang, "worst": worst, "entries": entries} | text
