"""`backlit cost`: the ledger of a run, or of the network that training would make."""

from __future__ import annotations

import backlit as bl
from cli.running import TINY, called, data_of

SMALL = ("--size", "100", "--hidden", "8")


def test_of_data(capsys):
    found = data_of(capsys, "cost", "digits", *SMALL)
    assert (found["batch_size"], found["loss"], found["optimizer"]) == (128, "softmax_cross_entropy", "adam")
    assert [n["name"] for n in found["nodes"]] == ["dense1.z", "dense1.a", "dense2.z", "loss"]
    assert found["nodes"][0]["forward"]["flops"] == 2 * 128 * 64 * 8 + 128 * 8
    assert found["nodes"][0]["forward"]["seconds"] is None


def test_of_a_run_with_its_own_settings(capsys):
    called(capsys, "train", "digits", *TINY, "--optimizer", "sgd", "--batch-size", "20", "--out", "run")
    run = bl.open_run("run")
    found = data_of(capsys, "cost", "run")
    expected = bl.cost(run.model, 20, loss="softmax_cross_entropy", optimizer=run.settings.optimizer)
    assert found["totals"] == expected.as_dict()["totals"]
    assert (found["optimizer"], found["batch_size"]) == ("sgd", 20)
    assert data_of(capsys, "cost", "run", "--batch-size", "7")["batch_size"] == 7


def test_measured(capsys):
    text, _ = called(capsys, "cost", "moons", "--hidden", "4", "--measure")
    assert "GFLOP/s" in text
    assert data_of(capsys, "cost", "moons", "--measure")["totals"]["update"]["seconds"] > 0


def test_losses_of_values_and_of_each_class(capsys):
    for loss in ("mse", "binary_cross_entropy"):
        assert data_of(capsys, "cost", "digits", *SMALL, "--loss", loss)["nodes"][-1]["rule"] == loss


def test_in_chinese(capsys):
    text, _ = called(capsys, "cost", "moons", "--lang", "zh")
    assert "参考引擎" in text


def test_what_does_not_exist_is_refused(capsys):
    _, error = called(capsys, "cost", "digits", *SMALL, "--optimizer", "adamm", code=2)
    assert "adam" in error
    called(capsys, "cost", "no/such/run", code=2)
    called(capsys, "cost", "digits", "--batch-size", "0", code=2)
