"""Receipts: every number of a trace is computed again from its operands, and the formula agrees with what is stored."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backlit as bl
from backlit import rules
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.glass.receipts import Entry, total
from glass.graphs import all_traced, batch, mlp, of_everything, of_mlp

ROUNDING = 64
"""Units of eps·(Σ|terms| + largest |operand|) that a rule's own way of computing may differ from its formula."""


def stored(trace, entry):
    return {"value": trace.values, "grad": trace.grads}[entry.kind][entry.name][entry.index]


def same(a, b):
    return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")


def assert_honest(trace, receipt):
    """What must hold of the receipt of every value and gradient."""
    number, where = stored(trace, receipt.entry), str(receipt.entry)
    assert same(receipt.value, number), where
    assert receipt.value.dtype == number.dtype, where
    with np.errstate(all="ignore"):
        assert same(receipt.recompute(), number), where
    assert receipt.ok, where
    assert_operands(trace, receipt)
    assert_shares(receipt)
    if number.dtype.kind == "f" and np.isfinite(number):
        largest = max((abs(v) for t in receipt.terms for _, v in t.operands), default=0.0)
        scale = math.fsum(abs(t.value) for t in receipt.terms) + largest
        gap = abs(float(number) - receipt.exact)
        assert gap <= ROUNDING * float(np.finfo(number.dtype).eps) * scale, f"{where}: {number} and {receipt.exact}"


def assert_operands(trace, receipt):
    for entry, value in (pair for term in receipt.terms for pair in term.operands):
        assert same(np.float64(stored(trace, entry)), np.float64(value)), f"{receipt.entry} rests on {entry}"


def assert_shares(receipt):
    if receipt.rule and receipt.exact and np.isfinite(receipt.exact):
        size = sum(abs(t.share) for t in receipt.terms)
        assert sum(t.share for t in receipt.terms) == pytest.approx(1.0, abs=1e-12 * max(size, 1.0))
        assert total(t.value for t in receipt.terms) == pytest.approx(receipt.exact, rel=1e-12)
    sizes = [abs(t.value) for t in receipt.terms]
    assert sizes == sorted(sizes, reverse=True) or any(math.isnan(s) for s in sizes)


# --- thousands of random entries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["value", "grad"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(rules.REGISTRY))
def test_any_entry_of_every_rule(name, dtype, kind):
    rng = np.random.default_rng(5)
    for found in all_traced(rules.get(name), dtype):
        for entry in found.entries(rng, kind):
            receipt = found.trace.explain(entry)
            assert str(receipt.entry) == entry.removeprefix("value "), found.case
            assert_honest(found.trace, receipt)


def test_there_are_thousands_of_them():
    rng, count = np.random.default_rng(5), 0
    for rule in rules.REGISTRY.values():
        count += 2 * sum(
            1 for t in all_traced(rule, np.float64) for kind in ("value", "grad") for _ in t.entries(rng, kind)
        )
    assert count > 10_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_entry_of_a_model_with_branches_slices_sharing_and_dropout(dtype):
    trace, rng = of_everything(dtype), np.random.default_rng(0)
    for kind, arrays in (("value", trace.values), ("grad", trace.grads)):
        for name, array in arrays.items():
            for _ in range(4):
                entry = Entry(kind, name, tuple(int(rng.integers(n)) for n in array.shape))
                assert_honest(trace, trace.explain(entry))


def test_a_receipt_of_a_wrong_number_says_so():
    trace = of_mlp()
    trace.values["dense1.z"][0, 3] *= 1 + 1e-15
    receipt = trace.explain("dense1.z[0,3]")
    assert not receipt.ok
    assert "NOT equal" in str(receipt)
    assert receipt.as_dict()["recomputed_equal"] is False


# --- what a receipt says --------------------------------------------------------------------------------------------


