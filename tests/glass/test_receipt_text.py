"""What receipts say of themselves: text, HTML, JSON, shares and rounding, on receipts made by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from backlit.core.i18n import use_language
from backlit.glass.receipts import Entry, Receipt, Step, Term, short, total

X, W = Entry("value", "x", (0, 1)), Entry("value", "dense1.W", (2, 1))


def terms(*values):
    whole = math.fsum(values)
    return tuple(Term(f"i={i}", v, v / whole, ((X, v), (W, 1.0))) for i, v in enumerate(values))


def receipt(value=3.0, found=(), *, dtype=np.float64, **more):
    number = np.dtype(dtype).type(value)
    given = {"rule": "linear", "formula": "z = Σ x·W", "latex": "z", "numbers": "z = 2·1 + 1 = 3", "exact": 3.0}
    return Receipt(
        entry=Entry("value", "dense1.z", (0, 2)),
        value=number,
        terms=found,
        **given | {"recompute": lambda: number} | more,
    )


# --- entries and terms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry("value", "x", (0, 3)), "x[0,3]"),
        (Entry("value", "loss", ()), "loss"),
        (Entry("grad", "dense1.W", (3, 5)), "∂dense1.W[3,5]"),
        (Entry("grad", "dense1.z", (0, 3)), "dense1.δ[0,3]"),
        (Entry("value", "dense1.z", (0, 3)), "dense1.z[0,3]"),
        (Entry("update", "dense1.b", (1,)), "Δdense1.b[1]"),
        (Entry("given", "dense1.b", (1,)), "g dense1.b[1]"),
        (Entry("grad", "loss", ()), "∂loss"),
        (Entry("update", "dense1.z", ()), "Δdense1.z"),
    ],
)
def test_an_entry_is_named_as_it_is_asked_for(entry, text):
    assert str(entry) == text


def test_a_term_shows_its_share_and_its_operands():
    text = str(Term("i=4", -0.25, -0.5, ((X, 0.125), (W, -2.0))))
    assert text.split() == ["i=4", "-0.25", "-50.0%", "x[0,1]", "(0.125)", "·", "dense1.W[2,1]", "(-2)"]
    assert str(Term("", 1.0, 1.0, ())) == str(Term("", 1.0, 1.0, ())).rstrip()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 / 3, "0.333333"), (1e-9, "1e-09"), (123456789.0, "1.23457e+08"), (np.float32(0.1), "0.1"), (math.nan, "nan")],
)
def test_six_digits(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([0.1] * 10, 1.0),
        ([1e16, 1.0, -1e16], 1.0),
        ([], 0.0),
        ([math.inf, 1.0], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, 1.0], math.nan),
    ],
)
def test_a_total_is_rounded_once_and_takes_what_is_not_finite(values, want):
    assert total(iter(values)) == pytest.approx(want, rel=0, abs=0, nan_ok=True)


# --- is it so? ------------------------------------------------------------------------------------------------------


def test_equal_means_every_bit():
    assert receipt(3.0).ok
    assert not receipt(3.0, recompute=lambda: np.nextafter(3.0, 4.0)).ok
    assert receipt(math.nan, recompute=lambda: np.float64(math.nan)).ok
    assert receipt(2, dtype=np.int64, recompute=lambda: np.int64(2)).ok
    assert not receipt(2, dtype=np.int64, recompute=lambda: np.int64(3)).ok


def test_computing_again_may_overflow_without_a_warning():
    big = np.float32(3e38)
    assert receipt(np.inf, dtype=np.float32, recompute=lambda: big * big).ok


@pytest.mark.parametrize(
    ("value", "exact", "values", "scale", "want"),
    [
        (1.0, 1.0, (1.0,), 0.0, 0.0),
        (1.0 + 2**-23, 1.0, (1.0,), 0.0, 1.0),
        (2**-23, 0.0, (1.0, -1.0), 0.0, 1.0),
        (2**-23, 0.0, (4.0, -4.0), 0.0, 0.25),
        (2**-23, 0.0, (), 1.0, 1.0),
        (0.0, 0.0, (), 0.0, 0.0),
    ],
)
def test_rounding_is_in_units_of_the_largest_of_all_that_entered(value, exact, values, scale, want):
    found = tuple(Term("", v, 0.0, ()) for v in values)
    assert receipt(value, found, dtype=np.float32, exact=exact, scale=scale).rounding == want


def test_whole_numbers_are_not_rounded():
    assert receipt(7, dtype=np.int64, exact=7.0).rounding == 0.0


def test_it_rests_on_the_operands_of_its_terms_each_once():
    other = Entry("value", "dense1.b", (2,))
    found = (Term("", 5.0, 0.5, ((W, 5.0), (X, 1.0))), Term("", 4.0, 0.4, ((X, 4.0), (other, 1.0))))
    assert receipt(9.0, found).rests_on == (W, X, other)
    assert receipt(9.0).rests_on == ()


# --- as text --------------------------------------------------------------------------------------------------------


def test_the_lines_of_a_receipt_in_order():
    lines = str(receipt(3.0, terms(2.0, 1.0))).splitlines()
    assert lines[0] == "dense1.z[0,2] = 3"
    assert lines[1:3] == ["  z = Σ x·W", "  z = 2·1 + 1 = 3"]
    assert [line.split()[:3] for line in lines[3:5]] == [["i=0", "2", "66.7%"], ["i=1", "1", "33.3%"]]
    assert "equal bit for bit" in lines[5]
    assert len(lines) == 6


@pytest.mark.parametrize(("count", "shown"), [(7, 7), (8, 8), (9, 8), (30, 8)])
def test_the_terms_beyond_the_limit_are_one_line(count, shown):
    found = receipt(1.0, terms(*(float(count - i) for i in range(count))))
    lines = found.lines()
    listed = [line for line in lines if line.startswith("  i=")]
    assert len(listed) == shown
    rest = [line for line in lines if "more:" in line]
    assert len(rest) == (count > shown)
    if rest:
        left = [float(count - i) for i in range(shown, count)]
        assert f"{count - shown} more: {sum(left):g} (" in rest[0]
        share = 100 * sum(left) / (count * (count + 1) / 2)
        assert f"({share:.1f}%)" in rest[0]
    assert len([line for line in found.lines(limit=2) if line.startswith("  i=")]) == 2


def test_what_differs_is_said_loudly_in_both_languages():
    found = receipt(1.0 + 2**-23, dtype=np.float32, exact=1.0, recompute=lambda: np.float32(1.0))
    assert found.verdict() == "computed again: NOT equal (1.0 ulp)"
    with use_language("zh"):
        assert found.verdict() == "重新计算：不相等（1.0 ulp）"


def test_a_leaf_is_given_and_has_no_working():
    leaf = receipt(3.0, rule="")
    assert leaf.working() == []
    assert len(str(leaf).splitlines()) == 2
    assert leaf.verdict() == "given to the step: nothing in it computes this number"
    with use_language("zh"):
        assert leaf.verdict() == "这一步的已知量，不由其他数算出"


def test_an_update_shows_each_line_of_its_optimizer():
    steps = (
        Step("m", "m = beta1 * m + (1 - beta1) * g", "0.9 * 0 + 0.1 * 2", 0.2),
        Step("p", "p = p - lr * m", "1", 1.0),
    )
    found = receipt(1.0, steps=steps)
    assert str(steps[0]).splitlines() == ["m = beta1 * m + (1 - beta1) * g", "    = 0.9 * 0 + 0.1 * 2 = 0.2"]
    assert found.working() == [*str(steps[0]).splitlines(), *str(steps[1]).splitlines()]
    assert "z = Σ x·W" not in str(found)
    assert found.as_dict()["steps"][0] == {
        "name": "m", "formula": steps[0].formula, "numbers": steps[0].numbers, "value": 0.2,
    }  # fmt: skip


# --- as HTML and JSON -----------------------------------------------------------------------------------------------


def parsed(text):
    return ET.fromstring(f"<root>{text.replace('<br>', '<br/>')}</root>")


def test_html_is_well_formed_whatever_the_names_are():
    wild = Entry("value", 'a<b>&"c', (0,))
    found = receipt(3.0, (Term("<i>=0", 3.0, 1.0, ((wild, 3.0),)),), formula="z = x < 1 & y", numbers="1 < 2")
    root = parsed(replace(found, entry=wild)._repr_html_())
    assert root.find("p/b").text == 'a<b>&"c[0]'
    assert "z = x < 1 & y" in "".join(root.find("p").itertext())
    assert "1 < 2" in "".join(root.find("p").itertext())
    (row,) = root.iter("tr")
    assert ["".join(c.itertext()) for c in row] == ["<i>=0", "3", "100.0%", 'a<b>&"c[0] (3)']


def test_html_ends_with_the_verdict_and_shows_an_optimizers_lines():
    found = receipt(1.0, terms(1.0), steps=(Step("m", "m = g * 2", "0.5 * 2", 1.0), Step("p", "p = m", "1", 1.0)))
    first, last = parsed(found._repr_html_()).findall("p")
    assert last.text == found.verdict()
    assert list(first.itertext()) == ["dense1.z[0,2]", " = 1", *found.working()]


def test_html_of_a_given_number_has_no_working():
    first, last = parsed(receipt(3.0, rule="")._repr_html_()).findall("p")
    assert list(first.itertext()) == ["dense1.z[0,2]", " = 3"]
    assert last.text == receipt(3.0, rule="").verdict()


def test_html_lists_twenty_terms():
    assert len(list(parsed(receipt(1.0, terms(*range(1, 31)))._repr_html_()).iter("tr"))) == 20


def test_json_has_everything():
    found = receipt(3.0, terms(2.0, 1.0))
    data = json.loads(json.dumps(found.as_dict()))
    assert data["entry"] == "dense1.z[0,2]"
    assert (data["value"], data["exact"], data["recomputed_equal"], data["rounding"]) == (3.0, 3.0, True, 0.0)
    assert data["terms"][1] == {
        "label": "i=1", "value": 1.0, "share": 1 / 3, "operands": [["x[0,1]", 1.0], ["dense1.W[2,1]", 1.0]],
    }  # fmt: skip
    assert set(data) == {
        *("entry", "rule", "formula", "latex", "numbers", "value", "exact"),
        *("recomputed_equal", "rounding", "terms", "steps"),
    }


def test_a_label_stays_a_whole_number_in_json():
    data = receipt(2, dtype=np.int64, exact=2.0).as_dict()
    assert data["value"] == 2
    assert isinstance(data["value"], int)
