"""The command line as tests use it: in a process of its own, or in this one where that is enough."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from backlit.cli.app import run

COMMAND = (sys.executable, "-c", "from backlit.cli import main; main()")
SOURCE = Path(__file__).resolve().parents[2] / "src"
TINY = ("--size", "100", "--hidden", "8", "--epochs", "2", "--quiet")
"""Options for a run of a moment."""


def environment(**changes):
    return os.environ | {"PYTHONPATH": str(SOURCE), "BACKLIT_LANG": "en", "COLUMNS": "100"} | changes


def start(*words, cwd, **pipes):
    """The running process."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
    return subprocess.Popen([*COMMAND, *words], cwd=cwd, env=environment(), text=True, **pipes)


def finished(*words, cwd, **changes):
    """The ended process, which must not have shown a traceback."""
    done = subprocess.run(
        [*COMMAND, *words], cwd=cwd, env=environment(**changes), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def called(capsys, *words, code=0):
    """(stdout, stderr) of the command in this process; it must end with ``code``."""
    found = run(list(map(str, words)))
    out, err = capsys.readouterr()
    assert found == code, out + err
    return out, err


def data_of(capsys, *words, code=0):
    """What the command prints with --json."""
    return json.loads(called(capsys, *words, "--json", code=code)[0])


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path
