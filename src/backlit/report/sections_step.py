"""Sections on one step and on the model: distributions, the flow of δ, the check, one weight, costs, the graph."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.tables import amount
from backlit.glass import katex
from backlit.glass.certificate import Certificate
from backlit.glass.certificate_routes import Evidence
from backlit.glass.check import check
from backlit.glass.cost import CostLedger, cost
from backlit.glass.derive_numbers import number as latex_number
from backlit.glass.derive_update import update_line
from backlit.glass.flow import FlowLedger, flow
from backlit.glass.receipts import Entry, Receipt, Step, short, together
from backlit.glass.trace import Trace
from backlit.glass.walk import walk
from backlit.report.charts import bars, histogram
from backlit.report.drawing import drawing
from backlit.report.sections_run import figure
from backlit.report.subject import Subject
from backlit.report.words import both, both_of, code, columns, formula, number, table

LAYERS = 24
"""Most layers whose distributions are shown; of more the first and the last ones."""
CHECKED, EVIDENCE, SLOWEST, TERMS, RECEIPTS = 8, 300, 8, 6, 16


# --- distributions --------------------------------------------------------------------------------------------------


def distributions(s: Subject) -> str:
    """z, a, δ and the gradients of each layer at the step, as histograms."""
    t = s.trace
    layers = [layer for layer in t.layers if f"{layer}.z" in t.values or f"{layer}.a" in t.values]
    if len(layers) > LAYERS:
        layers = layers[: LAYERS // 2] + layers[-LAYERS // 2 :]
    rows = "".join(
        f"<section class=layer><h3>{code(layer)}</h3><div class=cells>{_cells(t, layer)}</div></section>"
        for layer in layers
    )
    lead = both("report_step_lead", step=s.step, samples=len(t.values[t.graph.inputs[0]]), loss=short(t.loss))
    return f"<p>{lead}</p>{rows}<p class=note>{both('report_histogram_note')}</p>"


def _cells(t: Trace, layer: str) -> str:
    names = [(part, f"{layer}.{part}", 0) for part in ("z", "a") if f"{layer}.{part}" in t.values]
    values = [(label, t.values[name], colour) for label, name, colour in names]
    made = names[0][1]
    if made in t.grads:
        values.append(("δ", t.grads[made], 1))
    values += [
        (f"∂L/∂{p.rpartition('.')[2]}", t.grads[p], 2) for p in t.graph.trainable if p.rpartition(".")[0] == layer
    ]
    return "".join(
        f"<div><b>{escape(label)}</b> <small>{list(a.shape)}</small>{histogram(a, colour)}</div>"
        for label, a, colour in values
    )


# --- δ from layer to layer ------------------------------------------------------------------------------------------


def delta_flow(s: Subject) -> str:
    """‖δ‖ of each layer, and the causes of its change."""
    ledger = flow(s.trace)
    if not ledger.rows:
        return f'<p class="none">{both("report_no_layers")}</p>'
    sizes = bars([(code(r.layer), r.norm, number(r.norm, 3)) for r in ledger.rows], colour=1, log=True)
    verdict = both_of(lambda: escape(str(ledger.verdict())))
    return (
        f"<p>{both('report_flow_lead')}</p><p class=verdict>{verdict}</p>"
        f"{figure('‖δ‖', sizes, both('report_flow_note'))}<h3>{both('report_causes')}</h3>{_causes(ledger)}"
    )


def _causes(ledger: FlowLedger) -> str:
    heads = [both("report_layer"), both("report_above"), "‖δ‖ / ‖δ‖↑", *(both(f"flow_{c}") for c in ledger.causes)]
    rows = []
    for r in ledger.rows:
        present = {g.cause for g in r.gains}
        factors = (number(r.factor(c), 3) if c in present else "" for c in ledger.causes)
        rows.append([code(r.layer), code(r.above), number(r.ratio, 3), *factors])
    return table(heads, rows, texts=(0, 1))


# --- the check ------------------------------------------------------------------------------------------------------


def gradient_check(s: Subject) -> str:
    """Every gradient of the model as it is now, on a few samples of the step, against difference quotients."""
    run = s.run
    assert run.settings is not None
    if run.data is None:
        raise InputError("run_data", where=str(run.dir or "run"))
    chosen = run.data.train.rows(np.asarray(s.trace.notes.get("samples", range(CHECKED))[:CHECKED]))
    X = chosen.inputs if len(chosen.inputs) > 1 else chosen.inputs[0]
    found = check(run.model, X, chosen.target, loss=run.settings.loss, weights=chosen.weights, step=max(run.step, 1))
    rows = [
        (code(r.parameter), str(list(r.shape)), number(r.error, 2), str(r.directions), _mark(r.verdict))
        for r in found.rows
    ]
    head = both("check_head", samples=found.samples, tolerance=f"{found.tolerance:.0e}")
    told = both_of(lambda: "<br>".join(escape(str(line)) for line in (*found.findings, found.conclusion())))
    kind = {"ok": "ok", "wrong": "bad"}.get(found.verdict, "")
    listed = table(columns("check_columns"), rows, texts=(0, 1))
    return f"<p>{head}</p><div class='verdict {kind}'>{told}</div>{listed}{_rules(found)}"


def _rules(found: Certificate) -> str:
    """Every rule by every route, folded away."""
    evidence = [(row, e) for row in found.rules for e in row.evidence if e.route != "same twice"][:EVIDENCE]
    rows = [
        (
            code(row.node),
            escape(row.rule),
            code(e.of),
            _route(e),
            number(e.error, 3),
            number(e.tolerance, 3),
            _mark(e.verdict),
        )
        for row, e in evidence
    ]
    listed = table(columns("certificate_columns"), rows, texts=range(4))
    return f"<details><summary>{both('certificate_head')}</summary>{listed}</details>"


def _route(evidence: Evidence) -> str:
    return both_of(lambda: escape(evidence.named))


def _mark(verdict: str) -> str:
    kind = {"ok": "ok", "wrong": "bad"}.get(verdict, "open")
    return f'<span class="mark {kind}">{both(f"check_verdict_{verdict}")}</span>'


# --- one weight -----------------------------------------------------------------------------------------------------


def weight(s: Subject) -> str:
    """The change of one weight, followed to the loss and down to the data."""
    entry = _telling(s.trace)
    if entry is None:
        return f'<p class="none">{both("report_no_layers")}</p>'
    way = walk(s.trace, entry, depth=RECEIPTS)
    parts = [f"<p>{both('report_weight_lead', entry=str(entry))}</p>"]
    for head, receipts in (("walk_up", way.up), ("walk_down", way.down)):
        if receipts:
            parts.append(f"<h3>{both(head)}</h3><ol class=walk>{''.join(map(_receipt, receipts))}</ol>")
    return "".join(parts)


def _telling(t: Trace) -> Entry | None:
    """The entry with the largest gradient in the first matrix of weights."""
    names = [n for n in t.graph.trainable if n in t.grads and t.grads[n].ndim >= 2]
    if not names:
        return None
    g = np.abs(np.nan_to_num(t.grads[names[0]]))
    index = tuple(int(i) for i in np.unravel_index(np.argmax(g), g.shape))
    known = t.update is not None and names[0] in t.update.params
    return Entry("update" if known else "grad", names[0], index)


def _receipt(r: Receipt) -> str:
    head = f"<div class=entry>{code(r.entry)} <span>= {number(r.value, 6)}</span></div>"
    if not r.rule:
        return f"<li>{head}<p class=note>{both_of(lambda: escape(r.verdict()))}</p></li>"
    working = katex.equations(map(_step, r.steps)) if r.steps else formula(r.latex, r.formula)
    told = f"<p class='note mark {'ok' if r.ok else 'bad'}'>{both_of(lambda: escape(r.verdict()))}</p>"
    return f"<li>{head}{working}{_terms(r)}{told}</li>"


def _step(step: Step) -> tuple[str, str, str]:
    left, arrow, right = update_line(step.formula)
    return left, arrow, f"{right} = {latex_number(step.value, 6)}"


def _terms(r: Receipt) -> str:
    if len(r.terms) < 2:
        factors = " · ".join(_operands(r))
        return f"<p class=factors>{factors}</p>" if factors and not r.steps else ""
    rows = [(escape(t.label), number(t.value), _percent(t.share), _factors(t)) for t in r.terms[:TERMS]]
    rest = r.terms[TERMS:]
    below = ""
    if rest:
        value, share = together(rest)
        more = both("receipt_more", count=len(rest), value=number(value, 6), share=_percent(share))
        below = f"<p class=note>{more}</p>"
    return table(columns("report_term_columns"), rows, texts=(0, 3)) + below


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("-", "−")


def _operands(r: Receipt) -> Iterator[str]:
    for t in r.terms:
        yield from (f"{code(e)} {number(v)}" for e, v in t.operands)


def _factors(term: Any) -> str:
    return " · ".join(f"{code(e)} {number(v)}" for e, v in term.operands)


# --- costs ----------------------------------------------------------------------------------------------------------


def costs(s: Subject) -> str:
    """The slowest nodes, measured, and the biggest arrays that backward needs kept."""
    run = s.run
    assert run.settings is not None
    size = run.settings.batch_size
    found = cost(run.model, size, loss=run.settings.loss, optimizer=run.settings.optimizer, measure=True)
    kept = sorted(found.kept, key=lambda k: -k.bytes)[:SLOWEST]
    biggest = bars([(code(k.value), k.bytes, amount(k.bytes, "B")) for k in kept], colour=4)
    reasons = table(columns("report_kept_columns"), [(code(k.value), _why(k)) for k in kept], texts=(0, 1))
    lead = both("report_cost_lead", batch=size, peak=amount(found.memory.reference_peak.bytes, "B"))
    return (
        f"<p>{lead}</p><div class=grid>"
        f"{figure(both('report_slowest'), _slowest(found), both('report_slowest_note'))}"
        f"{figure(both('report_biggest'), biggest)}{figure(both('report_kept'), reasons)}"
        f"{figure(both('report_totals'), _totals(found))}</div>"
    )


def _slowest(found: CostLedger) -> str:
    times = [(r.name, r.forward.seconds or 0.0, (r.backward and r.backward.seconds) or 0.0) for r in found.rows]
    times += [(f"Δ{u.parameter}", u.work.seconds or 0.0, 0.0) for u in found.updates]
    times.sort(key=lambda row: -(row[1] + row[2]))
    return bars([(code(n), f + b, f"{(f + b) * 1e6:,.0f} µs") for n, f, b in times[:SLOWEST]], colour=3)


def _why(kept: Any) -> str:
    return ", ".join(code(reason) for reason in kept.reasons[:3]) or "–"


def _totals(found: CostLedger) -> str:
    works = [(both(f"report_{name}"), getattr(found, name)) for name in ("forward", "backward", "update")]
    rows = [
        (
            name,
            amount(w.flops),
            amount(w.bytes, "B"),
            number(w.intensity, 3),
            f"{(w.seconds or 0) * 1e3:.2f}",
            number(w.gflops, 3),
        )
        for name, w in works
    ]
    return table(columns("report_total_columns"), rows)


# --- the graph ------------------------------------------------------------------------------------------------------


def graph(s: Subject) -> str:
    """The graph of a training step, and its layers."""
    drawn = drawing(_training_graph(s))
    summary = s.run.model.summary()
    rows = [
        (code(r.layer), str(list(r.output[1:])) if r.output else "", f"{r.parameters:,}", f"{r.forward_flops:,}")
        for r in summary.rows
    ]
    listed = table(columns("report_layer_columns"), rows, texts=(0, 1))
    return (
        f"<div class='grid graphs'>{figure(both('report_drawn'), drawn)}{figure(both('report_listed'), listed)}</div>"
    )


def _training_graph(s: Subject) -> Any:
    from backlit.glass.cost import step_graph

    assert s.run.settings is not None
    return step_graph(s.run.model, s.run.settings.batch_size, s.run.settings.loss)
