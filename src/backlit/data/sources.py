"""Where the files of the published data sets come from: a folder, the cache, or the publisher; always by checksum."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from backlit.core.errors import FileError
from backlit.core.i18n import say
from backlit.core.names import lookup

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_NAMES = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
_PLAYS = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
_WINE = "https://raw.githubusercontent.com/jbrownlee/Datasets/master/"


@dataclass(frozen=True)
class Source:
    """One file. It may lie packed under ``path``, or plain under the same name without ``.gz`` or ``.xz``."""

    path: str
    """Relative to the data folder."""

    sha256: str
    url: str = ""
    """Where it can be downloaded: as it is, or plain where ``plain_sha256`` is given. Empty: nowhere in this form."""

    plain_sha256: str = ""
    origin: tuple[str, int] | None = None
    """For the CIFAR-10 subset: member of the original archive, and how many records of it."""

    made_from: str = ""
    """Message key: what it was made from, where nobody offers it in this form."""

    @property
    def forms(self) -> dict[str, str]:
        """Relative path -> SHA-256 of each form the file may have."""
        plain = {self.path.rpartition(".")[0]: self.plain_sha256} if self.plain_sha256 else {}
        return {self.path: self.sha256} | plain

    @property
    def download(self) -> tuple[str, str]:
        """Relative path and SHA-256 of what ``url`` gives."""
        return list(self.forms.items())[-1]


def _table(*sources: Source) -> dict[str, Source]:
    return {source.path: source for source in sources}


def _idx(folder: str, url: str, sums: dict[str, str]) -> list[Source]:
    return [Source(f"{folder}/{name}-ubyte.gz", sha, f"{url}{name}-ubyte.gz") for name, sha in sums.items()]


FILES = _table(
    *_idx("mnist", _MNIST, {
        "train-images-idx3": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }),
    *_idx("fashion_mnist", _FASHION, {
        "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }),
    Source(
        "cifar10/data_batch_1.bin.xz",
        "92b0d8c8bace82f7aa6e42ccef85aa5fc4acaff733d10e39e4f3993dda42e6d5",
        plain_sha256="cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        origin=("data_batch_1.bin", 10_000),
    ),
    Source(
        "cifar10/test_batch_first1000.bin.xz",
        "67327cfbabd8af19fa32feae6db6521bce822f7b2ae3c0501fa54c23ce4ded50",
        plain_sha256="8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5",
        origin=("test_batch.bin", 1_000),
    ),
    Source(
        "california_housing/housing.csv.gz",
        "172bf1252dec04c4e3179b95aa7ef7626adeb0a4ef3addd40b9c2510dfbd7585",
        "https://raw.githubusercontent.com/ageron/handson-ml/master/datasets/housing/housing.csv",
        "8a3727f4cf54ac1a327f69b1d5b4db54c5834ea81c6e4efc0d163300022a685e",
    ),
    Source(
        "bike_sharing/hour.csv.gz",
        "e2b01cdf412dbe19f34b3024c576b8102fd72f87462b063d674a3b194df2fc01",
        "https://raw.githubusercontent.com/udacity/deep-learning-v2-pytorch/master/project-bikesharing/Bike-Sharing-Dataset/hour.csv",
        "e03de4ee4ef4dc376ac6e04bf829673c6269e8eba5c60fa121640fa2f829504f",
    ),
    Source(
        "wine_quality/winequality-red.csv",
        "c9614512e980f1cbd221c796daa97f00c4898c3cd1716863abac60f6cd1a522e",
        f"{_WINE}winequality-red.csv",
    ),
    Source(
        "wine_quality/winequality-white.csv",
        "659d419fff887f225bf977d20520bb64a64cae203e460087f809721d4430ba27",
        f"{_WINE}winequality-white.csv",
    ),
    Source(
        "fsdd/recordings.tar.gz",
        "2d178c1fd9c2a4522b8dcc3c360c6c86bdfd4e1904a9d1f4bc79ce603d24cbf2",
        made_from="origin_fsdd",
    ),
    Source(
        "dsb2018_nuclei/stage1_train_256.npz",
        "4f450300668f14febdda0d4d4af6d50fccd31bc320f6266898df2aba5d034a83",
        made_from="origin_nuclei",
    ),
    Source("names/names.txt", "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d", _NAMES),
    Source("tiny_shakespeare/input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed", _PLAYS),
)  # fmt: skip
"""By path in the data folder. MNIST's first publisher no longer serves it; the copy is the one torchvision uses."""


def read(path: str) -> bytes:
    """The unpacked content of the published file ``path``, one of :data:`FILES`, verified: ``names/names.txt``, ….

    Looks in ``$BACKLIT_DATA``, then in the cache, then downloads into the cache. FileError where it is nowhere, where
    its checksum is not the published one, or where it cannot be unpacked; UnknownNameError for a file that is not
    among them.
    """
    source = lookup(FILES, path, "data_file")
    file, want = next(_present(source), None) or _downloaded(source)
    data = file.read_bytes()
    if (got := sha256(data).hexdigest()) != want:
        raise FileError("data_checksum", path=file, want=want, got=got)
    return _unpack(data, file)


def folders() -> list[Path]:
    """Where files are looked for: ``$BACKLIT_DATA`` where set, then the cache."""
    named = os.environ.get("BACKLIT_DATA")
    return [*([Path(named).expanduser()] if named else []), cache_folder()]


def cache_folder() -> Path:
    """``$BACKLIT_CACHE``, or the user's cache folder of this system."""
    named = os.environ.get("BACKLIT_CACHE")
    if named:
        return Path(named).expanduser()
    import pooch  # type: ignore[import-untyped]  # brings in requests: only when it is needed

    return Path(pooch.os_cache("backlit"))


def _present(source: Source) -> Iterator[tuple[Path, str]]:
    for folder in folders():
        for path, checksum in source.forms.items():
            if (folder / path).is_file():
                yield folder / path, checksum


def _downloaded(source: Source) -> tuple[Path, str]:
    if not source.url:
        raise _absent(source, say("data_not_offered", origin=_origin(source)))
    import pooch

    path, checksum = source.download
    file = cache_folder() / path
    try:
        pooch.retrieve(source.url, known_hash=f"sha256:{checksum}", fname=file.name, path=file.parent)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; ValueError: another checksum
        raise _absent(source, say("data_download_failed", url=source.url, error=type(error).__name__)) from error
    return file, checksum


def _origin(source: Source) -> str:
    """What a file that nobody offers was made from."""
    if source.made_from:
        return say(source.made_from)
    member, count = source.origin or ("", 0)
    return say("origin_cifar10", member=f"cifar-10-batches-bin/{member}", count=f"{count:,}")


def _absent(source: Source, reason: str) -> FileError:
    places = [str(folder / path) for folder in folders() for path in source.forms]
    return FileError("data_absent", file=source.path, places=", ".join(places), reason=reason, target=places[-1])


def _unpack(data: bytes, file: Path) -> bytes:
    try:
        if file.suffix == ".gz":
            return gzip.decompress(data)
        return lzma.decompress(data) if file.suffix == ".xz" else data
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FileError("data_file_corrupt", path=file, expected=file.suffix, got=str(error)) from error
