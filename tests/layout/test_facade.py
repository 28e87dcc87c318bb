"""The public names are the ones in facade.txt: to add or take one away is a decision, not an accident."""

from __future__ import annotations

from pathlib import Path

import backlit

SNAPSHOT = Path(__file__).with_name("facade.txt")


def test_public_names_are_the_agreed_ones():
    assert sorted(backlit.__all__) == SNAPSHOT.read_text("utf-8").split()


def test_every_public_name_is_there():
    assert not [name for name in backlit.__all__ if not hasattr(backlit, name)]
