"""Checks of training inputs: what passes, and what each error says."""

from __future__ import annotations

import numpy as np
import pytest

from backlit.core.errors import InputError
from backlit.data import check_features, check_labels, check_lengths

GOOD = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize("X", [GOOD, GOOD.astype(np.float32), GOOD.astype(int), GOOD > 1, GOOD.tolist(), GOOD[None]])
def test_numbers_pass(X):
    check_features(X)


@pytest.mark.parametrize(
    ("X", "key", "words"),
    [
        (np.array([[1.0, "a"]], dtype=object), "data_array_dtype", ["Z: these are not numbers", "dtype object"]),
        (np.array([["a", "b"]]), "data_array_dtype", ["dtype <U1"]),
        (GOOD * 1j, "data_array_dtype", ["complex128"]),
        (np.empty((0, 4)), "data_empty_batch", ["Z[0, 4]"]),
        (np.float64(3), "data_array_rank", ["Z[N, …]"]),
        (np.where(GOOD == 3, np.nan, GOOD), "data_not_finite", ["nan at Z[1, 1]", "1 such"]),
        (np.where(GOOD >= 4, np.inf, GOOD), "data_not_finite", ["inf at Z[2, 0]", "2 such"]),
        (np.where(GOOD == 0, -np.inf, GOOD).astype(np.float32), "data_not_finite", ["-inf at Z[0, 0]"]),
    ],
)
def test_features_that_cannot_be_used(X, key, words):
    with pytest.raises(InputError) as caught:
        check_features(X, "Z")
    assert caught.value.key == key
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_labels_pass(dtype):
    check_labels(np.array([0, 2, 1], dtype), 3)


def test_the_ignored_label_may_be_out_of_range():
    check_labels(np.array([0, -100, 1]), 2, ignore=-100)
    with pytest.raises(InputError):
        check_labels(np.array([0, -1, 1]), 2, ignore=-100)


@pytest.mark.parametrize(
    ("y", "key", "words"),
    [
        (np.array([0, 1, 3, 4]), "data_label_range", ["3 at labels[2]", "2 such labels", "from 0 to 2 (3 classes)"]),
        (np.array([0, -1]), "data_label_range", ["-1 at labels[1]"]),
        (np.eye(3), "data_label_shape", ["labels[3, 3]", "labels.argmax(axis=1)"]),
        (np.array([[0], [1]]), "data_label_shape", ["labels[:, 0]"]),
        (np.array([0.0, 1.0]), "data_label_dtype", ["float64", "astype(int)"]),
        (np.array(["a", "b"]), "data_label_dtype", ["<U1"]),
        (np.array([True, False]), "data_label_dtype", ["bool"]),
        (np.array([], dtype=int), "data_empty_batch", ["labels[0]"]),
    ],
)
def test_labels_that_cannot_be_used(y, key, words):
    with pytest.raises(InputError) as caught:
        check_labels(y, 3, "labels")
    assert caught.value.key == key
    assert all(word in str(caught.value) for word in words)


def test_lengths():
    check_lengths(GOOD, [1, 2, 3])
    with pytest.raises(InputError, match=r"X\[3, 2\], y\[4\]"):
        check_lengths(GOOD, np.zeros(4))
    with pytest.raises(InputError, match="same N"):
        check_lengths(GOOD, 1)
