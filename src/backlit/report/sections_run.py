"""Sections on the whole run: its figures, its curves, its layers over time, its settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np

from backlit.core.types import Array
from backlit.report.charts import COLOURS, Line, line_chart
from backlit.report.heat import heat_map
from backlit.report.subject import Subject
from backlit.report.words import axis, both, code, columns, number, table

USUAL_RATIO = 1e-3
"""Where the update-to-parameter ratio often lies. Source: Karpathy, CS231n, Stanford 2015, “Neural networks part 3”."""

_HASH = re.compile(r"[0-9a-f]{64}")
_TIMES = ("epoch", "step", "seconds")
_NOT_METRICS = (*_TIMES, "loss", "val_loss", "learning_rate", "gradient_norm")


def figure(title: str, body: str, note: str = "") -> str:
    """A chart with its title and what there is to know of it."""
    below = f'<p class="note">{note}</p>' if note else ""
    return f"<figure><figcaption>{title}</figcaption>{body}{below}</figure>"


# --- figures --------------------------------------------------------------------------------------------------------


def facts(s: Subject) -> str:
    """The figures that matter most, as tiles."""
    return f'<dl class="facts">{"".join(f"<div><dt>{t}</dt><dd>{v}</dd></div>" for t, v in _facts(s))}</dl>'


def _facts(s: Subject) -> Iterator[tuple[str, str]]:
    history = s.run.history
    for name, values in history.items():
        if name not in _TIMES and name not in ("learning_rate", "gradient_norm"):
            yield both("report_last", name=name), number(values[-1])
    for name, value in s.run.record.get("test", {}).items():
        if name != "samples":
            yield both("report_test", name=name), number(value)
    yield both("report_steps"), f"{s.run.step:,}"
    yield both("report_parameters"), f"{sum(p.size for p in s.run.model.params.values()):,}"
    yield both("report_seconds"), f"{sum(history.get('seconds', [])):,.1f} s"
    yield both("report_ended"), both(f"reason_{s.run.reason}") if s.run.reason else "–"


# --- curves ---------------------------------------------------------------------------------------------------------


def learning(s: Subject) -> str:
    """Loss, metrics, learning rate and gradient norm by epoch."""
    history = s.run.history
    if "loss" not in history:
        return f'<p class="none">{both("report_no_epoch")}</p>'
    metrics = [name for name in history if name not in _NOT_METRICS and not name.startswith("val_")]
    charts = [figure(both("report_loss"), _curves(history, "loss"))]
    charts += [figure(escape(name), _curves(history, name)) for name in metrics]
    charts.append(figure(both("report_rate"), _curves(history, "learning_rate")))
    charts.append(figure(both("report_gradient_norm"), _curves(history, "gradient_norm"), both("report_gradient_note")))
    return f'<div class="grid">{"".join(charts)}</div>'


def _curves(history: Mapping[str, list[float]], name: str) -> str:
    pairs = ((both("report_training"), name), (both("report_validation"), f"val_{name}"))
    x = np.array(history["epoch"], float)
    lines = [Line(label, x, _as_long(history[key], x)) for label, key in pairs if key in history]
    return line_chart(lines, x_label=axis("epoch"))


def _as_long(values: list[float], x: Array) -> Array:
    """The values at the end of x: a figure that began to be reported later has fewer."""
    found = np.full(len(x), np.nan)
    found[len(x) - len(values) :] = values
    return found


# --- layers over time -----------------------------------------------------------------------------------------------


def layers(s: Subject) -> str:
    """Sizes in each layer as heat maps, updates, dead and saturated units as curves."""
    if len(s.recording.get("step", ())) == 0:
        return f'<p class="none">{both("report_no_recording")}</p>'
    maps = [
        figure(
            both(f"report_map_{q}"),
            heat_map(s.recorded(q)[::-1], s.recording["step"]),
            both(f"report_map_{q}_note"),
        )
        for q in ("delta", "a", "gradient")
        if s.recorded(q)
    ]
    return f'<div class="grid">{"".join([*maps, *_over_time(s)])}</div>'


def _over_time(s: Subject) -> Iterator[str]:
    if ratios := s.recorded("update_ratio"):
        yield figure(both("report_ratio"), _by_layer(s, ratios, log=True, guide=USUAL_RATIO), both("report_ratio_note"))
    if sizes := s.recorded("parameters"):
        yield figure(both("report_sizes"), _by_layer(s, sizes))
    for kind in ("dead", "saturated"):
        if shares := s.recorded(kind):
            percent = [(layer, 100 * values) for layer, values in shares]
            yield figure(both(f"report_{kind}"), _by_layer(s, percent), both(f"report_{kind}_note"))


def _by_layer(s: Subject, found: list[tuple[str, Array]], **options: Any) -> str:
    """A curve for each layer; with more layers than colours a heat map."""
    if len(found) > COLOURS:
        return heat_map(found[::-1], s.recording["step"])
    step = s.recording["step"].astype(float)
    lines = [Line(code(layer), step, values) for layer, values in found]
    return line_chart(lines, x_label=axis("step"), **options)


# --- settings -------------------------------------------------------------------------------------------------------


def settings(s: Subject) -> str:
    """What the run was told, what it was trained on, and where."""
    parts = []
    for part in ("settings", "data", "environment"):
        rows = list(_flat(s.run.record.get(part, {})))
        if part == "data":
            rows += list(_flat(_described(s)))
        listed = table(columns("report_setting_columns"), rows, texts=(0, 1))
        parts.append(f"<div><h3>{both(f'report_part_{part}')}</h3>{listed}</div>")
    return f'<div class="grid">{"".join(parts)}</div>'


def _described(s: Subject) -> dict[str, Any]:
    """What ``backlit train`` noted of the data: texts and numbers, not how columns were prepared."""
    noted = s.run.record.get("notes", {}).get("data", {})
    told = noted if isinstance(noted, dict) else {"notes": noted}
    return {k: v for k, v in told.items() if isinstance(v, str | int | float) and k != "sha256"}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif value is not None:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield (
            code(name),
            escape(f"{text[:16]}…" if _HASH.fullmatch(text) else text if len(text) <= 80 else f"{text[:79]}…"),
        )
