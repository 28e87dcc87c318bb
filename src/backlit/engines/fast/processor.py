"""What this processor is and has, as far as machine code depends on it."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path

from backlit.engines.fast import pointers

_CPUINFO = Path("/proc/cpuinfo")
_TOLD = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")


@cache
def about() -> str:
    """Make, model and abilities: two processors of which this is the same run the same code.

    Linux on x86-64 tells; elsewhere LLVM is asked.
    """
    if sys.platform == "linux" and platform.machine() == "x86_64":
        told = _first_core()
        if "flags" in told:
            return " ".join(told.get(key, "") for key in _TOLD)
    import llvmlite.binding as llvm

    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def _first_core() -> dict[str, str]:
    try:
        first, _, _ = _CPUINFO.read_text("utf-8", "replace").partition("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


@cache
def has_matrix_unit() -> bool:
    """Whether products may use the matrix unit: there is one, and Linux lends it to this process when asked.

    ``BACKLIT_MATRIX_UNIT=0`` says no.
    """
    wanted = sys.platform == "linux" and os.environ.get("BACKLIT_MATRIX_UNIT", "1") != "0"
    return (
        wanted and {"avx512f", "amx_bf16"} <= set(_first_core().get("flags", "").split()) and pointers.ask_for_tiles()
    )
