"""The mathematics: one rule per operation, each a pair of pure functions. Importing this package fills the registry."""

from importlib import import_module
from pkgutil import iter_modules

from backlit.rules.base import REGISTRY, Case, Rule, get, rule

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["REGISTRY", "Case", "Rule", "get", "rule"]
