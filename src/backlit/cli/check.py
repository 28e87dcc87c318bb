"""``backlit check``: backpropagation on a saved run, with its own weights and data, against difference quotients."""

from __future__ import annotations

from typing import Any

import backlit as bl
from backlit.cli import show
from backlit.cli.commands import Check
from backlit.cli.jobs import Job
from backlit.cli.options import Answer
from backlit.core import oracles
from backlit.core.i18n import say
from backlit.glass.certificate import Certificate
from backlit.glass.check import check


def answer(options: Check) -> Answer:
    """The report on the first training samples; exit code 1 where a gradient is wrong or could not be decided.

    With ``--certificate`` every installed oracle is asked too, and all of it goes to ``certificate.json`` in the run.
    """
    run = bl.open_run(options.run)
    job = Job.of_run(run)
    X, y = job.data.train
    data = X[: options.samples], job.targets(y[: options.samples])
    asked = oracles.installed() if options.certificate else ()
    report = check(run.model, *data, loss=job.loss, step=run.step + 1, oracles=asked)
    code = 0 if report.ok else 1
    if not options.certificate:
        return Answer(report.as_dict(), text(report), code)
    report.save(options.run / "certificate.json")
    return Answer(report.document(), certificate_text(report), code)


def text(report: Certificate) -> tuple[Any, ...]:
    """The report as a table between its first and last line, and what is wrong."""
    first, *_, last = str(report).splitlines()
    rows = [
        (r.parameter, str(list(r.shape)), f"{r.error:.1e}", str(r.directions), say(f"check_verdict_{r.verdict}"))
        for r in report.rows
    ]
    return first, show.table(say("check_columns").split("|"), rows, left=2), *map(str, report.findings), last


def certificate_text(report: Certificate) -> tuple[Any, ...]:
    """The report, then every rule's row."""
    table = show.table(say("certificate_columns").split("|"), report.table(), left=4)
    return *text(report), say("certificate_head"), table, *report.kinks(), report.conclusion()
