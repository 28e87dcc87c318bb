"""How values are written, in Unicode and in LaTeX."""

from __future__ import annotations

import pytest

from backlit.glass import symbols
from backlit.rules.formula import parse


@pytest.mark.parametrize(
    ("kind", "name", "want"),
    [
        ("value", "dense1.W", "dense1.W"),
        ("grad", "dense1.W", "∂L/∂dense1.W"),
        ("grad", "dense1.z", "dense1.δ"),
        ("grad", "dense1.a", "∂L/∂dense1.a"),
        ("grad", "x", "∂L/∂x"),
        ("grad", "z", "∂L/∂z"),
        ("update", "dense1.W", "Δdense1.W"),
        ("value", "dense1.z", "dense1.z"),
        ("grad", "outer.dense1.z", "outer.dense1.δ"),
        ("grad", "dense1.jazz", "∂L/∂dense1.jazz"),
    ],
)
def test_text(kind, name, want):
    assert symbols.text(kind, name) == want


@pytest.mark.parametrize(
    ("kind", "name", "want"),
    [
        ("value", "dense1.W", r"W^{\text{dense1}}"),
        ("grad", "dense1.W", r"\frac{\partial L}{\partial W^{\text{dense1}}}"),
        ("grad", "dense1.z", r"\delta^{\text{dense1}}"),
        ("grad", "z", r"\delta"),
        ("value", "x", "x"),
        ("value", "loss", "L"),
        ("grad", "loss", r"\frac{\partial L}{\partial L}"),
        ("value", "batchnorm1.gamma", r"\gamma^{\text{batchnorm1}}"),
        ("value", "loss.mass", r"\mathrm{mass}^{\text{loss}}"),
        ("update", "dense1.b", r"\Delta b^{\text{dense1}}"),
        ("value", "batchnorm1.running_mean", r"\mathrm{running\_mean}^{\text{batchnorm1}}"),
        ("value", "a.b.W", r"W^{\text{a.b}}"),
    ],
)
def test_latex(kind, name, want):
    assert symbols.latex(kind, name) == want


def test_the_names_of_a_rule_and_their_gradients_become_the_graphs():
    names = {"x": "dense1.a", "W": "dense2.W", "z": "dense2.z"}
    assert symbols.texts(names) == {
        "x": "dense1.a",
        "W": "dense2.W",
        "z": "dense2.z",
        "dx": "∂L/∂dense1.a",
        "dW": "∂L/∂dense2.W",
        "dz": "dense2.δ",
    }
    assert symbols.latexes(names) == {
        "x": r"a^{\text{dense1}}",
        "W": r"W^{\text{dense2}}",
        "z": r"z^{\text{dense2}}",
        "dz": r"\delta^{\text{dense2}}",
    }


def test_indices_of_a_gradient_stand_below_its_line():
    names = {"W": "dense2.W", "z": "dense2.z", "x": "x"}
    shown = parse("dW[o,i] = Sum(n, dz[n,o] * x[n,i])").latex(symbols.latexes(names))
    assert shown.startswith(r"\frac{\partial L}{\partial W^{\text{dense2}}_{o,i}} = ")
    assert r"\delta^{\text{dense2}}_{n,o}" in shown
