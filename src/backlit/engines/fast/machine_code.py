"""Kernels by the address of their machine code, all called alike: f(words, lo, hi, step).

``words`` are a call's other arguments as int64: a number takes one, an array its address and its shape. For every
kernel and kind of arguments a few lines of Python unpack them; they lie as a module in the cache folder, where Numba
keeps their machine code for the next process.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import inspect
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np

from backlit.engines.fast import pointers
from backlit.engines.fast.jit import KERNELS

Array = Any

_TEXT = """from numba import carray, cfunc, types

from backlit.engines.fast.jit import KERNELS
from backlit.engines.fast.pointers import pointer

kernel = KERNELS[{name!r}]


@cfunc(types.void(types.int64, types.int64, types.int64, types.int64), cache=True, error_model="numpy")
def call(words, lo, hi, step):
    w = carray(pointer(words), ({size},), types.int64)
{lines}
    kernel({arguments})
"""


def words_of(arguments: Iterable[Any]) -> list[int]:
    """Arguments as int64: see the module's docstring."""
    return [word for a in arguments for word in _words(a)]


def _words(argument: Any) -> list[int]:
    if isinstance(argument, np.ndarray):
        return [argument.ctypes.data, *argument.shape]
    return [int(np.float64(argument).view(np.int64)) if isinstance(argument, float) else int(argument)]


def address(name: str, arguments: Sequence[Any]) -> int:
    """Where the machine code of a kernel for such arguments begins; compiled where it was never asked for before."""
    return int(_function(name, tuple(map(_kind, arguments))).address)


def _kind(argument: Any) -> str:
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return f"{argument.dtype.name}:{argument.ndim}"
    return "float" if isinstance(argument, float) else "int"


@cache
def _function(name: str, kinds: tuple[str, ...]) -> Any:
    return module(_name(name, kinds), _unpacking(name, kinds)).call


def waiting(wanted: Iterable[tuple[str, Sequence[Any]]]) -> int:
    """How many of these kernels have to be compiled before they can run."""
    texts = {(name, tuple(map(_kind, arguments))) for name, arguments in wanted}
    return sum(not (cache_folder() / f"{_name(*each)}.py").exists() for each in texts)


def _name(name: str, kinds: tuple[str, ...]) -> str:
    return version(f"call_{name}", _unpacking(name, kinds), KERNELS[name].__module__)


def version(name: str, text: str, maker: str) -> str:
    """A name for a module of compiled code: another one for every text and every version of what it is made of.

    That is the module ``maker`` and all of this package that it takes something from: Numba would not see a change.
    """
    key = f"{text}{_sources(maker)}{numba.config.BOUNDSCHECK}"
    return f"{name}_{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _unpacking(name: str, kinds: tuple[str, ...]) -> str:
    """The module that unpacks arguments of these kinds and calls the kernel."""
    at, lines, given = 0, [], ["lo", "hi", *(["step"] if takes_step(name) else [])]
    for kind in kinds:
        given.append(f"a{at}")
        dtype, _, dimensions = kind.partition(":")
        shape = "".join(f"w[{at + 1 + i}], " for i in range(int(dimensions or 0)))
        value = {"int": f"w[{at}]", "float": f"w[{at} : {at + 1}].view(types.float64)[0]"}.get(dtype)
        lines.append(f"    a{at} = {value or f'carray(pointer(w[{at}]), ({shape}), types.{dtype})'}")
        at += 1 + int(dimensions or 0)
    return _TEXT.format(name=name, size=at, lines="\n".join(lines), arguments=", ".join(given))


def takes_step(name: str) -> bool:
    """True where the kernel wants to know which step of the stretch it is."""
    function: Any = KERNELS[name]
    return "step" in inspect.signature(getattr(function, "py_func", function)).parameters


def cache_folder() -> Path:
    """Where unpacking functions and their machine code are kept: ``$BACKLIT_CACHE`` or the user's cache folder.

    Where that cannot be written, a temporary folder of this process.
    """
    base = os.environ.get("BACKLIT_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return _writable(Path(base) / "backlit" / "kernels")


@cache
def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        made = Path(tempfile.mkdtemp(prefix="backlit-kernels-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return made


@cache
def _sources(maker: str) -> str:
    found, reached = set[str](), [maker, pointers.__name__]
    while reached:
        if (name := reached.pop()) not in found:
            found.add(name)
            reached += _imports(name)
    return "".join(inspect.getsource(sys.modules[name]) for name in sorted(found))


def _imports(module: str) -> set[str]:
    """Modules of this package that a module takes something from."""
    values = vars(sys.modules[module]).values()
    names = (v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", "") for v in values)
    return {n for n in names if n and n.startswith(f"{__package__}.")}


def module(name: str, text: str) -> ModuleType:
    """The module of that name and text in the cache folder, made where it is not there yet."""
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        part.write_text(text, "utf-8")
        part.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
