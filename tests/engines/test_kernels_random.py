"""Dropout masks by a kernel: bit for bit what NumPy's generator gives."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

pytest.importorskip("numba")

from backlit.core.rng import generator, key_words
from backlit.engines.fast import kernels_random
from engines.kernel_calls import untested


def test_every_kernel_is_tested_here():
    assert not untested(kernels_random, __file__)


@pytest.mark.parametrize("key", [(0, 0), (1, 2), (2**64 - 1, 2**64 - 1), (0x0123456789ABCDEF, 0xFEDCBA9876543210)])
def test_numbers_are_numpys(key):
    bits = np.random.Philox(key=key[0] + (key[1] << 64))
    found = [n for place in range(1, 6) for n in kernels_random.philox4x64(np.uint64(place), *map(np.uint64, key))]
    assert [int(n) for n in found] == [int(n) for n in bits.random_raw(20)]


def test_the_key_of_a_generator():
    state = generator(3, 7, "dropout1.mask").bit_generator.state["state"]
    assert [int(w) for w in state["key"]] == list(key_words(3, 7, "dropout1.mask"))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [1, 3, 4, 5, 64, 1001])
def test_a_mask_is_the_one_that_the_interpreter_draws(run, draw, size, rate):
    keys, mask = np.array([key_words(5, t, "m") for t in range(3)], np.uint64), np.full(size, nan, draw.dtype)
    run("dropout_mask", -(-size // 4), keys, mask, rate, step=2)
    kept = generator(5, 2, "m").random(size) >= rate
    assert np.array_equal(mask, kept.astype(draw.dtype) * np.asarray(1 / (1 - rate), draw.dtype))
