"""Kernels by the address of their machine code, all called alike: f(words, lo, hi, step).

``words`` are a call's other arguments as int64: a number takes one, an array its address and its shape. For every
kernel and kind of arguments a few lines of Python unpack them. What is compiled lies as object code in the cache
folder; the next process links it without loading the compiler, nor LLVM where :mod:`elf` can do without.
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
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from backlit.engines.fast import elf, jit, pointers, products, split_convolution
from backlit.engines.fast.jit import KERNELS
from backlit.engines.fast.processor import about, has_matrix_unit

Array = Any

GEMM = ("backlit_sgemm", "backlit_dgemm")
"""The matrix products of float32 and of float64, as compiled kernels call them."""

CONVOLUTION = ("backlit_split_filters", "backlit_convolve", "backlit_correlate")
"""What a convolution by a matrix unit is made of; there is no other."""
PRODUCTS = (*GEMM, *CONVOLUTION)

TILE = ("backlit_stile", "backlit_dtile")
"""A tile of each."""
SPLIT = ("backlit_split", "backlit_turn", "backlit_pack", "backlit_multiply", "backlit_apart", "backlit_settle")
"""What a product by a matrix unit is made of."""
NEVER_CALLED = ("NRT_MemInfo_call_dtor",)
"""What Numba refers to where it gives back memory; kernels have none."""

_TEXT = """
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
    return _address(name, tuple(map(_kind, arguments)))


def _kind(argument: Any) -> str:
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return f"{argument.dtype.name}:{argument.ndim}"
    return "float" if isinstance(argument, float) else "int"


@cache
def _address(name: str, kinds: tuple[str, ...]) -> int:
    unit, text = _name(name, kinds), _unpacking(name, kinds)

    def make() -> bytes:
        from backlit.engines.fast.compiler import kernel_code

        return kernel_code(text, unit, KERNELS[name])

    return _linked(unit, make)


def waiting(wanted: Iterable[tuple[str, Sequence[Any]]]) -> int:
    """How many of these kernels have to be compiled before they can run."""
    texts = {(name, tuple(map(_kind, arguments))) for name, arguments in wanted}
    return sum(not _file(_name(*each)).exists() for each in texts)


def _name(name: str, kinds: tuple[str, ...]) -> str:
    return version(f"call_{name}", _unpacking(name, kinds), KERNELS[name].__module__)


def version(name: str, text: str, maker: str) -> str:
    """A name for compiled code: another one for every text, version of what it is made of, compiler and processor.

    What it is made of is the module ``maker`` and all of this package that it takes something from.
    """
    return f"{name}_{hashlib.sha256(f'{text}{_sources(maker)}{_compiler()}'.encode()).hexdigest()[:16]}"


@cache
def _compiler() -> str:
    return f"{version_of('numba')} {version_of('llvmlite')} {about()} {has_matrix_unit()}"


def _unpacking(name: str, kinds: tuple[str, ...]) -> str:
    """The text that unpacks arguments of these kinds and calls the kernel."""
    at, lines, given = 0, [], ["lo", "hi", *(["step"] if takes_step(name) else [])]
    for kind in kinds:
        given.append(f"a{at}")
        dtype, _, dimensions = kind.partition(":")
        shape = "".join(f"w[{at + 1 + i}], " for i in range(int(dimensions or 0)))
        value = {"int": f"w[{at}]", "float": f"w[{at} : {at + 1}].view(types.float64)[0]"}.get(dtype)
        lines.append(f"    a{at} = {value or f'carray(pointer(w[{at}]), ({shape}), types.{dtype})'}")
        at += 1 + int(dimensions or 0)
    return _TEXT.format(size=at, lines="\n".join(lines), arguments=", ".join(given))


def takes_step(name: str) -> bool:
    """True where the kernel wants to know which step of the stretch it is."""
    return "step" in inspect.signature(KERNELS[name]).parameters


# --- linking ----------------------------------------------------------------------------------------------------------

_lock = threading.RLock()


def _linked(unit: str, make: Callable[[], bytes]) -> int:
    """The address of what the object code ``unit`` exports under its own name; ``make`` compiles it."""
    with _lock:
        file = _file(unit)
        if not file.exists():
            _write(file, make())
        return _link(unit, file.read_bytes())


def _link(unit: str, code: bytes) -> int:
    known = outside() | {name: address_of_product(name) for name in PRODUCTS if name.encode() in code}
    if elf.can_link(code):
        with suppress(NotImplementedError):
            return elf.linked(code, unit, known)
    from backlit.engines.fast import llvm_host

    return llvm_host.linked(code, unit, known)


@cache
def outside() -> dict[str, int]:
    """What object code may refer to by name, apart from products."""
    symbols = pointers.of_system()
    return symbols | dict.fromkeys(NEVER_CALLED, symbols[pointers.YIELD])


@cache
def address_of_product(name: str) -> int:
    """The address of a matrix product, or of what a convolution by a matrix unit is made of."""
    maker = products if name in GEMM else split_convolution
    unit = version(f"product{PRODUCTS.index(name)}", "", maker.__name__)

    def make() -> bytes:
        from backlit.engines.fast import compiler

        return compiler.gemm_code(name, unit) if name in GEMM else compiler.convolution_code(name, unit)

    return _linked(unit, make)


# --- files ------------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where object code is kept: ``$BACKLIT_CACHE`` or the user's cache folder.

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


def _file(unit: str) -> Path:
    return cache_folder() / f"{unit}.o"


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes it."""
    part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    part.write_bytes(content)
    part.replace(path)


@cache
def _sources(maker: str) -> str:
    found, reached = set[str](), [maker, pointers.__name__, products.__name__, jit.__name__]
    while reached:
        if (name := reached.pop()) not in found:
            found.add(name)
            reached += _imports(name)
    of_compiler = (
        Path(__file__).with_name(f"{n}.py").read_text("utf-8")
        for n in ("compiler", "llvm_host", "vector_code", "split_code", "split_products", "split_tiles", "machine_code")
    )
    return "".join([*(inspect.getsource(sys.modules[name]) for name in sorted(found)), *of_compiler])


def _imports(module: str) -> set[str]:
    """Modules of this package that a module takes something from."""
    values = vars(sys.modules[module]).values()
    names = (v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", "") for v in values)
    return {n for n in names if n and n.startswith(f"{__package__}.")}


def module(name: str, text: str) -> ModuleType:
    """The module of that name and text in the cache folder, made where it is not there yet."""
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        _write(path, text.encode())
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
