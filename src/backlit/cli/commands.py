"""The commands and their options. Whatever is heavy is imported when a command answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from backlit.cli.options import Answer, Command, argument, option


@dataclass(frozen=True, kw_only=True)
class DataOptions(Command):
    """Which data, and what network for them."""

    data: Annotated[str, argument("data")]
    target: Annotated[str | None, option("target")] = None
    task: Annotated[str | None, option("task")] = None
    drop: Annotated[str | None, option("drop")] = None
    size: Annotated[int | None, option("size", min=1)] = None
    seed: Annotated[int, option("seed", min=0)] = 0
    hidden: Annotated[str, option("hidden")] = "128,64"
    activation: Annotated[str, option("activation")] = "relu"
    dropout: Annotated[float, option("dropout")] = 0.0
    batchnorm: Annotated[bool, option("batchnorm")] = False
    loss: Annotated[str | None, option("loss")] = None


@dataclass(frozen=True, kw_only=True)
class Train(DataOptions):
    """``backlit train``."""

    optimizer: Annotated[str, option("optimizer")] = "adam"
    lr: Annotated[float | None, option("lr")] = None
    schedule: Annotated[str, option("schedule")] = "cosine"
    l2: Annotated[float, option("l2")] = 0.0
    weight_decay: Annotated[float | None, option("weight_decay")] = None
    clip: Annotated[float | None, option("clip")] = None
    epochs: Annotated[int | None, option("epochs", min=1)] = None
    batch_size: Annotated[int, option("batch_size", min=1)] = 128
    accumulate: Annotated[int, option("accumulate", min=1)] = 1
    class_weight: Annotated[str | None, option("class_weight")] = None
    early_stopping: Annotated[int | None, option("early_stopping", min=1)] = None
    until_converged: Annotated[bool, option("until_converged")] = False
    engine: Annotated[str, option("engine")] = "auto"
    out: Annotated[Path | None, option("out")] = None
    resume: Annotated[bool, option("resume")] = False
    overwrite: Annotated[bool, option("overwrite")] = False
    snapshot_every: Annotated[int | None, option("snapshot_every", min=1)] = None
    confusion: Annotated[bool, option("confusion")] = False
    quiet: Annotated[bool, option("quiet")] = False

    def answer(self) -> Answer:
        """Train, test, and say where the run lies."""
        from backlit.cli import train

        return train.answer(self)


@dataclass(frozen=True, kw_only=True)
class Summary(DataOptions):
    """``backlit summary``."""

    data: Annotated[str, argument("data_or_run")]

    def answer(self) -> Answer:
        """The layers with shapes, parameters and costs."""
        from backlit.cli import summary

        return summary.answer(self)


@dataclass(frozen=True, kw_only=True)
class Cost(DataOptions):
    """``backlit cost``."""

    data: Annotated[str, argument("data_or_run")]
    optimizer: Annotated[str, option("optimizer")] = "adam"
    batch_size: Annotated[int | None, option("batch_size", min=1)] = None
    measure: Annotated[bool, option("measure")] = False

    def answer(self) -> Answer:
        """What one training step computes, moves and keeps."""
        from backlit.cli import cost

        return cost.answer(self)


@dataclass(frozen=True, kw_only=True)
class Derive(DataOptions):
    """``backlit derive``."""

    data: Annotated[str, argument("data_or_run")]
    optimizer: Annotated[str, option("optimizer")] = "sgd"
    samples: Annotated[int, option("derive_samples", "--samples", min=1)] = 4
    html: Annotated[bool, option("html")] = False
    out: Annotated[Path | None, option("document", "--out")] = None

    def answer(self) -> Answer:
        """Forward, backward and update as formulas, then with numbers."""
        from backlit.cli import derive

        return derive.answer(self)


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """``backlit predict``."""

    run: Annotated[Path, argument("run")]
    source: Annotated[str, argument("file")]
    out: Annotated[Path | None, option("predictions", "--out")] = None
    proba: Annotated[bool, option("proba")] = False

    def answer(self) -> Answer:
        """Class names, or quantities in their units, one line a sample."""
        from backlit.cli import predict

        return predict.answer(self)


@dataclass(frozen=True, kw_only=True)
class Check(Command):
    """``backlit check``."""

    run: Annotated[Path, argument("run")]
    samples: Annotated[int, option("samples", min=1)] = 8
    certificate: Annotated[bool, option("certificate")] = False

    def answer(self) -> Answer:
        """Every gradient of the run's model against difference quotients."""
        from backlit.cli import check

        return check.answer(self)


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """``backlit report``."""

    run: Annotated[Path, argument("run")]
    out: Annotated[Path | None, option("report_out", "--out")] = None
    step: Annotated[int | None, option("report_step", "--step", min=1)] = None

    def answer(self) -> Answer:
        """One page with all that the run shows."""
        from backlit.cli import report

        return report.answer(self)


@dataclass(frozen=True, kw_only=True)
class Explain(Command):
    """``backlit explain``."""

    run: Annotated[Path, argument("run")]
    entry: Annotated[str, argument("entry")]
    step: Annotated[int | None, option("step", min=1)] = None
    depth: Annotated[int | None, option("depth", min=1)] = None
    force: Annotated[bool, option("force")] = False

    def answer(self) -> Answer:
        """Where one number of a past step comes from."""
        from backlit.cli import explain

        return explain.answer(self)


@dataclass(frozen=True, kw_only=True)
class Trace(Command):
    """``backlit trace``."""

    run: Annotated[Path, argument("run")]
    step: Annotated[int | None, option("step", min=1)] = None
    layer: Annotated[str | None, option("layer")] = None
    out: Annotated[Path | None, option("trace_file", "--out")] = None
    force: Annotated[bool, option("force")] = False

    def answer(self) -> Answer:
        """Everything of a past step."""
        from backlit.cli import trace

        return trace.answer(self)


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """``backlit demo``."""

    def answer(self) -> Answer:
        """Train on the digits, check every gradient, work one out."""
        from backlit.cli import demo

        return demo.answer(self)


COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "summary": Summary,
    "cost": Cost,
    "derive": Derive,
    "predict": Predict,
    "check": Check,
    "report": Report,
    "explain": Explain,
    "trace": Trace,
    "demo": Demo,
}
