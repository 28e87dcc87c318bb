"""Writing on with a model: what is drawn, from what, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl

TABLE = np.log(np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.05, 0.9, 0.05]]))
"""log p(next | last): rows sum to 1."""


def chain(context=4):
    """A model whose logits depend on the token at their own position alone, by TABLE."""
    model = bl.Sequential(bl.Embedding(3, 3), bl.Dense(3, bias=False)).build((context,))
    model.params = {"embedding1.E": TABLE.astype(np.float32), "dense1.W": np.eye(3, dtype=np.float32)}
    return model


def gpt(context=5, *, causal=True):
    layers = bl.Embedding(7, 8), bl.PositionalEmbedding(context), bl.TransformerBlock(2, causal=causal), bl.Dense(7)
    return bl.Sequential(*layers).build((context,), seed=3)


def test_temperature_zero_takes_the_most_probable():
    assert bl.generate(chain(), [0], 5, temperature=0).tolist() == [0, 2, 1, 0, 2, 1]


def test_tokens_are_drawn_with_the_models_probabilities():
    written = bl.generate(chain(), np.zeros((4000, 1), int), 3, seed=1)
    for last in range(3):
        following = written[:, 2][written[:, 1] == last]
        share = np.bincount(following, minlength=3) / len(following)
        error = np.sqrt(np.exp(TABLE[last]) / len(following))
        assert (np.abs(share - np.exp(TABLE[last])) < 4 * error).all(), last


def test_temperature_raises_probabilities_to_its_inverse():
    written = bl.generate(chain(), np.zeros((4000, 1), int), 1, temperature=0.5)[:, 1]
    p = np.array([0.1, 0.2, 0.7]) ** 2
    p /= p.sum()
    assert np.abs(np.bincount(written, minlength=3) / 4000 - p).max() < 0.03


def test_top_k_leaves_the_others_out():
    written = bl.generate(chain(), np.zeros((500, 1), int), 1, top_k=2)[:, 1]
    assert set(written.tolist()) == {1, 2}
    assert set(bl.generate(chain(), np.zeros((50, 1), int), 1, top_k=1)[:, 1].tolist()) == {2}


def test_a_sequence_that_stopped_is_filled_up():
    written = bl.generate(chain(), np.zeros((50, 1), int), 12, stop=2, seed=5)
    assert (written == 2).any()
    for row in written.tolist():
        if 2 in row:
            assert set(row[row.index(2) :]) == {2}


@pytest.mark.parametrize("make", [gpt, lambda: bl.Sequential(bl.Embedding(7, 4), bl.GRU(6), bl.Dense(7)).build((5,))])
def test_each_token_follows_from_the_last_ones_that_the_model_can_see(make):
    """Beyond the context too: the next token is argmax of the logits of a full window, computed one by one."""
    model = make()
    written = bl.generate(model, [1, 2], 9, temperature=0).tolist()
    for k in range(2, 11):
        window = written[max(0, k - 5) : k]
        shorter = np.array([window + [6] * (5 - len(window))])
        assert written[k] == int(model.predict(shorter)[0, len(window) - 1].argmax())


def test_one_sequence_is_a_row_of_several_and_the_seed_decides():
    model = gpt()
    one = bl.generate(model, [1], 8, seed=2)
    assert one.shape == (9,)
    assert one.dtype == np.int64
    np.testing.assert_array_equal(one, bl.generate(model, [[1]], 8, seed=2)[0])
    np.testing.assert_array_equal(one[:5], bl.generate(model, [1], 4, seed=2))
    assert one.tolist() != bl.generate(model, [1], 8, seed=3).tolist()


def test_nothing_to_write_gives_the_start():
    assert bl.generate(gpt(), [3, 4], 0).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("start", "options", "code"),
    [
        ([], {}, "BL336"),
        ([0.5], {}, "BL336"),
        (2, {}, "BL336"),
        ([7], {}, "BL170"),
        ([1], {"temperature": -1}, "BL303"),
        ([1], {"temperature": float("nan")}, "BL303"),
        ([1], {"top_k": 0}, "BL303"),
        ([1], {"top_k": 1.5}, "BL303"),
    ],
)
def test_what_cannot_be_is_refused(start, options, code):
    with pytest.raises(bl.BacklitError, match=code):
        bl.generate(gpt(), start, 2, **options)


@pytest.mark.parametrize("count", [-1, 1.0, True])
def test_the_count_is_a_whole_number(count):
    with pytest.raises(bl.BacklitError, match="BL303"):
        bl.generate(gpt(), [1], count)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (gpt(causal=False), "BL338"),
        (bl.Sequential(bl.Embedding(7, 4), bl.LSTM(3, bidirectional=True), bl.Dense(7)).build((5,)), "BL338"),
        (bl.Sequential(bl.Embedding(7, 4), bl.LSTM(3, return_sequences=False), bl.Dense(7)).build((5,)), "BL337"),
        (bl.Sequential(bl.Dense(7)).build((5, 2)), "BL337"),
        (bl.Sequential(bl.Embedding(7, 4), bl.Dense(7)), "BL304"),
    ],
)
def test_a_model_that_cannot_write_is_refused(model, code):
    with pytest.raises(bl.BacklitError, match=code):
        bl.generate(model, [1], 2)
