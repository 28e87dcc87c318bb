"""What holds for every test."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _numbers_that_are_not_finite_are_errors():
    with np.errstate(all="raise", under="ignore"):
        yield


@pytest.fixture(autouse=True)
def _english(monkeypatch):
    """Whatever the machine's language, messages are English unless a test asks for Chinese."""
    monkeypatch.setenv("BACKLIT_LANG", "en")
