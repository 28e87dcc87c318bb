"""Data by name, from a file, or from arrays: split, then made model-ready by what the training part alone tells.

>>> data = load("digits")
>>> X, y = data.train           # X float32, y int64 labels, or standardised float32 targets y[N, 1]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backlit.data.arrays import from_arrays
    from backlit.data.buckets import Buckets
    from backlit.data.catalogue import NAMES, load
    from backlit.data.dataset import Dataset
    from backlit.data.files import from_csv, from_npz, read_inputs
    from backlit.data.fingerprints import fingerprint
    from backlit.data.preprocessing import ArrayPreprocessing, Preprocessing, TablePreprocessing
    from backlit.data.remarks import Remark
    from backlit.data.scaling import Scaler, Target
    from backlit.data.sequences import Padded, pad
    from backlit.data.sources import read
    from backlit.data.validate import check_features, check_labels, check_lengths

_HOMES = {
    "arrays": "from_arrays",
    "buckets": "Buckets",
    "catalogue": "NAMES load",
    "dataset": "Dataset",
    "files": "from_csv from_npz read_inputs",
    "fingerprints": "fingerprint",
    "preprocessing": "ArrayPreprocessing Preprocessing TablePreprocessing",
    "remarks": "Remark",
    "scaling": "Scaler Target",
    "sequences": "Padded pad",
    "sources": "read",
    "validate": "check_features check_labels check_lengths",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Training needs the checks alone; the rest is loaded when it is used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'backlit.data' has no attribute {name!r}")
    return getattr(import_module(f"backlit.data.{_HOME_OF[name]}"), name)


__all__ = [
    "NAMES",
    "ArrayPreprocessing",
    "Buckets",
    "Dataset",
    "Padded",
    "Preprocessing",
    "Remark",
    "Scaler",
    "TablePreprocessing",
    "Target",
    "check_features",
    "check_labels",
    "check_lengths",
    "fingerprint",
    "from_arrays",
    "from_csv",
    "from_npz",
    "load",
    "pad",
    "read",
    "read_inputs",
]
