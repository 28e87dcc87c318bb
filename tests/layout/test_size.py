"""The size of things: short functions, short files, and at least as much test as source."""

from __future__ import annotations

import ast
from statistics import median, quantiles

from layout.sources import ROOT, SRC, modules, nodes, written_lines

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST_FILE = 500


def docstring(function) -> int:
    """Lines that the docstring of a function takes."""
    if ast.get_docstring(function, clean=False) is None:
        return 0
    text = function.body[0]
    return text.end_lineno - text.lineno + 1


def length(function) -> int:
    """Lines of a function, from `def` to its end, without its docstring."""
    return function.end_lineno - function.lineno + 1 - docstring(function)


def longest_first():
    found = [(length(node), f"{path}:{node.lineno} {node.name}") for path, node in nodes(FUNCTIONS)]
    return sorted(found, reverse=True)


def excused() -> str:
    """Whatever the decision records say; a long file must be named there."""
    return "\n".join(p.read_text("utf-8") for p in (ROOT / "docs" / "adr").glob("*.md"))


def test_length_counts_no_docstring():
    function = ast.parse('def f(x):\n    """One.\n\n    Two.\n    """\n    y = x\n    return y\n').body[0]
    assert length(function) == 3


def test_functions_are_short():
    lengths = [n for n, _ in longest_first()]
    assert median(lengths) <= 6, longest_first()[:20]
    assert quantiles(lengths, n=10)[-1] < 25, longest_first()[:20]


def test_a_long_file_has_its_reason_in_a_decision_record():
    counts = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in modules()}
    silent = {path: n for path, n in counts.items() if n > LONGEST_FILE and path not in excused()}
    assert not silent


def test_there_is_as_much_test_as_source():
    source = sum(written_lines(p) for p in SRC.rglob("*.py"))
    tests = sum(written_lines(p) for p in (ROOT / "tests").rglob("*.py"))
    assert tests >= source
