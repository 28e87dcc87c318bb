"""What a run depends on besides its settings: versions, processor, threads."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

_SMT = Path("/sys/devices/system/cpu/smt/active")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment() -> dict[str, Any]:
    """Versions, machine, cores and thread settings, as JSON values. Bitwise repetition needs the same thread count."""
    from backlit import __version__

    return {
        "backlit": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": sys.platform,
        "cores": os.cpu_count(),
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def threads() -> int:
    """How many threads a run may use: ``$BACKLIT_THREADS``, ``$OMP_NUM_THREADS``, or the cores open to this process.

    Where two threads share a core, one for each core.
    """
    for name in ("BACKLIT_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdecimal():
            return max(int(os.environ[name]), 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // 2, 1) if _SMT.exists() and _SMT.read_text("ascii").strip() == "1" else cores


def available_memory() -> int | None:
    """Bytes of memory that may still be used, by the machine and by this process's group; None where unknown."""
    known = [n for n in (_of_machine(), _of_group()) if n is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _of_group() -> int | None:
    try:
        most, used = (Path("/sys/fs/cgroup", f"memory.{n}").read_text("ascii") for n in ("max", "current"))
        return int(most) - int(used)
    except (OSError, ValueError):
        return None
