"""Listings as functions: run as they are, or compiled whole and kept on disk for the next process."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from backlit.engines.fast import jit, kernels_dense, kernels_loss, kernels_optim

MODULES = (kernels_dense, kernels_loss, kernels_optim, jit)
"""What a compiled listing is made of besides its own text."""
_HEAD = """from backlit.engines.fast.kernels_dense import *
from backlit.engines.fast.kernels_loss import *
from backlit.engines.fast.kernels_optim import *
from backlit.engines.fast.jit import kept


@kept
"""


def cache_folder() -> Path:
    """Where generated functions and their machine code are kept: ``$BACKLIT_CACHE`` or the user's cache folder."""
    base = os.environ.get("BACKLIT_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "backlit" / "steps"


def interpreted(source: str, namespace: dict[str, Any]) -> Callable[..., Any]:
    """The function ``run`` of a listing, as plain Python over kernels."""
    scope = dict(namespace)
    exec(compile(source, "<listing>", "exec"), scope)  # noqa: S102  the program's own listing
    found: Callable[..., Any] = scope["run"]
    return found


def compiled(source: str) -> Callable[..., Any]:
    """The function ``run`` of a listing, compiled by Numba; a module in the cache folder, so that it is compiled once.

    Its name tells the kernels too: Numba would not see that one of them has changed since. Where the folder cannot be
    written it is compiled anew in each process.
    """
    text = _HEAD + source
    name = f"step_{hashlib.sha256((text + _kernels()).encode()).hexdigest()[:16]}"
    try:
        found: Callable[..., Any] = _imported(name, _written(cache_folder() / f"{name}.py", text)).run
    except OSError:
        found = interpreted(text.replace("import kept", "import unkept as kept"), {})
    return found


@cache
def _kernels() -> str:
    """The source of all kernels, and how they are compiled."""
    return "".join(inspect.getsource(module) for module in MODULES)


def _written(path: Path, text: str) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text, "utf-8")
        part.replace(path)
    return path


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
