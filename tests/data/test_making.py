"""From raw data to a data set: what is fitted, on which rows, what is said; the doors of files, and where files lie."""

from __future__ import annotations

import gzip
import json
import lzma
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from backlit.core.errors import BacklitError, FileError, InputError
from backlit.core.i18n import use_language
from backlit.data import fingerprint, load, sources
from backlit.data.making import Raw, make
from backlit.data.preprocessing import ArrayPreprocessing, index_names, mixed_columns, pixels, read_marks
from backlit.data.remarks import Remark, remark
from backlit.data.sources import Source
from backlit.data.splits import Parts, is_count
from backlit.data.table import parse_csv

HOW = remark("how_given")
TABLE = parse_csv(b"n,c\n" + b"".join(b"%d,%s\n" % (i * i, b"uvw"[i % 3 : i % 3 + 1]) for i in range(12)), "t.csv")
Y = np.arange(12) % 2


def rows(*parts):
    return Parts(*(np.array(part, int) for part in parts))


def made(parts, *, y=Y, classes=("even", "odd"), **options):
    return make("mine", Raw(TABLE, y, "y", classes), parts, HOW, **options)


# --- making ---------------------------------------------------------------------------------------------------------


def test_each_part_has_its_rows_in_order():
    data = made(rows([5, 0, 3, 1], [2], [4, 6]))
    assert data.train[1].tolist() == [1, 0, 1, 1]
    assert data.validation[1].tolist() == [0]
    assert data.test[1].tolist() == [0, 0]
    values = np.array([25.0, 0.0, 9.0, 1.0])
    np.testing.assert_allclose(data.train[0][:, 0], (values - values.mean()) / values.std(), rtol=1e-6)
    np.testing.assert_allclose(data.test[0][:, 0], (np.array([16.0, 36.0]) - values.mean()) / values.std(), rtol=1e-6)


@pytest.mark.parametrize(
    ("validation", "test", "names"),
    [([], [], ["train"]), ([8], [], ["train", "validation"]), ([], [9], ["train", "test"])],
)
def test_parts_without_rows_are_none(validation, test, names):
    data = made(rows(range(8), validation, test))
    assert list(data.parts) == names
    assert (data.validation is None, data.test is None) == (not validation, not test)


def test_scales_and_categories_are_those_of_the_training_rows():
    """Category w and all large numbers lie in the test rows alone."""
    data = made(rows([0, 1, 3, 4, 6, 7], [], [2, 5, 11]))
    assert data.features == ("n", "c=u", "c=v")
    assert data.test[0][:, 1:].tolist() == [[0, 0]] * 3
    assert "3 rows have a category not seen in training (w)" in " ".join(data.notes)


def test_size_limits_what_is_fitted_too():
    whole, part = made(rows(range(10), [], [10, 11])), made(rows(range(10), [], [10, 11]), size=4, seed=3)
    assert len(part.train[1]) == 4
    assert sorted(part.train[1].tolist()) == [0, 0, 1, 1], "each class in proportion"
    assert part.preprocessing != whole.preprocessing
    assert "Only 4 of 10 training samples are used, drawn at random with seed 3." in part.notes
    assert not any("Only" in note for note in whole.notes)
    assert np.array_equal(part.train[0], made(rows(range(10), [], [10, 11]), size=4, seed=3).train[0])


def test_quantities_are_standardised_by_the_training_rows():
    data = made(rows([0, 1, 2, 3], [], [11]), y=np.arange(12.0) * 10, classes=None)
    assert data.target.scaler.mean == (15.0,)
    assert data.target.to_units(data.test[1]).item() == pytest.approx(110.0, rel=1e-6)
    assert any("standardised" in note and "'y'" in note for note in data.notes)


def test_remarks_come_in_the_order_things_were_done():
    raw = Raw(TABLE, Y, "y", ("even", "odd"), remarks=[remark("note_dropped", names="z")])
    data = make("mine", raw, rows(range(10), [], [10, 11]), HOW, size=6)
    keys = [r.key for r in data.remarks]
    assert keys[:3] == ["note_dropped", "note_split", "note_size"]
    assert keys.index("note_standardised") < keys.index("note_categories")


