"""Arrays and .npz files: split, scaled by the training part, and refused where they cannot be used."""

from __future__ import annotations

import numpy as np
import pytest

from backlit.core.errors import FileError, InputError
from backlit.data import from_arrays, from_npz, load

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (100, 4))
LABELS = np.arange(100) % 3


def test_features_are_standardised_by_the_training_part():
    data = from_arrays(X, LABELS)
    (Xt, y), _, (Xs, ys) = data.parts.values()
    assert (len(y), len(ys), Xt.dtype, y.dtype) == (70, 20, np.float32, np.int64)
    assert np.abs(Xt.mean(axis=0, dtype=np.float64)).max() < 1e-6
    assert np.abs(Xt.std(axis=0, dtype=np.float64) - 1).max() < 1e-6
    scaler = data.preprocessing.scaler
    back = Xs * np.array(scaler.std) + np.array(scaler.mean)
    rows = [int(np.abs(X - row).sum(axis=1).argmin()) for row in back]
    assert np.allclose(X[rows], back, atol=1e-5)
    assert LABELS[rows].tolist() == ys.tolist()


def test_size_is_drawn_before_the_scales_are_fitted():
    data = from_arrays(X, LABELS, size=10)
    assert len(data.train[1]) == 10
    assert np.abs(data.train[0].mean(axis=0, dtype=np.float64)).max() < 1e-6


def test_other_rows_do_not_change_the_training_part():
    data, changed = from_arrays(X, X[:, 0]), X.copy()
    back = data.preprocessing.scaler.undo(data.test[0])
    tested = [int(np.abs(X - row).sum(axis=1).argmin()) for row in back]
    changed[tested] *= 100
    other = from_arrays(changed, X[:, 0])
    assert np.array_equal(other.train[0], data.train[0])
    assert not np.array_equal(other.test[0], data.test[0])


@pytest.mark.parametrize(
    ("array", "scale", "want"),
    [
        (RNG.integers(0, 256, (100, 4, 4), dtype=np.uint8), "auto", lambda a: a.astype(np.float32) / np.float32(255)),
        (RNG.normal(size=(100, 4, 4)), "auto", lambda a: a.astype(np.float32)),
        (X, "none", lambda a: a.astype(np.float32)),
        (RNG.integers(0, 256, (100, 5), dtype=np.uint8), "pixels", lambda a: a.astype(np.float32) / np.float32(255)),
    ],
)
def test_scales(array, scale, want):
    data = from_arrays(array, LABELS, scale=scale, test_fraction=0, validation_fraction=0)
    assert np.array_equal(data.train[0], want(array))
    assert len(data.notes) == 3
    assert len(data.features) == array[0].size


def test_bytes_in_rows_are_numbers_like_others():
    rows = RNG.integers(0, 256, (100, 5), dtype=np.uint8)
    assert "standardised" in " ".join(from_arrays(rows, LABELS).notes)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (LABELS, ("0", "1", "2")),
        (LABELS + 7, ("7", "8", "9")),
        (LABELS == 0, ("False", "True")),
        (np.array(["u", "v", "w"])[LABELS], ("u", "v", "w")),
        (np.array(["10", "9"])[LABELS % 2], ("9", "10")),
        (LABELS * 0.5, None),
        (np.arange(100), None),
        (LABELS.astype(np.float32), None),
    ],
)
def test_tasks(y, classes):
    data = from_arrays(X, y, test_fraction=0, validation_fraction=0)
    assert data.classes == classes
    if classes:
        assert [classes[label] for label in data.train[1]] == [str(value) for value in y]
    else:
        assert np.allclose(data.target.to_units(data.train[1])[:, 0], y, atol=1e-5)


def test_a_task_that_is_given():
    assert from_arrays(X, LABELS, task="regression").classes is None
    assert from_arrays(X, LABELS.astype(float), task="classification").classes == ("0", "1", "2")


def test_targets_of_several_columns():
    data = from_arrays(X, X[:, :2] * [10, 1], test_fraction=0, validation_fraction=0)
    assert data.train[1].shape == (100, 2)
    assert np.allclose(data.target.to_units(data.train[1]), X[:, :2] * [10, 1], atol=1e-4)


