"""What is seen of a running training, in a terminal and elsewhere."""

from __future__ import annotations

import io
import re

import pytest

from backlit.cli.progress import ProgressBar, epoch_line
from backlit.core.events import EpochDone, RunEnded, RunStarted, StepDone
from backlit.core.i18n import use_language

FIGURES = {"epoch": 1, "step": 2, "loss": 0.25, "val_accuracy": 0.5, "learning_rate": 1e-3, "seconds": 1.26}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def play(stream, *, end=True):
    """Two steps of the first of three epochs."""
    with ProgressBar(stream) as bar:
        bar(RunStarted(step=0, steps=6, epochs=3, samples=20))
        for step in (1, 2):
            bar(StepDone(step=step, epoch=1, loss=0.5 / step, samples=10, learning_rate=1e-3))
        bar(EpochDone(epoch=1, step=2, metrics=FIGURES))
        if not end:
            raise KeyboardInterrupt
        bar(RunEnded(step=2, reason="stopped"))
    return stream.getvalue()


def test_one_line_an_epoch_where_there_is_no_terminal():
    assert play(io.StringIO()) == "epoch 1/3  loss 0.2500  val_accuracy 0.5000  1.3 s\n"


def test_the_line_in_chinese():
    with use_language("zh"):
        assert play(io.StringIO()) == "第 1/3 轮  loss 0.2500  val_accuracy 0.5000  1.3 秒\n"


def test_epoch_numbers_are_aligned():
    assert epoch_line(7, 100, FIGURES).startswith("epoch   7/100 ")


def test_a_bar_in_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", play(Terminal()))
    assert "epoch 1/3  loss 0.2500" in shown
    assert "2/6" in shown
    assert "samples/s" in shown
    assert "loss 0.2500" in shown


@pytest.mark.parametrize("end", [True, False])
def test_the_cursor_comes_back_whatever_happens(monkeypatch, end):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    if end:
        play(stream)
    else:
        with pytest.raises(KeyboardInterrupt):
            play(stream, end=False)
    hidden, shown = stream.getvalue().rfind("\x1b[?25l"), stream.getvalue().rfind("\x1b[?25h")
    assert -1 < hidden < shown
