"""What a derivation is made of: blocks of a document, in one language, without a format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from backlit.glass.derive_equations import Source


@dataclass(frozen=True)
class Heading:
    """A heading of level 1, 2 or 3."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; formulas stand between dollar signs, names of the program between backquotes."""

    text: str


@dataclass(frozen=True)
class Formulas:
    """Lines of (left side, relation, right side) in LaTeX, set below each other at the relation."""

    lines: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Table:
    """Cells are texts like those of a paragraph."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Code:
    """The source lines of the formulas above."""

    title: str
    source: Source
    above: str
    """What is said where the same lines were shown before."""


Block: TypeAlias = Heading | Text | Formulas | Table | Code


def formulas(*lines: tuple[str, ...]) -> Formulas:
    """Each line is (left, right) or a chain (left, right, right, …) broken before every equals sign."""
    found: list[tuple[str, str, str]] = []
    for left, *rights in lines:
        found += [(left if i == 0 else "", "=", right) for i, right in enumerate(rights)]
    return Formulas(tuple(found))


def markdown(blocks: tuple[Block, ...]) -> str:
    """The document as Markdown with LaTeX between dollar signs."""
    shown: set[str] = set()
    return "\n\n".join(filter(None, (_markdown(b, shown) for b in blocks))) + "\n"


def _markdown(block: Block, shown: set[str]) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Formulas(lines):
            rows = " \\\\\n".join(f"{left} &{sign} {right}" for left, sign, right in lines)
            return f"$$\n\\begin{{aligned}}\n{rows}\n\\end{{aligned}}\n$$"
        case Table(head, rows):
            table = [head, tuple("---" for _ in head), *rows]
            return "\n".join(f"| {' | '.join(row)} |" for row in table)
        case Code(title, source, above):
            return _details(title, source, above, shown)


def _details(title: str, source: Source, above: str, shown: set[str]) -> str:
    if source.place in shown:
        return f"<sub>{above}</sub>"
    shown.add(source.place)
    return f"<details><summary>{title}</summary>\n\n```python\n{source.code}\n```\n\n</details>"
