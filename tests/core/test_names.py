"""Names: the nearest one is offered, entries are split, lookups fail helpfully."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit.core.errors import UnknownNameError
from backlit.core.i18n import use_language
from backlit.core.names import lookup, nearest, split_entry

LOSSES = ["mse", "mae", "huber", "softmax_cross_entropy", "binary_cross_entropy"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("msse", "mse"),
        ("HUBER", "huber"),
        ("hubber", "huber"),
        ("softmax_crossentropy", "softmax_cross_entropy"),
        ("binary_crossentropy", "binary_cross_entropy"),
    ],
)
def test_the_nearest_name_comes_first(typed, meant):
    assert nearest(typed, LOSSES)[0] == meant


def test_names_keep_their_own_case():
    assert nearest("dense1.w", ["dense1.W", "dense1.b"])[0] == "dense1.W"


def test_where_none_is_alike_the_first_ones_are_offered():
    assert nearest("qqqqqq", LOSSES) == LOSSES[:3]


def test_at_most_three_names_are_offered():
    assert len(nearest("dense", [f"dense{i}" for i in range(1, 10)])) == 3


def test_nothing_is_offered_where_nothing_is_known():
    assert nearest("x", []) == []


@given(st.sampled_from(LOSSES))
def test_a_known_name_is_nearest_to_itself(name):
    assert nearest(name, iter(LOSSES))[0] == name


def test_lookup_finds():
    assert lookup({"a": 1, "b": 2}, "b", "thing") == 2


@pytest.mark.parametrize(("lang", "says"), [("en", "no option of Adam named"), ("zh", "的Adam 的选项")])
def test_the_word_for_the_kind_may_have_details(lang, says):
    with pytest.raises(UnknownNameError) as caught:
        lookup({"eps": 1}, "esp", "option", of="Adam")
    with use_language(lang):
        assert says in str(caught.value)


def test_lookup_tells_what_there_is():
    with pytest.raises(UnknownNameError) as caught:
        lookup(dict.fromkeys(LOSSES), "msee", "loss")
    assert caught.value.as_dict() == {
        "code": "BL001",
        "problem": "there is no loss named 'msee'",
        "expected": "one of mse, mae, huber, softmax_cross_entropy, binary_cross_entropy",
        "got": "'msee'",
        "fix": caught.value.part("fix"),
    }
    assert "mse" in caught.value.part("fix")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", [None, 3, ["mse"], {}])
def test_lookup_of_what_is_no_name(name):
    with pytest.raises(UnknownNameError):
        lookup(dict.fromkeys(LOSSES), name, "loss")


def test_lookup_lists_at_most_forty_names():
    with pytest.raises(UnknownNameError) as caught:
        lookup({f"n{i}": i for i in range(100)}, "m", "thing")
    assert caught.value.values["known"].count(",") == 39


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dense1.W", ("dense1.W", None)),
        ("dense1.W[3,5]", ("dense1.W", (3, 5))),
        (" dense1.W[ 3 , 5 ] ", ("dense1.W", (3, 5))),
        ("dense1.b[-1]", ("dense1.b", (-1,))),
        ("block.dense2.W[0, 1, 2]", ("block.dense2.W", (0, 1, 2))),
    ],
)
def test_split_entry(text, expected):
    assert split_entry(text) == expected


@pytest.mark.parametrize("text", ["", "[3]", "W[", "W[]", "W[3", "W3]", "W[a]", "W[1.5]", "W[1,]", "W[1][2]", "W[1:2]"])
def test_a_malformed_entry_is_refused(text):
    with pytest.raises(ValueError, match="^" if not text else None):
        split_entry(text)


@given(st.from_regex(r"[a-z]+[0-9]*(\.[A-Za-z]+)?", fullmatch=True), st.lists(st.integers(), min_size=1, max_size=4))
def test_an_entry_that_was_printed_is_read_back(name, index):
    assert split_entry(f"{name}{index}") == (name, tuple(index))
