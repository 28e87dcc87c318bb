"""``backlit report``: one page with all that a run shows."""

from __future__ import annotations

import backlit as bl
from backlit.cli import show
from backlit.cli.commands import Report
from backlit.cli.jobs import reopened
from backlit.cli.options import Answer
from backlit.core.errors import BacklitError
from backlit.core.i18n import say
from backlit.core.tables import amount


def answer(options: Report) -> Answer:
    """Where the report is. Without the run's data it is written all the same, and what is missing said beside it."""
    run = bl.open_run(options.run)
    try:
        run, _ = reopened(options.run)
    except BacklitError as error:
        show.note(str(error))
    path = run.report(options.out or options.run / "report.html", step=options.step)
    size, step = path.stat().st_size, options.step or run.step
    text = say("report_written", path=path, size=amount(size, "B"), step=step)
    return Answer({"report": str(path), "bytes": size, "step": step}, (text,))
