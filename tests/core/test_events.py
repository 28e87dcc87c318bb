"""Listeners hear every event, in order, and cannot change it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from backlit.core.events import Bus, EpochDone, Event, RunEnded, RunStarted, SnapshotSaved, StepDone

EVENTS = [
    RunStarted(step=0, steps=20, epochs=2, samples=100),
    StepDone(step=1, epoch=1, loss=0.5, samples=10, learning_rate=0.1),
    EpochDone(epoch=1, step=10, metrics={"loss": 0.4}),
    SnapshotSaved(step=10, path="snapshots/10.safetensors"),
    RunEnded(step=20, reason="epochs"),
]


def test_every_listener_hears_every_event_in_order():
    heard = []
    bus = Bus([lambda e: heard.append(("first", e))])
    bus.extend([lambda e: heard.append(("second", e))])
    for event in EVENTS:
        bus.emit(event)
    assert heard == [(who, event) for event in EVENTS for who in ("first", "second")]


def test_emit_returns_the_answers_in_order():
    bus = Bus([lambda _e: "stop", lambda _e: None, lambda e: e.step])
    assert bus.emit(EVENTS[-1]) == ["stop", None, 20]


def test_nobody_need_listen():
    assert Bus().emit(EVENTS[0]) == []


def test_two_buses_share_no_listeners():
    one, other = Bus(), Bus()
    one.extend([print])
    assert other.listeners == []


def test_an_error_in_a_listener_is_not_swallowed():
    def fails(_event):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        Bus([fails]).emit(EVENTS[0])


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_an_event_cannot_be_changed(event):
    assert isinstance(event, Event)
    with pytest.raises(FrozenInstanceError):
        setattr(event, fields(event)[0].name, None)
