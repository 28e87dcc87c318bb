"""One gradient worked out by hand: ∂L/∂W[j,k] = Σₙ δ[n,j] a[n,k] with the numbers of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backlit.cli import show
from backlit.core.i18n import say
from backlit.core.types import Array
from backlit.engines import reference
from backlit.nn.grad import loss_graph
from backlit.nn.losses import Loss
from backlit.nn.model import Model


@dataclass(frozen=True)
class Worked:
    """The terms of one weight's gradient, one for each sample, and what backpropagation stored."""

    weight: str
    """``"dense2.W[3,5]"``"""
    delta: tuple[float, ...]
    """δ[n,j] = ∂L/∂z[n,j], the error term of the neuron that the weight leads into."""
    a: tuple[float, ...]
    """a[n,k], the activation that the weight takes in."""
    total: float
    """The sum of the products, added up in the order named by ``order``."""
    stored: float
    order: str
    """``fused``, ``plain`` or ``exact``: see ORDERS; the first that gives the stored number, else ``exact``."""

    @property
    def equal(self) -> bool:
        """True where the sum is the stored number to the last bit."""
        return self.total == self.stored

    def as_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"equal": self.equal}

    def text(self) -> tuple[Any, ...]:
        """Formula, table of the terms, and the comparison."""
        layer, j, k = _parts(self.weight)
        columns = ["n", f"δ[n,{j}]", f"a[n,{k}]", f"δ[n,{j}]·a[n,{k}]"]
        rows = [
            (str(n), f"{d:.8e}", f"{a:.8e}", f"{d * a:.8e}")
            for n, (d, a) in enumerate(zip(self.delta, self.a, strict=True))
        ]
        difference = f"{abs(self.total - self.stored):.1e}"
        return (
            say("worked_title", weight=self.weight, layer=layer, samples=len(rows)),
            show.table(columns, [*rows, ("Σ", "", "", f"{self.total:.8e}")]),
            say("worked_stored", weight=self.weight, stored=f"{self.stored:.8e}"),
            say(f"worked_{self.order}" if self.equal else "worked_differs", difference=difference),
        )


def _parts(weight: str) -> tuple[str, str, str]:
    """``"dense2.W[3,5]"`` -> ``("dense2", "3", "5")``."""
    name, index = weight.removesuffix("]").split("[")
    j, k = index.split(",")
    return name.partition(".")[0], j, k


def work_out(model: Model, X: Array, y: Array, *, loss: str | Loss, layer: str, before: str) -> Worked:
    """The entry of ``<layer>.W`` that the most samples contribute to; its input is the value ``<before>.a``.

    Computed in the model's own precision, as a step of training computes it.
    """
    graph, env = loss_graph(model, X, y, loss=loss)
    values, d = reference.value_and_grad(graph, env, graph.trainable)
    delta, a, stored = d[f"{layer}.z"], values[f"{before}.a"], d[f"{layer}.W"]
    j, k = _telling_entry(delta, a)
    total, order = _total(delta[:, j], a[:, k], stored[j, k])
    terms = tuple(map(float, delta[:, j])), tuple(map(float, a[:, k]))
    return Worked(f"{layer}.W[{j},{k}]", *terms, total, float(stored[j, k]), order)


def _telling_entry(delta: Array, a: Array) -> tuple[int, int]:
    """(j, k) with the most terms that are not 0; of these the one with the largest sum of |terms|."""
    count = (delta != 0).T.astype(int) @ (a != 0).astype(int)
    size = np.abs(delta).T @ np.abs(a)
    best = np.where(count == count.max(), size, -1.0)
    j, k = divmod(int(np.argmax(best)), best.shape[1])
    return j, k


def _total(delta: Array, a: Array, stored: Any) -> tuple[float, str]:
    sums = {order: float(add(delta, a)) for order, add in ORDERS.items()}
    order = next((name for name, total in sums.items() if total == float(stored)), "exact")
    return sums[order], order


def _fused(delta: Array, a: Array) -> Any:
    """Term by term, rounded once for each: float64 holds a product of two float32 numbers exactly."""
    total = delta.dtype.type(0)
    for d, x in zip(delta.astype(np.float64), a.astype(np.float64), strict=True):
        total = delta.dtype.type(d * x + np.float64(total))
    return total


def _plain(delta: Array, a: Array) -> Any:
    total = delta.dtype.type(0)
    for d, x in zip(delta, a, strict=True):
        total = total + d * x
    return total


def _exact(delta: Array, a: Array) -> Any:
    return delta.dtype.type(np.sum(delta.astype(np.float64) * a.astype(np.float64)))


ORDERS: dict[str, Callable[[Array, Array], Any]] = {"fused": _fused, "plain": _plain, "exact": _exact}
"""Ways to add up: fused multiply-add in order, as matrix products do; every product rounded; the sum rounded once."""
