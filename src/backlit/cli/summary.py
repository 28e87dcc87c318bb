"""``backlit summary``: the layers of a run's network, or of the one that ``backlit train`` would make."""

from __future__ import annotations

import backlit as bl
from backlit.cli.commands import Summary
from backlit.cli.jobs import Job, is_run
from backlit.cli.options import Answer


def answer(options: Summary) -> Answer:
    """The model's summary."""
    model = bl.open_run(options.data).model if is_run(options.data) else Job.of(options).model(options)
    found = model.summary()
    return Answer(found.as_dict(), (str(found),))
