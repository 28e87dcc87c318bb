"""The page: sections that know nothing of each other between a head and a foot, all in one file."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from backlit.core.errors import BacklitError, InputError
from backlit.core.i18n import language
from backlit.glass import katex
from backlit.glass.trace import Trace
from backlit.report import sections_run, sections_step
from backlit.report.subject import Subject
from backlit.report.words import TAGS, both, both_of
from backlit.train.run import Run

LIMIT = 3_000_000
"""Bytes that a report may have."""

SECTIONS: dict[str, Callable[[Subject], str]] = {
    "learning": sections_run.learning,
    "layers": sections_run.layers,
    "distributions": sections_step.distributions,
    "flow": sections_step.delta_flow,
    "check": sections_step.gradient_check,
    "weight": sections_step.weight,
    "cost": sections_step.costs,
    "graph": sections_step.graph,
    "settings": sections_run.settings,
}


def page(run: Run, at: Callable[[int], Trace], *, step: int | None = None, lang: str | None = None) -> str:
    """The report of ``run`` as HTML, with ``at(step)`` to look at a step: the last one unless told.

    Both languages are in it; it opens in ``lang`` ("en" or "zh"; the language in force). What a section cannot say,
    for want of data, is told in its place. Raises InputError where the run has no such step.
    """
    if step is not None and not 1 <= step <= run.step:
        raise InputError("run_step", where=str(run.dir or "run"), expected=f"1 <= step <= {run.step}", got=repr(step))
    subject = Subject(run, step or max(run.step, 1), at)
    with np.errstate(all="ignore"):  # a run may have numbers that are not finite: they are shown as such
        parts = [_section(name, build, subject) for name, build in SECTIONS.items()]
        head = sections_run.facts(subject)
    return _document(_name(run), head + "".join(parts), lang or language())


def _section(name: str, build: Callable[[Subject], str], subject: Subject) -> str:
    try:
        body = build(subject)
    except BacklitError as error:
        told = error
        body = both_of(lambda: f'<pre class="error">{escape(str(told))}</pre>', "div")
    return f'<section id="{name}"><h2>{both(f"report_head_{name}")}</h2>{body}</section>'


def _name(run: Run) -> str:
    return Path(run.dir).resolve().name if run.dir else run.model.__class__.__name__


def _document(name: str, body: str, lang: str) -> str:
    links = "".join(f'<a href="#{key}">{both(f"report_head_{key}")}</a>' for key in SECTIONS)
    switches = "".join(f'<button type="button" data-set="{key}">{text}</button>' for key, text in _SWITCHES.items())
    foot = both("report_foot", date=time.strftime("%Y-%m-%d"))
    return (
        f'<!DOCTYPE html>\n<html lang="{TAGS[lang]}" data-lang="{lang}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(name)} · backlit</title>'
        f'<link rel="icon" href="data:,"><style>{katex.style()}{_resource("style.css")}</style></head>\n<body>'
        f'<header><div><p class="brand">backlit</p><h1>{escape(name)}</h1></div><div class="switches">{switches}'
        f'<button type="button" id="theme" aria-label="light / dark">◐</button></div></header>'
        f"<nav>{links}</nav>\n<main>{body}</main>\n<footer>{foot}</footer>"
        f"<script>{katex.script()}</script><script>{_resource('script.js')}</script></body></html>\n"
    )


_SWITCHES = {"en": "English", "zh": "中文"}


def _resource(name: str) -> str:
    return (files("backlit.report") / name).read_text("utf-8")
