"""engine="auto": which engine trains, the reason where it is not the fast one, and that both are told to the person."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import backlit as bl
from backlit.core.events import Notice
from backlit.train import engine

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 40)
LONG = 10**7


def graph(model=None, batch=1):
    model = (model or bl.Sequential(bl.Dense(8, "relu"), bl.Dense(3))).build((6,), seed=0)
    loss = bl.SoftmaxCrossEntropy()
    return model.graph((((batch, 6), "float32"),), training=True, loss=loss, target=((batch,), "int64"))


def choose(steps=LONG, batch_size=10, accumulate=1, model=None):
    return engine.chosen(graph(model), batch_size=batch_size, steps=steps, accumulate=accumulate)


def fit(**options):
    settings = {"loss": "softmax_cross_entropy", "epochs": 2, "batch_size": 8, "progress": False}
    return bl.fit(bl.Sequential(bl.Dense(8, "relu"), bl.Dense(3)), (X, Y), **settings | options)


def test_a_long_run_is_the_fast_engine_s():
    pytest.importorskip("numba")
    assert choose() == ("fast", "")


def test_a_short_run_is_the_reference_engine_s_and_needs_no_excuse():
    assert choose(steps=10) == ("reference", "")


def test_accumulated_mini_batches_count_and_are_no_reason():
    pytest.importorskip("numba")
    once = next(10**k for k in range(8) if choose(steps=10**k)[0] == "fast")
    assert choose(steps=once // 10) == ("reference", "")
    assert choose(steps=once // 10, accumulate=10) == ("fast", "")


def test_without_numba_the_reference_engine_trains_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    chosen, reason = choose()
    assert chosen == "reference"
    assert "pip install numba" in reason


def test_the_estimate_grows_with_the_batch_and_the_network():
    small, wide = graph(), graph(bl.Sequential(bl.Dense(800, "relu"), bl.Dense(3)))
    assert engine.seconds(small, 10) < engine.seconds(small, 10_000) < engine.seconds(wide, 10_000)


def test_a_run_says_why_it_has_the_reference_engine(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    heard = []
    run = fit(engine="auto", callbacks=[heard.append])
    assert [e.text for e in heard if isinstance(e, Notice)] == [engine.say("engine_without_numba")]
    assert run.settings.engine == "reference"


def test_compiling_is_announced_once(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    from backlit.engines.fast import program

    monkeypatch.setattr(program.Program, "waiting", lambda _: 14)
    heard = []
    fit(engine="fast", callbacks=[heard.append])
    assert [e.text for e in heard if isinstance(e, Notice)] == ["compiling 14 kernels, once"]


def test_a_notice_is_a_line_of_the_progress(capsys):
    from backlit.cli.progress import ProgressBar

    with ProgressBar(sys.stderr) as bar:
        bar(Notice("compiling 14 kernels, once"))
    assert capsys.readouterr().err == "compiling 14 kernels, once\n"


def test_what_was_chosen_is_recorded_and_a_resumed_run_keeps_it(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    monkeypatch.setattr(engine, "QUICK", 0.0)
    fit(engine="auto", run_dir=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text("utf-8"))["settings"]["engine"] == "fast"
    monkeypatch.setattr(engine, "QUICK", 1e9)
    assert fit(engine="auto", run_dir=tmp_path, resume=True, epochs=3).settings.engine == "fast"


def test_the_thread_count_is_recorded_and_a_resumed_run_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKLIT_THREADS", "3")
    fit(run_dir=tmp_path)
    monkeypatch.setenv("BACKLIT_THREADS", "1")
    assert fit(run_dir=tmp_path, resume=True, epochs=3).settings.threads == 3
    assert bl.open_run(tmp_path, data=(X, Y)).settings.threads == 3
