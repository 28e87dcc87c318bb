"""What ``--json`` prints, command by command: keys, types and that the parts agree; the same in either language."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import backlit as bl
from backlit.cli.app import run
from backlit.core.errors import FileError, NumericError
from cli.running import called

NUMBER = (int, float)
WORK = {"flops": int, "read": int, "written": int, "bytes": int, "intensity": NUMBER, "seconds": None, "gflops": None}
STEP = {"step": int, "loss": float, "samples": [int]}
RECEIPT = {
    "entry": str, "rule": ..., "formula": ..., "latex": ..., "numbers": ..., "value": NUMBER, "exact": ...,
    "recomputed_equal": bool, "rounding": ..., "steps": ...,
    "terms": [{"label": str, "value": NUMBER, "share": NUMBER, "operands": ...}],
}  # fmt: skip
SCHEMAS = {
    "explain": STEP | {"ok": bool, "up": [RECEIPT], "down": [RECEIPT], "end": {"entry": str, "name": str}},
    "trace": STEP | {"out": None, "values": ...},
    "cost": {
        "model": str, "batch_size": int, "dtype": str, "loss": str, "optimizer": str,
        "totals": {"forward": WORK, "backward": WORK, "update": WORK},
        "nodes": [{"name": str, "rule": str, "forward": WORK, "backward": WORK}],
        "updates": [{"parameter": str} | WORK], "kept": ..., "memory": ...,
    },
    "derive": {
        "title": str, "lang": str, "worst": float, "markdown": str,
        "entries": [{"name": str, "index": [int], "formula": NUMBER, "stored": NUMBER}],
    },
    "summary": {"layers": ..., "parameters": int},
    "predict": {"predictions": [{"sample": int, "digit": str}]},
    "check": ...,
}  # fmt: skip
EXTRA = {"explain": ("dense1.W[1,2]",), "predict": ("digits",)}


FOUND = {}
"""What commands printed: they change nothing that another reads."""


def mismatch(value, schema, at="$"):
    """The first place where ``value`` is not as described; '' where there is none."""
    if schema is ...:
        return ""
    if isinstance(schema, dict):
        if not isinstance(value, dict) or not schema.keys() <= value.keys():
            return f"{at}: {value!r}"
        return next(filter(None, (mismatch(value[k], s, f"{at}.{k}") for k, s in schema.items())), "")
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"{at}: {value!r}"
        return next(filter(None, (mismatch(v, schema[0], f"{at}[{i}]") for i, v in enumerate(value))), "")
    fits = value is None if schema is None else isinstance(value, schema) and (schema is bool or value is not True)
    return "" if fits else f"{at}: {value!r}"


def strict(text):
    def refused(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refused)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("schemas") / "run"
    words = ("--size", "60", "--hidden", "6", "--epochs", "2", "--batch-size", "30", "--quiet", "--json")
    assert run(["train", "digits", "--out", str(place), *words]) == 0
    return place


def found(capsys, trained, name, *more, lang="en", code=0):
    words = (name, trained, *EXTRA.get(name, ()), *more, "--json", "--lang", lang)
    if words not in FOUND:
        out, err = called(capsys, *words, code=code)
        assert err == ""
        FOUND[words] = strict(out)
    return FOUND[words]


def test_a_schema_that_does_not_fit_is_noticed():
    assert mismatch({"a": 1, "b": [True]}, {"a": int, "b": [bool]}) == ""
    assert mismatch({"a": "1"}, {"a": int}).startswith("$.a")
    assert mismatch({"a": True}, {"a": int}).startswith("$.a")
    assert mismatch({"b": [{"c": 1}, {}]}, {"b": [{"c": int}]}).startswith("$.b[1]")
    assert mismatch({}, {"a": ...})


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_data_are_as_described(capsys, trained, name, lang):
    assert mismatch(found(capsys, trained, name, lang=lang), SCHEMAS[name]) == ""


def numbers_in(value):
    if isinstance(value, dict):
        return [n for k in sorted(value) for n in numbers_in(value[k])]
    if isinstance(value, list):
        return [n for v in value for n in numbers_in(v)]
    return [value] if isinstance(value, NUMBER) else []


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_language_changes_no_number(capsys, trained, name):
    one, other = (found(capsys, trained, name, lang=lang) for lang in ("en", "zh"))
    assert numbers_in(one) == numbers_in(other)
    assert one.keys() == other.keys()


# --- the parts agree ------------------------------------------------------------------------------------------------


def test_terms_of_a_receipt_sum_to_its_value(capsys, trained):
    """Of ∂L/∂W, a sum over the samples: to float32's rounding the terms make it up, and the shares make one."""
    data = found(capsys, trained, "explain")
    gradient = next(r for r in data["up"] if r["entry"] == "∂dense1.W[1,2]")
    assert sum(t["value"] for t in gradient["terms"]) == pytest.approx(gradient["value"], rel=1e-4, abs=1e-8)
    entries = [r["entry"] for r in data["up"]]
    assert entries[0] == "Δdense1.W[1,2]"
    assert entries[-1] == "loss"
    assert data["up"][-1]["value"] == data["loss"]


