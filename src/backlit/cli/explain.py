"""``backlit explain``: one number of a past step, followed on to the loss and down to the data it came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from backlit.cli import show
from backlit.cli.commands import Explain
from backlit.cli.jobs import Job, reopened
from backlit.cli.options import Answer
from backlit.core.i18n import say
from backlit.glass.explain import MARKS, find
from backlit.glass.receipts import Entry, Receipt, Term, short, together, values_of
from backlit.glass.trace import Trace
from backlit.glass.walk import Walk
from backlit.train.run import Run

TERMS, HALF = 6, 10
"""Terms shown of each sum; characters of a bar on each side of zero."""


def answer(options: Explain) -> Answer:
    """Receipts on the way from the entry; exit code 1 where a number does not come out equal."""
    run, job = reopened(options.run, force=options.force)
    trace = run.at(run.step if options.step is None else options.step, force=options.force)
    found = trace.walk(_meant(trace, options.entry), depth=options.depth)
    names = dict(_named(found, trace, job))
    data = {"step": trace.step, "loss": trace.loss, "samples": trace.notes["samples"], "ok": found.ok}
    ways = {"up": [r.as_dict() for r in found.up], "down": [r.as_dict() for r in found.down]}
    end = None if found.end is None else {"entry": str(found.end), "name": names[found.end]}
    return Answer(data | ways | {"end": end}, tuple(_text(found, names, trace, run)), code=0 if found.ok else 1)


def _meant(trace: Trace, text: str) -> Entry:
    """The entry; of a parameter named without ∂, Δ or value, its change."""
    entry = find(trace, text)
    plain = not MARKS.match(text) and trace.update is not None and entry.name in trace.update.grads
    return Entry("update", entry.name, entry.index) if plain else entry


def _text(found: Walk, names: dict[Entry, str], trace: Trace, run: Run) -> Iterator[Any]:
    yield say(
        "explain_head", step=trace.step, run=run.dir, loss=f"{trace.loss:.6g}", samples=len(trace.notes["samples"])
    )
    for head, way in ((say("walk_up"), found.up), (say("walk_down"), found.down)):
        if way:
            yield f"\n{head}"
        yield from (_panel(receipt, names) for receipt in way)
    yield say("explain_ok" if found.ok else "explain_not_ok", count=len(found))


def _panel(receipt: Receipt, names: dict[Entry, str]) -> Any:
    """The receipt in a frame: what is computed, the terms with bars, whether it comes out equal."""
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[Any] = [Text(line) for line in receipt.working()]
    if len(receipt.terms) > 1 or (receipt.terms and not receipt.steps):
        parts.append(_terms(receipt))
    parts += [Text(names[receipt.entry])] if receipt.entry in names else []
    parts.append(Text(receipt.verdict(), style="green" if receipt.ok else "bold red"))
    title = Text(f"{receipt.entry} = {short(receipt.value)}", style="bold")
    return Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED)


def _terms(receipt: Receipt) -> Any:
    most = float(np.max(np.abs(values_of(receipt.terms))))
    shown = [t for t in receipt.terms[:TERMS] if t.value] or receipt.terms[:1]
    rows = [_row(term, most) for term in shown]
    if rest := receipt.terms[len(shown) :]:
        value, share = together(rest)
        rows.append((f"… {len(rest)}", short(value), f"{share:.1%}", bar(value, max(most, abs(value))), ""))
    return show.table(say("explain_terms").split("|"), rows, words=2)


def _row(term: Term, most: float) -> tuple[str, ...]:
    operands = " · ".join(f"{entry} ({short(value)})" for entry, value in term.operands)
    return term.label, short(term.value), f"{term.share:.1%}", bar(term.value, most), operands


def bar(value: float, most: float) -> str:
    """``value`` against ``most`` as a bar to the right of a line, or to the left where it is negative."""
    length = round(HALF * abs(value) / most) if 0 < most < float("inf") else 0
    left, right = (length, 0) if value < 0 else (0, length)
    return f"{'█' * left:>{HALF}}│{'█' * right:<{HALF}}"


# --- entries of the data --------------------------------------------------------------------------------------------


def _named(found: Walk, trace: Trace, job: Job) -> Iterator[tuple[Entry, str]]:
    """What the entries of x on the way are: pixels by row and column, or features by name."""
    for receipt in found:
        entry = receipt.entry
        if entry.kind == "value" and entry.name == trace.graph.inputs[0] and len(entry.index) == 2:
            yield entry, _in_words(entry, trace, job)


def _in_words(entry: Entry, trace: Trace, job: Job) -> str:
    row, column = entry.index
    sample, feature = trace.notes["samples"][row], job.data.features[column]
    told = {"entry": str(entry), "sample": sample, "of_class": _class(job, sample)}
    if feature.startswith("pixel["):
        place = [int(i) for i in feature.removeprefix("pixel[").removesuffix("]").split(",")]
        where = dict(zip(("row", "column", "channel"), place, strict=False))
        return say("explain_pixel" if len(place) == 2 else "explain_channel", **told, **where)
    return say("explain_feature", **told, feature=feature)


def _class(job: Job, sample: int) -> str:
    classes = job.data.classes
    return "" if classes is None else say("explain_class", name=classes[int(job.data.train[1][sample])])
