"""A key makes its stream: the same everywhere and always, another one for every other key."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit.core.rng import generator

KEYS = [(0, 0, "dense1.W"), (1, 0, "dense1.W"), (0, 1, "dense1.W"), (0, 0, "dense2.W"), (0, 0, ""), (2**70, 10**9, "δ")]


def draws(seed, step, name, n=8):
    return generator(seed, step, name).integers(0, 2**64, size=n, dtype=np.uint64)


def key_by_hand(seed, step, name):
    """The Philox key as the documentation defines it: little-endian 128 bits of BLAKE2b of "seed|step|name"."""
    digest = hashlib.blake2b("|".join([str(seed), str(step), name]).encode("utf-8"), digest_size=16).digest()
    return [sum(byte << (8 * i) for i, byte in enumerate(half)) for half in (digest[:8], digest[8:])]


@pytest.mark.parametrize("key", KEYS)
def test_the_philox_key_is_the_hash(key):
    state = generator(*key).bit_generator.state
    assert state["bit_generator"] == "Philox"
    assert state["state"]["key"].tolist() == key_by_hand(*key)
    assert state["state"]["counter"].tolist() == [0, 0, 0, 0]


ALL_ONES = 2**256 - 1
KNOWN_ANSWERS = [  # Random123, kat_vectors, philox4x64 with 10 rounds: counter, key, block
    (0, 0, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    (ALL_ONES, 2**128 - 1, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
]


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN_ANSWERS)
def test_numpy_implements_the_published_philox(counter, key, block):
    before = (counter - 1) & ALL_ONES  # NumPy counts up first, then makes the block
    raw = np.random.Philox(key=key, counter=before).random_raw(4)
    assert " ".join(f"{v:016x}" for v in raw) == block


PROGRAM = """
from backlit.core.rng import generator
print(generator(3, 7, "dropout1.mask").normal(size=4).tobytes().hex())
"""


def test_the_same_key_gives_the_same_stream_in_another_process():
    printed = [subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).strip() for _ in range(2)]
    assert printed == [generator(3, 7, "dropout1.mask").normal(size=4).tobytes().hex()] * 2


def test_other_keys_give_other_streams():
    streams = {tuple(draws(*key)) for key in KEYS}
    assert len(streams) == len(KEYS)


def test_a_draw_does_not_depend_on_the_draws_before_it():
    alone = draws(5, 2, "shuffle")
    for step in range(2):
        draws(5, step, "shuffle", n=100)
    np.random.default_rng(0).normal(size=3)
    assert (draws(5, 2, "shuffle") == alone).all()


@given(st.integers(0, 2**63), st.integers(0, 2**40), st.text("abc.|123", max_size=8))
def test_streams_depend_on_every_part_of_the_key(seed, step, name):
    here = draws(seed, step, name, 4).tolist()
    assert here == draws(seed, step, name, 4).tolist()
    assert here != draws(seed + 1, step, name, 4).tolist()
    assert here != draws(seed, step + 1, name, 4).tolist()
    assert here != draws(seed, step, name + "x", 4).tolist()


def test_neighbouring_streams_are_not_correlated():
    """2000 draws each: the correlation of independent normals lies within 5/sqrt(n) but for one case in 10^6."""
    rows = np.stack([generator(0, step, "dense1.W").normal(size=2000) for step in range(6)])
    correlation = np.corrcoef(rows) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)
