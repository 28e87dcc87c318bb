"""Fixtures: the folder of real data, and files written for one test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NEARBY = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder():
    """The folder of the published files; tests that need it are skipped where there is none."""
    folder = Path(os.environ.get("BACKLIT_DATA") or NEARBY)
    if not (folder / "mnist").is_dir():
        pytest.skip("no folder of published data: set BACKLIT_DATA")
    return folder


@pytest.fixture
def published(data_folder, monkeypatch):
    """Loads published data sets from that folder."""
    monkeypatch.setenv("BACKLIT_DATA", str(data_folder))
    return data_folder


@pytest.fixture
def write(tmp_path):
    """Writes a file (text, or bytes) and gives its path."""

    def written(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written
