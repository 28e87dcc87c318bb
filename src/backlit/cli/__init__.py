"""The command line: an adapter without mathematics or training logic."""

from __future__ import annotations

import os
import sys

_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Entry point of the command ``backlit``.

    Unless the environment says otherwise NumPy's matrix products get one thread: the fast engine shares the work out
    itself, and with the reference engine small networks train faster so.
    """
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    from backlit.cli.app import run

    sys.exit(run())
