"""The examples of sequences: their parts by hand, and each trained for a moment."""

from __future__ import annotations

import math
import os
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import backlit as bl

pytest.importorskip("numba")

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("bike_sharing", "names_lstm", "shakespeare_gpt", "spoken_digits")


def example(name):
    """What the script defines."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / name / f"{name}.py")))


@pytest.fixture
def published(monkeypatch):
    """Real data, where they are."""
    folder = Path(os.environ.get("BACKLIT_DATA") or EXAMPLES.parents[1] / "shared" / "data")
    if not (folder / "names").is_dir():
        pytest.skip("no folder of published data: set BACKLIT_DATA")
    monkeypatch.setenv("BACKLIT_DATA", str(folder))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


def test_a_script_is_short(name):
    lines = (EXAMPLES / name / f"{name}.py").read_text("utf-8").splitlines()
    assert len(lines) <= 120
    assert {line.split()[1].partition(".")[0] for line in lines if line.startswith("import backlit")} == {"backlit"}
    assert not [line for line in lines if line.startswith("from backlit")], "the public contract alone"


@pytest.mark.parametrize("language", ["", ".zh"])
def test_a_readme_names_the_command_and_the_pictures_that_it_shows_are_there(name, language):
    text = (EXAMPLES / name / f"README{language}.md").read_text("utf-8")
    assert f"python examples/{name}/{name}.py" in text
    pictures = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert all((EXAMPLES / name / picture).is_file() for picture in pictures)


# --- names and plays --------------------------------------------------------------------------------------------------


def test_names_become_ids_and_the_letters_after_them():
    X, y = example("names_lstm").arrays(["ab", "cde"])
    assert X[:, :4].tolist() == [[0, 1, 2, 0], [0, 3, 4, 5]]
    assert y[:, :5].tolist() == [[1, 2, 0, -1, -1], [3, 4, 5, 0, -1]]
    assert X.shape == y.shape == (2, 16)


def test_the_parts_of_the_names_have_no_name_in_common(published):
    parts = example("names_lstm").names()
    assert {part: len(names) for part, names in parts.items()} == {"train": 26484, "validation": 1529, "test": 1481}
    assert len(set().union(*parts.values())) == 26484 + 1529 + 1481


def test_names_are_learned_and_made_up():
    e = example("names_lstm")
    run = e.train(["anna", "hanna", "banana"] * 8, ["anna"], epochs=150, width=16)
    nats = e.surprise(run.model, ["anna", "zzzz"])
    assert np.isfinite(nats).sum() == 10
    assert np.nanmean(nats[0]) < 1.5 < np.nanmean(nats[1])
    made = e.written(run.model, 20)
    assert len(made) == 20
    assert set("".join(made)) <= set("abcdefghijklmnopqrstuvwxyz")
    drawn = ET.fromstring(e.picture(made, np.zeros((20, 16)), {made[0]}))
    assert len(drawn.findall(".//{*}text")) == sum(map(len, made))


def test_windows_of_a_text_and_what_comes_next():
    X, y = example("shakespeare_gpt").windows(np.arange(10), 4, 3)
    assert X.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert y.tolist() == [[1, 2, 3, 4], [4, 5, 6, 7]]


@pytest.mark.parametrize("kind", ["small", "lstm"])
def test_a_text_is_learned(kind):
    e = example("shakespeare_gpt")
    ids = np.tile([0, 1, 2, 3], 120)
    s = e.SETTINGS[kind]._replace(context=8, width=32, blocks=min(e.SETTINGS[kind].blocks, 1), batch=4, steps=60)
    run = e.train(ids, 4, s)
    nats = e.surprise(run.model, ids, 8)
    assert nats.shape == (59, 8)
    assert nats[:, 1:].mean() < 0.5 < math.log(4)
    assert bl.generate(run.model, [0, 1], 4, temperature=0).tolist() == [0, 1, 2, 3, 0, 1]
    drawn = ET.fromstring(e.picture(["a<b\n"], nats[:1, :4]))
    assert [t.text for t in drawn.findall(".//{*}text")] == ["a", "<", "b", "↵"]


# --- sound ------------------------------------------------------------------------------------------------------------


def tone(hertz, seconds=0.4):
    return np.sin(2 * np.pi * hertz * np.arange(int(8000 * seconds)) / 8000)


def test_filters_are_triangles_over_the_spectrum():
    bands = example("spoken_digits").filters()
    assert bands.shape == (40, 129)
    assert bands.min() == 0
    assert bands.max() <= 1
    centres = bands.argmax(axis=1)
    assert all(a <= b for a, b in pairwise(centres[bands.max(axis=1) > 0]))


@pytest.mark.parametrize("hertz", [300, 1000, 3000])
def test_a_tone_lies_in_its_band(hertz):
    e = example("spoken_digits")
    image = e.spectrogram(tone(hertz), e.filters())[..., 0]
    assert image.shape == (64, 40)
    assert image.mean() == pytest.approx(0, abs=1e-5)
    mel = 40 * math.log10(1 + hertz / 700) / math.log10(1 + 4000 / 700)
    assert image[32].argmax() == pytest.approx(mel, abs=1.5)
    assert image[0].max() < image[32].max(), "silence before it"


def test_recordings_are_heard():
    e, tones = example("spoken_digits"), (200, 800, 2000, 3700)  # further apart than the changes of training move them
    y, indices = np.repeat(np.arange(4), 12), np.tile(np.arange(12), 4)
    sounds = [tone(tones[digit], 0.2 + 0.02 * index) for digit, index in zip(y, indices, strict=True)]
    X = np.stack([e.spectrogram(sound, e.filters()) for sound in sounds])
    said = e.heard(X, y, indices < 3, 20)
    assert (said == y[indices < 3]).mean() >= 0.75
    drawn = ET.fromstring(e.picture(X[:6], [str(digit) for digit in y[:6]]))
    assert len(drawn.findall(".//{*}image")) == 6


# --- hours ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rentals():
    """Sixty days of rentals that follow the clock, every hour known."""
    e = example("bike_sharing")
    at = np.arange(60 * 24)
    count = 200 + 150 * np.sin(2 * np.pi * at / 24)
    about = np.eye(24)[at % 24]
    return e, e.Hours(count, np.ones(len(at), bool), about)


def test_windows_hide_the_rentals_ahead(rentals):
    e, data = rentals
    X, y = e.windows(data, np.array([100, 101]))
    assert X.shape == (2, 96, 25)
    np.testing.assert_allclose(X[0, :72, 0], data.count[28:100] / 200, rtol=1e-6)
    assert not X[:, 72:, 0].any()
    np.testing.assert_allclose(y[1, :, 0], data.count[101:125] / 200, rtol=1e-6)


def test_the_hours_of_the_file(published):
    data = example("bike_sharing").hours()
    assert len(data.count) == 2 * 365 * 24 + 24
    assert data.known.sum() == 17379
    assert data.count.sum() == 3292679, "rentals of two years"
    assert data.about.shape == (17544, 38)
    monday = 2 * 24  # 2011-01-03
    assert data.about[monday + 8, 7:].nonzero()[0].tolist() == [8, 24 + 1]


def test_rentals_are_forecast(rentals):
    e, data = rentals
    run = e.train(data, epochs=1, every=40, width=8)
    found = e.forecasts(run.model, data)
    assert found.shape == (504,)
    assert np.sqrt(np.mean((found - data.count[-504:]) ** 2)) < 60, "yesterday is right here"
    drawn = ET.fromstring(e.picture({"rented": data.count[-504:], "forecast": found}))
    assert [t.text for t in drawn.findall(".//{*}text")] == ["rented", "forecast"]
