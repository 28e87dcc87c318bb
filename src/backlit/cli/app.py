"""The application: finds the language, makes the commands, runs one, and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from backlit.cli import show
from backlit.cli.commands import COMMANDS
from backlit.cli.options import Command, Language, maker_of, option
from backlit.core.errors import BacklitError, FileError, InputError, UnknownNameError
from backlit.core.i18n import LANGUAGES, say, template, use_language
from backlit.core.names import lookup, nearest

UsageError: Any = typer.BadParameter.__mro__[1]
"""The base of what is wrong with a command line; typer shows only its heir."""

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_FAILURES = ("disk_full", "write_failed", "data_absent", "cli_system")
"""Errors of files that are no slip of whoever typed the command."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (``sys.argv`` by default) and return the exit code.

    0: done; 1: a check failed, or the work could not be done; 2: bad input or option; 130: stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with use_language(_language(words)):
        try:
            return _run(words)
        except KeyboardInterrupt:
            show.note(say("cli_stopped_at_once"))
            return INTERRUPTED
        except BrokenPipeError:  # nobody reads any more, as in `backlit … | head`
            return FAILED
        except Exception as error:  # noqa: BLE001  the last line of defence: nobody should read a traceback unasked
            message = error if isinstance(error, BacklitError) else _message_for(error)
            show.error(message.as_dict(), str(message), as_json="--json" in words)
            return _code(message)


def _run(words: list[str]) -> int:
    command = parse(words or ["--help"])
    if command is None:
        return 0
    found = command.answer()
    show.answer(found, as_json=command.as_json)
    return found.code


def parse(words: Sequence[str]) -> Command | None:
    """The command with its options; None where only help or the version was asked for, and has been printed."""
    try:
        found = typer.main.get_command(application()).main(list(words), prog_name="backlit", standalone_mode=False)
    except UsageError as error:
        raise _complaint(error) from None
    return replace(found, words=tuple(words)) if isinstance(found, Command) else None


def application() -> typer.Typer:
    """The commands, their help in the language in force."""
    app = typer.Typer(
        cls=_Group, help=say("help_backlit"), add_completion=False, rich_markup_mode=None, epilog=say("help_epilog")
    )
    app.callback()(_main)
    for name, kind in COMMANDS.items():
        app.command(name, cls=_Command, help=say(f"help_{name}"))(maker_of(kind))
    return app


def _main(
    version: Annotated[bool, option("version", is_eager=True, callback=_version)] = False,  # noqa: FBT002
    lang: Annotated[Language | None, option("lang", show_default=False)] = None,
) -> None:
    del version, lang  # both are seen to before this


def _version(wanted: bool) -> None:  # noqa: FBT001  as typer calls it
    if wanted:
        from backlit import __version__

        show.line(f"backlit {__version__}")
        raise typer.Exit


def _language(words: Sequence[str]) -> str | None:
    """The value of ``--lang``, wherever it stands; it decides how help and errors are said, so it is read first."""
    wishes = [following for word, following in pairwise(words) if word == "--lang"]
    wishes += [word.partition("=")[2] for word in words if word.startswith("--lang=")]
    return next((wish for wish in wishes if wish in LANGUAGES), None)


# --- when something is wrong ----------------------------------------------------------------------------------------


def _code(error: BacklitError) -> int:
    bad_input = isinstance(error, InputError | UnknownNameError | FileError) and error.key not in _FAILURES
    return BAD_INPUT if bad_input else FAILED


def _message_for(error: Exception) -> BacklitError:
    """An error that backlit did not raise itself, as one of its own; with $BACKLIT_DEBUG it is raised as it is."""
    if os.environ.get("BACKLIT_DEBUG"):
        raise error
    if isinstance(error, MemoryError):
        return InputError("cli_memory", got=str(error))
    if isinstance(error, OSError):
        return FileError("cli_system", where=error.filename or "?", got=error.strerror or str(error))
    return BacklitError("cli_unexpected", got=f"{type(error).__name__}: {error}")


def _complaint(error: Any) -> BacklitError:
    """The error of the command-line library as one of ours, which says it in both languages."""
    where, kind = error.ctx.command_path if error.ctx else "backlit", type(error).__name__
    if kind == "NoSuchOption" and error.ctx:
        known = [o for p in error.ctx.command.get_params(error.ctx) for o in p.opts if o.startswith("--")]
        listed = {"known": ", ".join(known), "nearest": " / ".join(nearest(error.option_name, known))}
        return InputError("cli_no_option", where=where, name=error.option_name, **listed)
    if (param := getattr(error, "param", None)) is None:
        return InputError("cli_usage", where=where, got=error.format_message())
    name = param.opts[0] if param.opts[0].startswith("-") else param.metavar
    if kind == "MissingParameter":
        return InputError("cli_missing", where=where, name=name)
    return InputError("cli_value", where=where, name=name, expected=_usage_of(param, error.ctx), got=error.message)


def _usage_of(param: Any, ctx: Any) -> str:
    """``--lr <float>``, as the help page has it."""
    return str((param.get_help_record(ctx) or ("",))[0])


# --- help -----------------------------------------------------------------------------------------------------------


class _Translated:
    """Help whose fixed words are in the language in force too; the library has them in English alone."""

    def get_help(self, ctx: Any) -> str:
        """The help page."""
        text = str(super().get_help(ctx))  # type: ignore[misc]
        pairs = zip(template("help_words", lang="en").split("|"), say("help_words").split("|"), strict=True)
        for english, other in pairs:
            text = text.replace(english, other)
        return text


class _Command(_Translated, TyperCommand):
    pass


class _Group(_Translated, TyperGroup):
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; UnknownNameError with the nearest names where there is none."""
        del ctx
        return lookup(dict(self.commands), cmd_name, "command")
