"""Where files come from: the folder, the cache, the publisher; and what is said when none of them has the file."""

from __future__ import annotations

import gzip
import lzma
from hashlib import sha256

import pytest

from backlit import data
from backlit.core.errors import FileError, UnknownNameError
from backlit.core.i18n import use_language
from backlit.data import load, sources
from backlit.data.sources import FILES, Source

PLAIN = b"1,2,3\n"
PACKED = gzip.compress(PLAIN, mtime=0)
URL = "https://example.org/toy.csv"


def digest(content):
    return sha256(content).hexdigest()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty data folder and an empty cache, and one file known to the table."""
    monkeypatch.setenv("BACKLIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path / "cache"))
    source = Source("toy/toy.csv.gz", digest(PACKED), URL, digest(PLAIN))
    monkeypatch.setitem(FILES, source.path, source)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """Every download fails, and is counted."""
    calls = []

    def retrieve(url, **_options):
        calls.append(url)
        raise ConnectionError("no route to host")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    return calls


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("folder", ["data", "cache"])
@pytest.mark.parametrize(("name", "content"), [("toy.csv.gz", PACKED), ("toy.csv", PLAIN)])
def test_a_file_is_found_packed_or_plain(folders, no_network, folder, name, content):
    put(folders / folder / "toy" / name, content)
    assert sources.read("toy/toy.csv.gz") == PLAIN
    assert no_network == []


def test_the_folder_comes_before_the_cache(folders, no_network):
    put(folders / "data" / "toy" / "toy.csv.gz", PACKED)
    put(folders / "cache" / "toy" / "toy.csv.gz", b"another")
    assert sources.read("toy/toy.csv.gz") == PLAIN


def test_without_the_variable_there_is_the_cache(folders, no_network, monkeypatch):
    monkeypatch.delenv("BACKLIT_DATA")
    assert sources.folders() == [folders / "cache"]
    monkeypatch.delenv("BACKLIT_CACHE")
    assert [folder.name for folder in sources.folders()] == ["backlit"]


def test_another_checksum_is_said_with_both(folders, no_network):
    put(folders / "data" / "toy" / "toy.csv.gz", PACKED + b"x")
    with pytest.raises(FileError) as caught:
        sources.read("toy/toy.csv.gz")
    assert caught.value.key == "data_checksum"
    assert digest(PACKED) in caught.value.part("expected")
    assert digest(PACKED + b"x") in caught.value.part("got")
    assert no_network == []


def test_a_download_goes_to_the_cache_and_is_verified(folders, monkeypatch):
    def retrieve(url, known_hash, fname, path):
        assert (url, known_hash, fname) == (URL, f"sha256:{digest(PLAIN)}", "toy.csv")
        put(path / fname, PLAIN)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert sources.read("toy/toy.csv.gz") == PLAIN
    monkeypatch.setattr("pooch.retrieve", None)
    assert sources.read("toy/toy.csv.gz") == PLAIN, "the second time it is there"


def test_offline_it_says_what_is_missing_where_and_what_to_do(folders, no_network):
    with pytest.raises(FileError) as caught:
        sources.read("toy/toy.csv.gz")
    text = str(caught.value)
    assert no_network == [URL]
    assert caught.value.key == "data_absent"
    for words in (
        "toy/toy.csv.gz",
        str(folders / "data" / "toy"),
        str(folders / "cache" / "toy"),
        URL,
        "ConnectionError",
        "BACKLIT_DATA",
    ):
        assert words in text
    assert str(folders / "cache" / "toy" / "toy.csv") in caught.value.part("fix")
    with use_language("zh"):
        assert "无法访问" in str(caught.value) or "BACKLIT_DATA" in str(caught.value)


def test_following_the_advice_works(folders, no_network):
    with pytest.raises(FileError) as caught:
        sources.read("toy/toy.csv.gz")
    put(type(folders)(str(caught.value.values["target"])), PLAIN)
    assert sources.read("toy/toy.csv.gz") == PLAIN


@pytest.mark.parametrize("name", ["mnist", "california_housing", "wine_quality", "bike_sharing"])
def test_loading_by_name_offline(folders, no_network, name):
    with pytest.raises(FileError, match="neither here nor to be downloaded"):
        load(name)
    assert len(no_network) == 1


def test_the_subset_of_cifar10_is_not_downloaded(folders, no_network):
    with pytest.raises(FileError, match=r"first 10,000 records of cifar-10-batches-bin/data_batch_1.bin") as caught:
        load("cifar10")
    assert no_network == []
    assert "www.cs.toronto.edu" in str(caught.value)


def test_a_download_with_another_checksum(folders, monkeypatch):
    """pooch says so by a ValueError."""

    def retrieve(*_args, **_options):
        raise ValueError("SHA256 hash of downloaded file does not match the known hash")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(FileError, match="ValueError"):
        sources.read("toy/toy.csv.gz")


@pytest.mark.parametrize(("name", "content"), [("toy.csv.gz", PACKED[:-4]), ("toy.csv.xz", lzma.compress(PLAIN)[:-9])])
def test_a_published_file_that_cannot_be_unpacked(folders, monkeypatch, name, content):
    monkeypatch.setitem(FILES, f"toy/{name}", Source(f"toy/{name}", digest(content)))
    put(folders / "data" / "toy" / name, content)
    with pytest.raises(FileError, match="damaged"):
        sources.read(f"toy/{name}")


def test_the_table_is_whole():
    for path, source in FILES.items():
        assert source.path == path
        assert all(len(checksum) == 64 and int(checksum, 16) for checksum in source.forms.values())
        assert source.url.startswith("http") or source.origin or source.made_from
        assert not source.url or source.url.endswith(source.download[0].rpartition("/")[2])


def test_a_file_that_nobody_knows_is_named_with_its_nearest():
    with pytest.raises(UnknownNameError, match=r"names/names\.txt"):
        data.read("names/name.txt")


@pytest.mark.parametrize(("path", "symbols"), [("names/names.txt", 27), ("tiny_shakespeare/input.txt", 65)])
def test_texts_are_read_as_they_are(published, path, symbols):
    text = data.read(path)
    assert text == (published / path).read_bytes()
    assert len(set(text.decode())) == symbols


def test_the_published_files_have_their_checksums(data_folder):
    for path, source in FILES.items():
        packed = (data_folder / path).read_bytes()
        assert digest(packed) == source.sha256
        if source.plain_sha256:
            plain = gzip.decompress(packed) if path.endswith(".gz") else lzma.decompress(packed)
            assert digest(plain) == source.plain_sha256
