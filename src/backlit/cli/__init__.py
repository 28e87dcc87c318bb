"""The command line: an adapter without mathematics or training logic."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command ``backlit``."""
    from backlit.cli.app import run

    run()
