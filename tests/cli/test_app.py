"""Help, languages, exit codes, and what a person reads when something is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from backlit import __version__
from backlit.cli import app, summary
from backlit.cli.commands import COMMANDS
from backlit.core.errors import FileError, NumericError
from cli.running import COMMAND, TINY, called, data_of, environment, finished, start

CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_has_help_in_both_languages(capsys, command):
    english, _ = called(capsys, *command, "--help")
    chinese, _ = called(capsys, *command, "--help", "--lang", "zh")
    assert english.startswith("Usage: backlit")
    assert not CHINESE.search(english)
    for entry in re.split(r"\n  (?=\S)", chinese)[1:]:
        assert CHINESE.search(entry), entry
    assert "Show this message" not in chinese


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_language_and_json(capsys, name):
    text, _ = called(capsys, name, "--help")
    assert "--lang" in text
    assert "--json" in text


def test_the_environment_chooses_the_language_and_the_option_overrides_it(capsys, monkeypatch):
    monkeypatch.setenv("BACKLIT_LANG", "zh")
    assert CHINESE.search(called(capsys, "--help")[0])
    assert not CHINESE.search(called(capsys, "--help", "--lang=en")[0])


def test_no_arguments_give_the_help(capsys):
    assert called(capsys) == called(capsys, "--help")


def test_version(capsys):
    assert called(capsys, "--version")[0] == f"backlit {__version__}\n"


def test_help_loads_nothing_heavy():
    probe = "import sys; from backlit.cli.app import run; run(['train', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not {"numpy", "rich", "safetensors", "pooch", "backlit.train.fit"} & loaded


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_is_quick(words):
    """It takes 0.2 s on an idle machine; the best of five runs may take three times as long."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([*COMMAND, *words], env=environment(), capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.6, times


BAD = {
    "unknown command": (["trian", "digits"], "BL001", "did you mean train"),
    "unknown option": (["train", "moons", "--hiden", "3"], "BL702", "--hidden"),
    "no data": (["train"], "BL703", "DATA"),
    "not a number": (["train", "moons", "--lr", "fast"], "BL704", "expected: --lr"),
    "out of range": (["train", "moons", "--epochs", "0"], "BL704", "--epochs"),
    "no value": (["train", "moons", "--lr"], "BL701", "requires an argument"),
    "one word too many": (["train", "moons", "circles"], "BL701", "circles"),
    "no such language": (["train", "moons", "--lang", "fr"], "BL704", "en|zh"),
    "unknown data": (["train", "moon"], "BL001", "did you mean moons"),
    "no such file": (["train", "nowhere.csv"], "BL501", "nowhere.csv"),
    "unknown optimizer": (["train", "moons", "--quiet", "--optimizer", "adan"], "BL001", "did you mean adam"),
    "unknown schedule": (["train", "moons", "--quiet", "--schedule", "cosin"], "BL001", "did you mean cosine"),
    "unknown activation": (["train", "moons", "--quiet", "--activation", "rely"], "BL001", "did you mean relu"),
    "unknown loss": (["train", "moons", "--quiet", "--loss", "mes"], "BL001", "did you mean mse"),
    "unknown engine": (["train", "moons", "--quiet", "--engine", "gpu"], "BL001", "auto"),
    "widths that are none": (["train", "moons", "--hidden", "3,x"], "BL706", "128,64"),
    "no units": (["train", "moons", "--quiet", "--hidden", "0"], "BL303", "1, 2, 3"),
    "learning rate 0": (["train", "moons", "--quiet", "--lr", "0"], "BL801", "0 < learning_rate"),
    "clip at 0": (["train", "moons", "--quiet", "--clip", "0"], "BL801", "0 < limit"),
    "target of no table": (["train", "moons", "--target", "x1"], "BL708", "--target"),
    "class weights": (["train", "moons", "--quiet", "--class-weight", "equal"], "BL709", "balanced"),
    "no run": (["check", "runs/nowhere"], "BL402", "run.json"),
    "no run to sum up": (["summary", "runs/nowhere"], "BL402", "run.json"),
    "no run to predict with": (["predict", "runs/nowhere", "x.csv"], "BL402", "run.json"),
}


@pytest.mark.parametrize("words", [words for words, *_ in BAD.values()], ids=BAD)
def test_what_is_wrong_is_said_and_the_exit_code_is_2(capsys, words):
    code, hint = next((code, hint) for w, code, hint in BAD.values() if w is words)
    out, err = called(capsys, *words, code=2)
    assert out == ""
    assert err.count(f"[{code}]") == 1
    assert hint in err
    for label in ("expected:", "got:", "fix:"):
        assert label in err