def test_arrays_are_fitted_by_what_came_with_them():
    seen = []

    def fit(X):
        seen.append(X.copy())
        return ArrayPreprocessing((2,), ("a", "b"))

    X = np.arange(8.0).reshape(4, 2)
    data = make("mine", Raw(X, np.array([0, 1, 0, 1]), "y", ("0", "1"), fit), rows([3, 0], [], [1]), HOW)
    assert [a.tolist() for a in seen] == [[[6, 7], [0, 1]]]
    assert data.train[0].tolist() == [[6, 7], [0, 1]]
    assert data.train[0].dtype == np.float32


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_data_set_can_be_described_and_stored(lang):
    data = made(rows(range(8), [8, 9], [10, 11]))
    with use_language(lang):
        lines = data.describe().splitlines()
        assert len(lines) == 2 + len(data.remarks)
        assert ("8 training samples of shape [4]" in lines[0]) == (lang == "en")
    assert json.loads(json.dumps(data.as_dict()))["samples"] == {"train": 8, "validation": 2, "test": 2}


# --- columns of a table -----------------------------------------------------------------------------------------------


def test_marks_of_a_table():
    found = parse_csv(b"a;b;c;d\n1,5;1.5;x;1\n2;2;3;2\n", "t", header=True)
    assert read_marks(found, ["d"]) == {"a": ",", "b": ".", "c": None, "d": None}


def test_only_texts_that_were_not_asked_for_are_called_mixed():
    found = parse_csv(b"a,b\n" + b"1,1\n" * 5 + b"x,x\n", "t", header=True)
    said = list(mixed_columns(found, {"a": None, "b": None}, ["b"]))
    assert [r.values["name"] for r in said] == ["a"]
    assert said[0].values["line"] == 7


@pytest.mark.parametrize(
    ("shape", "names"),
    [((2, 2), ("p[0,0]", "p[0,1]", "p[1,0]", "p[1,1]")), ((2, 1), ("p[0]", "p[1]")), ((1,), ("p[0]",))],
)
def test_names_of_pixels_are_in_row_major_order(shape, names):
    assert index_names("p", shape) == names


@pytest.mark.parametrize("shape", [(3, 4, 4, 1), (3, 16), (3, 4, 4)])
def test_images_come_in_every_shape_that_is_theirs(shape):
    X = np.arange(48, dtype=np.uint8).reshape(shape)
    fitted = pixels((4, 4, 1), 16)
    assert fitted.transform(X).shape == (3, 4, 4, 1)
    assert fitted.flattened().transform(X).tolist() == (np.arange(48.0).reshape(3, 16) / 16).tolist()


# --- remarks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lang", "text"), [("en", "classification"), ("zh", "分类任务")])
def test_a_remark_may_hold_another_message(lang, text):
    said = remark("note_task", name="y", count=3, found={"say": "found_few"}, task={"say": "task_classification"})
    with use_language(lang):
        assert text in said.text()
        assert "3" in said.text()
    assert Remark(said.key, json.loads(json.dumps(said.values))).text() == said.text()


# --- doors ----------------------------------------------------------------------------------------------------------

LINES = "a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", LINES),
        ("t.tsv", LINES.replace(",", "\t")),
        ("t.txt", LINES),
        ("t.data", LINES),
        ("t.csv.gz", gzip.compress(LINES.encode())),
        ("t.data.gz", gzip.compress(LINES.encode())),
    ],
)
def test_every_ending_of_a_table_is_one_data_set(write, name, content):
    data = load(write(content, name), validation=0.25, target="y", size=10)
    assert (data.name, data.features, data.classes) == ("t", ("a",), ("0", "1"))
    assert [len(y) for _, y in data.parts.values()] == [10, 10, 8]


