"""Arrays in dicts, lists and tuples, nested in any way: what a function of parameters takes, and its gradient gives."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np


def map_leaves(f: Callable[[str, Any], Any], tree: Any, path: str) -> Any:
    """The same dicts, lists and tuples with ``f(path, leaf)`` in place of each leaf.

    ``path`` is how Python writes the way to the leaf, ``params['layers'][0]``. All that is no dict, list or tuple is a
    leaf, and so are lists and tuples of nothing but numbers, which stand for an array as they do in NumPy.
    """
    if isinstance(tree, dict):
        return {key: map_leaves(f, part, f"{path}[{key!r}]") for key, part in tree.items()}
    if not isinstance(tree, list | tuple) or _of_numbers(tree):
        return f(path, tree)
    parts = [map_leaves(f, part, f"{path}[{i}]") for i, part in enumerate(tree)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)  # a named tuple takes them one by one


def _of_numbers(tree: Any) -> bool:
    if isinstance(tree, list | tuple):
        return bool(tree) and all(map(_of_numbers, tree))
    return isinstance(tree, Number | np.generic)
