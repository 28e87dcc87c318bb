"""Files are whole or not there, whatever fails on the way; what is read is what was written, or an error says why."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.core import files
from backlit.core.errors import FileError
from backlit.core.i18n import use_language

HEADER = {"format": 3, "name": "δ", "nested": {"list": [1, 2.5, None, True]}}
ARRAYS = {
    "dense1.W": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "dense1.b": np.array([-0.0, np.inf, np.nan]),
    "labels": np.array([[3, -(2**62)]], dtype=np.int64),
    "mask": np.array([True, False]),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 4), np.float32),
}


def fails_with(code):
    def failing(*_args, **_options):
        raise OSError(code, os.strerror(code))

    return failing


def names(folder):
    return sorted(p.name for p in Path(folder).iterdir())


# --- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"\x00\xff" * 5000, "误差".encode()])
def test_what_was_written_is_read(tmp_path, data):
    assert files.write(tmp_path / "f", data) == tmp_path / "f"
    assert files.read(tmp_path / "f") == data
    assert names(tmp_path) == ["f"]


def test_folders_are_made_and_text_paths_taken(tmp_path):
    place = files.write(str(tmp_path / "a" / "b" / "f"), b"1")
    assert place.read_bytes() == b"1"


def test_a_shorter_file_leaves_nothing_of_the_longer_one(tmp_path):
    files.write(tmp_path / "f", b"long" * 100)
    files.write(tmp_path / "f", b"short")
    assert files.read(tmp_path / "f") == b"short"


def test_a_reader_keeps_the_old_file_to_its_end(tmp_path):
    """The new file takes the place of the old one; it is not written over it."""
    files.write(tmp_path / "f", b"old")
    with (tmp_path / "f").open("rb") as reader:
        files.write(tmp_path / "f", b"new")
        assert reader.read() == b"old"
    assert files.read(tmp_path / "f") == b"new"


def test_what_an_interrupted_writer_left_is_no_obstacle(tmp_path):
    (tmp_path / ".f.part").write_bytes(b"half of someth")
    files.write(tmp_path / "f", b"whole")
    assert (names(tmp_path), files.read(tmp_path / "f")) == (["f"], b"whole")


def test_bytes_are_on_the_disk_before_they_take_the_place(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append("sync"), sync(n))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("replace"), replace(self, to))[1])
    files.write(tmp_path / "f", b"1")
    assert done == ["sync", "replace"]


@pytest.mark.parametrize("step", ["sync", "replace"])
@pytest.mark.parametrize(
    ("code", "key"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EIO, "write_failed"),
        (errno.EACCES, "write_failed"),
    ],
)
def test_where_writing_fails_the_old_file_stays_alone(tmp_path, monkeypatch, step, code, key):
    files.write(tmp_path / "f", b"old")
    monkeypatch.setattr(*{"sync": (os, "fsync"), "replace": (Path, "replace")}[step], fails_with(code))
    with pytest.raises(FileError) as caught:
        files.write(tmp_path / "f", b"new!")
    monkeypatch.undo()
    assert caught.value.key == key
    assert caught.value.part("got") == os.strerror(code)
    assert str(tmp_path / "f") in str(caught.value)
    assert (names(tmp_path), files.read(tmp_path / "f")) == (["f"], b"old")


def test_a_full_disk_says_how_much_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fails_with(errno.ENOSPC))
    with pytest.raises(FileError) as caught:
        files.write(tmp_path / "f", b"x" * 12_345)
    assert "12,345" in caught.value.part("expected")
    with use_language("zh"):
        assert "磁盘已满" in str(caught.value)


def test_another_error_than_the_systems_is_not_hidden(tmp_path, monkeypatch):
    """Ctrl-C while writing goes on as Ctrl-C."""

    def interrupted(_number):
        raise KeyboardInterrupt

    files.write(tmp_path / "f", b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "f", b"new")
    assert files.read(tmp_path / "f") == b"old"


@pytest.mark.parametrize("function", [files.write, files.append])
def test_a_file_where_a_folder_must_be(tmp_path, function):
    (tmp_path / "f").write_bytes(b"mine")
    with pytest.raises(FileError) as caught:
        function(tmp_path / "f" / "g", b"1")
    assert (caught.value.key, caught.value.code) == ("write_failed", "BL602")
    assert (tmp_path / "f").read_bytes() == b"mine"


@pytest.mark.parametrize("function", [files.write, files.append])
def test_a_folder_where_the_file_must_be(tmp_path, function):
    (tmp_path / "d").mkdir()
    with pytest.raises(FileError, match="BL602"):
        function(tmp_path / "d", b"1")
    assert names(tmp_path) == ["d"]


# --- appending and removing -----------------------------------------------------------------------------------------


def test_lines_are_added_at_the_end(tmp_path):
    for line in (b"one\n", b"", b"two\n"):
        assert files.append(tmp_path / "deep" / "log", line) == tmp_path / "deep" / "log"
    assert files.read(tmp_path / "deep" / "log") == b"one\ntwo\n"


def test_each_line_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda number: sizes.append(os.fstat(number).st_size))
    for _ in range(3):
        files.append(tmp_path / "log", b"12345")
    assert sizes == [5, 10, 15]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_while_appending():
    with pytest.raises(FileError) as caught:
        files.append("/dev/full", b"line\n")
    assert (caught.value.key, caught.value.values["size"]) == ("disk_full", 5)


def test_removing_twice_is_removing_once(tmp_path):
    files.write(tmp_path / "f", b"1")
    files.remove(tmp_path / "f")
    files.remove(str(tmp_path / "f"))
    assert names(tmp_path) == []


def test_a_folder_is_not_removed(tmp_path):
    with pytest.raises(FileError, match="BL602"):
        files.remove(tmp_path)
    assert tmp_path.is_dir()


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [files.read, files.read_json, files.read_tensors])
def test_every_reader_says_that_there_is_no_file(tmp_path, function):
    with pytest.raises(FileError) as caught:
        function(tmp_path / "absent")
    assert caught.value.code == "BL603"
    assert "absent" in str(caught.value)


@pytest.mark.parametrize("function", [files.read, files.read_json, files.read_tensors])
def test_every_reader_says_that_it_cannot_be_read(tmp_path, function):
    with pytest.raises(FileError) as caught:
        function(tmp_path)
    assert caught.value.code == "BL604"
    assert caught.value.part("got") == os.strerror(errno.EISDIR)


# --- JSON -----------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_json_comes_back(tmp_path_factory, value):
    place = tmp_path_factory.mktemp("json") / "v.json"
    files.write_json(place, value)
    again = files.read_json(place)
    assert again == value
    assert json.dumps(again) == json.dumps(value), "1 is not 1.0, and -0.0 is not 0.0"


def test_json_can_be_read_by_people(tmp_path):
    text = files.write_json(tmp_path / "v.json", {"a": "误差", "b": [1]}).read_text("utf-8")
    assert "误差" in text
    assert text.endswith("}\n")
    assert len(text.splitlines()) == 6


def test_what_is_no_json_value_leaves_the_file_alone(tmp_path):
    files.write_json(tmp_path / "v.json", 1)
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "v.json", {"x": object()})
    assert files.read_json(tmp_path / "v.json") == 1
    assert names(tmp_path) == ["v.json"]


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": 1', b'{"a": }', b"\xff\xfe\xfd", b"nul", b"[1] 2", b"[" * 100_000])
def test_damaged_json(tmp_path, data):
    (tmp_path / "v.json").write_bytes(data)
    with pytest.raises(FileError) as caught:
        files.read_json(tmp_path / "v.json")
    assert caught.value.code == "BL605"
    assert caught.value.part("got")
    assert "v.json" in str(caught.value)


def test_json_cut_anywhere_is_noticed(tmp_path):
    whole = files.write_json(tmp_path / "v.json", HEADER).read_bytes()
    for size in range(len(whole.rstrip())):
        (tmp_path / "v.json").write_bytes(whole[:size])
        with pytest.raises(FileError, match="BL605"):
            files.read_json(tmp_path / "v.json")


# --- tensors --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tensors(tmp_path):
    return files.write_tensors(tmp_path / "t.safetensors", ARRAYS, HEADER)


def test_tensors_come_back_to_the_bit(tensors):
    arrays, header = files.read_tensors(tensors)
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[::-1],
        lambda a: a[:, ::2],
        np.asfortranarray,
        lambda a: np.broadcast_to(a[0], (4, 6)),
    ],
)
def test_views_are_written_in_the_order_they_are_read(tmp_path, view):
    array = view(np.arange(24.0).reshape(4, 6))
    found, _ = files.read_tensors(files.write_tensors(tmp_path / "t", {"a": array}, {}))
    assert found["a"].tolist() == array.tolist()


def test_the_format_is_the_published_one(tensors):
    """Eight bytes of length, a JSON table of dtype, shape and offsets, then the bytes."""
    data = tensors.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    assert json.loads(table.pop("__metadata__")["backlit"]) == HEADER
    begin, end = table["dense1.W"]["data_offsets"]
    assert (table["dense1.W"]["dtype"], table["dense1.W"]["shape"]) == ("F32", [2, 3])
    assert data[8 + length :][begin:end] == ARRAYS["dense1.W"].tobytes()


def test_arrays_read_can_be_written_to(tensors):
    arrays, _ = files.read_tensors(tensors)
    arrays["dense1.W"] += 1
    assert np.array_equal(arrays["dense1.W"], ARRAYS["dense1.W"] + 1)


def test_no_arrays_are_a_file_too(tmp_path):
    assert files.read_tensors(files.write_tensors(tmp_path / "t", {}, {"a": 1})) == ({}, {"a": 1})


def test_a_file_cut_anywhere_is_noticed(tensors):
    whole = tensors.read_bytes()
    for size in range(0, len(whole), 3):
        tensors.write_bytes(whole[:size])
        with pytest.raises(FileError, match="BL605"):
            files.read_tensors(tensors)


def test_bytes_too_many_are_noticed(tensors):
    tensors.write_bytes(tensors.read_bytes() + b"\0")
    with pytest.raises(FileError, match="BL605"):
        files.read_tensors(tensors)


def flipped(data, at, bit):
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_of_the_head_is_noticed_or_read_but_never_a_crash(tensors, bit):
    """In a name, another name is read; wherever the table breaks, the error is that of a damaged file."""
    whole = tensors.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    noticed = 0
    for at in range(head):
        tensors.write_bytes(flipped(whole, at, bit))
        try:
            arrays, _ = files.read_tensors(tensors)
        except FileError as error:
            noticed += error.code == "BL605"
        else:
            assert len(arrays) == len(ARRAYS)
    assert noticed > head / 3


def test_a_flipped_bit_of_the_data_changes_that_entry_alone(tensors):
    whole = tensors.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    for at in range(head, len(whole), 5):
        tensors.write_bytes(flipped(whole, at, 0))
        try:
            arrays, header = files.read_tensors(tensors)
        except FileError:  # pragma: no cover  a truth value of 2 may be refused
            continue
        changed = sum(
            a.tobytes()[i : i + a.itemsize] != ARRAYS[n].tobytes()[i : i + a.itemsize]
            for n, a in arrays.items()
            for i in range(0, a.nbytes, a.itemsize)
        )
        assert (changed, header) == (1, HEADER)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"other": "{}"}, {"backlit": "{"}, {"backlit": ""}],
)
def test_safetensors_of_another_program(tmp_path, metadata):
    from safetensors.numpy import save

    (tmp_path / "t").write_bytes(save({"a": np.ones(2)}, metadata=metadata))
    with pytest.raises(FileError) as caught:
        files.read_tensors(tmp_path / "t")
    assert caught.value.code == "BL605"
    assert "backlit" in caught.value.part("expected")


def test_a_full_disk_leaves_the_former_tensors(tensors, monkeypatch):
    monkeypatch.setattr(os, "fsync", fails_with(errno.ENOSPC))
    with pytest.raises(FileError, match="BL601"):
        files.write_tensors(tensors, {"a": np.ones(3)}, {})
    assert files.read_tensors(tensors)[0].keys() == ARRAYS.keys()