@pytest.mark.parametrize("words", [words for words, *_ in BAD.values()], ids=BAD)
def test_the_same_in_chinese_and_as_json(capsys, words):
    code = next(code for w, code, _ in BAD.values() if w is words)
    _, err = called(capsys, *words, "--lang=zh", code=2) if "fr" not in words else ("", "对策")
    assert "对策" in err
    if words[-1] != "--lr":
        error = data_of(capsys, *words, code=2)["error"]
        assert error["code"] == code
        assert set(error) == {"code", "problem", "expected", "got", "fix"}


def test_an_error_in_a_process_of_its_own(tmp_path):
    done = finished("train", "moon", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("[BL001]")


def broken(error):
    def answer(_):
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("a slip"), 1),
        (NumericError("not_finite_step", where="loss", step=3, snapshot="-", got="loss = nan"), 1),
        (FileError("disk_full", where="run.json", size=3, got="no space"), 1),
        (FileError("file_missing", where="m.safetensors", got="nothing"), 2),
        (PermissionError(13, "Permission denied", "m.safetensors"), 1),
        (MemoryError("Unable to allocate 182. TiB"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(capsys, monkeypatch, error, code):
    monkeypatch.setattr(summary, "answer", broken(error))
    out, err = called(capsys, "summary", "moons", code=code)
    assert out == ""
    assert err
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_one(capsys, tmp_path):
    (tmp_path / "file").write_text("mine", "utf-8")
    _, err = called(capsys, "train", "moons", *TINY, "--out", "file/run", code=1)
    assert "file/run" in err
    assert (tmp_path / "file").read_text("utf-8") == "mine"


def test_a_run_that_explodes_names_step_and_snapshot(capsys):
    words = ("--optimizer", "sgd", "--lr", "1e30", "--schedule", "constant")
    _, err = called(capsys, "train", "moons", *TINY, "--epochs", "30", *words, code=1)
    assert "BL401" in err
    assert re.search(r"runs/moons/snapshots/step-\d{8}.safetensors", err)


def test_an_error_nobody_foresaw_is_raised_for_whoever_asks(capsys, monkeypatch):
    monkeypatch.setattr(summary, "answer", broken(RuntimeError("a slip")))
    _, err = called(capsys, "summary", "moons", code=1)
    assert "RuntimeError: a slip" in err
    assert "BACKLIT_DEBUG" in err
    monkeypatch.setenv("BACKLIT_DEBUG", "1")
    with pytest.raises(RuntimeError, match="a slip"):
        app.run(["summary", "moons"])


@pytest.mark.parametrize("words", [["--help"], ["summary", "moons"], ["summary", "moons", "--json"]])
def test_a_reader_that_leaves_is_no_disaster(tmp_path, words):
    """`backlit … | head -0`."""
    process = start(*words, cwd=tmp_path)
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_output_is_plain_where_nobody_sits_at_a_terminal(tmp_path):
    train = finished("train", "moons", *TINY[:-1], "--confusion", cwd=tmp_path)
    check = finished("check", "runs/moons", cwd=tmp_path)
    assert (train.returncode, check.returncode) == (0, 0)
    assert "\x1b" not in train.stdout + train.stderr + check.stdout
    assert re.search(r"^epoch 1/2  loss \d", train.stderr, re.MULTILINE)


def test_characters_that_the_terminal_lacks_become_question_marks(tmp_path):
    done = finished("train", "moons", *TINY, "--lang", "zh", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "runs/moons" in done.stdout


def test_summary(capsys):
    found = data_of(capsys, "summary", "digits", "--hidden", "16", "--batchnorm", "--dropout", "0.1")
    assert [layer["layer"] for layer in found["layers"]][:2] == ["dense1", "batchnorm1"]
    assert found["parameters"] == 64 * 16 + 16 + 2 * 16 + 16 * 10 + 10


def test_summary_of_a_run_is_that_of_its_network(capsys):
    called(capsys, "train", "moons", *TINY)
    out, _ = called(capsys, "summary", "runs/moons")
    assert out == called(capsys, "summary", "moons", "--hidden", "8")[0]


def test_summary_of_no_hidden_layer(capsys):
    assert data_of(capsys, "summary", "moons", "--hidden", "none")["parameters"] == 2 * 2 + 2


def test_json_holds_no_nan(capsys):
    from backlit.cli import show

    assert json.loads(show.dumps({"a": float("nan"), "b": [float("inf"), 1.5], "c": (2,)})) == {
        "a": None,
        "b": [None, 1.5],
        "c": [2],
    }
