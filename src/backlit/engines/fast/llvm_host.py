"""This processor as LLVM knows it, and its linker: for compiling, and for systems that :mod:`elf` does not know."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import llvmlite.binding as llvm


@cache
def host() -> Any:
    """What code is compiled for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    fixed = "static" if target.name.startswith("x86") else "default"  # what is linked in memory has one address
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features(), opt=3, reloc=fixed, codemodel="jitdefault", jit=True
    )


def features() -> str:
    """What this processor has beyond the least of its kind."""
    return str(llvm.get_host_cpu_features().flatten())


def make_known(names: Mapping[str, int]) -> None:
    """Let code that is linked or compiled here find these addresses."""
    for name, place in names.items():
        llvm.add_symbol(name, place)


@cache
def _engine() -> Any:
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), host())


def linked(code: bytes, unit: str, known: Mapping[str, int]) -> int:
    """The address of the function ``unit`` of object code that refers to ``known`` addresses by name.

    Raises LookupError where it has no such function.
    """
    make_known(known)
    _engine().add_object_file(llvm.ObjectFileRef.from_data(code))
    _engine().finalize_object()
    if place := int(_engine().get_function_address(unit)):
        return place
    raise LookupError(f"object code has no function {unit!r}")