def test_the_gradient_of_a_weight_is_a_sum_over_samples():
    trace = of_mlp("float32")
    receipt = trace.explain("dense1.W[3,2]")
    delta, x = trace.delta("dense1")[:, 3], trace["x"][:, 2]
    want = {f"n={n}": float(delta[n]) * float(x[n]) for n in range(6)}
    assert {t.label: t.value for t in receipt.terms} == want
    assert receipt.exact == pytest.approx(math.fsum(want.values()), rel=1e-15)
    assert receipt.value == trace.grad("dense1.W")[3, 2]
    assert receipt.rule == "linear"
    assert receipt.formula == "∂L/∂dense1.W[o,i] = Σₙ dense1.δ[n,o]·x[n,i]"
    top = receipt.terms[0].label.removeprefix("n=")
    assert [str(e) for e, _ in receipt.terms[0].operands] == [f"dense1.δ[{top},3]", f"x[{top},2]"]
    assert receipt.rests_on[:2] == tuple(e for e, _ in receipt.terms[0].operands)


def test_delta_of_a_hidden_layer_rests_on_the_next_one():
    trace = of_mlp()
    receipt = trace.explain("∂dense1.a[2,1]")
    want = {f"o={o}": trace.delta("dense2")[2, o] * trace["dense2.W"][o, 1] for o in range(3)}
    assert {t.label: t.value for t in receipt.terms} == want
    slope = trace.explain("dense1.delta[2,1]")
    assert slope.exact == pytest.approx(trace.grad("dense1.a")[2, 1] * (1 - trace["dense1.a"][2, 1] ** 2), rel=1e-14)


def test_the_gradient_of_the_loss_by_the_output_rests_on_the_loss():
    trace = of_mlp()
    operands = {str(e) for e in trace.explain("dense2.delta[1,2]").rests_on}
    assert {"∂loss", "loss.mass", "loss.p[1,2]", "y[1]"} <= operands


def test_a_value_used_twice_has_the_terms_of_both_uses():
    trace = bl.trace(
        bl.Model(lambda x: x * x + x).build((3,), dtype="float64"), np.ones((2, 3)) * 3, np.zeros((2, 3)), loss="mse"
    )
    receipt = trace.explain("∂x[0,1]")
    assert receipt.rule.count("mul") == 2
    assert "add" in receipt.rule
    assert len(receipt.terms) == 3
    assert float(receipt.value) == receipt.exact == 7 * 2 * 12 / 6
    assert all(t.label.startswith(("mul1", "add1")) for t in receipt.terms)


def test_a_shared_layer_sums_over_its_calls():
    trace = of_everything()
    receipt = trace.explain("dense1.W[1,2]")
    assert [t.label.split()[0] for t in receipt.terms].count("dense1.z") == 6
    assert [t.label.split()[0] for t in receipt.terms].count("dense1@2.z") == 6
    assert receipt.ok


def test_masked_units_give_nothing():
    trace = of_everything()
    dropped = np.argwhere(trace["dropout1.mask"] == 0)[0]
    receipt = trace.explain(Entry("grad", "batchnorm1.a", tuple(map(int, dropped))))
    assert receipt.value == 0.0 == receipt.exact
    assert "dropout1.mask" in {e.name for e in receipt.rests_on}
    assert receipt.ok


def test_copies_name_where_they_come_from_and_where_they_go():
    trace = of_everything()
    forward = trace.explain("concatenate1[2,4]")
    assert [str(e) for e in forward.rests_on] == ["dense2.a[2,1]"]
    assert [str(e) for e in trace.explain("slice1[2,0]").rests_on] == ["dense1@2.a[2,1]"]
    assert [str(e) for e in trace.explain("∂dense2.a[2,1]").rests_on] == ["∂concatenate1[2,4]"]
    unused = trace.explain("∂dense1@2.a[2,0]")
    assert unused.terms == ()
    assert unused.value == 0.0


def test_data_parameters_and_the_loss_itself_are_leaves():
    trace = of_mlp()
    for name in ("x[0,1]", "y[2]", "value dense1.W[0,0]", "∂loss"):
        receipt = trace.explain(name)
        assert receipt.rule == ""
        assert receipt.terms == ()
        assert receipt.ok
        assert "given to the step" in str(receipt)
    assert trace.explain("∂loss").value == 1.0


