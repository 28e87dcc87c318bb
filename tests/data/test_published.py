"""The published sets: sizes, counts, means and reference results as published with them."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from hashlib import sha256
from importlib.resources import files
from statistics import median

import numpy as np
import pytest

from backlit.core.errors import FileError, InputError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.data import NAMES, load, sources
from backlit.data.published import centred, read_idx

IMAGES = ("mnist", "fashion_mnist", "cifar10")


def sizes(data):
    return {name: len(y) for name, (_, y) in data.parts.items()}


def least_squares(data):
    """Predictions for the test part, in units, of a linear model fitted to the training part."""
    (X, y), (Xt, yt) = data.train, data.test
    A, At = (np.column_stack([M.astype(np.float64), np.ones(len(M))]) for M in (X, Xt))
    found = At @ np.linalg.lstsq(A, y.astype(np.float64), rcond=None)[0]
    return data.target.to_units(found), data.target.to_units(yt)


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_digits_are_in_the_package():
    stored = (files("backlit.data") / "files" / "digits.npz").read_bytes()
    assert len(stored) < 60_000
    assert sha256(stored).hexdigest() == "d79f969a1d947ffaf9dce9d30d01aa4ab91116a2b0aade5d5a24c99ac6b0f1d1"


def test_digits():
    data = load("digits")
    assert sizes(data) == {"train": 1257, "validation": 270, "test": 270}
    assert data.sample_shape == (8, 8, 1)
    assert data.classes == tuple("0123456789")
    y = np.concatenate([pair[1] for pair in data.parts.values()])
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    X = np.concatenate([pair[0] for pair in data.parts.values()])
    assert (X.min(), X.max(), X.dtype) == (0.0, 1.0, np.float32)
    assert np.array_equal(X * 16, np.round(X * 16))
    assert X.astype(np.float64).sum() * 16 == 561718.0  # of the published counts of ink


def test_digits_equal_those_of_scikit_learn():
    stored = pytest.importorskip("sklearn.datasets").load_digits()
    data = load("digits")
    theirs = {
        image.tobytes(): label for image, label in zip(stored.images.astype(np.uint8), stored.target, strict=True)
    }
    for X, y in data.parts.values():
        ours = [(x * 16).astype(np.uint8)[..., 0].tobytes() for x in X]
        assert [theirs[image] for image in ours] == y.tolist()


def test_digits_are_split_in_proportion_and_for_good():
    data = load("digits", seed=5)
    assert data.sha256 == load("digits", seed=0).sha256
    for _, y in data.parts.values():
        counts = np.bincount(y, minlength=10) * 1797 / len(y)
        assert np.abs(counts - [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]).max() < 1797 / len(y)


@pytest.mark.parametrize(
    ("name", "train_counts", "test_counts", "moments"),
    [
        (
            "mnist",
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            (0.1307, 0.3081),
        ),
        ("fashion_mnist", [6000] * 10, [1000] * 10, (0.2860, 0.3530)),
    ],
)
def test_idx_images(published, name, train_counts, test_counts, moments):
    data = load(name)
    assert sizes(data) == {"train": 50_000, "validation": 10_000, "test": 10_000}
    assert data.sample_shape == (28, 28, 1)
    (X, y), (Xv, yv), (_, yt) = data.parts.values()
    assert (np.bincount(y) + np.bincount(yv)).tolist() == train_counts
    assert np.bincount(yt).tolist() == test_counts
    assert (X.min(), X.max(), X.dtype) == (0.0, 1.0, np.float32)
    total = X.sum(dtype=np.float64) + Xv.sum(dtype=np.float64)
    squares = np.vdot(X.ravel(), X.ravel().astype(np.float64)) + np.vdot(Xv.ravel(), Xv.ravel().astype(np.float64))
    count = X.size + Xv.size
    std = float(np.sqrt(squares / count - (total / count) ** 2))
    assert (round(total / count, 4), round(std, 4)) == moments


def test_mnist_validates_on_the_last_training_images_in_order(published):
    labels = gzip.decompress((published / "mnist" / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    data = load("mnist", size=500)
    assert data.validation[1].tolist() == list(labels[50_000:])
    assert len(data.train[1]) == 500
    pixels = gzip.decompress((published / "mnist" / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    image = np.frombuffer(pixels[-784:], np.uint8).reshape(28, 28)
    assert np.array_equal(data.validation[0][-1, :, :, 0], image.astype(np.float32) / 255)
    assert len(load("mnist", size=500, validation=5_000).validation[1]) == 5_000


def test_cifar10_subset(published):
    """The planes of a record (1,024 red, green, blue bytes) become the last axis."""
    data = load("cifar10")
    assert sizes(data) == {"train": 9_000, "validation": 1_000, "test": 1_000}
    assert data.sample_shape == (32, 32, 3)
    counts = np.bincount(data.train[1]) + np.bincount(data.validation[1])
    assert counts.tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert np.abs(data.train[0].mean(axis=(0, 1, 2)) - [0.4914, 0.4822, 0.4465]).max() < 0.005
    assert any("subset" in note for note in data.notes)
    record = lzma.decompress((published / "cifar10" / "test_batch_first1000.bin.xz").read_bytes())[:3073]
    X, y = data.test
    assert y[0] == record[0]
    for row, column, channel in [(0, 0, 0), (0, 5, 2), (17, 3, 1), (31, 31, 2)]:
        assert X[0, row, column, channel] == np.float32(record[1 + 1024 * channel + 32 * row + column]) / np.float32(
            255
        )


def test_california_housing(published):
    data = load("california_housing", validation=0)
    assert sizes(data) == {"train": 16_512, "test": 4_128}
    assert data.task == "regression"
    assert len(data.features) == 13
    assert "ocean_proximity=INLAND" in data.features
    predicted, true = least_squares(data)
    assert round(rmse(predicted, true)) == pytest.approx(68_402, abs=1)
    assert round(float(true.std())) == 114_924  # the published error of the mean is that of the test part's own


def test_california_housing_rows_and_missing_values(published):
    lines = (
        gzip.decompress((published / "california_housing" / "housing.csv.gz").read_bytes()).decode().split("\n")[1:-1]
    )
    rows = [line.split(",") for line in lines]
    data = load("california_housing", validation=0)
    values = [float(row[8]) for i, row in enumerate(rows) if i % 5 == 4]
    assert np.allclose(data.target.to_units(data.test[1])[:, 0], values, rtol=1e-6)
    known = [float(row[4]) for i, row in enumerate(rows) if i % 5 != 4 and row[4]]
    assert any(f"207 missing values become the training median {median(known):g}" in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "total", "mad", "accuracy"),
    [("wine_quality", 1599, 0.537, 0.552), ("wine_quality_white", 4898, 0.596, 0.525)],
)
def test_wine_quality(published, name, total, mad, accuracy):
    data = load(name, validation=0)
    assert sizes(data) == {"train": total - total // 5, "test": total // 5}
    predicted, true = least_squares(data)
    assert round(float(np.abs(predicted - true).mean()), 3) == mad
    assert round(float((np.round(predicted) == np.round(true)).mean()), 3) == accuracy
    assert data.features[0] == "fixed acidity"


def test_bike_sharing(published):
    data = load("bike_sharing", validation=0)
    assert sizes(data) == {"train": 17_379 - 504, "test": 504}
    assert not {"casual", "registered", "instant", "dteday"} & {name.split("=")[0] for name in data.features}
    assert sum(name.startswith("hr=") for name in data.features) == 24
    predicted, true = least_squares(data)
    assert rmse(data.target.to_units(0.0), true) == pytest.approx(155.8, abs=0.05)
    assert rmse(predicted, true) == pytest.approx(107.3, abs=0.05)


def test_bike_sharing_validates_on_the_hours_before_the_test(published):
    lines = gzip.decompress((published / "bike_sharing" / "hour.csv.gz").read_bytes()).decode().splitlines()[1:]
    counts = [int(line.split(",")[-1]) for line in lines]
    data = load("bike_sharing", validation=168)
    assert np.allclose(data.target.to_units(data.validation[1])[:, 0], counts[-504 - 168 : -504], atol=1e-3)
    assert np.allclose(data.target.to_units(data.test[1])[:, 0], counts[-504:], atol=1e-3)


@pytest.mark.parametrize("name", ["california_housing", "wine_quality", "bike_sharing"])
def test_training_numbers_are_standardised(published, name):
    data = load(name)
    (X, y), features = data.train, data.features
    numeric = [i for i, feature in enumerate(features) if "=" not in feature]
    assert np.abs(X[:, numeric].mean(axis=0, dtype=np.float64)).max() < 1e-5
    assert np.abs(X[:, numeric].std(axis=0, dtype=np.float64) - 1).max() < 1e-5
    assert abs(y.mean(dtype=np.float64)) < 1e-5
    onehot = [i for i, feature in enumerate(features) if "=" in feature]
    assert set(np.unique(X[:, onehot])) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ["digits", "california_housing"])
def test_a_reduced_set_is_drawn_by_the_seed(published, name):
    first, again, other = (load(name, size=100, seed=seed) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256
    assert len(first.train[1]) == 100
    held = [np.round(data.target.to_units(data.test[1])) for data in (first, other)]
    assert np.array_equal(*held)
    assert any("Only 100 of" in note for note in first.notes)


@pytest.mark.parametrize("name", ["digits", "california_housing", "wine_quality_white", "bike_sharing", "spirals"])
def test_a_set_describes_itself_in_both_languages(published, name):
    data = load(name, size=200)
    with use_language("zh"):
        chinese = data.describe()
    english = data.describe()
    assert name in chinese
    assert name in english
    assert "训练" in chinese
    assert "training samples" in english
    assert len(data.features) == np.prod(data.sample_shape)


def test_all_names():
    assert {*IMAGES, "digits", "california_housing", "wine_quality", "bike_sharing", "xor", "moons"} <= set(NAMES)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"no data set named 'fashon_mnist'(.|\n)*did you mean fashion_mnist"
    ) as caught:
        load("fashon_mnist")
    assert "california_housing" in caught.value.part("expected")


def test_validation_that_leaves_nothing():
    with pytest.raises(InputError, match="digits: there are too few samples"):
        load("digits", validation=1527)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x01\0\0\0\x03ab",
        b"\0\0\x08\x01\0\0\0\x01ab",
        b"\0\0\x0d\x01\0\0\0\x02ab",
        b"\x01\0\x08\x01\0\0\0\x02ab",
        b"\0\0\x08\x02\0\0\0\x02",
        b"\0\0\x08\0",
    ],
)
def test_damaged_idx(data):
    with pytest.raises(FileError, match="it: the file is damaged"):
        read_idx(data, "it")


def test_idx_of_two_axes():
    assert read_idx(b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03abcdef", "it").tolist() == [[97, 98, 99], [100, 101, 102]]


# --- sounds and masks -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("published")
def test_spoken_digits():
    """Sizes, speakers, and the wav files themselves, read again by hand: 44 bytes of head, then samples."""
    data = load("fsdd")
    assert sizes(data) == {"train": 2430, "validation": 270, "test": 300}
    assert data.sample_shape == (8000, 1)
    for part, each in (("train", 243), ("validation", 27), ("test", 30)):
        assert np.bincount(data.parts[part][1]).tolist() == [each] * 10
    whole = np.concatenate([data.groups[part] for part in data.parts])
    people = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    assert {who: int((whole == who).sum()) for who in np.unique(whole)} == dict.fromkeys(people, 500)
    assert np.unique(data.groups["test"], return_counts=True)[1].tolist() == [50] * 6
    with tarfile.open(fileobj=io.BytesIO(sources.read("fsdd/recordings.tar.gz"))) as tar:
        content = tar.extractfile("recordings/7_jackson_3.wav").read()
    samples = np.frombuffer(content[content.index(b"data") + 8 :], "<i2")
    X, y = data.test
    row = [i for i in np.flatnonzero(y == 7) if data.groups["test"][i] == "jackson"][3]
    before = (8000 - len(samples)) // 2
    np.testing.assert_array_equal(X[row, before : before + len(samples), 0] * 32768, samples)
    assert not X[row, :before].any()
    assert not X[row, before + len(samples) :].any()
    assert np.abs(X).max() <= 1


def test_sounds_that_are_too_long_lose_both_ends():
    assert centred(np.arange(7), 4).tolist() == [1, 2, 3, 4]
    assert centred(np.array([5, 6, 7]), 6).tolist() == [0, 5, 6, 7, 0, 0]


@pytest.mark.usefixtures("published")
def test_nuclei():
    """Sizes and the published share of foreground; Otsu's threshold reaches what was published for it."""
    data = load("dsb2018_nuclei")
    assert sizes(data) == {"train": 240, "validation": 27, "test": 67}
    assert data.sample_shape == (256, 256, 1)
    assert data.train[1].shape == (240, 256, 256)
    y = np.concatenate([pair[1] for pair in data.parts.values()])
    assert (y.dtype, sorted(np.unique(y))) == (np.int64, [0, 1])
    assert y.mean() == pytest.approx(0.077, abs=5e-4)
    scores = []
    for image, mask in zip(*data.test, strict=True):
        found = image[..., 0] > otsu(image)
        scores.append(np.sum(found & (mask == 1)) / np.sum(found | (mask == 1)))
    assert np.mean(scores) == pytest.approx(0.800, abs=0.002)


