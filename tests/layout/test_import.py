"""`import backlit` is light: NumPy and nothing heavy, in hardly more time than NumPy itself takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"numba", "jax", "torch", "scipy", "sklearn", "rich", "typer", "click", "pooch", "requests"}
HEAVY |= {"matplotlib", "pandas"}
PROBE = """
import json, sys
from time import perf_counter
start = perf_counter()
import numpy
middle = perf_counter()
import backlit as bl
bl.Dense, bl.fit
print(json.dumps({"numpy": middle - start, "all": perf_counter() - start, "loaded": sorted(sys.modules)}))
"""
OWN_SHARE = 0.12  # seconds
ENOUGH = 0.4


def fresh(cache):
    """A new process that finds byte code where Python keeps it after the first import, as an installed package does."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPYCACHEPREFIX": str(cache)}
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, env=env)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    cache = tmp_path_factory.mktemp("pycache")
    return [fresh(cache) for _ in range(6)]


def test_nothing_heavy_is_loaded(probes):
    assert not HEAVY & set(probes[0]["loaded"])


def test_it_is_quick(probes):
    """At most 0.4 s; where NumPy alone is slow, at most 0.12 s more than NumPy. The best of five runs counts."""
    late = min(p["all"] - max(ENOUGH, p["numpy"] + OWN_SHARE) for p in probes)
    assert late <= 0, [(p["numpy"], p["all"]) for p in probes]
