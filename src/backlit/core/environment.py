"""What a run depends on besides its settings: versions, processor, threads."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import numpy as np

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
