"""What every command shares: options whose help speaks the language in force, and the answer it gives.

A command is a frozen dataclass: its fields are the options, ``answer()`` does the work. The annotations stay text until
the command is made, so that their help is said in the language chosen on the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from inspect import Parameter, Signature
from typing import Annotated, Any, get_type_hints

from backlit.core.i18n import say


class Language(Enum):
    """The languages that messages come in."""

    en = "en"
    zh = "zh"


@dataclass(frozen=True)
class Answer:
    """What a command found out: as data for ``--json``, and as text (strings and tables) for people."""

    data: Any
    text: tuple[Any, ...] = ()
    code: int = 0
    """The command's exit code."""


def option(key: str, *names: str, **settings: Any) -> Any:
    """An option ``--key`` (or by other ``names``) with the help text ``option_<key>``."""
    import typer

    flags = names or (f"--{key.replace('_', '-')}",)
    return typer.Option(*flags, help=say(f"option_{key}"), **settings)


def argument(key: str) -> Any:
    """A positional argument with the help text ``argument_<key>``."""
    import typer

    return typer.Argument(help=say(f"argument_{key}"), metavar=key.upper(), show_default=False)


@dataclass(frozen=True, kw_only=True)
class Command:
    """Base of the commands."""

    as_json: Annotated[bool, option("json")] = False
    lang: Annotated[Language | None, option("lang", show_default=False)] = None
    words: tuple[str, ...] = ()
    """The command line as it was typed."""

    def answer(self) -> Answer:
        """Do the work; raises BacklitError."""
        raise NotImplementedError


_LAST = ("as_json", "lang")
"""Options that the help page lists after all others."""


def maker_of(kind: type[Command]) -> Callable[..., Command]:
    """A function with the options of ``kind`` as its signature, which makes the command."""
    hints = get_type_hints(kind, include_extras=True)
    own = sorted((f for f in fields(kind) if f.name != "words"), key=lambda f: f.name in _LAST)

    def make(**given: Any) -> Command:
        return kind(**given)

    make.__annotations__ = {f.name: hints[f.name] for f in own}
    make.__signature__ = Signature([_parameter(f, hints[f.name]) for f in own])  # type: ignore[attr-defined]
    return make


def _parameter(option: Any, hint: Any) -> Parameter:
    default = Parameter.empty if option.default is MISSING else option.default
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
