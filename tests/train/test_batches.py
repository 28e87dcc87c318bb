"""Mini-batches: each sample once an epoch, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from backlit.train.batches import Batches, epoch_order

SIZES = [(1, 1, 1), (10, 3, 1), (10, 5, 1), (10, 10, 1), (10, 64, 1), (14, 4, 2), (17, 3, 4), (16, 4, 2), (9, 2, 5)]


def of_epoch(batches, epoch):
    """The mini-batches of each step of an epoch."""
    first = (epoch - 1) * batches.per_epoch + 1
    return [list(batches.of_step(step)) for step in range(first, first + batches.per_epoch)]


@pytest.mark.parametrize(("samples", "size", "accumulate"), SIZES)
@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_each_sample_comes_once_an_epoch(samples, size, accumulate, epoch):
    steps = of_epoch(Batches(samples, size, accumulate=accumulate), epoch)
    seen = np.concatenate([part for parts in steps for part in parts])
    assert sorted(seen.tolist()) == list(range(samples))


@pytest.mark.parametrize(("samples", "size", "accumulate"), SIZES)
def test_only_the_last_batches_are_smaller(samples, size, accumulate):
    sizes = [len(part) for parts in of_epoch(Batches(samples, size, accumulate=accumulate), 1) for part in parts]
    assert sizes == [size] * (samples // size) + [samples % size] * (samples % size > 0)


@pytest.mark.parametrize(("samples", "size", "accumulate"), SIZES)
def test_a_step_takes_as_many_batches_as_it_accumulates(samples, size, accumulate):
    steps = of_epoch(Batches(samples, size, accumulate=accumulate), 1)
    *full, last = [len(parts) for parts in steps]
    assert all(count == accumulate for count in full)
    assert 1 <= last <= accumulate


def test_the_last_batch_of_ten_by_three():
    batches = Batches(10, 3, shuffle=False)
    assert batches.per_epoch == 4
    assert [p.tolist() for parts in of_epoch(batches, 2) for p in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_the_last_group_of_fourteen_by_four_two_at_a_time():
    steps = of_epoch(Batches(14, 4, shuffle=False, accumulate=2), 1)
    assert [[len(p) for p in parts] for parts in steps] == [[4, 4], [4, 2]]


@pytest.mark.parametrize("step", range(1, 13))
def test_the_epoch_of_a_step(step):
    assert Batches(10, 3).epoch_of(step) == [1, 2, 3][(step - 1) // 4]


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {(seed, epoch): epoch_order(50, seed, epoch, shuffle=True).tolist() for seed in (0, 1) for epoch in (1, 2)}
    epoch_order.cache_clear()
    again = {(seed, epoch): epoch_order(50, seed, epoch, shuffle=True).tolist() for epoch in (2, 1) for seed in (1, 0)}
    assert again == orders
    assert len({tuple(order) for order in orders.values()}) == 4


def test_any_step_is_found_without_those_before_it():
    batches = Batches(23, 4, seed=7)
    late = [part.tolist() for part in batches.of_step(17)]
    for step in range(1, 18):
        found = [part.tolist() for part in batches.of_step(step)]
    assert found == late


def test_consecutive_epochs_differ_and_an_unshuffled_one_does_not():
    shuffled, plain = Batches(30, 30, seed=1), Batches(30, 30, seed=1, shuffle=False)
    orders = [next(shuffled.of_step(epoch)).tolist() for epoch in range(1, 8)]
    assert all(a != b for a, b in pairwise(orders))
    assert next(plain.of_step(5)).tolist() == list(range(30))


def test_every_place_of_the_order_gets_every_sample():
    """An unshuffled corner would show up as a sample that never moves."""
    places = np.array([epoch_order(6, 0, epoch, shuffle=True) for epoch in range(1, 400)])
    assert all(len(set(column)) == 6 for column in places.T.tolist())
    shares = np.array([[np.mean(places[:, place] == sample) for sample in range(6)] for place in range(6)])
    assert np.abs(shares - 1 / 6).max() < 5 * np.sqrt(1 / 6 * 5 / 6 / 400)
