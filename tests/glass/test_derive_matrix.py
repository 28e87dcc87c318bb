"""Matrix notation read off index formulas, each form against einsum on square matrices, where no shape tells."""

from __future__ import annotations

import numpy as np
import pytest

from backlit.glass.derive_matrix import Outer, Product, Total, matrix_form
from backlit.rules.formula import parse

RNG = np.random.default_rng(2)
ROWS = {name: RNG.normal(size=(5, 3)) for name in ("x", "dz")}
STACKS = {name: RNG.normal(size=(2, 4, 3)) for name in ("x", "dz")}
REST = {"W": RNG.normal(size=(3, 3)), "b": RNG.normal(size=3)}

FORMS = [
    ("z[*n,o] = Sum(i, x[*n,i] * W[o,i])", Product("W", False, "x", None), "...i,oi->...o"),
    ("z[*n,o] = Sum(i, W[o,i] * x[*n,i])", Product("W", False, "x", None), "...i,oi->...o"),
    ("z[*n,o] = Sum(i, x[*n,i] * W[i,o])", Product("W", True, "x", None), "...i,io->...o"),
    ("dx[*n,i] = Sum(o, dz[*n,o] * W[o,i])", Product("W", True, "dz", None), "...o,oi->...i"),
    ("dx[*n,i] = Sum(o, dz[*n,o] * W[i,o])", Product("W", False, "dz", None), "...o,io->...i"),
]


@pytest.mark.parametrize("arrays", [ROWS, STACKS], ids=["rows", "sequences"])
@pytest.mark.parametrize(("line", "form", "sums"), FORMS)
def test_a_product_for_each_sample(line, form, sums, arrays):
    found = matrix_form(parse(line))
    assert found == form
    want = np.einsum(sums, arrays[form.vector], REST["W"])
    np.testing.assert_allclose(found.evaluate(arrays | REST), want, rtol=1e-12, atol=1e-14)


def test_the_order_of_an_outer_product_is_the_targets():
    for line, want in (
        ("dW[o,i] = Sum(n, dz[*n,o] * x[*n,i])", Outer("dz", "x")),
        ("dW[o,i] = Sum(n, x[*n,i] * dz[*n,o])", Outer("dz", "x")),
        ("dW[i,o] = Sum(n, dz[*n,o] * x[*n,i])", Outer("x", "dz")),
    ):
        assert matrix_form(parse(line)) == want, line


@pytest.mark.parametrize("arrays", [ROWS, STACKS], ids=["rows", "sequences"])
def test_an_outer_product_is_summed_over_all_samples(arrays):
    found = Outer("dz", "x").evaluate(arrays)
    rows = (arrays[name].reshape(-1, 3) for name in ("dz", "x"))
    np.testing.assert_allclose(found, np.einsum("no,ni->oi", *rows), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("arrays", [ROWS, STACKS], ids=["rows", "sequences"])
def test_a_total_is_summed_over_all_samples(arrays):
    form = matrix_form(parse("db[o] = Sum(n, dz[*n,o])"))
    assert form == Total("dz")
    np.testing.assert_allclose(
        form.evaluate(arrays), np.einsum("no->o", arrays["dz"].reshape(-1, 3)), rtol=1e-12, atol=1e-14
    )


def test_a_bias_is_added_to_each_sample():
    form = matrix_form(parse("z[*n,o] = Sum(i, x[*n,i] * W[o,i]) + b[o]"))
    assert form == Product("W", False, "x", "b")
    want = np.einsum("ni,oi->no", ROWS["x"], REST["W"]) + REST["b"]
    np.testing.assert_allclose(form.evaluate(ROWS | REST), want, rtol=1e-12)


@pytest.mark.parametrize(
    "line",
    [
        "z[*n,o] = Mean(i, x[*n,i] * W[o,i])",
        "z[*n,o] = Sum(i, x[*n,i] / W[o,i])",
        "z[*n,o] = Sum(i, x[*n,i] + W[o,i])",
        "z[*n,o] = Sum(i, x[*n,i] * exp(W[o,i]))",
        "z[*n,o] = Sum(i, x[*n,i] * W[o,i]) - b[o]",
        "z[*n,o] = Sum(i, x[*n,i] * W[o,i]) * 2",
        "z[*n,o] = Sum(i, j, x[*n,i] * W[o,j])",
        "z[*n,o] = Sum(i, x[*n,i] * W[i,i]) + b[o]",
        "dW[o,i] = Sum(n, dz[*n,o] * x[*n,o])",
        "dW[o,i] = Sum(n, dz[*n,i] * x[*n,i])",
        "dW[o] = Sum(n, dz[*n,o] * x[*n,o])",
        "db[o] = Sum(n, dz[*n,o]) + c[o]",
        "db[i] = Sum(o, W[o,i])",
        "y[*n,c] = x[*n,c] * gamma[c] + beta[c]",
        "y = x",
    ],
)
def test_what_is_no_product_stays_in_indices(line):
    assert matrix_form(parse(line)) is None


def bold(name, *indices):
    return f"<{name}{''.join(indices)}>"


@pytest.mark.parametrize(
    ("form", "want"),
    [
        (Product("W", False, "x", None), r"<W>\,<x>"),
        (Product("W", False, "x", "b"), r"<W>\,<x> + <b>"),
        (Product("W", True, "dz", None), r"\left(<W>\right)^{T}\,<dz>"),
        (Outer("dz", "x"), r"\sum_{n} <dzn>\,\left(<xn>\right)^{T}"),
        (Total("dz"), r"\sum_{n} <dzn>"),
    ],
)
def test_in_latex(form, want):
    assert form.latex(bold) == want
