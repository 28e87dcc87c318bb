"""The published data sets: how each is read, and the split that everybody uses."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath

import numpy as np

from backlit.core.errors import FileError
from backlit.core.types import Array, Shape
from backlit.data import sources
from backlit.data.cells import numbers
from backlit.data.dataset import Dataset
from backlit.data.making import Raw, make
from backlit.data.preprocessing import Preprocessing, pixels, waveform
from backlit.data.remarks import remark
from backlit.data.splits import Parts, amount, draw, last
from backlit.data.table import Table, parse_csv

DIGITS = tuple("0123456789")
GARMENTS = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WINE = (
    "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
    "total sulfur dioxide", "density", "pH", "sulphates", "alcohol", "quality",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A data set as read, with its given split: which rows test, how many of the others validate."""

    raw: Raw
    test: Array
    """True for test rows, ``[N]``."""

    validation: float
    """Fraction or number of the rows that do not test."""

    how: str
    """Message key: how the split is made."""

    in_order: bool = False
    """Validation is the last of the rows that do not test; else drawn at random, the same at every load."""


def digits() -> Published:
    """8x8 images of handwritten digits: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.

    1,797 images; 270 test and 270 validate, drawn once and for all, each class in proportion.
    """
    with np.load(io.BytesIO((files("backlit.data") / "files" / "digits.npz").read_bytes())) as stored:
        X, y = stored["X"][..., None], stored["y"]
    test = np.zeros(len(y), dtype=bool)
    test[draw(np.arange(len(y)), 270, 0, "data.digits.test", y)[1]] = True
    return Published(Raw(X, y, "digit", DIGITS, _pixels((8, 8, 1), 16)), test, 270, "how_digits")


def mnist() -> Published:
    """28x28 images of handwritten digits, 60,000 and 10,000; the last 10,000 of the first file validate.

    LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 86(11), 1998.
    """
    return _idx_images("mnist", DIGITS)


def fashion_mnist() -> Published:
    """28x28 images of garments: Xiao, Rasul, Vollgraf, arXiv:1708.07747. Files and split as :func:`mnist`."""
    return _idx_images("fashion_mnist", GARMENTS)


def _idx_images(folder: str, classes: tuple[str, ...]) -> Published:
    def array(name: str) -> Array:
        path = f"{folder}/{name}-ubyte.gz"
        return read_idx(sources.read(path), path)

    X = np.concatenate([array("train-images-idx3"), array("t10k-images-idx3")])[..., None]
    y = np.concatenate([array("train-labels-idx1"), array("t10k-labels-idx1")])
    raw = Raw(X, y, "label", classes, _pixels((28, 28, 1), 255))
    return Published(raw, np.arange(len(y)) >= 60_000, 10_000, "how_files", in_order=True)


def _pixels(shape: Shape, most: int) -> Callable[[Array], Preprocessing]:
    return lambda _: pixels(shape, most)


def read_idx(data: bytes, where: str) -> Array:
    """The array in an IDX file: bytes 0, 0, 8 (for uint8), the number of axes, each size as big-endian int32, entries.

    FileError where the bytes are not that.
    """
    axes = data[3] if len(data) > 3 else 0
    shape = np.frombuffer(data[4 : 4 + 4 * axes], ">u4").tolist() if len(data) >= 4 + 4 * axes else []
    body = data[4 + 4 * axes :]
    if data[:3] != b"\0\0\x08" or not shape or int(np.prod(shape)) != len(body):
        raise FileError("data_file_corrupt", path=where, expected=f"IDX uint8, {shape} + header", got=f"{len(data)} B")
    return np.frombuffer(body, np.uint8).reshape(shape)


