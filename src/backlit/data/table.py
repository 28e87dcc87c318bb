"""Reading CSV: cells as text, with the line each row stands in. What the cells mean is decided in columns.py."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backlit.core.errors import FileError, InputError
from backlit.core.names import nearest
from backlit.core.types import Array
from backlit.data.cells import decimal_mark, is_missing

DELIMITERS = "\t;,"
"""Tried in this order: a tab or semicolon in every row is rarely anything else, a comma may be a decimal mark."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of text cells ``cells[N, C]`` under column names."""

    names: tuple[str, ...]
    cells: Array
    lines: Array
    """The line of the file each row ends in, counted from 1."""

    where: str
    """The file, for messages."""

    has_header: bool = True

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, rows: Array) -> Table:
        return replace(self, cells=self.cells[rows], lines=self.lines[rows])

    def column(self, name: str) -> Array:
        """The cells of one column, ``[N]``. InputError that names the columns there are where it is absent."""
        if name not in self.names:
            known = ", ".join(self.names[:40])
            raise InputError(
                "data_columns_absent",
                path=self.where,
                expected=name,
                got=f"{known} ({' / '.join(nearest(name, self.names))}?)",
            )
        return self.cells[:, self.names.index(name)]

    def without(self, names: Collection[str]) -> Table:
        """The table less some columns."""
        kept = [i for i, name in enumerate(self.names) if name not in names]
        return replace(self, names=tuple(self.names[i] for i in kept), cells=self.cells[:, kept])


def read_csv(
    path: str | Path, *, header: bool | None = None, delimiter: str | None = None, known: Collection[str] = ()
) -> Table:
    """Read a CSV file, plain or gzip, UTF-8 with or without a byte order mark.

    ``delimiter`` (comma, semicolon or tab) and ``header`` are found out where None; a first row that holds one of the
    ``known`` names is a header. FileError where the file is absent, damaged, empty or not UTF-8, or a row is ragged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError("data_file_not_found", path=path)
    return parse_csv(unpacked(path.read_bytes(), str(path)), str(path), header=header, delimiter=delimiter, known=known)


def unpacked(data: bytes, where: str) -> bytes:
    """The content of a gzip file; other bytes as they are. FileError where it is damaged."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError("data_file_corrupt", path=where, expected="gzip", got=str(error)) from error


def parse_csv(
    data: bytes, where: str, *, header: bool | None = None, delimiter: str | None = None, known: Collection[str] = ()
) -> Table:
    """The table in the bytes of a CSV file; see :func:`read_csv`."""
    text = _decoded(data, where)
    rows, lines = _rows(text, delimiter or _sniffed(text), where)
    if header is None:
        header = bool(rows) and _is_header(rows, known)
    body = rows[header:]
    if not body:
        raise FileError("data_csv_empty", path=where, got=f"{len(text)} B")
    names = _names(rows[0] if header else [""] * len(rows[0]), where)
    cells = np.empty((len(body), len(names)), dtype=object)
    cells[:] = body
    return Table(names, cells, np.array(lines[header:]), where, header)


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError("data_csv_encoding", path=where, line=line, byte=data[error.start]) from error


def _sniffed(text: str) -> str:
    """The delimiter that makes the first rows equally long; else the one that makes the most cells of the first."""
    head = "\n".join(text.splitlines()[:30])
    widths = {d: [len(row) for row in csv.reader(io.StringIO(head), delimiter=d) if row] or [0] for d in DELIMITERS}
    even = [d for d, found in widths.items() if min(found) == max(found) > 1]
    return even[0] if even else max(reversed(DELIMITERS), key=lambda d: widths[d][0])


def _rows(text: str, delimiter: str, where: str) -> tuple[list[list[str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in filter(None, reader):
            rows.append(row)
            lines.append(reader.line_num)
            if len(row) != len(rows[0]):
                wrong = {"line": reader.line_num, "want": len(rows[0]), "count": len(row), "delimiter": delimiter}
                raise FileError("data_csv_ragged", path=where, **wrong)
    except csv.Error as error:
        raise FileError("data_csv_malformed", path=where, line=reader.line_num, got=str(error)) from error
    return rows, lines


def _is_header(rows: list[list[str]], known: Collection[str]) -> bool:
    """Decide whether the first row names the columns.

    It does where one of its cells is text above numbers, or, in a table of text alone, where its cells are distinct
    and do not come again below.
    """
    first, columns = rows[0], list(zip(*rows[1:201], strict=True))
    if known:
        return bool({cell.strip() for cell in first} & set(known))
    if any(decimal_mark([cell]) for cell in first):
        return False
    if any(decimal_mark(column) and not is_missing(cell) for cell, column in zip(first, columns, strict=False)):
        return True
    return len(set(first)) == len(first) and not any(
        cell in column for cell, column in zip(first, columns, strict=False)
    )


def _names(header: Iterable[str], where: str) -> tuple[str, ...]:
    names = tuple(name.strip() or f"column{i}" for i, name in enumerate(header, 1))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FileError("data_csv_duplicate", path=where, name=twice[0])
    return names
