"""``backlit cost``: what a training step costs, for a run's network or the one that ``backlit train`` would make."""

from __future__ import annotations

from typing import Any

import backlit as bl
from backlit.cli.commands import Cost
from backlit.cli.jobs import Job, is_run
from backlit.cli.options import Answer
from backlit.glass.cost import cost

BATCH_SIZE = 128
"""As for ``backlit train``."""


def answer(options: Cost) -> Answer:
    """The ledger; a run's own loss, optimizer and batch size are used."""
    model, settings = _of_run(options) if is_run(options.data) else _of_data(options)
    found = cost(model, measure=options.measure, **settings)
    return Answer(found.as_dict(), (str(found),))


def _of_run(options: Cost) -> tuple[bl.Model, dict[str, Any]]:
    run = bl.open_run(options.data)
    assert run.settings is not None
    size = options.batch_size or run.settings.batch_size
    return run.model, {"batch_size": size, "loss": run.settings.loss, "optimizer": run.settings.optimizer}


def _of_data(options: Cost) -> tuple[bl.Model, dict[str, Any]]:
    job, size = Job.of(options), options.batch_size or BATCH_SIZE
    return job.model(options), {"batch_size": size, "loss": job.loss, "optimizer": options.optimizer}
