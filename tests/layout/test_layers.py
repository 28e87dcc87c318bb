"""The contracts of pyproject.toml hold, and would notice if they did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from layout.sources import ROOT, SRC

pytest.importorskip("importlinter")
LINT = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename=sys.argv[1], no_cache=True, no_logo=True))
"""


def lint(source):
    return subprocess.run(
        [sys.executable, "-c", LINT, str(ROOT / "pyproject.toml")],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(SRC, tmp_path / "backlit", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_imports_go_only_downwards():
    result = lint(SRC.parent)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("core/extra.py", "import backlit.rules.linear", "backlit.core.extra -> backlit.rules.linear"),
        ("rules/extra.py", "def late():\n    import jax.numpy", "backlit.rules.extra -> jax"),
        ("placeless/__init__.py", "", "backlit.placeless"),
    ],
)
def test_a_wrong_import_is_noticed(copy, file, line, complaint):
    wrong = copy / "backlit" / file
    wrong.parent.mkdir(exist_ok=True)
    wrong.write_text(line + "\n", "utf-8")
    result = lint(copy)
    assert result.returncode != 0
    assert complaint in result.stdout
