"""Every option of every command: its spelling, its type, its default, and what a value that is none does."""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints

import pytest

from backlit.cli.app import _language
from backlit.cli.app import parse as parse_words
from backlit.cli.commands import COMMANDS, Train
from backlit.cli.options import Answer, Command, Language, argument, maker_of, option
from backlit.core.errors import InputError, UnknownNameError
from backlit.core.i18n import catalogue, template, use_language
from cli.running import called, data_of

OWN = ("as_json", "lang", "words")


@cache
def parsed(words):
    return parse_words(words)


def parse(words):
    """The command of these words; commands cannot be changed, so each is made once."""
    return parsed(tuple(words))


def options_of(kind):
    """(field, type, typer's description) of all options and arguments, in order."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if field.name not in OWN:
            hinted, info = get_args(hints[field.name])
            (plain,) = {t for t in get_args(hinted) or (hinted,) if t is not NoneType}
            yield field, plain, info


def needed(name):
    """The positional arguments of a command, filled in."""
    return [f"{field.name}-value" for field, _, _ in options_of(COMMANDS[name]) if field.default is MISSING]


def flag_of(field):
    """An option is spelled like its field."""
    return f"--{field.name.replace('_', '-')}"


ARGUMENTS = [
    (name, field.name, plain)
    for name in COMMANDS
    for field, plain, _ in options_of(COMMANDS[name])
    if field.default is MISSING
]
OPTIONS = [
    (name, field, plain, info)
    for name in COMMANDS
    for field, plain, info in options_of(COMMANDS[name])
    if field.default is not MISSING
]
IDS = [f"{name} --{field.name}" for name, field, *_ in OPTIONS]
WRITTEN = {int: ("7", 7), float: ("0.25", 0.25), str: ("some,text", "some,text"), Path: ("a/b.c", Path("a/b.c"))}
EACH = pytest.mark.parametrize(("name", "field", "plain", "info"), OPTIONS, ids=IDS)


@EACH
def test_an_option_has_the_value_that_was_typed(name, field, plain, info):
    flag = flag_of(field)
    if plain is bool:
        found, wanted = parse([name, *needed(name), flag]), True
    else:
        text, wanted = WRITTEN[plain]
        found = parse([name, *needed(name), flag, text])
        assert found == type(found)(**vars(parse([name, *needed(name), f"{flag}={text}"])) | {"words": found.words})
    value = getattr(found, field.name)
    assert type(value) is type(wanted)
    assert value == wanted


@EACH
def test_an_option_changes_nothing_else(name, field, plain, info):
    text = [] if plain is bool else [WRITTEN[plain][0]]
    plainly, found = parse([name, *needed(name)]), parse([name, *needed(name), flag_of(field), *text])
    changed = {k for k, v in vars(found).items() if v != getattr(plainly, k)}
    assert changed == {field.name, "words"}


@EACH
def test_left_out_it_has_its_default(name, field, plain, info):
    value = getattr(parse([name, *needed(name)]), field.name)
    assert value == field.default
    assert type(value) is type(field.default)


@EACH
def test_a_value_of_another_type_is_refused(name, field, plain, info):
    if plain not in (int, float):
        return
    for text in ("many", "", "1,5", *(["0.5"] if plain is int else [])):
        with pytest.raises(InputError) as caught:
            parse([name, *needed(name), flag_of(field), text])
        assert caught.value.code == "BL704"
        assert flag_of(field) in caught.value.part("expected")


@EACH
def test_a_number_below_the_least_is_refused(name, field, plain, info):
    if info.min is None:
        return
    flag = flag_of(field)
    assert getattr(parse([name, *needed(name), flag, str(info.min)]), field.name) == info.min
    with pytest.raises(InputError, match="BL704"):
        parse([name, *needed(name), flag, str(info.min - 1)])


@pytest.mark.parametrize(("name", "field", "plain"), ARGUMENTS)
def test_an_argument_has_its_type(name, field, plain):
    value = getattr(parse([name, *needed(name)]), field)
    assert type(value) is (str if plain is str else type(Path()))
    assert str(value) == f"{field}-value"


@pytest.mark.parametrize("name", [n for n in COMMANDS if needed(n)])
def test_an_argument_left_out_is_named(name):
    first = parse([name, "--help"])
    assert first is None
    with pytest.raises(InputError) as caught:
        parse([name])
    assert caught.value.code == "BL703"
    assert caught.value.values["where"] == f"backlit {name}"
    assert caught.value.values["name"].isupper()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_misspelt_offers_the_one_that_was_meant(name):
    with pytest.raises(InputError) as caught:
        parse([name, *needed(name), "--jsn"])
    assert caught.value.code == "BL702"
    assert "--json" in caught.value.part("fix")
    assert f"backlit {name} --help" in caught.value.part("fix")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_misspelt_offers_the_one_that_was_meant(name):
    with pytest.raises(UnknownNameError) as caught:
        parse([name[:-1] + "q"])
    assert name in caught.value.part("fix")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_word_too_many(name):
    with pytest.raises(InputError) as caught:
        parse([name, *needed(name), "extra"])
    assert caught.value.code == "BL701"
    assert "extra" in str(caught.value)


@pytest.mark.parametrize("name", COMMANDS)
def test_words_are_kept_as_they_were_typed(name):
    words = (name, *needed(name), "--lang", "zh", "--json")
    found = parse(words)
    assert found.words == words
    assert (found.lang, found.as_json) == (Language.zh, True)
    assert type(found) is COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_help_in_both_languages(name):
    told = {}
    for lang in ("en", "zh"):
        with use_language(lang):
            told[lang] = {f.name: info.help for f, _, info in options_of(COMMANDS[name])}
    assert all(told["en"].values())
    same = [k for k, text in told["en"].items() if text == told["zh"][k]]
    assert same == []


def test_no_help_text_is_left_over():
    """Each text of an option, but for those that all commands have, is the help of some option."""
    keys = {k for k in catalogue() if k.startswith("option_")} - {"option_json", "option_lang", "option_version"}
    texts = {template(k, lang="en"): k for k in keys if "text" in catalogue()[k]}
    with use_language("en"):
        used = {texts.get(info.help) for kind in COMMANDS.values() for _, _, info in options_of(kind)}
    assert set(texts.values()) - used == set()
    assert len(texts) > 30


# --- commands as values -----------------------------------------------------------------------------------------------


def test_a_command_cannot_be_changed():
    with pytest.raises(AttributeError):
        parse(["train", "moons"]).epochs = 3


def test_the_base_has_no_answer():
    with pytest.raises(NotImplementedError):
        Command().answer()


def test_a_maker_has_the_options_as_its_signature():
    maker = maker_of(Train)
    assert maker(data="moons", epochs=3) == Train(data="moons", epochs=3)
    names = list(maker.__signature__.parameters)
    assert names[0] == "data"
    assert names[-2:] == ["as_json", "lang"]
    assert "words" not in names


@pytest.mark.parametrize(
    ("key", "names", "flag"), [("batch_size", (), "--batch-size"), ("trace_file", ("--out",), "--out")]
)
def test_an_option_has_the_names_it_is_given(key, names, flag):
    assert option(key, *names).default == flag, "where typer keeps the first name"


def test_an_argument_is_shown_in_capitals():
    assert argument("run").metavar == "RUN"


def test_an_answer_is_a_success_unless_told():
    assert (Answer({}).text, Answer({}).code) == ((), 0)


def test_all_annotations_are_described():
    for kind in COMMANDS.values():
        hints = get_type_hints(kind, include_extras=True)
        assert all(hasattr(hints[f.name], "__metadata__") for f in fields(kind) if f.name != "words")


# --- the language of the command line -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "lang"),
    [
        (["train", "moons"], None),
        (["--lang", "zh", "train"], "zh"),
        (["train", "--lang=zh"], "zh"),
        (["train", "--lang", "fr", "--lang", "zh"], "zh"),
        (["train", "--lang", "fr"], None),
        (["train", "--lang"], None),
        (["train", "--lang="], None),
        (["train", "zh"], None),
        (["--lang", "en", "--lang=zh"], "en"),
    ],
)
def test_the_language_is_found_wherever_it_stands(words, lang):
    assert _language(words) == lang


@pytest.mark.parametrize("words", [["--lang", "zh", "summary", "nowhere/x"], ["summary", "nowhere/x", "--lang", "zh"]])
def test_errors_speak_it_too(capsys, words):
    assert "对策" in called(capsys, *words, code=2)[1]
    assert not data_of(capsys, *words, code=2)["error"]["problem"].isascii()
