"""The pages of rules are those that the registry gives, and name every rule."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from backlit import rules

DOCS = Path(__file__).parents[2] / "docs"
MAKER = runpy.run_path(str(DOCS / "make_rules.py"))


@pytest.mark.parametrize(("lang", "name"), [("en", "rules.md"), ("zh", "rules.zh.md")])
def test_the_page_is_up_to_date(lang, name):
    assert (DOCS / name).read_text("utf-8") == MAKER["page"](lang), "run: python docs/make_rules.py"


def test_every_rule_has_its_section_with_formulas_and_source():
    text = MAKER["page"]("en")
    for rule in rules.REGISTRY.values():
        section = text.split(f"### {rule.name}(")[1].split("###")[0]
        assert rule.source in section
        assert section.count(" = ") >= len(rule.formulas)
        assert all(f"`{kept}`" in section for kept in rule.saved)
