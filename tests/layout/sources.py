"""The repository as the tests of its layout see it."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "backlit"


@cache
def modules(folder: Path = SRC) -> dict[str, ast.Module]:
    """The syntax tree of every Python file below ``folder``, by its path from the root."""
    return {str(p.relative_to(ROOT)): ast.parse(p.read_text("utf-8")) for p in sorted(folder.rglob("*.py"))}


def nodes(kind: type | tuple[type, ...], folder: Path = SRC):
    """(path, node) for every node of that kind below ``folder``."""
    return [(path, node) for path, tree in modules(folder).items() for node in ast.walk(tree) if isinstance(node, kind)]


def written_lines(path: Path) -> int:
    """Lines of a file that are not blank."""
    return sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())


def repository_files() -> list[Path]:
    """Files that are committed, or would be by `git add --all`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]
