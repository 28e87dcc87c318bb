"""Numbers for each sample: Philox4x32-10 as published, and a row that depends on its sample alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit.core.rng import philox4x32, uniforms

KNOWN = [  # the generator's published test vectors (Random123 1.09, kat_vectors)
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_vectors(counter, key, words):
    assert tuple(int(w) for w in philox4x32(*counter, key=key)) == words


def by_hand(counter, key):
    """The ten rounds on Python's own integers."""
    a, b, c, d = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ k0, right & 0xFFFFFFFF, (left >> 32) ^ d ^ k1, left & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


word = st.integers(0, 2**32 - 1)


@given(counter=st.tuples(word, word, word, word), key=st.integers(0, 2**64 - 1))
def test_words_are_those_of_the_definition(counter, key):
    assert tuple(int(w) for w in philox4x32(*counter, key=key)) == by_hand(counter, key)


def test_a_row_belongs_to_its_sample():
    samples = np.array([7, 0, 2**40 + 7, 3])
    u = uniforms(3, 12, "augment0", samples, 6)
    assert u.shape == (4, 6)
    for row, sample in zip(u, samples, strict=True):
        assert uniforms(3, 12, "augment0", np.array([sample]), 6)[0].tobytes() == row.tobytes()
    assert uniforms(3, 12, "augment0", samples, 2).tobytes() == np.ascontiguousarray(u[:, :2]).tobytes()


def test_every_part_of_the_key_counts():
    samples = np.arange(3)
    drawn = [uniforms(*key, samples, 4) for key in ((0, 1, "a"), (1, 1, "a"), (0, 2, "a"), (0, 1, "b"))]
    assert len({u.tobytes() for u in drawn}) == 4
    assert len(np.unique(np.stack(drawn))) == 48


def test_they_are_uniform():
    u = uniforms(0, 1, "x", np.arange(20_000), 5)
    assert u.min() >= 0
    assert u.max() < 1
    np.testing.assert_allclose(np.histogram(u, 10, (0, 1))[0], 10_000, atol=500)
    correlation = np.corrcoef(u.T) - np.eye(5)
    assert np.abs(correlation).max() < 0.03
