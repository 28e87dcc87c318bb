"""From options to a job and back from a run's record; and the progress of a training as a listener sees it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from backlit.cli.commands import DataOptions, Train
from backlit.cli.jobs import OF_CLASSES, OF_VALUES, USUAL_LOSS, Job, _widths, is_run, made, notes, reopened
from backlit.cli.progress import ProgressBar, epoch_line
from backlit.core.errors import BacklitError, FileError, InputError, UnknownNameError
from backlit.core.events import EpochDone, RunEnded, RunStarted, SnapshotSaved, StepDone
from backlit.core.i18n import use_language
from cli.running import TINY, called, write_csv


def options(data="moons", **changes):
    return DataOptions(data=data, **{"size": 60} | changes)


@pytest.fixture
def prices(tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"{a:.3f}", "uv"[i % 2], f"{a * 3:.3f}", f"id{i}"] for i, a in enumerate(rng.normal(size=60))]
    return str(write_csv(tmp_path / "prices.csv", [["size", "kind", "price", "id"], *rows]))


# --- jobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "loss", "outputs", "one_hot"),
    [
        ("moons", None, 2, False),
        ("moons", "softmax_cross_entropy", 2, False),
        ("moons", "binary_cross_entropy", 1, False),
        ("moons", "mse", 2, True),
        ("digits", None, 10, False),
        ("digits", "binary_cross_entropy", 10, True),
        ("digits", "huber", 10, True),
    ],
)
def test_the_loss_decides_the_outputs_and_the_form_of_the_labels(data, loss, outputs, one_hot):
    job = Job.of(options(data, loss=loss))
    assert (job.outputs, job.one_hot) == (outputs, one_hot)
    _, labels = job.data.train
    _, y = job.pair("train")
    if one_hot:
        assert y.dtype == np.float32
        assert y.tolist() == [[float(k == label) for k in range(outputs)] for label in labels]
    else:
        assert y is labels
    assert job.model(options(data)).params[f"dense{3}.b"].shape == (outputs,)


@pytest.mark.parametrize("loss", [None, *OF_VALUES])
def test_quantities_have_an_output_each(prices, loss):
    job = Job.of(options(prices, target="price", drop="id, kind", loss=loss))
    assert (job.data.task, job.outputs, job.one_hot) == ("regression", 1, False)
    assert job.loss.name == (loss or USUAL_LOSS["regression"])
    assert job.data.features == ("size",)


@pytest.mark.parametrize("loss", OF_CLASSES)
def test_losses_of_classes_are_not_for_quantities(prices, loss):
    with pytest.raises(InputError) as caught:
        Job.of(options(prices, target="price", drop="id", loss=loss))
    assert caught.value.key == "cli_loss_task"
    assert caught.value.part("expected") == " | ".join(OF_VALUES)


def test_images_are_rows():
    job = Job.of(options("digits"))
    assert job.data.sample_shape == (64,)
    assert job.pair("nowhere") is None


@pytest.mark.parametrize(
    ("text", "widths"),
    [("128,64", [128, 64]), ("8", [8]), ("", []), ("none", []), (" 16 , 8 ", [16, 8]), ("0", [0]), ("-3", [-3])],
)
def test_widths(text, widths):
    assert _widths(text) == widths


@pytest.mark.parametrize("text", ["a", "3,", ",3", "3;4", "3.5", "3 4", "None", "[3]"])
def test_what_are_no_widths(text):
    with pytest.raises(InputError) as caught:
        _widths(text)
    assert caught.value.key == "cli_hidden"
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({"hidden": "8"}, ["Dense", "Dense"]),
        ({"hidden": "none"}, ["Dense"]),
        ({"hidden": "8,4", "dropout": 0.1}, ["Dense", "Dropout", "Dense", "Dropout", "Dense"]),
        ({"hidden": "8", "batchnorm": True}, ["Dense", "BatchNorm", "Activation", "Dense"]),
        ({"hidden": "8", "batchnorm": True, "dropout": 0.5}, ["Dense", "BatchNorm", "Activation", "Dropout", "Dense"]),
    ],
)
def test_layers_of_a_network(changes, layers):
    chosen = options(**changes)
    assert [type(layer).__name__ for layer in Job.of(chosen).model(chosen).layers] == layers


def test_the_seed_is_that_of_data_and_weights():
    def weights(seed):
        chosen = options(seed=seed, hidden="4")
        return Job.of(chosen).model(chosen).params["dense1.W"]

    assert np.array_equal(weights(3), weights(3))
    assert not np.array_equal(weights(3), weights(4))
    assert Job.of(options(seed=3)).data.sha256 != Job.of(options(seed=4)).data.sha256


@pytest.mark.parametrize(
    ("data", "changes", "option"),
    [
        ("moons", {"target": "x"}, "--target"),
        ("digits", {"drop": "x"}, "--drop"),
        ("digits", {"task": "regression"}, "--task"),
        ("some.npz", {"target": "x"}, "--target"),
        ("some.npz", {"drop": "x"}, "--drop"),
    ],
)
def test_options_of_tables_are_for_tables(data, changes, option):
    with pytest.raises(InputError) as caught:
        Job.of(options(data, **changes))
    assert (caught.value.key, caught.value.values["option"]) == ("cli_no_table", option)


def test_the_source_loads_the_same_data_from_anywhere(prices, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job.of(options("prices.csv", target="price", drop="id", seed=5))
    assert job.source["source"] == prices
    assert job.source["drop"] == ["id"]
    monkeypatch.chdir("/")
    assert bl.data.load(**job.source).flattened().sha256 == job.data.sha256


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("digits", False), ("t.csv", False), ("a/t.csv", False), ("a/run", True), ("folder", True), ("a/file", False),
        ("run-that-is-not", False), ("./x", False), ("a/b.c/d", True),
    ],
)  # fmt: skip
def test_what_looks_like_a_run(tmp_path, name, wanted):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("x", "utf-8")
    assert is_run(name) is wanted


@pytest.mark.parametrize("more", [(), ("--loss", "mse"), ("--class-weight", "balanced"), ("--seed", "3")])
def test_a_run_gives_its_job_back(capsys, more):
    called(capsys, "train", "circles", *TINY, *more, "--out", "run")
    run, job = reopened(Path("run"))
    first = Job.of(Train(data="circles", size=100, loss="mse" if "mse" in more else None, seed=3 if "3" in more else 0))
    assert job.data.sha256 == first.data.sha256
    assert job.source == first.source
    assert job.loss == first.loss
    assert np.isfinite(run.at(run.step).loss), "its past can be looked at"


def test_data_that_changed_are_refused_unless_forced(capsys, prices):
    called(capsys, "train", prices, "--target", "price", "--drop", "id", *TINY[2:], "--out", "run")
    text = Path(prices).read_text("utf-8")
    Path(prices).write_text(text.replace(",u,", ",v,", 1), "utf-8")
    with pytest.raises(FileError) as caught:
        reopened(Path("run"))
    assert caught.value.key == "cli_data_changed"
    assert len(caught.value.part("expected")) == len(caught.value.part("got")) == 64
    assert reopened(Path("run"), force=True)[1].data.task == "regression"
    Path(prices).write_text(text, "utf-8")
    reopened(Path("run"))


def test_a_run_without_notes_says_what_it_has():
    data = np.ones((4, 2)) * np.arange(4)[:, None], np.arange(4.0)[:, None]
    run = bl.fit(bl.Sequential(bl.Dense(1)), data, loss="mse", epochs=1, progress=False, run_dir="r", notes={"why": 1})
    with pytest.raises(InputError) as caught:
        notes(run)
    assert caught.value.part("got") == "why"


def test_recipes_by_name():
    kinds = {"sgd": dict, "adam": lambda **given: ("adam", given)}
    assert made(kinds, "sgd", "optimizer", a=1, b=None, c=0) == {"a": 1, "c": 0}
    assert made(kinds, "adam", "optimizer") == ("adam", {})
    with pytest.raises(UnknownNameError, match="adam"):
        made(kinds, "adm", "optimizer")


def test_what_goes_wrong_is_always_one_of_ours(tmp_path):
    for data in ("nowhere.csv", "moonz", "x.json", str(tmp_path)):
        with pytest.raises(BacklitError):
            Job.of(options(data))


# --- progress -------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def plain(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    return Terminal()


def metrics(epoch, **figures):
    return {"epoch": epoch, "step": 2 * epoch, "seconds": 0.04} | figures


def events(first, epochs):
    """A run of ``epochs`` epochs of two steps, gone on with after epoch ``first``."""
    yield RunStarted(step=2 * first, steps=2 * epochs, epochs=epochs, samples=20)
    for epoch in range(first + 1, epochs + 1):
        for step in (2 * epoch - 1, 2 * epoch):
            yield StepDone(step=step, epoch=epoch, loss=1 / step, samples=10, learning_rate=1e-3)
        yield EpochDone(epoch=epoch, step=2 * epoch, metrics=metrics(epoch, loss=1 / epoch))
        yield SnapshotSaved(step=2 * epoch, path="x")
    yield RunEnded(step=2 * epochs, reason="epochs")


def play(stream, first, epochs):
    with ProgressBar(stream) as bar:
        for event in events(first, epochs):
            bar(event)
    return bar


@pytest.mark.parametrize(("first", "epochs"), [(0, 1), (0, 12), (9, 12), (12, 12)])
def test_a_line_for_each_epoch_in_order_terminal_or_not(terminal, first, epochs):
    wanted = [f"epoch {e:{len(str(epochs))}}/{epochs}  loss {1 / e:.4f}  0.0 s" for e in range(first + 1, epochs + 1)]
    play(plain := io.StringIO(), first, epochs)
    assert plain.getvalue().splitlines() == wanted
    play(terminal, first, epochs)
    found = re.findall(r"epoch +\d+/\d+  loss \d\.\d{4}  0\.0 s", terminal.plain)
    assert found == wanted


def test_the_bar_of_a_resumed_run_begins_where_it_was(terminal):
    bar = ProgressBar(terminal)
    bar(RunStarted(step=18, steps=24, epochs=12, samples=20))
    bar(StepDone(step=19, epoch=10, loss=0.125, samples=10, learning_rate=1e-3))
    bar(StepDone(step=20, epoch=10, loss=0.0625, samples=7, learning_rate=1e-3))
    (task,) = bar.bar.tasks
    assert (task.completed, task.total) == (20, 24)
    assert task.fields == {"loss": "0.0625", "epoch": 10, "samples": 17}
    bar(RunEnded(step=20, reason="stopped"))
    assert bar.bar is None
    assert "20/24" in terminal.plain
    assert "epoch 10/12" in terminal.plain


def test_the_bar_speaks_chinese(terminal):
    with use_language("zh"):
        play(terminal, 0, 2)
    assert "第 2/2 轮" in terminal.plain
    assert "样本/秒" in terminal.plain


def test_nothing_of_the_bar_is_left_where_there_is_no_terminal():
    stream = io.StringIO()
    bar = play(stream, 0, 3)
    assert "\x1b" not in stream.getvalue()
    assert bar.bar is None


@pytest.mark.parametrize("event", [*events(0, 1)][1:], ids=lambda e: type(e).__name__)
def test_an_event_before_the_start_is_no_disaster(event):
    ProgressBar(io.StringIO())(event)


def test_it_speaks_on_standard_error_unless_told(capsys):
    play(None, 0, 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("epoch 1/1  loss")


def test_figures_of_a_line():
    line = epoch_line(
        3, 20, metrics(3, loss=0.12345, val_loss=1e3, learning_rate=9, gradient_norm=8, top5=float("nan"))
    )
    assert line == "epoch  3/20  loss 0.1235  val_loss 1000.0000  top5 nan  0.0 s"
