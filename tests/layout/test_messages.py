"""The catalogue and the source fit: every message in both languages, every key used, every placeholder filled."""

from __future__ import annotations

import ast
import re
import tomllib
from string import Formatter

import pytest

from backlit.core import errors
from backlit.core.errors import BacklitError
from backlit.core.i18n import LANGUAGES
from layout.sources import SRC, nodes

FILES = sorted((SRC / "core" / "messages").glob("*.toml"))
ENTRIES = {key: entry for file in FILES for key, entry in tomllib.loads(file.read_text("utf-8")).items()}
ERRORS = {key: entry for key, entry in ENTRIES.items() if "code" in entry}
SPEAKERS = {"say", "template", "both", "columns"}
ALWAYS_FILLED = {"where"}  # BacklitError.at


def placeholders(text) -> set[str]:
    """Names in braces: {x!r} and {x.shape} both need x."""
    return {re.split(r"[.\[]", name)[0] for _, name, _, _ in Formatter().parse(text) if name is not None}


def name_of(node) -> str:
    """`say` for both `say` and `i18n.say`."""
    return getattr(node, "attr", getattr(node, "id", ""))


def error_classes() -> set[str]:
    """Names of all error classes, those that other layers derive included."""
    known = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BacklitError)}
    return known | {c.name for _, c in nodes(ast.ClassDef) if known & {name_of(b) for b in c.bases}}


def calls(names):
    return [(f"{path}:{n.lineno}", n) for path, n in nodes(ast.Call) if n.args and name_of(n.func) in names]


def keys_of(argument) -> set[str]:
    """The catalogue keys that an expression can name: constants in it, and whatever an f-string in it may become."""
    found = {n.value for n in ast.walk(argument) if isinstance(n, ast.Constant) and n.value in ENTRIES}
    for text in (n for n in ast.walk(argument) if isinstance(n, ast.JoinedStr)):
        pattern = "".join(re.escape(v.value) if isinstance(v, ast.Constant) else ".+" for v in text.values)
        found |= {key for key in ENTRIES if re.fullmatch(pattern, key)}
    return found


def kinds() -> dict[str, str]:
    """Kind of thing -> a place where a name of it is looked up.

    The kind is the third argument of lookup(table, name, kind); where that is a parameter of the function around it,
    what whoever calls this function gives in its place.
    """
    found, wrappers = {}, {"lookup": 2}
    for _, function in nodes(ast.FunctionDef):
        parameters = [a.arg for a in function.args.args]
        for n in (n for n in ast.walk(function) if isinstance(n, ast.Call) and name_of(n.func) == "lookup"):
            if isinstance(n.args[2], ast.Name):
                wrappers[function.name] = parameters.index(n.args[2].id)
    for at, n in calls(wrappers):
        kind = n.args[wrappers[name_of(n.func)]]
        if not isinstance(kind, ast.Name):
            assert isinstance(kind, ast.Constant), f"{at}: the kind is no literal, so its word cannot be looked for"
            found[kind.value] = at
    return found


def literal_calls(names):
    return [(at, n) for at, n in calls(names) if isinstance(n.args[0], ast.Constant)]


def fields(entry):
    return {name: value for name, value in entry.items() if name != "code"}


def texts(entry):
    for value in fields(entry).values():
        yield from [value] if isinstance(value, str) else value.values()


def raised():
    """(place, values given, key) for every error raised whose values are all written out."""
    for at, n in calls(error_classes()):
        given = {k.arg for k in n.keywords}
        if None not in given:
            yield from ((at, given, key) for key in keys_of(n.args[0]))


def test_no_key_is_defined_twice():
    count = sum(len(tomllib.loads(file.read_text("utf-8"))) for file in FILES)
    assert len(ENTRIES) == count


def test_codes_are_unique_and_well_formed():
    codes = [entry["code"] for entry in ERRORS.values()]
    assert all(re.fullmatch(r"BL\d{3}", code) for code in codes), codes
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("key", ERRORS)
def test_an_error_says_its_problem_and_its_fix_in_both_languages(key):
    for field in ("problem", "fix"):
        assert set(ERRORS[key][field]) == set(LANGUAGES)


@pytest.mark.parametrize("key", ENTRIES)
def test_the_languages_say_the_same(key):
    for field, value in fields(ENTRIES[key]).items():
        assert isinstance(value, str) or set(value) == set(LANGUAGES), field
        if isinstance(value, dict):
            assert all(text.strip() for text in value.values()), field
            assert placeholders(value["en"]) == placeholders(value["zh"]), field


def test_chinese_is_chinese():
    """Each Chinese text holds a Chinese character, unless it is the English text itself (a formula, a name)."""
    pairs = [(key, value) for key, entry in ENTRIES.items() for value in entry.values() if isinstance(value, dict)]
    told = [(key, value["zh"]) for key, value in pairs if value["zh"] != value["en"]]
    assert not [key for key, text in told if not re.search(r"[\u4e00-\u9fff]", text)]


def test_every_key_in_the_source_is_in_the_catalogue():
    named = [(at, n.args[0].value) for at, n in literal_calls(error_classes() | SPEAKERS)]
    assert not [f"{at} {key!r}" for at, key in named if key not in ENTRIES]


def test_every_error_has_a_code():
    codeless = [f"{at} {n.args[0].value}" for at, n in literal_calls(error_classes()) if n.args[0].value not in ERRORS]
    assert not codeless


def test_every_entry_is_used():
    used = {n.value for _, n in nodes(ast.Constant) if isinstance(n.value, str)}
    used |= {key for _, n in calls(error_classes() | SPEAKERS) for key in keys_of(n.args[0])}
    used |= {f"kind_{kind}" for kind in kinds()}  # said by UnknownNameError.part
    unused = sorted(set(ENTRIES) - used)
    assert not unused


def test_every_kind_of_thing_that_has_names_has_a_word_in_both_languages():
    words = {key.removeprefix("kind_"): entry["text"] for key, entry in ENTRIES.items() if key.startswith("kind_")}
    assert not {kind: at for kind, at in kinds().items() if kind not in words}
    assert not words.keys() - kinds().keys()
    assert not [kind for kind, text in words.items() if not re.search(r"[\u4e00-\u9fff]", text["zh"])]


def test_whoever_raises_fills_every_placeholder():
    bad = []
    for at, given, key in raised():
        needed = set().union(*map(placeholders, texts(ENTRIES[key])))
        if missing := needed - given - ALWAYS_FILLED:
            bad.append(f"{at} {key}: {sorted(missing)}")
    assert not bad


def test_whoever_raises_says_what_was_expected_and_what_came():
    told = [(at, key, given | set(ENTRIES[key])) for at, given, key in raised()]
    assert not [f"{at} {key}: {part}" for at, key, parts in told for part in ("expected", "got") if part not in parts]


def test_no_value_is_named_like_a_parameter_of_say():
    assert not [at for at, n in calls(error_classes()) if {"key", "field"} & {k.arg for k in n.keywords}]