def cifar10() -> Published:
    """32x32 colour images, the first 10,000 training and 1,000 test ones; images 9,000-9,999 validate.

    Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    names = ("cifar10/data_batch_1.bin.xz", "cifar10/test_batch_first1000.bin.xz")
    records = np.concatenate([np.frombuffer(sources.read(name), np.uint8).reshape(-1, 3073) for name in names])
    X = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    raw = Raw(X, records[:, 0], "label", THINGS, _pixels((32, 32, 3), 255), remarks=(remark("note_subset"),))
    return Published(raw, np.arange(len(X)) >= 10_000, 1_000, "how_files", in_order=True)


def california_housing() -> Published:
    """Median house values of 20,640 districts, 1990: Pace, Barry, Sparse Spatial Autoregressions, 1997.

    Rows with index % 5 == 4 test; a tenth of the others, drawn once and for all, validate.
    """
    raw = _quantity(_csv("california_housing/housing.csv.gz"), "median_house_value")
    return Published(raw, _fifth(raw), 0.1, "how_fifth")


def wine_quality() -> Published:
    """Quality, 3 to 9, of 1,599 red wines from 11 measurements: Cortez et al., Decision Support Systems 47(4), 2009.

    The split is that of :func:`california_housing`. Exact duplicates cross it.
    """
    return _wine("red")


def wine_quality_white() -> Published:
    """The 4,898 white wines; otherwise as :func:`wine_quality`."""
    return _wine("white")


def _wine(colour: str) -> Published:
    raw = _quantity(_csv(f"wine_quality/winequality-{colour}.csv", WINE), "quality")
    return Published(raw, _fifth(raw), 0.1, "how_fifth")


def bike_sharing() -> Published:
    """Rentals by the hour over two years: Fanaee-T, Gama, Progress in Artificial Intelligence, 2013.

    The last 504 of 17,379 hours test; the last tenth of those before them validates.
    """
    drop = ("instant", "dteday", "casual", "registered")
    categories = ("season", "mnth", "hr", "weekday", "weathersit")
    raw = _quantity(_csv("bike_sharing/hour.csv.gz"), "cnt", drop, categories)
    return Published(raw, np.arange(len(raw.y)) >= len(raw.y) - 504, 0.1, "how_time", in_order=True)


def fsdd() -> Published:
    """3,000 spoken digits of six speakers, 8 kHz: Jackson et al., Free Spoken Digit Dataset, Zenodo (CC BY-SA 4.0).

    X[N, 8000, 1], each recording in the middle of a second; ``groups`` are the speakers. The official split: recordings
    0-4 of every digit and speaker test.
    """
    found = sorted(sounds(sources.read("fsdd/recordings.tar.gz")))
    digit, speaker, index = np.array([name.split("_") for name, _ in found]).T
    X = np.stack([centred(sound, 8_000) for _, sound in found])[..., None]
    cut = sum(len(sound) > 8_000 for _, sound in found)
    remarks = remark("note_recordings", count=cut), remark("note_speakers")
    raw = Raw(X, digit.astype(np.uint8), "digit", DIGITS, lambda _: waveform((8_000, 1), 32_768), (), remarks, speaker)
    return Published(raw, index.astype(int) < 5, 0.1, "how_recordings")


def sounds(archive: bytes) -> Iterator[tuple[str, Array]]:
    """(file name without ``.wav``, int16 samples) of each sound, mono and 16 bit, in a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.name.endswith(".wav") and (file := tar.extractfile(member)) is not None:
                with wave.open(io.BytesIO(file.read())) as sound:
                    yield PurePosixPath(member.name).stem, np.frombuffer(sound.readframes(-1), "<i2")


def centred(sound: Array, length: int) -> Array:
    """The middle of ``sound[T]``, or ``sound`` with zeros around it: ``[length]``."""
    sound = sound[max(0, len(sound) - length) // 2 :][:length]
    before = (length - len(sound)) // 2
    return np.pad(sound, (before, length - len(sound) - before))


def dsb2018_nuclei() -> Published:
    """334 grey images, 256x256, of nuclei of cells, with masks y[N, 256, 256]: 1 where a nucleus is (CC0).

    Caicedo et al., Nucleus segmentation across imaging experiments, Nature Methods 16, 2019 (BBBC038, a subset). Images
    267-333 test, 240-266 validate.
    """
    with np.load(io.BytesIO(sources.read("dsb2018_nuclei/stage1_train_256.npz"))) as stored:
        X, y = stored["images"][..., None], (stored["labels"] > 0).astype(np.uint8)
    classes, size = ("background", "nucleus"), (256, 256, 1)
    raw = Raw(X, y, "pixel", classes, _pixels(size, 255), remarks=(remark("note_nuclei"),))
    return Published(raw, np.arange(len(X)) >= 267, 27, "how_last_images", in_order=True)


def _csv(path: str, names: tuple[str, ...] | None = None) -> Table:
    table = parse_csv(sources.read(path), path, header=names is None)
    return Table(names, table.cells, table.lines, path) if names else table


def _quantity(table: Table, target: str, drop: tuple[str, ...] = (), categories: tuple[str, ...] = ()) -> Raw:
    y, _ = numbers(table.column(target))
    said = (remark("note_dropped", names=", ".join(drop)),) if drop else ()
    return Raw(table.without([target, *drop]), y, target, None, categories=categories, remarks=said)


def _fifth(raw: Raw) -> Array:
    return np.arange(len(raw.y)) % 5 == 4


READERS: Mapping[str, Callable[[], Published]] = {
    reader.__name__: reader
    for reader in (
        digits, mnist, fashion_mnist, cifar10, california_housing, wine_quality, wine_quality_white, bike_sharing,
        fsdd, dsb2018_nuclei,
    )
}  # fmt: skip


def open_published(name: str, *, seed: int, validation: float | None, size: int | None) -> Dataset:
    """Read, split and make ready. ``seed`` draws only the ``size`` training samples; the split is the same for all."""
    found = READERS[name]()
    labels = found.raw.labels
    rest = np.flatnonzero(~found.test)
    count = amount(found.validation if validation is None else validation, len(rest), "validation", name)
    train, held = last(rest, count) if found.in_order else draw(rest, count, 0, f"data.{name}.validation", labels)
    return make(
        name, found.raw, Parts(train, held, np.flatnonzero(found.test)), remark(found.how), seed=seed, size=size
    )