def poked(array, index, value):
    copy = array.astype(float)
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("X", "y", "options", "key", "words"),
    [
        (poked(X, (5, 1), np.nan), LABELS, {}, "data_not_finite", ["nan at X[5, 1]"]),
        (X, poked(LABELS, 8, np.inf), {}, "data_not_finite", ["inf at y[8]"]),
        (X, LABELS[:-1], {}, "data_lengths", ["X[100, 4], y[99]"]),
        (X[:0], LABELS[:0], {}, "data_empty_batch", ["X[0, 4]"]),
        (X[:, 0], LABELS, {}, "data_array_rank", ["X[:, None]"]),
        (X.astype(object), LABELS, {}, "data_array_dtype", ["object"]),
        (X, np.array(["u", ""] * 50), {}, "data_not_finite", ["'' at y[1]; 50 such"]),
        (X, np.zeros(100), {}, "data_target_constant", ["0.0"]),
        (X, np.eye(100)[:, :3], {"task": "classification"}, "data_label_shape", ["y.argmax(axis=1)"]),
        (X, LABELS * 0.5, {"task": "classification"}, "data_label_dtype", ["y.astype(int)"]),
        (X, np.arange(100), {"task": "classification"}, "data_too_many_classes", ["100 classes"]),
        (X, LABELS, {"scale": "log"}, "data_option", ["scale cannot be 'log'"]),
        (X[..., None], LABELS, {"scale": "standardise"}, "data_option", ["standardise: X[N, F]"]),
        (X, LABELS, {"task": "sort"}, "data_option", ["task cannot be 'sort'"]),
        (X[:3], LABELS[:3], {"test_fraction": 3}, "data_split_small", ["3 to hold out of 3"]),
    ],
)
def test_faults(X, y, options, key, words):
    with pytest.raises(InputError) as caught:
        from_arrays(X, y, **options)
    assert caught.value.key == key
    assert [word for word in words if word not in str(caught.value)] == []


def test_npz_of_one_pair_is_split(tmp_path):
    np.savez(tmp_path / "pair.npz", X=X, y=LABELS)
    data = load(tmp_path / "pair.npz", seed=2, validation=0.2)
    assert data.name == "pair"
    assert data.sha256 == from_arrays(X, LABELS, seed=2, validation_fraction=0.2).sha256


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_npz_with_parts_keeps_them(tmp_path, name):
    parts = {"X_train": X[:60], "y_train": LABELS[:60], "X_test": X[60:90], "y_test": LABELS[60:90]}
    np.savez(tmp_path / "parts.npz", **parts, **{f"X_{name}": X[90:], f"y_{name}": LABELS[90:]})
    data = from_npz(tmp_path / "parts.npz", scale="none")
    assert np.array_equal(data.train[0], X[:60].astype(np.float32))
    assert np.array_equal(data.validation[0], X[90:].astype(np.float32))
    assert np.array_equal(data.test[1], LABELS[60:90])
    assert any("as given in the file" in note for note in data.notes)
    assert len(from_npz(tmp_path / "parts.npz", size=12).train[1]) == 12


def test_npz_with_a_training_part_alone(tmp_path):
    np.savez(tmp_path / "t.npz", X_train=X, y_train=LABELS)
    assert list(from_npz(tmp_path / "t.npz").parts) == ["train"]


@pytest.mark.parametrize(
    ("arrays", "key", "words"),
    [
        ({"A": X, "y": LABELS}, "data_npz_keys", ["A, y"]),
        ({"X": X}, "data_npz_keys", ["numpy.savez"]),
        ({"X_test": X, "y_test": LABELS}, "data_npz_keys", ["X_test"]),
        ({"X": X, "y": LABELS[:9]}, "data_lengths", ["y[9]"]),
        ({"X_train": X, "y_train": LABELS, "X_test": X[:, :2], "y_test": LABELS}, "data_sample_shape", ["X_test"]),
        ({"X_train": X, "y_train": LABELS, "X_test": X, "y_test": LABELS[1:]}, "data_lengths", ["X_test, y_test"]),
        ({"X_train": X, "y_train": LABELS, "X_test": X[:0], "y_test": LABELS[:0]}, "data_empty_batch", ["X_test"]),
    ],
)
def test_npz_faults(tmp_path, arrays, key, words):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "f.npz")
    assert caught.value.key == key
    assert [word for word in words if word not in str(caught.value)] == []


def test_npz_that_cannot_be_read(tmp_path, write):
    with pytest.raises(FileError, match="no such file"):
        from_npz(tmp_path / "absent.npz")
    np.savez(tmp_path / "whole.npz", X=X, y=LABELS)
    whole = (tmp_path / "whole.npz").read_bytes()
    np.savez(tmp_path / "pickled.npz", X=np.array([{}], dtype=object), y=LABELS)
    middle = bytearray(whole)
    middle[500] ^= 0xFF
    broken = (
        write(whole[:900], "cut.npz"),
        write(b"", "empty.npz"),
        write(b"text", "t.npz"),
        write(bytes(middle), "m.npz"),
    )
    for path in (*broken, tmp_path / "pickled.npz"):
        with pytest.raises(FileError, match="damaged or truncated"):
            from_npz(path)


def test_a_target_column_is_not_for_arrays(tmp_path):
    with pytest.raises(InputError, match="no columns to choose a target from"):
        load(tmp_path / "x.npz", target="price")
