"""Other programs that differentiate and so can judge a gradient: found by name, loaded when they are asked for.

An oracle is a function ``vjp(rule, inputs, attributes, places, dys)``: given ∂L/∂(outputs that have a gradient) it
returns ∂L/∂(the inputs at ``places``), float64 NumPy arrays, without using the rule's own backward; None where it has
no equivalent of the rule or refuses these inputs. The layers that may import the other libraries provide them; the
glass, which may not, asks here. :func:`register` adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

from backlit.core.errors import InputError
from backlit.core.names import lookup

VJP: TypeAlias = Callable[..., tuple[Any, ...] | None]


@dataclass(frozen=True)
class Provider:
    """Where an oracle comes from."""

    module: str
    """The module whose ``vjp`` it is."""
    package: str
    """What must be installed for it."""

    @property
    def installed(self) -> bool:
        """True where the package is there."""
        with suppress(ModuleNotFoundError):  # of the package that a dotted name lies in
            return find_spec(self.package) is not None
        return False


PROVIDERS: dict[str, Provider] = {
    "jax": Provider("backlit.engines.autodiff_jax", "jax"),
    "torch": Provider("backlit.interop.autograd_torch", "torch"),
}


def register(name: str, module: str, package: str) -> None:
    """Let ``module.vjp`` be known as the oracle ``name``; it is offered where ``package`` is installed."""
    PROVIDERS[name] = Provider(module, package)


def installed() -> tuple[str, ...]:
    """Names of the oracles that can be used here."""
    return tuple(name for name, provider in PROVIDERS.items() if provider.installed)


def get(name: str) -> VJP:
    """The oracle; UnknownNameError where there is none of that name, InputError where its package is missing."""
    provider = lookup(PROVIDERS, name, "oracle")
    if not provider.installed:
        raise InputError("oracle_absent", where=name, package=provider.package, got=", ".join(installed()) or "-")
    found: VJP = import_module(provider.module).vjp
    return found
