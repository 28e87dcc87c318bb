"""Traces in files: values, gradients and the update of one step as safetensors, the graph in the header."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from backlit import optim
from backlit.core import files
from backlit.core.errors import FileError
from backlit.core.types import Array, Arrays
from backlit.glass.trace import Share, Trace, Update
from backlit.graph import store

FORMAT = 1
"""Version of the layout; a newer one is refused."""


def save(trace: Trace, path: str | os.PathLike[str]) -> Path:
    """Write the trace; FileError where it cannot be written."""
    arrays = _named("value", trace.values) | _named("grad", trace.grads)
    order = {"values": list(trace.values), "grads": list(trace.grads)}
    head = {"format": FORMAT, "graph": store.to_json(trace.graph), "step": trace.step, "notes": dict(trace.notes)}
    if trace.update is not None:
        arrays |= _of_update(trace.update)
        head["update"] = _described(trace.update)
    return files.write_tensors(path, arrays, head | order)


def load(path: str | os.PathLike[str]) -> Trace:
    """Read a trace back; FileError where the file is damaged, of another kind, or of a newer version."""
    arrays, head = files.read_tensors(path)
    if head.get("format", FORMAT) > FORMAT:
        newer = {"expected": f"format <= {FORMAT}", "got": f"format {head['format']}"}
        raise FileError("newer_version", where=str(path), **newer)
    try:
        values = {name: arrays[f"value/{name}"] for name in head["values"]}
        grads = {name: arrays[f"grad/{name}"] for name in head["grads"]}
        update = _update(head["update"], arrays) if "update" in head else None
        graph = store.from_json(head["graph"], values)
        return Trace(graph, values, grads, head["step"], update, head["notes"])
    except KeyError as error:
        raise FileError("file_damaged", where=str(path), expected="trace", got=f"no {error}") from error


def _named(group: str, arrays: Arrays) -> dict[str, Array]:
    return {f"{group}/{name}": array for name, array in arrays.items()}


def _under(group: str, arrays: Arrays, names: Iterable[str] | None = None) -> dict[str, Array]:
    """The arrays of a group; in the order of ``names`` where given."""
    found = {n.removeprefix(f"{group}/"): a for n, a in arrays.items() if n.startswith(f"{group}/")}
    return found if names is None else {name: found[name] for name in names}


def _of_update(update: Update) -> dict[str, Array]:
    found = _named("given", update.grads) | _named("new", update.params)
    found |= _named("slots", optim.flatten_state(update.slots)) | _named("rows", update.rows)
    for i, share in enumerate(update.shares):
        found |= _named(f"share{i}", share.grads)
    return found


def _described(update: Update) -> dict[str, Any]:
    return {
        "optimizer": optim.to_config(update.optimizer),
        "clip": None if update.clip is None else optim.to_config(update.clip),
        "learning_rate": update.learning_rate,
        "step": update.step,
        "part": update.part,
        "masses": [share.mass for share in update.shares],
        "parameters": list(update.grads),  # in order: a norm over all of them is a sum
    }


def _update(head: Mapping[str, Any], arrays: Arrays) -> Update:
    return Update(
        optimizer=optim.from_config(head["optimizer"]),
        learning_rate=head["learning_rate"],
        step=head["step"],
        grads=_under("given", arrays, head["parameters"]),
        slots=optim.unflatten_state(_under("slots", arrays)),
        params=_under("new", arrays),
        clip=None if head["clip"] is None else optim.from_config(head["clip"]),
        shares=[Share(mass, _under(f"share{i}", arrays, head["parameters"])) for i, mass in enumerate(head["masses"])],
        part=head["part"],
        rows=_under("rows", arrays),
    )
