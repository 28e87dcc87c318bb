"""Messages in English and Chinese, from one catalogue.

The catalogue is every ``*.toml`` file in ``core/messages``. An entry is a table whose fields are either one template
for both languages or a table ``{ en = "…", zh = "…" }``; templates are filled with :meth:`str.format`.
"""

from __future__ import annotations

import locale
import os
import tomllib
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LANGUAGES = ("en", "zh")
_chosen: ContextVar[str | None] = ContextVar("language", default=None)


def language() -> str:
    """The language in force: the one chosen, else ``$BACKLIT_LANG``, else the locale's; ``"en"`` or ``"zh"``."""
    wish = _chosen.get() or os.environ.get("BACKLIT_LANG") or _of_machine() or "en"
    return "zh" if wish.lower().startswith(("zh", "chinese")) else "en"


def _of_machine() -> str | None:
    try:
        return locale.getlocale()[0]
    except ValueError:  # a name that Python cannot take apart, such as zh_Hans_CN
        return locale.setlocale(locale.LC_CTYPE)


@contextmanager
def use_language(lang: str | None) -> Iterator[None]:
    """Speak ``lang`` ("en" or "zh"; None keeps the language in force) inside the ``with`` block."""
    token = _chosen.set(lang or _chosen.get())
    try:
        yield
    finally:
        _chosen.reset(token)


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """All entries by key; a key defined twice is a programming error."""
    entries: dict[str, dict[str, Any]] = {}
    for file in sorted((files("backlit.core") / "messages").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            found = tomllib.loads(file.read_text("utf-8"))
            if twice := entries.keys() & found.keys():
                raise ValueError(f"{file.name}: message keys defined twice: {sorted(twice)}")
            entries |= found
    return entries


def template(key: str, field: str = "text", lang: str | None = None) -> str:
    """The unfilled template of one field of an entry, in ``lang`` or the language in force."""
    entry = catalogue()[key][field]
    return str(entry if isinstance(entry, str) else entry[lang or language()])


def say(key: str, field: str = "text", /, **values: object) -> str:
    """The message ``key`` in the language in force, filled with ``values``."""
    return template(key, field).format(**values)
