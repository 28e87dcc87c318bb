"""backlit predict and check: a run meets new data, in class names or in the target's units."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from backlit.rules.base import REGISTRY
from cli.running import TINY, called, data_of, write_csv

COLOURS = ("blue", "green", "red")


def table(out):
    return list(csv.DictReader(io.StringIO(out)))


@pytest.fixture
def shop(tmp_path):
    """Prices that follow from size and colour, some cells missing; returns the rows."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(300):
        size, colour = rng.uniform(10, 50), COLOURS[i % 3]
        price = 2000 + 40 * size + 500 * COLOURS.index(colour)
        rows.append([f"{size:.3f}", colour, f"{price:.2f}"])
    rows[7][0] = ""
    write_csv(tmp_path / "shop.csv", [["size", "colour", "price"], *rows])
    return rows


def trained(capsys, *words):
    return data_of(capsys, "train", *words, "--quiet")


def test_quantities_come_in_their_units(capsys, shop, tmp_path):
    trained(capsys, "shop.csv", "--target", "price", "--hidden", "none", "--epochs", "200", "--lr", "0.05")
    write_csv(tmp_path / "new.csv", [["note", "colour", "size"], ["a", "red", "20"], ["b", "blue", "40"]])
    out, _ = called(capsys, "predict", "runs/shop", "new.csv")
    found = table(out)
    assert [row["sample"] for row in found] == ["1", "2"]
    assert [float(row["price"]) for row in found] == pytest.approx([2000 + 800 + 1000, 2000 + 1600], rel=0.01)


def test_the_file_it_was_trained_on_gives_what_the_model_gives(capsys, shop, tmp_path):
    trained(capsys, "shop.csv", "--target", "price", "--hidden", "8", "--epochs", "20")
    done, _ = called(capsys, "predict", "runs/shop", "shop.csv", "--out", "p.csv")
    assert "300 predictions written to p.csv" in done
    found = np.array([float(row["price"]) for row in table((tmp_path / "p.csv").read_text("utf-8"))])
    sizes = np.array([float(row[0] or "nan") for row in shop])
    run = bl.open_run("runs/shop")
    size, colour = run.record["notes"]["data"]["preprocessing"]["columns"]
    x = np.stack([(np.where(np.isnan(sizes), size["median"], sizes) - size["mean"]) / size["std"]], axis=1)
    onehot = np.array([[c == row[1] for c in colour["categories"]] for row in shop], dtype=float)
    W1, b1, W2, b2 = (run.model.params[n].astype(float) for n in ("dense1.W", "dense1.b", "dense2.W", "dense2.b"))
    y = np.maximum(np.concatenate([x, onehot], axis=1) @ W1.T + b1, 0) @ W2.T + b2
    scaler = run.record["notes"]["data"]["target"]["scaler"]
    np.testing.assert_allclose(found, y[:, 0] * scaler["std"][0] + scaler["mean"][0], rtol=1e-5)


def test_what_was_filled_in_is_said(capsys, shop, tmp_path):
    trained(capsys, "shop.csv", "--target", "price", "--epochs", "2")
    write_csv(tmp_path / "new.csv", [["size", "colour"], ["", "red"], ["3", "violet"]])
    _, err = called(capsys, "predict", "runs/shop", "new.csv")
    assert "size" in err
    assert "violet" in err
    _, err = called(capsys, "predict", "runs/shop", "new.csv", "--lang", "zh")
    assert "缺失" in err


def test_a_missing_column_is_named(capsys, shop, tmp_path):
    trained(capsys, "shop.csv", "--target", "price", "--epochs", "2")
    write_csv(tmp_path / "new.csv", [["size"], ["3"]])
    _, err = called(capsys, "predict", "runs/shop", "new.csv", code=2)
    assert "colour" in err


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_classes_come_by_name_with_probabilities(capsys, tmp_path, loss):
    rows = [[f"{x:.2f}", "big" if x > 0 else "small"] for x in np.linspace(-3, 3, 200)]
    write_csv(tmp_path / "sizes.csv", [["x", "kind"], *rows])
    trained(capsys, "sizes.csv", "--epochs", "100", "--batch-size", "20", "--hidden", "8", "--loss", loss)
    write_csv(tmp_path / "new.csv", [["x"], ["-2.5"], ["2.5"]])
    found = data_of(capsys, "predict", "runs/sizes", "new.csv", "--proba")["predictions"]
    assert [row["kind"] for row in found] == ["small", "big"]
    for row in found:
        assert row["p(big)"] + row["p(small)"] == pytest.approx(1, abs=1e-6)
        assert row[f"p({row['kind']})"] > 0.9


