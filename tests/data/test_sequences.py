"""Sequences of different lengths as one array: values, mask, labels, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError

RAGGED = [np.arange(6.0).reshape(3, 2), np.ones((1, 2)), 2 * np.ones((4, 2))]


def test_rows_are_the_sequences_and_the_mask_says_where():
    p = bl.data.pad(RAGGED, value=-5.0)
    assert p.X.shape == (3, 4, 2)
    assert len(p) == 3
    assert p.lengths.tolist() == [3, 1, 4]
    assert p.mask.tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] * 4]
    for row, mask, sequence in zip(p.X, p.mask, RAGGED, strict=True):
        assert np.array_equal(row[mask], sequence)
        assert (row[~mask] == -5.0).all()
    assert p.y is None


def test_labels_of_steps_are_padded_with_the_ignored_one():
    p = bl.data.pad([[5, 6], [7]], labels=[[1, 0], [2]], ignore=-100, length=3)
    assert p.X.tolist() == [[5, 6, 0], [7, 0, 0]]
    assert p.X.dtype == np.int64
    assert p.y.tolist() == [[1, 0, -100], [2, -100, -100]]
    assert p.mask.sum(axis=1).tolist() == p.lengths.tolist()


@pytest.mark.torch
def test_it_is_pytorchs_padding():
    torch = pytest.importorskip("torch")
    want = torch.nn.utils.rnn.pad_sequence([torch.tensor(s) for s in RAGGED], batch_first=True, padding_value=3.0)
    assert np.array_equal(bl.data.pad(RAGGED, value=3.0).X, want.numpy())


def test_ignored_steps_do_not_count_in_training():
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n, 3)) for n in (2, 4, 1, 3)]
    labels = [rng.integers(0, 2, len(s)) for s in sequences]
    p = bl.data.pad(sequences, labels=labels)
    model = bl.Sequential(bl.Dense(2)).build((4, 3), dtype="float64")
    padded, grads = bl.value_and_grad(model, p.X, p.y, loss=bl.SoftmaxCrossEntropy(ignore=-1))
    flat = bl.Sequential(bl.Dense(2)).build((3,), dtype="float64")
    rows, alone = bl.value_and_grad(
        flat, np.concatenate(sequences), np.concatenate(labels), loss="softmax_cross_entropy"
    )
    assert padded == pytest.approx(rows, rel=1e-14)
    np.testing.assert_allclose(grads["dense1.W"], alone["dense1.W"], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize(
    ("given", "options", "key", "told"),
    [
        ([], {}, "sequences_none", "0 sequences"),
        ([[1.0], []], {}, "sequences_none", "[1, 0]"),
        ([np.ones((2, 3)), np.ones((2, 4))], {}, "sequences_shape", "sequence 1"),
        ([3.0], {}, "sequences_shape", "sequence 0"),
        ([[1, 2, 3], [1]], {"length": 2}, "sequences_long", "x[3, …]"),
        ([[1, 2], [1]], {"labels": [[0, 1]]}, "sequences_labels", "1 arrays"),
        ([[1, 2], [1]], {"labels": [[0, 1], [1, 1]]}, "sequences_labels", "sequence 1"),
    ],
)
def test_what_does_not_fit_is_named(given, options, key, told):
    with pytest.raises(InputError) as caught:
        bl.data.pad(given, **options)
    assert caught.value.key == key
    assert told in str(caught.value)
