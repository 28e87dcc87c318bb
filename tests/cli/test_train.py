"""backlit train: what the options do, where the run goes, what is reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from backlit.cli.commands import Train
from backlit.cli.train import command_to_resume, usual_epochs
from cli.running import TINY, called, data_of, write_csv


def record(place="runs/moons"):
    return json.loads(Path(place, "run.json").read_text("utf-8"))


def test_what_a_run_reports(capsys):
    found = data_of(capsys, "train", "moons", *TINY, "--confusion")
    assert found["run"] == "runs/moons"
    assert (found["step"], found["reason"], found["parameters"]) == (2, "epochs", 2 * 8 + 8 + 8 * 2 + 2)
    assert found["test"]["samples"] == np.sum(found["confusion"]) == 20
    assert found["test"]["accuracy"] == np.trace(found["confusion"]) / 20
    assert record()["test"] == found["test"]


@pytest.mark.parametrize(
    ("lang", "words"), [("en", ("test:", "accuracy", "next:")), ("zh", ("测试", "准确率", "接着"))]
)
def test_what_a_person_reads(capsys, lang, words):
    out, err = called(capsys, "train", "moons", *TINY[:-1], "--lang", lang)
    assert all(word in out for word in words)
    assert "moons" in err
    assert "backlit check runs/moons" in out


def test_quiet_says_nothing_beside_the_result(capsys):
    assert called(capsys, "train", "moons", *TINY)[1] == ""


def test_the_accuracy_is_that_of_the_model_in_the_run(capsys):
    found = data_of(capsys, "train", "digits", "--hidden", "32", "--epochs", "3", "--quiet")
    X, y = bl.data.load("digits").test
    model = bl.open_run("runs/digits").model
    x = X.reshape(len(X), 64)
    W1, b1, W2, b2 = (model.params[n] for n in ("dense1.W", "dense1.b", "dense2.W", "dense2.b"))
    logits = np.maximum(x @ W1.T + b1, 0) @ W2.T + b2
    assert found["test"]["accuracy"] == pytest.approx((logits.argmax(1) == y).mean(), abs=1e-9)


SETTINGS = {
    "optimizer": (["--optimizer", "sgd", "--lr", "0.2", "--schedule", "constant"], ("optimizer", "name"), "sgd"),
    "rate": (["--lr", "0.2"], ("optimizer", "learning_rate", "learning_rate"), 0.2),
    "usual rate": (["--optimizer", "rmsprop"], ("optimizer", "learning_rate", "learning_rate"), 0.01),
    "schedule": (["--schedule", "one_cycle"], ("optimizer", "learning_rate", "name"), "one_cycle"),
    "plateau": (["--schedule", "reduce_on_plateau"], ("optimizer", "learning_rate", "name"), "reduce_on_plateau"),
    "l2": (["--l2", "0.01"], ("optimizer", "l2"), 0.01),
    "decay": (["--weight-decay", "0.1"], ("optimizer", "weight_decay"), 0.1),
    "usual decay": (["--optimizer", "adamw"], ("optimizer", "weight_decay"), 0.01),
    "clip": (["--clip", "0.5"], ("clip", "limit"), 0.5),
    "batch": (["--batch-size", "7"], ("batch_size",), 7),
    "accumulate": (["--accumulate", "2"], ("accumulate",), 2),
    "seed": (["--seed", "5"], ("seed",), 5),
    "early": (["--early-stopping", "3"], ("early_stopping", "patience"), 3),
    "until": (["--until-converged"], ("converged", "patience"), 3),
    "loss": (["--loss", "mse"], ("loss", "name"), "mse"),
    "binary": (["--loss", "binary_cross_entropy"], ("loss", "name"), "binary_cross_entropy"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_an_option_reaches_the_run(capsys, case):
    words, path, value = SETTINGS[case]
    called(capsys, "train", "moons", *TINY, *words)
    found = record()["settings"]
    for key in path:
        found = found[key]
    assert found == value


def test_layers_follow_the_options(capsys):
    called(capsys, "train", "moons", *TINY, "--batchnorm", "--dropout", "0.25", "--activation", "tanh")
    layers = record()["model"]["recipe"]["layers"]
    assert [layer["kind"] for layer in layers] == ["Dense", "BatchNorm", "Activation", "Dropout", "Dense"]
    assert layers[2]["function"] == "tanh"
    assert layers[3]["rate"] == 0.25


LOSSES = ("softmax_cross_entropy", "softmax_focal", "binary_cross_entropy", "mse", "mae", "huber")


@pytest.mark.parametrize(("data", "loss"), [*(("circles", loss) for loss in LOSSES), *(("digits", n) for n in LOSSES)])
def test_every_loss_learns_classes(capsys, data, loss):
    """But for the absolute error of ten classes: nine of ten targets are 0, and so is their median."""
    words = ("--hidden", "32", "--epochs", "40", "--batch-size", "32", "--lr", "0.01", "--size", "500", "--quiet")
    found = data_of(capsys, "train", data, *words, "--loss", loss)
    assert found["test"]["accuracy"] > (0.85 if (data, loss) != ("digits", "mae") else 0.05)


def test_balanced_classes_weigh_the_rare_one_up(capsys, tmp_path):
    rng = np.random.default_rng(0)
    y = (np.arange(400) % 20 == 0).astype(int)
    x = rng.normal(size=400) + 1.5 * y
    write_csv(tmp_path / "rare.csv", [["x", "class"], *zip(x, y, strict=True)])
    words = ("rare.csv", "--hidden", "none", "--epochs", "60", "--batch-size", "40", "--lr", "0.05", "--quiet")
    plain = data_of(capsys, "train", *words, "--confusion")
    balanced = data_of(capsys, "train", *words, "--confusion", "--class-weight", "balanced")
    assert sum(row[1] for row in balanced["confusion"]) > sum(row[1] for row in plain["confusion"])


def test_a_regression_reports_errors_in_the_units_of_the_target(capsys, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 400)
    y = 5000 + 300 * x + rng.normal(0, 10, 400)
    write_csv(tmp_path / "line.csv", [["x", "price"], *zip(x, y, strict=True)])
    found = data_of(capsys, "train", "line.csv", "--hidden", "none", "--epochs", "100", "--lr", "0.02", "--quiet")
    assert found["test"]["r2"] > 0.99
    assert 7 < found["test"]["rmse"] < 14
    out, _ = called(capsys, "train", "line.csv", "--hidden", "none", "--epochs", "2", "--quiet")
    assert "price" in out


def test_runs_are_numbered_unless_told(capsys):
    places = [data_of(capsys, "train", "moons", *TINY)["run"] for _ in range(3)]
    assert places == ["runs/moons", "runs/moons-2", "runs/moons-3"]
    assert data_of(capsys, "train", "moons", *TINY, "--overwrite")["run"] == "runs/moons-3"
    assert data_of(capsys, "train", "moons", *TINY, "--out", "other")["run"] == "other"


def test_a_folder_that_was_named_is_not_overwritten_unasked(capsys):
    called(capsys, "train", "moons", *TINY, "--out", "mine")
    before = Path("mine/run.json").read_bytes()
    _, err = called(capsys, "train", "moons", *TINY, "--out", "mine", code=2)
    assert "BL403" in err
    assert "--resume" in err
    assert Path("mine/run.json").read_bytes() == before


def test_resume_where_there_is_nothing_starts_and_says_so(capsys):
    _, err = called(capsys, "train", "moons", *TINY[:-1], "--resume")
    assert "no run in runs/moons" in err


def test_early_stopping_needs_something_to_watch(capsys, tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "d.npz", X_train=X, y_train=np.arange(40) % 2, X_test=X, y_test=np.arange(40) % 2)
    _, err = called(capsys, "train", "d.npz", "--epochs", "1", "--quiet", "--early-stopping", "2", code=2)
    assert "BL710" in err


def test_a_loss_of_classes_does_not_fit_quantities(capsys, tmp_path):
    write_csv(tmp_path / "t.csv", [["x", "y"], *((i, i + 0.5) for i in range(50))])
    _, err = called(capsys, "train", "t.csv", "--loss", "softmax_cross_entropy", code=2)
    assert "BL707" in err


def test_a_table_with_target_task_and_dropped_columns(capsys, tmp_path):
    write_csv(tmp_path / "t.csv", [["id", "y", "x"], *((i, i % 3, i % 3 + 0.01 * i) for i in range(60))])
    words = ("t.csv", "--target", "y", "--task", "classification", "--drop", "id", "--epochs", "2", "--quiet")
    called(capsys, "train", *words)
    notes = record("runs/t")["notes"]
    assert notes["data"]["features"] == ["x"]
    assert notes["source"]["drop"] == ["id"]
    assert Path(notes["source"]["source"]).is_absolute()


@pytest.mark.parametrize(("samples", "batch", "epochs"), [(100_000, 128, 20), (12_800, 128, 60), (100, 128, 200)])
def test_small_data_get_more_epochs(samples, batch, epochs):
    assert usual_epochs(samples, Train(data="x", batch_size=batch)) == epochs


def test_the_command_to_go_on():
    words = ("train", "my data.csv", "--overwrite", "--epochs", "3")
    assert command_to_resume(words, Path("runs/d")) == ("backlit train 'my data.csv' --epochs 3 --out runs/d --resume")
    assert command_to_resume(("train", "d", "--out=x", "--resume"), Path("x")) == "backlit train d --out=x --resume"
