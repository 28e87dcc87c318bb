"""Write the table of speed in both READMEs from benchmarks/results/speed.json.

    python benchmarks/readme.py

It stands between the two comments that name this file; a test compares its figures with benchmarks/results/speed.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from outcomes import Outcome
from workers import OURS, shown

ROOT = Path(__file__).parents[1]
PAGES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
HEADS = {
    "en": "| a step | backlit | best of PyTorch, JAX, scikit-learn | times as fast | memory to the leanest peer's |",
    "zh": "| 一步训练 | backlit | PyTorch、JAX、scikit-learn 中最快者 | 倍数 | 内存与最省者之比 |",
}
WORDS = {
    "character LSTM, 64 steps": "字符级 LSTM，64 步",
    "small GPT, 64 steps": "小型 GPT，64 步",
    " on ": "，",
    "batch": "批量",
    ", ": "，",
}
MARKED = re.compile(r"(<!-- speed: python benchmarks/readme\.py -->\n).*?(<!-- /speed -->)", re.DOTALL)


def table(outcomes: list[Outcome], lang: str) -> str:
    """A row for each workload that has something to be compared with."""
    rows = [row(o, lang) for o in outcomes if OURS in o.best and o.best_peer]
    return "\n".join([HEADS[lang], f"|{'---|' * 5}", *rows]) + "\n"


def row(o: Outcome, lang: str) -> str:
    """Times as in speed.md."""
    peer, title = str(o.best_peer), str(o.workload)
    for en, zh in WORDS.items() if lang == "zh" else ():
        title = title.replace(en, zh)
    cells = (title, shown(o.best[OURS].step), f"{peer} {shown(o.best[peer].step)}", f"{o.ratio(peer):.2f}")
    return f"| {' | '.join(cells)} | {o.memory:.2f} |"


def main() -> None:
    """Both pages."""
    stored = json.loads((ROOT / "benchmarks/results/speed.json").read_text("utf-8"))
    outcomes = [Outcome.of(each) for each in stored["workloads"]]
    for lang, page in PAGES.items():
        text = page.read_text("utf-8")
        page.write_text(MARKED.sub(lambda m, lang=lang: m[1] + table(outcomes, lang) + m[2], text), "utf-8")


if __name__ == "__main__":
    main()
