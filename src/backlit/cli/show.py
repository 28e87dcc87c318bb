"""Output: results on standard output, remarks and errors on standard error, plain where nobody sits at a terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from backlit.cli.options import Answer


def answer(found: Answer, *, as_json: bool) -> None:
    """Print what a command found out."""
    if as_json:
        line(dumps(found.data))
        return
    for part in found.text:
        line(part) if isinstance(part, str) else _print_rich(part)


def error(data: dict[str, str], text: str, *, as_json: bool) -> None:
    """Print an error: on standard error, or as JSON on standard output."""
    if as_json:
        line(dumps({"error": data}))
    else:
        note(text)


def line(text: str) -> None:
    """One line of results."""
    print(_speakable(text, sys.stdout), flush=True)  # noqa: T201  this is where printing happens


def note(text: str) -> None:
    """One line beside the results."""
    print(_speakable(text, sys.stderr), file=sys.stderr, flush=True)  # noqa: T201


def _speakable(text: str, stream: Any) -> str:
    """``text`` with ``?`` for what the stream's encoding does not have (δ in a code page of the last century)."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def dumps(data: Any) -> str:
    """JSON; numbers that are not finite become null."""
    return json.dumps(_plain(data), ensure_ascii=False, indent=2, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, words: int = 0) -> Any:
    """A table for :class:`Answer`: the first ``left`` and last ``words`` columns to the left, numbers to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i < left or i >= len(columns) - words else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def _print_rich(part: Any) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    console = Console(file=sys.stdout, width=width, highlight=False, emoji=False, markup=False)
    console.print(part)
