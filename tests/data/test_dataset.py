"""A Dataset: its fingerprint, flat form, JSON and notes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from backlit.core.i18n import use_language
from backlit.data import Preprocessing, fingerprint, from_arrays, load
from backlit.data.remarks import remark


def test_equal_numbers_have_equal_fingerprints():
    a = np.arange(6.0).reshape(2, 3)
    assert fingerprint([a, a]) == fingerprint([a.copy(), np.asfortranarray(a)])
    assert fingerprint({"x": a, "y": a + 1}) == fingerprint({"y": a + 1, "x": a})
    assert len(fingerprint([])) == 64


@pytest.mark.parametrize(
    "other",
    [
        [np.arange(6.0).reshape(3, 2)],
        [np.arange(6.0, dtype=np.float32).reshape(2, 3)],
        [np.arange(6.0).reshape(2, 3).view(np.int64)],
        [np.arange(6.0).reshape(2, 3), np.empty(0)],
        [np.nextafter(np.arange(6.0).reshape(2, 3), 9)],
        [np.arange(3.0), np.arange(3.0, 6.0)],
        {"x": np.arange(6.0).reshape(2, 3)},
    ],
)
def test_other_numbers_have_other_fingerprints(other):
    assert fingerprint(other) != fingerprint([np.arange(6.0).reshape(2, 3)])


def test_one_changed_pixel_is_noticed():
    data = load("digits")
    X = data.test[0].copy()
    X[-1, 3, 3, 0] += 1 / 16
    assert replace(data, test=(X, data.test[1])).sha256 != data.sha256
    assert replace(data, test=(data.test[0].copy(), data.test[1])).sha256 == data.sha256


def test_flattened():
    data = load("digits")
    flat = data.flattened()
    assert flat.sample_shape == (64,)
    assert np.array_equal(flat.train[0][5], data.train[0][5].ravel())
    assert flat.train[1] is data.train[1]
    assert flat.features == data.features
    assert flat.flattened().sample_shape == (64,)
    assert flat.features[9] == "pixel[1,1]"
    toy = load("xor", validation=0).flattened()
    assert toy.validation is None


def test_it_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        load("xor").name = "other"


def test_as_dict_is_json_and_gives_the_preprocessing_back():
    data = from_arrays(np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) * 0.5)
    stored = json.loads(json.dumps(data.as_dict()))
    assert stored["samples"] == {"train": 35, "validation": 5, "test": 10}
    assert (stored["task"], stored["sha256"]) == ("regression", data.sha256)
    assert Preprocessing.from_dict(stored["preprocessing"]) == data.preprocessing


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_every_as_dict_is_json(name):
    assert json.loads(json.dumps(load(name).as_dict()))["name"] == name


def test_remarks_speak_the_language_in_force():
    said = remark("note_split", train=1, validation=2, test=3, how={"say": "how_drawn"}, seed=7)
    assert said.text() == "1 samples for training, 2 for validation, 3 for testing: drawn at random with seed 7."
    with use_language("zh"):
        assert "以种子 7 随机划分" in said.text()


def test_what_describe_says():
    text = load("digits").describe()
    assert text.startswith("digits: classification, 1257 training samples of shape [8, 8, 1]\n  10 classes: 0, 1, 2")
    assert "divided by 16" in text
    many = from_arrays(np.arange(80.0).reshape(40, 2), np.arange(40) % 15, task="classification").describe()
    assert "15 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …" in many


def test_loading_data_needs_nothing_heavy():
    code = "import sys, backlit.data as d; d.load('digits'); d.load('xor'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pooch", "requests", "pandas", "sklearn", "scipy"} & set(loaded)
