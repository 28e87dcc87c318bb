"""``backlit predict``: a run applied to new samples, in class names or the target's units."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

import backlit as bl
from backlit.cli import show
from backlit.cli.commands import Predict
from backlit.cli.jobs import notes
from backlit.cli.options import Answer
from backlit.core import files
from backlit.core.errors import InputError
from backlit.core.i18n import say
from backlit.core.types import Array
from backlit.data import NAMES, Preprocessing, Target, load, read_inputs
from backlit.train.metrics import predicted_labels


def answer(options: Predict) -> Answer:
    """One row a sample: its number from 1, the prediction, and with ``--proba`` the probability of each class."""
    run = bl.open_run(options.run)
    target = Target.from_dict(notes(run)["data"]["target"])
    if options.proba and target.classes is None:
        raise InputError("cli_proba", where=str(options.run), got=target.name)
    X = _inputs(run, options.source)
    with np.errstate(all="ignore"):
        columns = {"sample": list(range(1, len(X) + 1))} | predictions(run, target, X, proba=options.proba)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    text = _csv(columns)
    if options.out is None:
        return Answer({"predictions": rows}, (text.rstrip("\n"),))
    files.write(options.out, text.encode())
    done = say("predict_written", count=len(X), path=options.out)
    return Answer({"predictions": rows, "out": str(options.out)}, (done,))


def _inputs(run: bl.Run, source: str) -> Array:
    """X of a file, or of the test part of a data set by name, made as the run's own data were."""
    fitted = Preprocessing.from_dict(notes(run)["data"]["preprocessing"])
    if source not in NAMES or Path(source).exists():
        X, remarks = read_inputs(source, fitted)
        for remark in remarks:
            show.note(remark.text())
        return X
    again = notes(run)["source"] if source == notes(run)["source"]["source"] else {"source": source}
    data = load(**again).flattened()
    if data.preprocessing != fitted:
        raise InputError("cli_other_data", where=source, expected=notes(run)["data"]["name"], got=source)
    return (data.test or data.train)[0]


def predictions(run: bl.Run, target: Target, X: Array, *, proba: bool) -> dict[str, list[Any]]:
    """Columns by name: the target's, and the probability of each class where wanted."""
    out = run.model.predict(X)
    if target.classes is None:
        values = target.to_units(out)
        names = [target.name] if values.shape[1] == 1 else [f"{target.name}{i}" for i in range(1, values.shape[1] + 1)]
        return dict(zip(names, values.T.tolist(), strict=True))
    labels = [target.classes[i] for i in predicted_labels(out)]
    found: dict[str, list[Any]] = {target.name: labels}
    return found | (_probabilities(run, target.classes, X) if proba else {})


def _probabilities(run: bl.Run, classes: tuple[str, ...], X: Array) -> dict[str, list[float]]:
    p = run.model.predict_proba(X)
    p = np.concatenate([1 - p, p], axis=1) if p.shape[1] == 1 else p
    return {f"p({name})": column for name, column in zip(classes, p.T.tolist(), strict=True)}


def _csv(columns: dict[str, list[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [f"{v:.7g}" if isinstance(v, float) else v for v in row] for row in zip(*columns.values(), strict=True)
    )
    return stream.getvalue()
