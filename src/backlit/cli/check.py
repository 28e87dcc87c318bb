"""``backlit check``: backpropagation on a saved run, with its own weights and data, against difference quotients."""

from __future__ import annotations

from typing import Any

import backlit as bl
from backlit.cli import show
from backlit.cli.commands import Check
from backlit.cli.jobs import Job
from backlit.cli.options import Answer
from backlit.core.i18n import say
from backlit.glass.check import Report, check


def answer(options: Check) -> Answer:
    """The report on the first training samples; exit code 1 where a gradient is wrong or could not be decided."""
    run = bl.open_run(options.run)
    job = Job.of_run(run)
    X, y = job.data.train
    report = check(run.model, X[: options.samples], job.targets(y[: options.samples]), loss=job.loss, step=run.step + 1)
    return Answer(report.as_dict(), text(report), code=0 if report.ok else 1)


def text(report: Report) -> tuple[Any, ...]:
    """The report as a table between its first and last line."""
    first, *_, last = str(report).splitlines()
    rows = [
        (r.parameter, str(list(r.shape)), f"{r.error:.1e}", str(r.directions), say(f"check_verdict_{r.verdict}"))
        for r in report.rows
    ]
    return first, show.table(say("check_columns").split("|"), rows, left=2), last
