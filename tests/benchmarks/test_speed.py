"""The harness of the speed benchmark: workers, ratios, bars, and the report it keeps."""

from __future__ import annotations

import json
import sys

import pytest

MACHINE = {
    "date": "2026-01-02", "processor": "a chip", "python": "3.11", "cores": 2, "load": 0.0, "rounds": 3, "seconds": 0.1,
}  # fmt: skip


def worker(peer, rounds, threads=1, memory=100, losses=(1.0, 0.5)):
    from workers import Worker

    facts = {"losses": list(losses), "versions": {"a": "1"}, "how": "fast", "import_bytes": 50_000_000}
    return Worker(peer, threads, facts, rounds, memory * 1_000_000)


def outcome(*workers, name="mnist128"):
    from outcomes import Outcome
    from workloads import WORKLOADS

    return Outcome(WORKLOADS[name], list(workers), MACHINE)


def test_the_better_thread_count_counts_and_the_ratio_is_the_median_over_the_rounds():
    o = outcome(
        worker("backlit_fast", [1.0, 2.0, 1.0], 1), worker("backlit_fast", [3.0, 3.0, 3.0], 2),
        worker("jax_jit", [2.0, 5.0, 4.0], 1), worker("torch_eager", [9.0, 9.0, 9.0], 2), worker("jax_loop", [0.5] * 3),
    )  # fmt: skip
    assert (o.best["backlit_fast"].threads, o.best_peer) == (1, "jax_jit")
    assert o.ratio("jax_jit") == 2.5
    assert o.ok  # the bar is 2


def test_a_bar_that_is_missed_is_marked():
    o = outcome(worker("backlit_fast", [1.0]), worker("jax_jit", [1.9]))
    assert not o.ok
    assert "✗ 1.90" in o.summary()


def test_losses_that_do_not_agree_are_marked():
    o = outcome(worker("backlit_fast", [1.0]), worker("jax_jit", [9.0], losses=(1.0, 0.502)))
    assert not o.ok
    assert "do not agree" in o.details()


def test_memory_is_set_against_the_leanest_peer_and_the_imports():
    o = outcome(worker("backlit_fast", [1.0], memory=90), worker("jax_jit", [9.0], memory=300),
                worker("scikit_learn", [9.0], memory=100))  # fmt: skip
    assert o.leanest.peer == "scikit_learn"
    assert o.memory == pytest.approx(0.9)
    assert "| 90 MB | 50 MB |" in o.details()


def test_peers_without_a_network_of_the_kind_are_left_out():
    from workers import ALL, fitting
    from workloads import WORKLOADS

    assert fitting(WORKLOADS["tiny"], ALL) == list(ALL)
    assert set(ALL) - set(fitting(WORKLOADS["gpt"], ALL)) == {"scikit_learn", "jax_loop", "products"}


def test_a_peer_that_is_missing_is_named_in_the_report():
    from outcomes import report
    from workers import Worker

    o = outcome(worker("backlit_fast", [1.0]), worker("jax_jit", [3.0]), Worker("torch_eager", 1, {"missing": "no x"}))
    assert "- torch_eager: not measured: no x." in report([o], {})


def test_the_report_is_made_in_parts(tmp_path):
    import speed

    first = outcome(worker("backlit_fast", [1.0]), worker("jax_jit", [3.0]))
    out = tmp_path / "speed.md"
    speed.write(out, [first], {"import numpy": [0.1]})
    kept = speed.Outcome.of(json.loads(out.with_suffix(".json").read_text("utf-8"))["workloads"][0])
    assert kept.summary() == first.summary()
    assert kept.details() == first.details()
    assert "2026-01-02" in out.read_text("utf-8")


def test_a_round_of_real_workers(tmp_path, monkeypatch):
    """Two processes take turns; peaks are above what the imports took."""
    import speed

    out = tmp_path / "speed.md"
    words = "--workload tiny --peers backlit_reference,products --rounds 1 --seconds 0.001 --no-starts --out"
    monkeypatch.setattr(sys, "argv", ["speed.py", *words.split(), str(out)])
    assert speed.main() == 0
    workers = json.loads(out.with_suffix(".json").read_text("utf-8"))["workloads"][0]["workers"]
    assert [(w["peer"], w["threads"]) for w in workers] == [("backlit_reference", 2), ("products", 1), ("products", 2)]
    for w in workers:
        assert len(w["rounds"]) == 1
        assert 10_000_000 < w["facts"]["import_bytes"] <= w["peak_bytes"]


def test_a_worker_that_fails_says_why():
    from workers import Worker
    from workloads import WORKLOADS

    failing = Worker("scikit_learn", 1).start(WORKLOADS["gpt"])
    failing.facts = failing.answer()
    failing.stop()
    assert "failed" in failing.facts or "missing" in failing.facts
    assert not failing.ready


@pytest.mark.parametrize(("step", "block"), [(10.0, 1), (1.0, 2), (0.1, 16)])
def test_a_block_is_an_epoch_or_a_quarter_of_a_round_or_a_step(step, block, monkeypatch):
    import speed_worker

    class Clocked:
        now = 0.0

        def run(self, n):
            self.now += step * n

    peer = Clocked()
    monkeypatch.setattr(speed_worker.time, "perf_counter", lambda: peer.now)
    assert speed_worker.block_of(peer, 16, 8.0) == block


def test_times_are_shown_with_three_digits():
    from workers import megabytes, shown

    assert [shown(s) for s in (2.449e-6, 0.0123, 12.34)] == ["2.45 µs", "12.3 ms", "12.3 s"]
    assert [megabytes(b) for b in (0, 12_400_000)] == ["–", "12 MB"]