def test_the_test_part_of_a_data_set_by_name(capsys):
    accuracy = trained(capsys, "digits", "--hidden", "16", "--epochs", "2")["test"]["accuracy"]
    found = data_of(capsys, "predict", "runs/digits", "digits")["predictions"]
    truth = bl.data.load("digits").test[1]
    assert np.mean([int(row["digit"]) for row in found] == truth) == pytest.approx(accuracy, abs=1e-9)


def test_arrays_of_images(capsys, tmp_path):
    trained(capsys, "digits", "--hidden", "16", "--epochs", "2")
    with np.load(Path(bl.data.__file__).parent / "files" / "digits.npz") as stored:
        images = stored["X"][:5]
    np.savez(tmp_path / "images.npz", X=images[..., None])
    assert len(data_of(capsys, "predict", "runs/digits", "images.npz")["predictions"]) == 5


def test_data_of_another_kind_are_refused(capsys):
    trained(capsys, "moons", *TINY[:-1])
    _, err = called(capsys, "predict", "runs/moons", "digits", code=2)
    assert "BL713" in err


def test_probabilities_of_a_quantity_are_refused(capsys, shop):
    trained(capsys, "shop.csv", "--target", "price", "--epochs", "1")
    assert "BL714" in called(capsys, "predict", "runs/shop", "shop.csv", "--proba", code=2)[1]


def test_a_run_of_the_library_does_not_know_its_data(capsys, tmp_path):
    model = bl.Sequential(bl.Dense(2))
    bl.fit(model, (np.eye(4), np.arange(4) % 2), loss="softmax_cross_entropy", epochs=1, run_dir="own", progress=False)
    np.savez(tmp_path / "x.npz", X=np.eye(4))
    assert "BL711" in called(capsys, "predict", "own", "x.npz", code=2)[1]
    assert "BL711" in called(capsys, "check", "own", code=2)[1]


# --- check ----------------------------------------------------------------------------------------------------------


def test_check_confirms_a_run(capsys):
    called(capsys, "train", "circles", *TINY, "--activation", "tanh", "--dropout", "0.2", "--batchnorm")
    report = data_of(capsys, "check", "runs/circles", "--samples", "12")
    assert report["ok"]
    assert report["samples"] == 12
    assert {row["parameter"] for row in report["rows"]} >= {"dense1.W", "batchnorm1.gamma", "dense2.b"}
    assert report["worst"] < 1e-6


@pytest.mark.parametrize(("lang", "word"), [("en", "gradients ok"), ("zh", "梯度正确")])
def test_check_speaks(capsys, lang, word):
    called(capsys, "train", "moons", *TINY)
    out, _ = called(capsys, "check", "runs/moons", "--lang", lang)
    assert word in out.splitlines()[-1]
    assert "dense2.W" in out


def test_check_catches_a_wrong_gradient(capsys, monkeypatch):
    called(capsys, "train", "moons", *TINY)
    right = REGISTRY["linear"]

    def backward(xp, dz, *, x, W):
        dx, dW, db = right.backward(xp, dz, x=x, W=W)
        return dx, dW * 1.0005, db

    monkeypatch.setitem(REGISTRY, "linear", dataclasses.replace(right, backward=backward))
    report = data_of(capsys, "check", "runs/moons", code=1)
    assert not report["ok"]
    assert {row["parameter"] for row in report["rows"] if row["verdict"] == "wrong"} == {"dense1.W", "dense2.W"}


def test_check_of_a_classification_learnt_as_values(capsys):
    called(capsys, "train", "digits", *TINY, "--loss", "mse")
    assert data_of(capsys, "check", "runs/digits")["ok"]


def test_check_notices_that_the_data_changed(capsys, shop, tmp_path):
    trained(capsys, "shop.csv", "--target", "price", "--epochs", "1")
    shop[3][2] = "1"
    write_csv(tmp_path / "shop.csv", [["size", "colour", "price"], *shop])
    error = json.loads(called(capsys, "check", "runs/shop", "--json", code=2)[0])["error"]
    assert error["code"] == "BL712"
