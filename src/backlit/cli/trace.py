"""``backlit trace``: everything of one past step of a run, as a table, and in a file."""

from __future__ import annotations

from typing import Any

from backlit.cli import show
from backlit.cli.commands import Trace as Options
from backlit.cli.jobs import reopened
from backlit.cli.options import Answer
from backlit.core.i18n import say
from backlit.core.names import lookup
from backlit.glass.trace import Trace

_COLUMNS = ("name", "shape", "mean", "std", "min", "max", "gradient_norm")


def answer(options: Options) -> Answer:
    """One row for each floating value; with ``--out`` the whole trace goes into a file."""
    run, _ = reopened(options.run, force=options.force)
    trace = run.at(run.step if options.step is None else options.step, force=options.force)
    rows = _rows(trace, options.layer)
    table = show.table(say("trace_columns").split("|"), rows, left=2)
    head = say(
        "explain_head", step=trace.step, run=run.dir, loss=f"{trace.loss:.6g}", samples=len(trace.notes["samples"])
    )
    text: list[Any] = [head, table]
    if options.out is not None:
        text.append(say("trace_written", path=str(trace.save(options.out))))
    data = {"step": trace.step, "loss": trace.loss, "samples": trace.notes["samples"]}
    values = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    return Answer(data | {"values": values, "out": None if options.out is None else str(options.out)}, tuple(text))


def _rows(trace: Trace, layer: str | None) -> list[tuple[str, ...]]:
    """Rows of all values, or of one layer's; UnknownNameError with the nearest layers."""
    if layer is None:
        return trace.rows()
    lookup(dict.fromkeys(trace.layers), layer, "layer")
    return [row for row in trace.rows() if row[0].rsplit(".", 1)[0] == layer]
