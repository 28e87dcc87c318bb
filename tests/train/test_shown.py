"""What a person sees of a running training: lines, a bar, or nothing."""

from __future__ import annotations

import io
import os
import re
import sys
import threading

import pytest

import backlit as bl
from train.problems import labelled, mlp


def run(**changes):
    settings = {"loss": "softmax_cross_entropy", "epochs": 12, "batch_size": 4} | changes
    return bl.fit(mlp(), labelled(), **settings)


def test_plain_lines_where_there_is_no_terminal(capsys):
    found = run(validation=labelled(6, seed=1))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 12
    assert lines[0].startswith("epoch  1/12  loss ")
    assert lines[-1].startswith("epoch 12/12  loss ")
    assert f"val_accuracy {found.history['val_accuracy'][-1]:.4f}" in lines[-1]
    assert re.search(r"  \d+\.\d s$", lines[-1])
    assert "\x1b" not in err


def test_the_lines_in_chinese(capsys, monkeypatch):
    monkeypatch.setenv("BACKLIT_LANG", "zh")
    run(epochs=1)
    assert re.fullmatch(r"第 1/1 轮  loss \d\.\d{4}  accuracy \d\.\d{4}  \d\.\d 秒\n", capsys.readouterr().err)


def test_silent_without_progress(capsys):
    run(progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def terminal(monkeypatch):
    """A call makes standard error a pseudo-terminal, the next one gives what was written to it."""
    pty = pytest.importorskip("pty", reason="pseudo-terminals are Unix")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    master, slave = pty.openpty()
    stream, text = os.fdopen(slave, "w", encoding="utf-8"), io.BytesIO()

    def drain():
        try:
            while data := os.read(master, 4096):
                text.write(data)
        except OSError:  # closed at the other end
            return

    reader = threading.Thread(target=drain)
    reader.start()

    def use():  # in the test: before it, the capturing of output sets standard error once more
        monkeypatch.setattr(sys, "stderr", stream)
        return written

    def written():
        stream.close()
        reader.join()
        return text.getvalue().decode()

    yield use
    stream.close()
    reader.join()
    os.close(master)


def test_a_bar_in_a_terminal(terminal):
    written = terminal()
    run()
    text = written()
    assert "\x1b[" in text  # drawn in place
    assert "━" in text
    assert "samples/s" in text
    assert re.search(r"48/48|\d+/48", text)
    assert "epoch  1/12  loss" in text  # each epoch leaves a line above the bar
    assert "epoch 12/12  loss" in text
    assert "\x1b[?25h" in text  # the cursor is shown again


def test_the_terminal_is_left_clean_after_an_error(terminal):
    def fail(event):
        if getattr(event, "step", 0) == 5:
            raise RuntimeError

    written = terminal()
    with pytest.raises(RuntimeError):
        run(callbacks=[fail])
    text = written()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_the_bar_of_a_resumed_run_begins_where_it_was(terminal, tmp_path):
    run(run_dir=tmp_path, epochs=2, progress=False)
    written = terminal()
    run(run_dir=tmp_path, epochs=3, resume=True)
    text = written()
    assert "8/12" in text
    assert "epoch 3/3" in text
