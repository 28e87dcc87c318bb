"""Data by name, from a file, or from arrays: split, then made model-ready by what the training part alone tells.

>>> data = load("digits")
>>> X, y = data.train           # X float32, y int64 labels, or standardised float32 targets y[N, 1]
"""

from backlit.data.arrays import from_arrays
from backlit.data.catalogue import NAMES, load
from backlit.data.dataset import Dataset, fingerprint
from backlit.data.files import from_csv, from_npz, read_inputs
from backlit.data.preprocessing import ArrayPreprocessing, Preprocessing, TablePreprocessing
from backlit.data.remarks import Remark
from backlit.data.scaling import Scaler, Target
from backlit.data.validate import check_features, check_labels, check_lengths

__all__ = [
    "NAMES",
    "ArrayPreprocessing",
    "Dataset",
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
    "read_inputs",
]