def test_numbers_that_are_not_finite_are_explained_too():
    model = bl.Model(np.log).build((2,), dtype="float64")
    trace = bl.trace(model, np.array([[0.0, 1.0]]), np.zeros((1, 2)), loss="mse")
    receipt = trace.explain("log1[0,0]")
    assert receipt.value == -np.inf == receipt.exact
    assert receipt.ok
    assert np.isinf(trace.explain("loss").exact)


def test_printing_ranks_the_terms_and_counts_the_rest():
    X, y = batch(samples=30)
    receipt = bl.trace(mlp("float32"), X, y, loss="softmax_cross_entropy").explain("dense1.W[0,0]")
    lines = str(receipt).splitlines()
    assert lines[0].startswith("∂dense1.W[0,0] = ")
    assert "… and 22 more" in lines[-2]
    assert "equal bit for bit" in lines[-1]
    shown = [float(line.split()[1]) for line in lines[3:11]]
    assert [abs(v) for v in shown] == sorted((abs(v) for v in shown), reverse=True)
    with use_language("zh"):
        assert "逐位相等" in str(receipt)
    assert "<table>" in receipt._repr_html_()
    assert receipt.as_dict()["terms"][0]["operands"][0][0].startswith("dense1.δ[")


def test_rounding_is_counted_in_units_of_the_largest_term():
    receipt = of_mlp("float32").explain("dense1.W[1,1]")
    largest = max(abs(t.value) for t in receipt.terms)
    unit = float(np.spacing(np.float32(largest)))
    assert receipt.rounding == pytest.approx(abs(float(receipt.value) - receipt.exact) / unit)
    assert receipt.rounding < 8


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("dense1.W[3,2]", "grad", "dense1.W"),
        ("∂dense1.W[3,2]", "grad", "dense1.W"),
        ("value dense1.W[3,2]", "value", "dense1.W"),
        ("dense1.delta[3,2]", "grad", "dense1.z"),
        ("dense1.δ[3,2]", "grad", "dense1.z"),
        ("dense1.z[ 3 , 2 ]", "value", "dense1.z"),
        ("d dense1.a[3,2]", "grad", "dense1.a"),
        ("dense2.a[3,2]", "value", "dense2.z"),
        ("x[3,2]", "value", "x"),
        ("loss", "value", "loss"),
    ],
)
def test_names(text, kind, name):
    entry = of_mlp().explain(text).entry
    assert (entry.kind, entry.name) == (kind, name)


def test_the_printed_name_of_an_entry_names_it_again():
    trace = of_everything()
    for kind, arrays in (("value", trace.values), ("grad", trace.grads)):
        for name, array in arrays.items():
            entry = Entry(kind, name, (0,) * array.ndim)
            printed = f"value {entry}" if kind == "value" else str(entry)
            assert trace.explain(printed).entry == entry


def test_delta_of_a_layer_without_z_is_that_of_its_output():
    assert of_everything().explain("batchnorm1.delta[0,1]").entry == Entry("grad", "batchnorm1.a", (0, 1))


@pytest.mark.parametrize("text", ["dense1.W[3", "dense1.W[a,b]", "dense1.W[]", "", "[1]"])
def test_what_is_no_entry_is_refused(text):
    with pytest.raises(InputError) as caught:
        of_mlp().explain(text)
    assert caught.value.code == "BL902"


@pytest.mark.parametrize("text", ["dense1.W[5,0]", "dense1.W[0,-1]", "dense1.W[0]", "dense1.W", "loss[0]", "x[6,0]"])
def test_an_index_out_of_range_names_the_range(text):
    with pytest.raises(InputError, match=r"0…|expected: loss") as caught:
        of_mlp().explain(text)
    assert caught.value.code == "BL903"


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownNameError, match=r"dense1\.W"):
        of_mlp().explain("dens1.W[0,0]")


def test_labels_have_no_gradient():
    with pytest.raises(InputError, match="no gradient"):
        of_mlp().explain("∂y[0]")


def test_a_trace_without_a_run_has_no_update():
    with pytest.raises(InputError) as caught:
        of_mlp().explain("Δdense1.W[0,0]")
    assert caught.value.code == "BL904"
