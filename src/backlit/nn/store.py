"""Models as files: parameters and state in a safetensors file, the recipe of a Sequential in its header."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from backlit.core import files
from backlit.core.errors import FileError, InputError
from backlit.core.types import Array
from backlit.nn import initializers
from backlit.nn.layer import Layer
from backlit.nn.model import Model, Sequential

FORMAT = 1
"""Version of the file's layout; a newer one is refused."""


def save(model: Model, path: str | os.PathLike[str]) -> Path:
    """Write a built model to ``path`` (``*.safetensors``), whole or not at all.

    A Sequential comes back with :func:`load` alone; a ``Model(function)`` is Python code and must be given again there.
    """
    if not model.built:
        raise InputError("not_built", where=str(path))
    return files.write_tensors(path, model.params | model.state, header(model))


def load(path: str | os.PathLike[str], *, model: Model | None = None) -> Model:
    """The model saved at ``path``; ``model`` gives the recipe where the file cannot hold it (``Model(function)``).

    Raises FileError where the file is missing, damaged or of a newer version, InputError where it does not fit.
    """
    arrays, head = files.read_tensors(path)
    if "recipe" not in head:
        raise FileError("no_model_file", where=str(path), got=", ".join(head))
    if head.get("format", FORMAT) > FORMAT:
        raise FileError(
            "newer_version", where=str(path), expected=f"format <= {FORMAT}", got=f"format {head['format']}"
        )
    return fill(from_header(head, str(path), model), arrays, str(path))


def from_header(head: dict[str, Any], where: str, model: Model | None = None) -> Model:
    """A built model as ``head`` (see :func:`header`) describes it, from ``model`` where that is given."""
    if model is None and head["recipe"] is None:
        raise InputError("not_saveable", where=where, got="Model(function)")
    made = model or from_recipe(head["recipe"])
    shapes = [tuple(s) for s in head["samples"]]
    made.build(shapes if len(shapes) > 1 else shapes[0], seed=head["seed"], dtype=head["dtype"])
    frozen = tuple(n for n in head.get("frozen", made.frozen) if n in made.params)  # others: fill says what differs
    if frozen != made.frozen:
        made.frozen = frozen
    return made


def header(model: Model) -> dict[str, Any]:
    """What a file says of the model besides its arrays."""
    try:
        layers = recipe(model)
    except InputError:  # a Model(function) somewhere in it: Python code
        layers = None
    return {
        "format": FORMAT,
        "recipe": layers,
        "samples": [list(s) for s in model.samples],
        "dtype": model.dtype,
        "seed": model.seed,
        "frozen": list(model.frozen),
    }


def fill(model: Model, arrays: dict[str, Array], where: str) -> Model:
    """Put ``arrays`` in place of the model's parameters and state; InputError where a name or a shape differs."""
    for table in (model.params, model.state):
        for name, old in table.items():
            came = f"{name}{list(arrays[name].shape)}" if name in arrays else f"no {name}"
            if name not in arrays or arrays[name].shape != old.shape:
                raise InputError("parameters_differ", where=where, expected=f"{name}{list(old.shape)}", got=came)
            table[name] = arrays[name].astype(old.dtype, copy=False)
    return model


def recipe(part: Any, known: dict[int, int] | None = None) -> Any:
    """A layer, Sequential or initialiser as JSON values; a shared one met again as ``{"again": its number}``."""
    known = {} if known is None else known
    if isinstance(part, Layer | Sequential):
        if id(part) in known:
            return {"again": known[id(part)]}
        known[id(part)] = len(known)
    if isinstance(part, Sequential):
        layers = [recipe(layer, known) for layer in part.layers]
        return {"kind": "Sequential", "layers": layers, "trainable": part.trainable}
    if is_dataclass(part):  # Residual too
        return {"kind": type(part).__name__} | {f.name: recipe(getattr(part, f.name), known) for f in fields(part)}
    if isinstance(part, tuple | list):
        return [recipe(p, known) for p in part]
    if part is None or isinstance(part, str | int | float | bool):
        return part
    raise InputError("not_saveable", where=repr(part), got=type(part).__name__)


def from_recipe(value: Any, known: dict[int, Any] | None = None) -> Any:
    """The inverse of :func:`recipe`; InputError for a kind that this version does not know."""
    known = {} if known is None else known
    if isinstance(value, list):
        return tuple(from_recipe(v, known) for v in value)
    if not isinstance(value, dict):
        return value
    if "again" in value:
        return known[value["again"]]
    kind = _kinds().get(value["kind"])
    if kind is None:
        raise InputError("not_saveable", where=value["kind"], got=value["kind"])
    number = len(known)
    if issubclass(kind, Layer | Model):
        known[number] = None  # numbered from the outside in, as when written
    settings = {k: from_recipe(v, known) for k, v in value.items() if k != "kind"}
    parts = settings.pop("layers") if isinstance(settings.get("layers"), tuple) else ()  # for some kinds it is a number
    made = kind(*parts, **settings)
    if number in known:
        known[number] = made
    return made


def _kinds() -> dict[str, Any]:
    from backlit.nn import layers, layers_attention, layers_recurrent, layers_regular  # noqa: F401  their classes fill Layer.KINDS

    starts = (
        getattr(initializers, n) for n in ("Zeros", "Constant", "Normal", "Uniform", "VarianceScaling", "Orthogonal")
    )
    return {"Sequential": Sequential} | Layer.KINDS | {kind.__name__: kind for kind in starts}
