"""Weights of a PyTorch model in a backlit model of the same layers.

``LAYOUTS`` says of each kind of layer which entries of a module's ``state_dict`` it takes and how they lie here.
PyTorch itself is not needed: an entry is anything that ``numpy.asarray`` or ``tensor.detach().cpu().numpy()`` reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from backlit.core.errors import InputError
from backlit.core.names import lookup
from backlit.core.types import Array, Arrays, Shape
from backlit.graph.builder import Builder
from backlit.graph.graph import Graph, Node
from backlit.nn.layer import Layer
from backlit.nn.model import Model, input_names

IGNORED = ("num_batches_tracked",)
"""Entries that are no weights."""


@dataclass(frozen=True)
class Site:
    """A layer where it stands in a model."""

    name: str
    layer: Layer
    flattened: Shape | None
    """(H, W, C) or (T, C) of what a :class:`Flatten` before it has flattened; PyTorch does so with C first."""
    own: tuple[str, ...] = ()
    """Names of its arrays."""


@dataclass(frozen=True)
class Layout:
    """``takes`` are the entries of the module, those that may be missing included; ``convert(site, entries)`` gives
    the layer's arrays by their own names (``W``), parameters and state alike.
    """  # noqa: D205  one sentence

    takes: tuple[str, ...]
    convert: Callable[[Site, Arrays], Arrays]


def from_torch_state_dict(
    model: Model, state_dict: Mapping[str, Any], *, names: Mapping[str, str] | None = None
) -> Model:
    """Set the parameters and the state of a built ``model`` from a PyTorch model's ``state_dict()``; returns it.

    Layers and modules are paired in order: the layers as they are called, the modules as they stand in the state dict.
    ``names`` pairs them by name instead, ``{"dense1": "encoder.fc"}``, where the orders differ. Entries of any floating
    type come in the model's own. Layouts are those that the layers' docstrings tell (images last to channels last,
    columns of a dense layer after Flatten reordered likewise).

    Raises InputError: ``not_built``; ``torch_missing`` or ``torch_left`` where one side has more, ``torch_shape`` where
    shapes differ, ``torch_kind`` for a layer without an entry in :data:`LAYOUTS`; UnknownNameError for a name that is
    none. The model is then as it was.
    """
    left = {n: _array(a) for n, a in state_dict.items() if n.rpartition(".")[2] not in IGNORED}
    chosen, found = dict(names or {}), dict[str, Array]()
    sites = {site.name: site for site in _sites(model)}
    for name in chosen:
        lookup(sites, name, "layer")
    for site in sites.values():
        layout = LAYOUTS[type(site.layer).__name__]
        module, entries = _entries(site, layout, left, chosen.get(site.name))
        found |= _placed(model, site, module, layout.convert(site, entries))
        left = {n: a for n, a in left.items() if n not in {_joined(module, e) for e in entries}}
    if left:
        where, want = type(model).__name__, ", ".join(sites)
        raise InputError(
            "torch_left", where=where, expected=want, got=", ".join(f"{n}{list(left[n].shape)}" for n in left)
        )
    model.params |= {n: a for n, a in found.items() if n in model.params}
    model.state |= {n: a for n, a in found.items() if n in model.state}
    return model


def _array(entry: Any) -> Array:
    return np.asarray(entry.detach().cpu().numpy() if hasattr(entry, "detach") else entry)


def _joined(module: str, entry: str) -> str:
    return f"{module}.{entry}" if module else entry


# --- pairing ----------------------------------------------------------------------------------------------------------


def _sites(model: Model) -> Iterator[Site]:
    """The layers with arrays of their own, in the order in which they are called; a known one with all inside it."""
    builder = Builder(dtype=model.dtype, training=True, uniform=True)
    shapes = model.batch_of(2)
    inputs = (builder.input(n, *leaf) for n, leaf in zip(input_names(len(shapes)), shapes, strict=True))
    graph = builder.graph((model.stage(*inputs),))
    arrays, done = [*graph.parameters, *graph.state], set[str]()
    for name, layer in builder.layers.items():
        if not isinstance(layer, Layer) or any(name.startswith(f"{outer}.") for outer in done):
            continue
        if type(layer).__name__ in LAYOUTS and any(a.startswith(f"{name}.") for a in arrays):
            done.add(name)
            own = tuple(a.removeprefix(f"{name}.") for a in arrays if a.startswith(f"{name}."))
            yield Site(name, layer, _flattened(graph, name), own)
        elif any(a.rpartition(".")[0] == name for a in arrays):
            known = ", ".join(LAYOUTS)
            raise InputError("torch_kind", where=name, kind=type(layer).__name__, expected=known, got=repr(layer))


def _entries(site: Site, layout: Layout, left: Arrays, module: str | None) -> tuple[str, dict[str, Array]]:
    """(the module, its entries by their own names): the one called ``module``, else the first that is left."""
    first = next(iter(left), "")
    at = module if module is not None else _module_of(first, layout)
    entries = {} if at is None else {e: left[n] for e in layout.takes if (n := _joined(at, e)) in left}
    if at is None or not entries:
        expected = " | ".join(_joined(module or "…", e) for e in layout.takes)
        raise InputError("torch_missing", where=site.name, expected=expected, got=first or "-")
    return at, entries


def _module_of(entry: str, layout: Layout) -> str | None:
    """The module that ``entry`` belongs to, where it is one that the layout takes."""
    ends = (e for e in layout.takes if entry == e or entry.endswith(f".{e}"))
    return next((entry.removesuffix(e).removesuffix(".") for e in ends), None)


def _placed(model: Model, site: Site, module: str, arrays: Arrays) -> dict[str, Array]:
    """The arrays by dotted name, in the model's dtype; InputError unless they are the layer's, shape by shape."""
    own = {n: a.shape for n, a in (*model.params.items(), *model.state.items()) if n.startswith(f"{site.name}.")}
    came = {f"{site.name}.{n}": np.asarray(a, model.dtype) for n, a in arrays.items()}
    if own != {n: a.shape for n, a in came.items()}:
        want, got = (", ".join(f"{n}{list(s)}" for n, s in side) for side in (own.items(), _shapes(came)))
        raise InputError("torch_shape", where=site.name, module=module or "-", expected=want, got=got)
    return came


def _shapes(arrays: Arrays) -> Iterator[tuple[str, Shape]]:
    return ((n, a.shape) for n, a in arrays.items())


def _flattened(graph: Graph, layer: str) -> Shape | None:
    """The shape of one image that was flattened into what a dense layer multiplies; None where none was."""
    node = next((n for n in graph.nodes if n.rule == "linear" and f"{layer}.W" in n.operands), None)
    while node is not None:
        given = node.operands[0]
        source: Node | None = graph.producer.get(given)
        shape = graph.values[given].shape
        if source is not None and source.rule == "reshape":
            before = graph.values[source.operands[0]].shape
            return before[1:] if len(shape) == 2 and _is_image(graph, source, before) else None
        node = source if source is not None and graph.values[source.operands[0]].shape == shape else None
    return None


def _is_image(graph: Graph, node: Node, shape: Shape) -> bool:
    """True for [N, H, W, C], and for [N, T, C] that a conv1d has made: sequences are flattened alike elsewhere."""
    behind, names = set[str](), list(node.operands)
    while names:
        made = graph.producer.get(names.pop())
        if made is not None and made.name not in behind:
            behind.add(made.name)
            names += made.operands
    return len(shape) == 4 or (len(shape) == 3 and any(graph.producer[n].rule == "conv1d" for n in behind))


# --- layouts ----------------------------------------------------------------------------------------------------------


def _renamed(names: Mapping[str, str], _site: Site, entries: Arrays) -> Arrays:
    return {names[e]: a for e, a in entries.items()}


def _same(**names: str) -> Layout:
    """Entries that lie here as there, by our names."""
    return Layout(tuple(names.values()), partial(_renamed, {theirs: ours for ours, theirs in names.items()}))


def _dense(site: Site, entries: Arrays) -> Arrays:
    found = {"W": entries["weight"]} | ({"b": entries["bias"]} if "bias" in entries else {})
    if site.flattened is not None and math.prod(site.flattened) == found["W"].shape[-1]:
        *places, channels = site.flattened
        columns = np.moveaxis(found["W"].reshape(-1, channels, *places), 1, -1)
        found["W"] = columns.reshape(len(columns), -1)
    return found


def _convolution(_site: Site, entries: Arrays) -> Arrays:
    """weight[F, C/groups, *K] -> W[F, *K, C/groups]."""
    return {"W": np.moveaxis(entries["weight"], 1, -1)} | ({"b": entries["bias"]} if "bias" in entries else {})


def _transposed(site: Site, entries: Arrays) -> Arrays:
    """weight[C, F/groups, *K] -> W[F, *K, C/groups], group by group."""
    weight, groups = entries["weight"], int(getattr(site.layer, "groups", 1))
    split = weight.reshape(groups, -1, *weight.shape[1:])
    W = np.moveaxis(split, 1, -1).reshape(-1, *weight.shape[2:], split.shape[1])
    return {"W": W} | ({"b": entries["bias"]} if "bias" in entries else {})


def _attention(site: Site, entries: Arrays) -> Arrays:
    """in_proj_weight[3D, D], or q, k, v of their own, -> Wqkv; for another sequence Wq and Wkv."""
    D, found = entries["out_proj.weight"].shape[0], {"Wo": entries["out_proj.weight"]}
    separate = [entries[f"{n}_proj_weight"] for n in "qkv" if f"{n}_proj_weight" in entries]
    q, kv = (separate[0], np.concat(separate[1:])) if separate else np.split(entries["in_proj_weight"], [D])
    found |= {"Wq": q, "Wkv": kv} if "Wq" in site.own else {"Wqkv": np.concat((q, kv))}
    if "in_proj_bias" in entries:
        q, kv = np.split(entries["in_proj_bias"], [D])
        found |= {"bo": entries["out_proj.bias"]}
        found |= {"bq": q, "bkv": kv} if "Wq" in site.own else {"bqkv": entries["in_proj_bias"]}
    return found


def _made_of(parts: Mapping[str, tuple[str, Layout]], site: Site, entries: Arrays) -> Arrays:
    """A layer whose parts are modules: {module: (part here, layout)}."""
    found: dict[str, Array] = {}
    for module, (part, layout) in parts.items():
        inner = {n.removeprefix(f"{module}."): a for n, a in entries.items() if n.startswith(f"{module}.")}
        own = tuple(n.removeprefix(f"{part}.") for n in site.own if n.startswith(f"{part}."))
        found |= {f"{part}.{n}": a for n, a in layout.convert(Site(part, site.layer, None, own), inner).items()}
    return found


def _block(**parts: tuple[str, Layout]) -> Layout:
    takes = tuple(f"{module}.{entry}" for module, (_, layout) in parts.items() for entry in layout.takes)
    return Layout(takes, partial(_made_of, parts))


def _recurrent(site: Site, entries: Arrays) -> Arrays:
    """weight_ih_l0 -> W, weight_hh_l0 -> U, bias_ih_l0 + bias_hh_l0 -> b, part by part; a carried state starts at 0."""
    layer: Any = site.layer
    found: dict[str, Array] = {}
    for suffix in dict.fromkeys(e.partition("_l")[2] for e in entries if e.startswith("weight_ih")):
        number, _, reverse = suffix.partition("_")
        names = [f"layer{int(number) + 1}"] if layer.layers > 1 or int(number) else []
        names += ["backward" if reverse else "forward"] if layer.bidirectional or reverse else []
        part = _part({e: a for e in _OF_PART if (a := entries.get(f"{e}_l{suffix}")) is not None}, layer)
        found |= {".".join([*names, n]): a for n, a in part.items()}
    return found


def _part(given: Arrays, layer: Any) -> Arrays:
    W, U = given["weight_ih"], given["weight_hh"]
    of_x, of_h = (given.get(n, np.zeros(len(W), W.dtype)) for n in ("bias_ih", "bias_hh"))
    found = {"W": W, "U": U, "b": of_x + of_h}
    if type(layer).__name__ == "GRU":  # the reset multiplies the candidate's bias of h, so that one stays by itself
        inner = 2 * U.shape[1]
        found |= {"b": np.concatenate([(of_x + of_h)[:inner], of_x[inner:]]), "b_n": of_h[inner:]}
    carried = layer.states if layer.stateful else ()
    return found | {f"{state}_last": np.zeros((layer.stateful, U.shape[1])) for state in carried}


_OF_PART = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_DEEPEST = 16
_RECURRENT = Layout(
    tuple(f"{e}_l{k}{back}" for k in range(_DEEPEST) for back in ("", "_reverse") for e in _OF_PART), _recurrent
)
_LINEAR = ("weight", "bias")
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")
_ATTENTION = Layout((*_PROJECTIONS, "out_proj.weight", "out_proj.bias"), _attention)
_NORM = _same(gamma="weight", beta="bias")
_MLP = {"linear1": ("mlp1", Layout(_LINEAR, _dense)), "linear2": ("mlp2", Layout(_LINEAR, _dense))}
_NORMS = {name: (name, _NORM) for name in ("norm1", "norm2", "norm3")}
LAYOUTS: dict[str, Layout] = {
    "Dense": Layout(_LINEAR, _dense),
    "Conv1D": Layout(_LINEAR, _convolution),
    "Conv2D": Layout(_LINEAR, _convolution),
    "ConvTranspose2D": Layout(_LINEAR, _transposed),
    "BatchNorm": _same(gamma="weight", beta="bias", running_mean="running_mean", running_var="running_var"),
    "LayerNorm": _same(gamma="weight", beta="bias"),
    "GroupNorm": _same(gamma="weight", beta="bias"),
    "InstanceNorm": _same(gamma="weight", beta="bias"),
    "RMSNorm": _same(gamma="weight"),
    "Embedding": _same(E="weight"),
    "RNN": _RECURRENT,
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "PositionalEmbedding": _same(P="weight"),
    "MultiHeadAttention": _ATTENTION,
    "TransformerBlock": _block(self_attn=("attention", _ATTENTION), **_MLP, **_NORMS),
    "TransformerDecoderBlock": _block(
        self_attn=("attention", _ATTENTION), multihead_attn=("cross", _ATTENTION), **_MLP, **_NORMS
    ),
}
"""Class of the layer -> how it takes a module's weights."""
