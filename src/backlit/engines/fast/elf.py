"""Object code put into memory where Linux runs on x86-64: a linker for what kernels are, functions and constants.

Sections are laid side by side and the addresses that code refers to are written into it. What would need more than
that, such as variables, is refused: kernels have nothing of the kind. LLVM can do the same for every system and any
code, but takes 40 MB of memory to.

Source: System V Application Binary Interface, chapter 4 (object files), and its AMD64 supplement, section 4.4.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from backlit.engines.fast import pointers

Array = Any

_SECTION = np.dtype(
    [("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("address", "<u8"), ("offset", "<u8"), ("size", "<u8"),
     ("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entry", "<u8")]
)  # fmt: skip
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_REFERENCE = np.dtype([("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_MACHINE, _X86_64 = slice(18, 20), 62
_WRITE, _IN_MEMORY = 1, 2
_SYMBOLS, _REFERENCES, _ZEROS = 2, 4, 8
_UNDEFINED = 0
_KINDS = {1: (8, False), 2: (4, True), 4: (4, True), 10: (4, False), 11: (4, False), 24: (8, True)}
"""R_X86_64_64, PC32, PLT32, 32, 32S, PC64: bytes, and whether it is the distance from where it is written."""

_APART = 448
"""Functions that all began with a page would lie on the same few lines of the cache."""
_kept: list[Any] = []
"""What has been linked stays for as long as the process: threads may be running it."""


def can_link(code: bytes) -> bool:
    """Whether this is object code that :func:`linked` takes, here."""
    here = sys.platform == "linux" and platform.machine() == "x86_64"
    return here and code[:5] == b"\x7fELF\x02" and int.from_bytes(code[_MACHINE], "little") == _X86_64


def linked(code: bytes, unit: str, known: Mapping[str, int]) -> int:
    """The address of the function ``unit`` of object code that refers to ``known`` addresses, or C's, by name.

    Raises NotImplementedError where the code needs what this linker has not, LookupError where it has no such function
    or refers to something unknown, OSError where the system lets no code into memory.
    """
    found = _ObjectCode(code)
    if unit not in found.names:
        raise LookupError(f"object code has no function {unit!r}")
    memory = mmap.mmap(-1, found.size)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    found.put(memory, start, known)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(found.size), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the system lets no compiled code into memory")
    _kept.append(memory)
    return found.address(found.names.index(unit), start, known)


class _ObjectCode:
    def __init__(self, code: bytes) -> None:
        self.code = code
        first, count = (int.from_bytes(code[at], "little") for at in (slice(40, 48), slice(60, 62)))
        self.sections = np.frombuffer(code, _SECTION, count, first)
        if any(s["flags"] & _WRITE and s["size"] for s in self.sections):
            raise NotImplementedError("object code with variables that are written to")
        (table,) = self.sections[self.sections["type"] == _SYMBOLS]
        self.symbols, strings = self._entries(table, _SYMBOL), int(self.sections[table["link"]]["offset"])
        self.names = [self._name(strings + int(offset)) for offset in self.symbols["name"]]
        self.places, self.size = self._side_by_side()

    def _entries(self, section: Array, kind: np.dtype[Any]) -> Array:
        return np.frombuffer(self.code, kind, int(section["size"]) // kind.itemsize, int(section["offset"]))

    def _name(self, at: int) -> str:
        return self.code[at : self.code.index(b"\0", at)].decode()

    def _side_by_side(self) -> tuple[dict[int, int], int]:
        """(place of each section that is needed in memory, bytes in all)."""
        places, end = {}, _APART * len(_kept) % mmap.PAGESIZE
        for number, section in enumerate(self.sections):
            if section["flags"] & _IN_MEMORY:
                align = max(int(section["align"]), 1)
                places[number] = -(-end // align) * align
                end = places[number] + int(section["size"])
        return places, max(end, 1)

    def put(self, memory: mmap.mmap, start: int, known: Mapping[str, int]) -> None:
        """Copy the sections and write into them what they refer to."""
        for number, place in self.places.items():
            s = self.sections[number]
            if s["type"] != _ZEROS:
                memory[place : place + int(s["size"])] = self.code[int(s["offset"]) : int(s["offset"] + s["size"])]
        for s in self.sections[self.sections["type"] == _REFERENCES]:
            if (section := int(s["info"])) in self.places:
                for reference in self._entries(s, _REFERENCE):
                    at = self.places[section] + int(reference["offset"])
                    self._fill_in(memory, start, at, reference, known)

    def _fill_in(self, memory: mmap.mmap, start: int, at: int, reference: Array, known: Mapping[str, int]) -> None:
        kind = int(reference["kind"])
        if kind not in _KINDS:
            raise NotImplementedError(f"a reference of kind {kind}")
        size, distance = _KINDS[kind]
        value = self.address(int(reference["symbol"]), start, known) + int(reference["addend"])
        value -= start + at if distance else 0
        memory[at : at + size] = value.to_bytes(size, "little", signed=value < 0)

    def address(self, symbol: int, start: int, known: Mapping[str, int]) -> int:
        """Where a symbol is, in memory that begins at ``start``."""
        section, name = int(self.symbols["section"][symbol]), self.names[symbol]
        if section == _UNDEFINED:
            return known[name] if name in known else pointers.of_library(name)
        if section not in self.places:
            raise NotImplementedError(f"object code refers to {name!r}, which lies in no section")
        return start + self.places[section] + int(self.symbols["value"][symbol])
