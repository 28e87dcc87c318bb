"""The environment of a run, the oracles that may be asked, and errors and languages where several threads speak."""

from __future__ import annotations

import json
import locale
import os
import pickle
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from types import ModuleType

import pytest

from backlit.core import files, oracles
from backlit.core.environment import environment
from backlit.core.errors import BacklitError, FileError, GraphError, InputError, NumericError, UnknownNameError
from backlit.core.i18n import language, say, use_language
from backlit.core.names import lookup

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# --- environment ----------------------------------------------------------------------------------------------------


def test_versions_and_machine_are_those_of_this_process():
    found = environment()
    assert found["numpy"] == version("numpy")
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (found["machine"], found["system"], found["cores"]) == (platform.machine(), sys.platform, os.cpu_count())


def test_the_environment_is_json():
    assert json.loads(json.dumps(environment())) == environment()


@pytest.mark.parametrize("there", [(), THREADS[:1], THREADS])
def test_thread_settings_are_those_that_are_set(monkeypatch, there):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    for count, name in enumerate(there, start=1):
        monkeypatch.setenv(name, str(count))
    assert environment()["threads"] == {name: str(count) for count, name in enumerate(there, start=1)}


def test_nothing_else_of_the_environment_is_kept(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hush-hush")
    assert "hush-hush" not in json.dumps(environment())


# --- oracles --------------------------------------------------------------------------------------------------------


@pytest.fixture
def providers(monkeypatch):
    """An own, empty table of oracles."""
    monkeypatch.setattr(oracles, "PROVIDERS", {})
    return oracles.PROVIDERS


@pytest.fixture
def mine(providers, monkeypatch):
    module = ModuleType("an_oracle_of_mine")
    module.vjp = lambda *_args: ("asked",)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    oracles.register("mine", module.__name__, "json")
    return module


def test_a_registered_oracle_is_found_and_offered(mine):
    assert oracles.installed() == ("mine",)
    assert oracles.get("mine") is mine.vjp
    assert oracles.get("mine")() == ("asked",)


def test_an_oracle_may_be_replaced(mine, monkeypatch):
    other = ModuleType("another_oracle")
    other.vjp = lambda *_args: None
    monkeypatch.setitem(sys.modules, other.__name__, other)
    oracles.register("mine", other.__name__, "json")
    assert oracles.get("mine") is other.vjp
    assert oracles.installed() == ("mine",)


@pytest.mark.parametrize("package", ["no_such_package_at_all", "no_such_package_at_all.inner"])
def test_an_oracle_whose_package_is_missing_is_not_offered(mine, package):
    oracles.register("theirs", "no_such_package_at_all.vjps", package)
    assert oracles.installed() == ("mine",)
    with pytest.raises(InputError) as caught:
        oracles.get("theirs")
    assert caught.value.key == "oracle_absent"
    assert package in str(caught.value)
    assert caught.value.part("got") == "mine"


def test_without_any_oracle_the_error_stays_readable(providers):
    oracles.register("theirs", "x", "no_such_package_at_all")
    with pytest.raises(InputError) as caught:
        oracles.get("theirs")
    assert caught.value.part("got") == "-"


def test_an_unknown_oracle_offers_the_nearest(mine):
    with pytest.raises(UnknownNameError) as caught:
        oracles.get("mime")
    assert "mine" in caught.value.part("fix")


def test_no_oracle_is_loaded_by_asking_which_there_are():
    probe = (
        "import sys; from backlit.core import oracles; oracles.installed(); print(*{'jax', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("name", [pytest.param(n, marks=getattr(pytest.mark, n)) for n in ("jax", "torch")])
def test_the_oracles_in_the_table_have_their_function(name):
    pytest.importorskip(name)
    assert callable(oracles.get(name))


# --- languages where the machine is odd -----------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "spoken"), [("xx_YY", "en"), ("zh_Hans_CN", "zh"), ("garbage", "en")])
def test_a_locale_that_python_does_not_know_still_gives_a_language(monkeypatch, code, spoken):
    def unknown(*_args):
        raise ValueError(f"unknown locale: {code}")

    monkeypatch.setattr(locale, "getlocale", unknown)
    monkeypatch.setattr(locale, "setlocale", lambda _category: code)
    monkeypatch.delenv("BACKLIT_LANG")
    assert language() == spoken
    assert str(InputError("linear_features", want=3)).startswith("[BL101]")
    monkeypatch.setenv("BACKLIT_LANG", "zh")
    assert language() == "zh"


@pytest.mark.parametrize("wish", ["fr", "EN", "english", "tlh", "c", " zh"])
def test_a_language_that_there_is_not_is_english(wish):
    with use_language(wish):
        assert language() == "en"


@pytest.mark.parametrize("wish", ["zh", "zh_TW", "zh-Hans", "ZH", "Chinese"])
def test_every_spelling_of_chinese(wish):
    with use_language(wish):
        assert language() == "zh"
        assert say("label_fix") == "对策："


@pytest.mark.parametrize("key", ["label_expected", "label_got", "label_fix"])
def test_a_value_left_out_is_a_mistake_of_the_caller(key):
    assert say(key, unused=1) == say(key)
    with pytest.raises(KeyError):
        say("unknown_name", "problem", kind="loss")


def test_braces_in_values_are_no_templates():
    """A column may be called {0} or {where}."""
    assert "{where}" in say("unknown_name", "problem", kind="column", name="{where}")


# --- errors where several threads and processes speak ---------------------------------------------------------------


def width(where, lang):
    with use_language(lang):
        error = InputError("linear_features", want=64, expected="x[…, 64]", got="x[8, 63]").at(where)
        return lang, error.part("problem"), error.as_dict()


def test_each_thread_speaks_its_own_language():
    jobs = [(f"dense{i}", ("en", "zh")[i % 2]) for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: width(*job), jobs))
    for (where, lang), (spoken, problem, data) in zip(jobs, found, strict=True):
        assert spoken == lang
        assert problem.startswith(where + {"en": ": ", "zh": "："}[lang])
        assert data["problem"] == problem


def test_an_error_of_a_thread_is_told_in_the_language_of_who_reads_it():
    def failing():
        with use_language("zh"):
            raise GraphError("graph_twice", where="dense1.z", name="dense1.z")

    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(failing).exception()
    assert str(error).startswith("[BL202] dense1.z: ")
    with use_language("zh"):
        assert str(error).startswith("[BL202] dense1.z：")


KINDS = {
    InputError: {"key": "linear_features", "want": 3, "got": "x[2]", "expected": "x[3]"},
    GraphError: {"key": "graph_twice", "where": "a", "name": "a"},
    FileError: {"key": "file_missing", "where": "f", "got": "nothing"},
    NumericError: {"key": "not_finite_step", "where": "loss", "step": 3, "snapshot": "-", "got": "loss = nan"},
    BacklitError: {"key": "cli_unexpected", "got": "a slip"},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_kind_travels(kind, protocol):
    values = dict(KINDS[kind])
    error = kind(values.pop("key"), **values)
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert again.as_dict() == error.as_dict()
    assert again.at("elsewhere").values["where"] == values.get("where", "elsewhere")


def test_an_unknown_name_travels_with_its_kind_in_both_languages():
    with pytest.raises(UnknownNameError) as caught:
        lookup({"eps": 1}, "esp", "option", of="Adam")
    again = pickle.loads(pickle.dumps(caught.value))
    for lang in ("en", "zh"):
        with use_language(lang):
            assert again.as_dict() == caught.value.as_dict()
    assert "Adam" in again.part("problem")


PROGRAM = """
import pickle, sys
from backlit.core.errors import InputError
sys.stdout.buffer.write(pickle.dumps(InputError("linear_features", want=3, expected="x[3]", got="x[2]").at("dense9")))
"""


def test_an_error_of_another_process_is_told_here():
    sent = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout
    error = pickle.loads(sent)
    assert isinstance(error, ValueError)
    assert error.as_dict()["problem"].startswith("dense9: ")


def test_a_cause_is_kept_beside_it():
    with pytest.raises(FileError) as caught:
        files.read("/no/such/file")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_two_errors_share_no_place():
    values = {"want": 3, "expected": "x[3]", "got": "x[2]"}
    one, other = InputError("linear_features", **values).at("dense1"), InputError("linear_features", **values)
    assert other.values["where"] == "?"
    assert one.values["where"] == "dense1"
