"""Every rule × every case × every oracle."""

from __future__ import annotations

import re

import pytest

from backlit.rules import REGISTRY
from backlit.rules.formula import formulas_of
from rules.calls import cases_of
from rules.oracles import ORACLES, documented, every_saved_name_is_used
from rules.torch_table import OTHERWISE, TABLE, WITHOUT

RULES = list(REGISTRY.values())
_COMMANDS = """frac partial sum prod cdot left right operatorname mathrm text begin end sqrt max min log sin cos
tanh ne le ge lor land lnot lfloor rfloor alpha beta gamma delta varepsilon sigma pi"""
KATEX = {rf"\{name}" for name in _COMMANDS.split()}
"""The LaTeX commands that formulas use, all of them in KaTeX's table of supported functions."""
NEEDS = {"jax": "jax", "torch": "torch", "strict": "array_api_strict"}


def _triples():
    for rule in RULES:
        for case in cases_of(rule):
            for name, oracle in ORACLES.items():
                if oracle.applies(rule, case):
                    marks = [getattr(pytest.mark, oracle.lane)] if oracle.lane else []
                    yield pytest.param(rule, case, name, id=f"{rule.name}-{case.label}-{name}", marks=marks)


@pytest.mark.parametrize(("rule", "case", "name"), list(_triples()))
def test_rule(rule, case, name):
    if lane := ORACLES[name].lane:
        pytest.importorskip(NEEDS[lane])
    ORACLES[name](rule, case)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_is_documented(rule):
    documented(rule)


@pytest.mark.parametrize("rule", [r for r in RULES if r.backward], ids=lambda rule: rule.name)
def test_memory_contract_is_minimal(rule):
    every_saved_name_is_used(rule)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_formulas_print(rule):
    for formula in formulas_of(rule).values():
        assert formula.text().count("(") == formula.text().count(")")
        assert formula.latex().count("{") == formula.latex().count("}")
        assert formula.latex().count(r"\left") == formula.latex().count(r"\right")
        assert set(re.findall(r"\\[a-zA-Z]+", formula.latex())) <= KATEX, formula.latex()


def test_case_labels_are_unique_and_cases_are_reproducible():
    for rule in RULES:
        labels = [case.label for case in cases_of(rule)]
        assert len(set(labels)) == len(labels), f"{rule.name}: {labels}"


def test_every_rule_is_compared_with_pytorch_or_says_why_not():
    assert TABLE.keys() | WITHOUT.keys() == REGISTRY.keys()
    assert not TABLE.keys() & WITHOUT.keys()
    known = {(rule.name, case.label) for rule in RULES for case in cases_of(rule)}
    assert OTHERWISE.keys() <= known