def otsu(image):
    """The threshold between two groups of grey levels that lie furthest apart."""
    levels = np.round(255 * image).astype(int).ravel()
    count = np.bincount(levels, minlength=256).astype(float)
    below, weighted = np.cumsum(count), np.cumsum(count * np.arange(256))
    with np.errstate(all="ignore"):
        apart = below * (below[-1] - below) * (weighted / below - (weighted[-1] - weighted) / (below[-1] - below)) ** 2
    return (np.nanargmax(apart) + 0.5) / 255


@pytest.mark.parametrize("name", ["fsdd", "dsb2018_nuclei"])
@pytest.mark.parametrize(("lang", "words"), [("en", "not offered for download"), ("zh", "没有现成的下载地址")])
def test_what_nobody_offers_says_what_it_was_made_from(name, lang, words, tmp_path, monkeypatch):
    monkeypatch.setenv("BACKLIT_DATA", str(tmp_path))
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path))
    with use_language(lang), pytest.raises(FileError) as caught:
        load(name)
    with use_language(lang):
        assert words in str(caught.value)
        assert "https://github.com/" in str(caught.value)


@pytest.mark.usefixtures("published")
def test_no_validation_and_fewer_samples_of_masks():
    data = load("dsb2018_nuclei", validation=0, size=5)
    assert sizes(data) == {"train": 5, "test": 67}
