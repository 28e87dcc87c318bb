"""Where the layers below meet for the user: fit with progress shown, and a run whose past steps can be looked at."""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backlit.core import files
from backlit.core.errors import InputError
from backlit.train import fit as training
from backlit.train import run as runs

if TYPE_CHECKING:
    from backlit.engines.fast.program import Program
    from backlit.glass.trace import Trace, Update
    from backlit.nn.losses import Loss
    from backlit.nn.model import Model
    from backlit.optim import Clip, Optimizer
    from backlit.train.replay import Moment


class Run(runs.Run):
    """A training run; see :class:`backlit.train.run.Run` for what it holds."""

    def at(self, step: int, *, part: int = 0, force: bool = False) -> Trace:
        """Everything of ``step`` (from 1), computed again bit for bit: parameters as before that step's update.

        ``part`` chooses among the mini-batches of a step that accumulates several. Raises InputError where there is no
        such step or the run was opened without data, FileError where the data have changed (``force`` goes on).
        """
        from backlit.glass.trace import of_graph
        from backlit.train.replay import replay

        moment = replay(self, step, force=force)
        graph, env = moment.leaves(part)
        update = _update(moment, part)
        return of_graph(graph, env, step=step, update=update, samples=moment.indices[part].tolist())

    def verify(self, *, force: bool = False) -> list[tuple[int, bool]]:
        """Replay every stretch between snapshots: (step, equal bit for bit) for each; errors as for :meth:`at`."""
        from backlit.train.replay import verify

        return verify(self, force=force)

    def report(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        step: int | None = None,
        lang: str | None = None,
        force: bool = False,
    ) -> Path:
        """Write the run's report, one HTML page that needs no network, and return where it is.

        ``path`` is ``report.html`` in the run's directory (the current one for a run without) unless given; ``step``
        (from 1) is the one that is looked at, the last unless given; ``lang`` is the language that the page opens in.
        Sections that need the data say so where the run was opened without. Errors as for :meth:`at`.
        """
        from backlit.report.page import page

        text = page(self, lambda s: self.at(s, force=force), step=step, lang=lang)
        return files.write(path or (self.dir or Path()) / "report.html", text.encode())


def _update(moment: Moment, part: int) -> Update:
    from backlit.core.rows import Rows
    from backlit.glass.trace import Share, Update

    grads, slots, params = moment.update()
    settings = moment.trainer.settings
    shares = [Share(*share) for share in moment.shares()]
    rows = {name: g.numbers for name, g in grads.items() if isinstance(g, Rows)}
    whole = {name: np.asarray(g) for name, g in grads.items()}
    made = (settings.optimizer, moment.learning_rate, moment.step, whole, slots, params)
    return Update(*made, clip=settings.clip, shares=shares, part=part, rows=rows)


@wraps(training.fit)
def fit(*arguments: Any, progress: bool = True, **options: Any) -> Run:
    if not progress:
        return Run(**vars(training.fit(*arguments, **options)))
    from backlit.cli.progress import ProgressBar

    with ProgressBar() as bar:
        callbacks = [bar, *options.pop("callbacks", ())]
        return Run(**vars(training.fit(*arguments, **options, callbacks=callbacks)))


fit.__doc__ = f"""{training.fit.__doc__}
    ``progress``: show a bar with rate, time left and metrics in a terminal, one line an epoch elsewhere.
"""


@wraps(runs.open_run)
def open_run(path: str | os.PathLike[str], **options: Any) -> Run:
    return Run(**vars(runs.open_run(path, **options)))


def program(
    model: Model,
    batch_size: int = 64,
    *,
    loss: str | Loss = "mse",
    optimizer: str | Optimizer = "adam",
    clip: Clip | None = None,
) -> Program:
    """The fast engine's program of one training step; ``print(program.show())`` lists its calls.

    A line is a kernel on named buffers, with the bytes of its arrays, the FLOPs of a product, and the nodes of the
    graph that it does. Targets are what ``loss`` usually takes: values of the output's shape, or class numbers.

    Raises InputError where the model is not built, batch_size is below 1, or the arena does not fit into memory;
    UnknownNameError for an unknown loss or optimizer.
    """
    from backlit import optim
    from backlit.core.environment import threads
    from backlit.engines.fast.program import Program
    from backlit.engines.fast.vectors import Vectors
    from backlit.glass.cost import step_graph
    from backlit.nn import losses
    from backlit.nn.layer import require_count

    if not model.built:
        raise InputError("not_built", where="program")
    graph = step_graph(model, require_count("program", "batch_size", batch_size), losses.get(loss))
    chosen = optim.get(optimizer)
    return Program(graph, chosen, clip, Vectors.of(graph, chosen, model.dtype), threads=threads())