@pytest.mark.parametrize("name", ["t.json", "t.xlsx", "folder/t", "t.gz", "t.csv.zip"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(FileError) as caught:
        load(tmp_path / name)
    assert caught.value.key == "data_file_format"


@pytest.mark.parametrize("name", ["Digits", "digit", "mnst", "spiral", ""])
def test_names_that_there_are_not(name):
    with pytest.raises(BacklitError) as caught:
        load(name)
    assert caught.value.part("fix")


# --- where files lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "plain", "forms", "download"),
    [
        ("a/t.csv.gz", "p", {"a/t.csv.gz": "s", "a/t.csv": "p"}, ("a/t.csv", "p")),
        ("a/t.bin.xz", "p", {"a/t.bin.xz": "s", "a/t.bin": "p"}, ("a/t.bin", "p")),
        ("a/t.csv", "", {"a/t.csv": "s"}, ("a/t.csv", "s")),
        ("a/t-ubyte.gz", "", {"a/t-ubyte.gz": "s"}, ("a/t-ubyte.gz", "s")),
    ],
)
def test_the_forms_a_file_may_have(path, plain, forms, download):
    source = Source(path, "s", "http://x", plain)
    assert (source.forms, source.download) == (forms, download)


@pytest.mark.parametrize("variable", ["BACKLIT_DATA", "BACKLIT_CACHE"])
def test_folders_may_start_at_home(monkeypatch, tmp_path, variable):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BACKLIT_DATA", "here")
    monkeypatch.setenv("BACKLIT_CACHE", "there")
    monkeypatch.setenv(variable, "~/files")
    first = variable == "BACKLIT_DATA"
    assert sources.folders() == ([tmp_path / "files", Path("there")] if first else [Path("here"), tmp_path / "files"])


@pytest.mark.parametrize(
    ("name", "pack"), [("f.gz", gzip.compress), ("f.xz", lzma.compress), ("f.csv", bytes), ("f", bytes)]
)
def test_files_are_unpacked_by_their_ending(name, pack):
    assert sources._unpack(pack(b"content"), Path(name)) == b"content"


@pytest.mark.parametrize("data", [b"", b"rubbish", gzip.compress(b"x" * 99)[:20], lzma.compress(b"x" * 99)[:20]])
@pytest.mark.parametrize("name", ["f.gz", "f.xz"])
def test_what_cannot_be_unpacked_is_damaged(name, data):
    if (name, data) == ("f.gz", b""):
        assert sources._unpack(data, Path(name)) == b"", "gzip takes nothing for a file of no members"
        return
    with pytest.raises(FileError) as caught:
        sources._unpack(data, Path(name))
    assert caught.value.key == "data_file_corrupt"


def test_a_file_with_a_newer_content_in_the_folder_is_not_replaced_by_the_cache(tmp_path, monkeypatch):
    """A wrong file in the named folder is an error, not silently passed over."""
    monkeypatch.setenv("BACKLIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sources.FILES, "t.csv", Source("t.csv", sha256(b"right").hexdigest(), "http://x/t.csv"))
    for folder, content in (("data", b"wrong"), ("cache", b"right")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_bytes(content)
    with pytest.raises(FileError) as caught:
        sources.read("t.csv")
    assert caught.value.key == "data_checksum"
    (tmp_path / "data" / "t.csv").unlink()
    assert sources.read("t.csv") == b"right"


# --- fingerprints and counts ----------------------------------------------------------------------------------------


def test_a_fingerprint_by_its_definition():
    a, b = np.array([[1.5, -2.0]]), np.array([3], np.int32)
    by_hand = sha256(b"b|<i4|(1,)|" + b.tobytes() + b"z|<f8|(1, 2)|" + a.tobytes()).hexdigest()
    assert fingerprint({"z": a, "b": b}) == fingerprint({"b": b, "z": a}) == by_hand
    assert fingerprint([a, b]) != fingerprint([b, a])


@pytest.mark.parametrize(
    ("wish", "fits"),
    [(0, True), (np.int8(3), True), (-1, False), (1.0, False), (True, False), ("1", False), (None, False)],
)
def test_counts(wish, fits):
    assert is_count(wish) is fits


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_no_part_shares_a_sample_with_another(name):
    parts = load(name).parts
    seen = [{row.tobytes() for row in X} for X, _ in parts.values()]
    assert all(one.isdisjoint(other) for i, one in enumerate(seen) for other in seen[:i])


def test_a_training_part_of_one_class_is_refused():
    with pytest.raises(InputError, match="'y'"):
        made(rows([0, 2, 4], [], [1]))