@pytest.mark.parametrize("step", [1, 2, 4])
def test_the_step_asked_for_is_the_one_told(capsys, trained, step):
    opened = bl.open_run(trained)
    for name in ("explain", "trace"):
        data = found(capsys, trained, name, "--step", step)
        assert data["step"] == step
        assert len(data["samples"]) == 30
        assert set(data["samples"]) <= set(range(60))
    assert opened.step == 4


def test_totals_of_the_ledger_are_sums_of_its_rows(capsys, trained):
    data = found(capsys, trained, "cost")
    for way in ("forward", "backward"):
        for part in ("flops", "read", "written"):
            assert data["totals"][way][part] == sum(n[way][part] for n in data["nodes"] if n[way])
    for part in ("flops", "read", "written"):
        assert data["totals"]["update"][part] == sum(u[part] for u in data["updates"])
    assert {u["parameter"] for u in data["updates"]} == set(bl.open_run(trained).model.params)


def test_flops_grow_with_the_batch(capsys, trained):
    small, large = (found(capsys, trained, "cost", "--batch-size", n)["totals"] for n in (10, 30))
    assert large["forward"]["flops"] == pytest.approx(3 * small["forward"]["flops"], rel=0.01)
    assert large["update"] == small["update"]


def test_the_derivation_agrees_with_what_is_stored(capsys, trained):
    data = found(capsys, trained, "derive", "--samples", 3)
    assert data["worst"] < 1e-5
    for entry in data["entries"]:
        assert entry["formula"] == pytest.approx(entry["stored"], rel=1e-4, abs=1e-7)


def test_files_take_the_place_of_the_text(capsys, trained, tmp_path):
    data = found(capsys, trained, "derive", "--out", tmp_path / "d.md")
    assert "markdown" not in data
    assert Path(data["file"]).read_text("utf-8").startswith(f"# {data['title']}")


def test_the_report_is_as_long_as_it_is_said(capsys, trained, tmp_path):
    data = found(capsys, trained, "report", "--out", tmp_path / "r.html", "--step", 2)
    assert data == {"report": str(tmp_path / "r.html"), "bytes": (tmp_path / "r.html").stat().st_size, "step": 2}


def test_predictions_are_those_of_the_model(capsys, trained):
    data = found(capsys, trained, "predict")["predictions"]
    X, _ = bl.data.load("digits", size=60).flattened().test
    labels = bl.open_run(trained).model.predict(X).argmax(axis=1)
    assert [row["digit"] for row in data] == [str(label) for label in labels]
    assert [row["sample"] for row in data] == list(range(1, len(X) + 1))


def test_probabilities_sum_to_one(capsys, trained):
    rows = found(capsys, trained, "predict", "--proba")["predictions"]
    for row in rows[:20]:
        p = [row[f"p({k})"] for k in range(10)]
        assert sum(p) == pytest.approx(1, abs=1e-5)
        assert str(int(np.argmax(p))) == row["digit"]


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("explain", "{run}", "dense9.W[0,0]"), 2, "BL0"),
        (("explain", "{run}", "dense1.W[0,0]", "--step", "99"), 2, "BL430"),
        (("trace", "{run}", "--layer", "dens1"), 2, "BL0"),
        (("report", "{run}", "--step", "99"), 2, "BL430"),
        (("derive", "{run}", "--out", "{run}/run.json/x.md"), 1, "BL602"),
        (("predict", "{run}", "nowhere.csv"), 2, "BL501"),
        (("predict", "{run}", "moons"), 2, "BL713"),
        (("cost", "{run}", "--batch-size", "0"), 2, "BL704"),
        (("check", "{run}/snapshots"), 2, "BL402"),
        (("summary", "digits", "--hidden", "1,2,"), 2, "BL706"),
    ],
)
def test_an_error_is_data_too(capsys, trained, words, code, error):
    words = [word.format(run=trained) for word in words]
    out, err = called(capsys, *words, "--json", code=code)
    told = strict(out)["error"]
    assert err == ""
    assert told["code"].startswith(error)
    assert all(told[part] for part in ("problem", "expected", "got", "fix"))
    _, text = called(capsys, *words, code=code)
    assert text.startswith(f"[{told['code']}] {told['problem']}")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NumericError("not_finite_step", where="loss", step=3, snapshot="-", got="loss = nan"), 1),
        (FileError("disk_full", where="f", size=1, got="-"), 1),
        (FileError("file_damaged", where="f", expected="JSON", got="-"), 2),
        (OSError("no file named"), 1),
        (RecursionError("deep"), 1),
        (KeyError("slip"), 1),
        (MemoryError(), 2),
    ],
    ids=lambda e: type(e).__name__ if isinstance(e, Exception) else "",
)
def test_every_kind_of_error_is_json_with_its_exit_code(capsys, monkeypatch, error, code):
    from backlit.cli import cost

    def failing(_options):
        raise error

    monkeypatch.setattr(cost, "answer", failing)
    out, err = called(capsys, "cost", "moons", "--json", code=code)
    assert err == ""
    assert strict(out)["error"]["code"].startswith("BL")
