"""What a person sees of a running training: a bar in a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from backlit.core.events import EpochDone, Event, Notice, RunEnded, RunStarted, StepDone
from backlit.core.i18n import say


class ProgressBar:
    """A listener for the events of a run; used as a context manager so that the terminal is left clean.

    In a terminal: bar, samples a second, time left, metrics of the last epoch; elsewhere one line an epoch. All goes to
    standard error, so that results can be piped.
    """

    coarse = True
    """It need not see each step as it happens."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.bar: Any = None
        self.epochs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, StepDone) and self.bar is not None:
            self.bar.update(self.task, completed=event.step, loss=f"{event.loss:.4f}", epoch=event.epoch)
            self.bar.update(self.task, samples=self.bar.tasks[0].fields["samples"] + event.samples)
        elif isinstance(event, EpochDone):
            self._line(epoch_line(event.epoch, self.epochs, event.metrics))
        elif isinstance(event, Notice):
            self._line(event.text)
        elif isinstance(event, RunEnded):
            self._close()

    def _start(self, event: RunStarted) -> None:
        self.epochs = event.epochs
        if self.stream.isatty():
            self.bar, self.task = _bar(self.stream, event)
            self.bar.start()

    def _line(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.stream, flush=True)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def epoch_line(epoch: int, epochs: int, metrics: Mapping[str, float]) -> str:
    """``epoch 3/20  loss 0.2134  accuracy 0.9402  …  1.2 s``."""
    shown = {
        k: v for k, v in metrics.items() if k not in ("epoch", "step", "seconds", "learning_rate", "gradient_norm")
    }
    figures = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
    return say(
        "progress_epoch",
        epoch=f"{epoch:{len(str(epochs))}}",
        epochs=epochs,
        figures=figures,
        seconds=f"{metrics['seconds']:.1f}",
    )


def _bar(stream: TextIO, event: RunStarted) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Samples a second since the bar began."""

        def render(self, task: Task) -> Text:
            elapsed = task.elapsed or 0.0
            return Text(say("progress_rate", rate=f"{task.fields['samples'] / elapsed:,.0f}") if elapsed else "")

    columns = (
        TextColumn(say("progress_bar", epoch="{task.fields[epoch]}", epochs=str(event.epochs))),
        BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), TextColumn("loss {task.fields[loss]}"),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(file=stream), transient=True)
    return bar, bar.add_task("", total=event.steps, completed=event.step, loss="…", epoch=1, samples=0)
