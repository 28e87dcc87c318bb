"""The language is the one chosen, else the environment's, else the locale's; the catalogue is one."""

from __future__ import annotations

import locale
from importlib.resources import files
from threading import Thread

import pytest

from backlit.core import i18n
from backlit.core.i18n import catalogue, language, say, template, use_language


@pytest.fixture
def machine(monkeypatch):
    """Sets the machine's locale and environment variable."""

    def settings(name, variable=None):
        monkeypatch.setattr(locale, "getlocale", lambda: (name, "UTF-8"))
        monkeypatch.delenv("BACKLIT_LANG", raising=False)
        if variable is not None:
            monkeypatch.setenv("BACKLIT_LANG", variable)

    return settings


@pytest.mark.parametrize(
    ("name", "variable", "expected"),
    [
        (None, None, "en"),
        ("C", None, "en"),
        ("en_US", None, "en"),
        ("de_DE", None, "en"),
        ("zh_CN", None, "zh"),
        ("zh_TW", None, "zh"),
        ("Chinese (Simplified)_China", None, "zh"),
        ("zh_CN", "en", "en"),
        ("en_US", "zh", "zh"),
        ("en_US", "ZH_cn", "zh"),
        ("zh_CN", "", "zh"),
    ],
)
def test_language_in_force(machine, name, variable, expected):
    machine(name, variable)
    assert language() == expected


def test_the_choice_comes_first_and_ends_with_its_block(machine):
    machine("en_US", "en")
    with use_language("zh"):
        assert language() == "zh"
        with use_language("en"):
            assert language() == "en"
        assert language() == "zh"
    assert language() == "en"


def test_none_keeps_the_language_in_force():
    with use_language("zh"), use_language(None):
        assert language() == "zh"


def test_the_choice_ends_with_an_error_too():
    with pytest.raises(RuntimeError), use_language("zh"):
        raise RuntimeError
    assert language() == "en"


def test_a_choice_is_not_seen_by_other_threads():
    seen = []
    with use_language("zh"):
        thread = Thread(target=lambda: seen.append(language()))
        thread.start()
        thread.join()
    assert seen == ["en"]


def test_say_fills_the_template():
    values = {"kind": "optimizer", "name": "adm"}
    assert say("unknown_name", "problem", **values) == "there is no optimizer named 'adm'"
    with use_language("zh"):
        assert "'adm'" in say("unknown_name", "problem", **values)


def test_one_template_serves_both_languages():
    assert template("unknown_name", "got", "en") == template("unknown_name", "got", "zh") == "{name!r}"


def test_template_takes_the_language_asked_for():
    assert template("label_fix", lang="zh") == "对策："
    assert template("label_fix", lang="en").strip() == "fix:"


def test_the_catalogue_holds_every_file():
    listed = [f for f in (files("backlit.core") / "messages").iterdir() if f.name.endswith(".toml")]
    headers = [line for f in listed for line in f.read_text("utf-8").splitlines() if line.startswith("[")]
    assert sorted(headers) == sorted(f"[{key}]" for key in catalogue())


def test_a_key_defined_twice_is_refused(monkeypatch, tmp_path):
    (tmp_path / "messages").mkdir()
    for name in ("a.toml", "b.toml"):
        (tmp_path / "messages" / name).write_text('[same]\ntext = "x"\n', "utf-8")
    monkeypatch.setattr(i18n, "files", lambda _package: tmp_path)
    with pytest.raises(ValueError, match=r"b\.toml.*same"):
        catalogue.__wrapped__()
