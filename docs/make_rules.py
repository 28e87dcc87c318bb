"""Writes docs/rules.md and docs/rules.zh.md from the rules themselves.

python docs/make_rules.py
"""

from __future__ import annotations

import inspect
from pathlib import Path

from backlit import rules
from backlit.core.i18n import use_language
from backlit.rules import Rule
from backlit.rules.formula import formulas_of

HERE = Path(__file__).parent
WORDS = {
    "en": {
        "title": "# Rules",
        "lead": "Made from the registry by `python docs/make_rules.py`. The tests evaluate these formulas.",
        "keeps": "kept for backward",
        "nothing": "nothing",
        "constants": "without a gradient",
        "kink": "at the kink",
        "source": "source",
        "none": "no gradient",
    },
    "zh": {
        "title": "# 规则",
        "lead": "由 `python docs/make_rules.py` 从规则注册表生成；测试所计算的正是这些公式。",
        "keeps": "反向传播需保留",
        "nothing": "无",
        "constants": "不求梯度的输入",
        "kink": "不可导点处的约定",
        "source": "出处",
        "none": "没有梯度",
    },
}


def page(lang: str) -> str:
    """The page of all rules, by file."""
    words = WORDS[lang]
    with use_language(lang):
        parts = [words["title"], words["lead"]]
        for file in sorted({module(r) for r in rules.REGISTRY.values()}):
            parts.append(f"## {file}")
            parts += [section(r, words) for r in rules.REGISTRY.values() if module(r) == file]
    return "\n\n".join(parts) + "\n"


def module(rule: Rule) -> str:
    """The file that a rule stands in."""
    return inspect.getmodule(rule.cases).__name__.rsplit(".", 1)[1]


def section(rule: Rule, words: dict[str, str]) -> str:
    """One rule: its call, formulas, what it keeps, its convention and source."""
    call = ", ".join([*rule.inputs, *(f"{k}={v!r}" for k, v in rule.defaults.items())])
    lines = [f"### {rule.name}({call})", "", "```", *(f.text() for f in formulas_of(rule).values()), "```", ""]
    kept = ", ".join(f"`{n}`" for n in rule.saved) or words["nothing"]
    lines.append(f"- {words['keeps']}: {kept}" if rule.backward else f"- {words['none']}")
    if rule.constants:
        lines.append(f"- {words['constants']}: {', '.join(f'`{n}`' for n in rule.inputs if n in rule.constants)}")
    if rule.kink_note:
        lines.append(f"- {words['kink']}: {rule.kink_note}")
    return "\n".join([*lines, f"- {words['source']}: {rule.source}"])


def main() -> None:
    for lang, name in (("en", "rules.md"), ("zh", "rules.zh.md")):
        (HERE / name).write_text(page(lang), "utf-8")


if __name__ == "__main__":
    main()
