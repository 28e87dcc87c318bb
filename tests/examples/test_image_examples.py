"""The examples of images: their own functions on a few images, and their pictures read back."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("numba")

FOLDER = Path(__file__).parents[2] / "examples"


def script(name):
    """The example's file as a module."""
    spec = spec_from_file_location(name, FOLDER / name / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixels(png):
    """The entries of a PNG file without filters, and what its head says."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        parts[kind], at = body, at + 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert (depth, list(parts)) == (8, [b"IHDR", b"IDAT", b"IEND"])
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape((height, width, 3) if colour == 2 else (height, width))


def patches(rng, labels, side, channels):
    """Images of noise in which the half that is bright tells the class."""
    x = rng.uniform(0, 0.2, (len(labels), side, side, channels)).astype(np.float32)
    x[labels == 1, : side // 2] += 0.8
    x[labels == 0, side // 2 :] += 0.8
    return x


@pytest.mark.parametrize(("name", "side", "channels"), [
    ("mnist_cnn", 28, 1), ("fashion_cnn", 28, 1), ("cifar10_resnet", 32, 3),
])  # fmt: skip
def test_a_few_images_are_learned(name, side, channels):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    images = patches(rng, labels, side, channels)
    run = script(name).train(images, labels, epochs=2)
    assert run.history["loss"][1] < 0.8 * run.history["loss"][0]
    assert run.model.predict(images[:8]).shape == (8, 10)


def test_blots_are_found():
    example, rng = script("nuclei_unet"), np.random.default_rng(0)
    masks = np.zeros((2, 256, 256), np.int64)
    masks[:, 40:90, 40:90] = masks[:, 150:200, 60:240] = 1
    images = example.standardised((rng.integers(0, 30, masks.shape) + 90 * masks)[..., None] / 255)
    assert images.shape == (2, 256, 256, 1)
    assert np.allclose(images.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    run = example.train(images, masks, epochs=12)
    found = example.predicted(run.model, images)
    assert min(example.intersection_over_union(found, masks)) > 0.8


def test_windows_are_the_quarters_of_an_image():
    image = np.arange(256 * 256).reshape(1, 256, 256)
    found = script("nuclei_unet").windows(image)
    assert found.shape == (4, 128, 128)
    assert found[:, 0, 0].tolist() == [0, 128, 128 * 256, 128 * 256 + 128]


def test_intersection_over_union_by_hand():
    found, true = np.zeros((2, 2, 2), np.int64), np.zeros((2, 2, 2), np.int64)
    found[0, 0], true[0, :, 0] = 1, 1  # one pixel in both, three in either
    found[1], true[1] = 1, 1  # four in both
    assert script("nuclei_unet").intersection_over_union(found, true) == pytest.approx((5 / 7, 2 / 3))


def test_the_picture_of_masks_shows_what_was_missed_and_what_was_too_much():
    rng, masks = np.random.default_rng(0), np.array([[[0, 1], [0, 1]]])
    shown = pixels(script("nuclei_unet").picture(rng.normal(size=(1, 2, 2, 1)), masks, np.array([[[0, 0], [1, 1]]])))
    assert shown.shape == (18, 6, 3)
    assert shown[8:10, 2:4].tolist() == [[[0] * 3, [255] * 3]] * 2
    (nothing, missed), (too_much, right) = shown[14:16, 2:4].tolist()
    assert (nothing, right) == ([0] * 3, [255] * 3)
    assert missed[0] > missed[2]
    assert too_much[2] > too_much[0]


def svg(text):
    """(texts, images) of an SVG file."""
    root = ET.fromstring(text)
    kind = "{http://www.w3.org/2000/svg}"
    shown = [e.get("href").removeprefix("data:image/png;base64,") for e in root.iter(f"{kind}image")]
    return [e.text for e in root.iter(f"{kind}text")], [pixels(base64.b64decode(s)) for s in shown]


def test_the_picture_of_digits_holds_the_digits():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.float64) / 255
    texts, shown = svg(script("mnist_cnn").picture(images, ["a", "b", "c"], columns=2))
    assert texts == ["a", "b", "c"]
    assert all(np.abs(255 * x[..., 0] - p).max() <= 1 for x, p in zip(images, shown, strict=True))


def test_the_picture_of_photographs_says_what_is_mistaken():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float64) / 255
    texts, shown = svg(script("cifar10_resnet").picture(images, ["cat", "cat"], ["cat", "dog"]))
    assert texts == ["cat", None, "cat", "(dog)"]
    assert all(np.abs(255 * x - p).max() <= 1 for x, p in zip(images, shown, strict=True))


def test_the_table_of_mistakes_counts_them():
    example = script("fashion_cnn")
    counts = example.confusion(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    texts, _ = svg(example.picture(counts, ("shirt", "coat", "bag")))
    assert sorted(texts) == sorted(["shirt", "coat", "bag"] * 2 + ["1"] * 4)


@pytest.mark.parametrize("name", ["mnist_cnn", "fashion_cnn", "cifar10_resnet", "nuclei_unet"])
def test_an_example_is_short_and_both_pages_give_the_same_figures(name):
    assert len((FOLDER / name / f"{name}.py").read_text("utf-8").splitlines()) <= 120
    pages = [(FOLDER / name / page).read_text("utf-8") for page in ("README.md", "README.zh.md")]
    figures = [sorted(re.findall(r"\d+(?:\.\d+)?", page)) for page in pages]
    assert figures[0] == figures[1]
    (picture,) = {p for page in pages for p in re.findall(r"!\[.*?\]\((.*?)\)", page)}
    assert (FOLDER / name / picture).is_file()
