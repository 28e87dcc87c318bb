"""``backlit report``."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.running import TINY, called, data_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from backlit.cli.app import run

    place = tmp_path_factory.mktemp("runs") / "digits"
    assert run(["train", "digits", "--out", str(place), *TINY]) == 0
    return place


def test_it_lies_in_the_run_and_is_whole(capsys, trained):
    out, err = called(capsys, "report", trained)
    text = (trained / "report.html").read_text("utf-8")
    assert str(trained / "report.html") in out
    assert err == ""
    assert 'class="error"' not in text
    assert "softmax_cross_entropy" in text


def test_where_and_which_step(capsys, trained):
    found = data_of(capsys, "report", trained, "--out", "other.html", "--step", "1", "--lang", "zh")
    text = Path("other.html").read_text("utf-8")
    assert found == {"report": "other.html", "bytes": len(text.encode()), "step": 1}
    assert 'data-lang="zh"' in text


def test_a_step_that_is_not_there(capsys, trained):
    _, err = called(capsys, "report", trained, "--step", "100", code=2)
    assert "1 <= step <= 2" in err


def test_a_folder_without_a_run(capsys, tmp_path):
    _, err = called(capsys, "report", tmp_path, code=2)
    assert "BL402" in err


def test_class_weights_are_taken_into_account(capsys):
    called(capsys, "train", "digits", *TINY, "--class-weight", "balanced", "--out", "balanced")
    called(capsys, "report", "balanced")
    assert 'class="error"' not in Path("balanced/report.html").read_text("utf-8")


def test_without_the_data_it_says_so_and_reports_the_rest(capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b,c\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(120)), "utf-8")
    called(capsys, "train", table, "--hidden", "4", "--epochs", "2", "--quiet", "--out", "gone")
    table.unlink()
    out, err = called(capsys, "report", "gone")
    assert "BL" in err
    assert "gone" in out
    assert "BL431" in Path("gone/report.html").read_text("utf-8")
