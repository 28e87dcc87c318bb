"""Mini-batches of similar length: every sample once an epoch, by seed and epoch alone, gone on with and done again."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import FileError, InputError
from backlit.core.i18n import use_language
from backlit.data.buckets import Arrangement, Buckets
from backlit.train.batches import Batches

LENGTHS = np.random.default_rng(0).integers(1, 60, 103)


def batches(size=8, pool=4, **options):
    return Batches(len(LENGTHS), size, arrange=Arrangement(LENGTHS, size, pool), **options)


def of_epoch(order, epoch):
    first = (epoch - 1) * order.per_epoch + 1
    return [part for step in range(first, first + order.per_epoch) for part in order.of_step(step)]


@pytest.mark.parametrize(("size", "pool"), [(8, 4), (8, 100), (1, 1), (103, 2), (200, 3), (5, 1), (34, 2)])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"accumulate": 3}])
@pytest.mark.parametrize("epoch", [1, 4])
def test_every_sample_once_an_epoch_and_only_the_last_batch_is_small(size, pool, options, epoch):
    found = of_epoch(batches(size, pool, **options), epoch)
    assert sorted(np.concatenate(found).tolist()) == list(range(103))
    assert [len(part) for part in found] == [size] * (103 // size) + [103 % size] * (103 % size > 0)


def spread(order, epoch=1):
    """How much longer the longest of a mini-batch is than the mean, in all."""
    return sum(float(LENGTHS[part].max() * len(part) - LENGTHS[part].sum()) for part in of_epoch(order, epoch))


def test_mini_batches_hold_similar_lengths():
    """Against all in one pool, the least padding that there can be, and against no buckets at all."""
    best = sum(float(a.max() * len(a) - a.sum()) for a in np.split(np.sort(LENGTHS), range(8, 103, 8)))
    plain = spread(Batches(len(LENGTHS), 8))
    assert spread(batches(pool=100)) <= best + 60 * 7
    assert best < spread(batches(pool=4)) < 0.5 * plain
    for part in of_epoch(batches(pool=100), 2)[:-1]:
        assert np.ptp(LENGTHS[part]) <= 12


def test_mini_batches_are_shuffled_and_differ_from_epoch_to_epoch():
    first, second = (of_epoch(batches(), epoch) for epoch in (1, 2))
    means = [LENGTHS[part].mean() for part in first]
    assert means != sorted(means)
    assert {frozenset(p.tolist()) for p in first} != {frozenset(p.tolist()) for p in second}


def test_the_order_is_a_function_of_seed_and_epoch():
    late = [p.tolist() for p in batches(seed=7).of_step(40)]
    again = batches(seed=7)
    for step in range(1, 40):
        list(again.of_step(step))
    assert [p.tolist() for p in again.of_step(40)] == late
    assert [p.tolist() for p in batches(seed=8).of_step(40)] != late


def test_stretches_are_the_same_batches():
    order = batches()
    got, count = order.stretch(15, 9)
    want = np.concatenate([part for step in range(15, 15 + count) for part in order.of_step(step)])
    assert got.tolist() == want.tolist()


def test_without_shuffling_pools_follow_the_data_by_hand():
    arrange = Arrangement(np.array([5, 1, 4, 2, 9, 3, 7]), 2, 2)
    assert arrange(np.arange(7), None).tolist() == [1, 3, 2, 0, 5, 6, 4]


def test_lengths_are_the_steps_that_are_not_padding():
    mask = np.array([[True, True, False], [True, False, False], [False, True, True]])
    x = np.zeros((3, 3, 2))
    x[0, :2, 1] = x[1, 0, 0] = 5.0
    assert Buckets().lengths((x, mask)).tolist() == [2, 1, 2]
    assert Buckets(input=0).lengths((x, mask)).tolist() == [2, 1, 0]
    assert Buckets(padding=-1).lengths((np.array([[3, 0, -1], [-1, -1, -1]]),)).tolist() == [2, 0]


# --- in training ------------------------------------------------------------------------------------------------------


def sequences(n=30):
    rng = np.random.default_rng(1)
    p = bl.data.pad([rng.normal(size=(int(k), 3)) for k in rng.integers(1, 9, n)])
    return p, np.array([row.sum() for row in p.X])[:, None]


def fit(place, epochs=3, **changes):
    p, y = sequences()
    layer = bl.GRU(4, return_sequences=False)
    head = bl.Dense(1)
    model = bl.Model(lambda x, mask: head(layer(x, mask)))
    options = {"loss": "mse", "batch_size": 4, "seed": 2, "run_dir": place, "buckets": True, "progress": False}
    return bl.fit(model, ((p.X, p.mask), y), epochs=epochs, **options | changes)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_a_run_goes_on_bit_for_bit_and_any_step_is_done_again(tmp_path, engine):
    whole = fit(tmp_path / "whole", engine=engine)
    fit(tmp_path / "parts", epochs=1, engine=engine)
    parts = fit(tmp_path / "parts", engine=engine, resume=True)
    for name, a in whole.model.params.items():
        np.testing.assert_array_equal(parts.model.params[name], a, err_msg=name)
    assert parts.history["loss"] == whole.history["loss"]
    assert all(same for _, same in whole.verify())
    p, _ = sequences()
    seen = whole.at(5)
    np.testing.assert_array_equal(seen["x2"], p.mask[seen.notes["samples"]])
    assert np.ptp(p.lengths[seen.notes["samples"]]) <= 3


def test_the_recipe_is_kept_and_must_be_the_same(tmp_path):
    run = fit(tmp_path, epochs=1, buckets=Buckets(pool=3))
    assert run.settings.buckets == Buckets(pool=3)
    p, y = sequences()
    model = run.model
    again = bl.open_run(tmp_path, data=((p.X, p.mask), y), model=model)
    assert again.settings.buckets == Buckets(pool=3)
    np.testing.assert_array_equal(again.at(4)["x1"], run.at(4)["x1"])
    for other in (None, Buckets(pool=4)):
        with pytest.raises(FileError, match="buckets"):
            fit(tmp_path, epochs=2, buckets=other, resume=True)
    assert fit(tmp_path / "plain", epochs=1, buckets=None).settings.as_dict().get("buckets") is None


@pytest.mark.parametrize(("lang", "words"), [("en", "buckets"), ("zh", "分桶")])
def test_an_input_without_steps_is_refused(lang, words):
    with pytest.raises(InputError) as caught:
        bl.fit(bl.Sequential(bl.Dense(1)), (np.ones((4, 3)), np.ones(4)),
               loss="mse", buckets=Buckets(input=1), progress=False)  # fmt: skip
    assert caught.value.key == "buckets_input"
    with use_language(lang):
        assert words in str(caught.value)


@pytest.mark.parametrize("given", [8, "length", [1, 2]])
def test_what_is_no_recipe_is_refused(given):
    with pytest.raises(InputError) as caught:
        fit(None, buckets=given)
    assert caught.value.key == "fit_option"


@pytest.mark.parametrize("pool", [0, -1, 1.5, True])
def test_a_pool_holds_at_least_one_mini_batch(pool):
    with pytest.raises(InputError) as caught:
        Buckets(pool=pool)
    assert caught.value.key == "option_range"
