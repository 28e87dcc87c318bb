"""Preprocessing is fitted on the training rows alone, survives JSON, and applies unchanged to new files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.core.errors import FileError, InputError
from backlit.data import ArrayPreprocessing, Preprocessing, Scaler, Target, from_csv, load, read_inputs
from backlit.data.preprocessing import TablePreprocessing, index_names, read_marks
from backlit.data.table import Table

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: f"{v:.6g}")
CELLS = st.tuples(st.one_of(NUMBERS, st.just("")), st.sampled_from(["u", "v", "w", ""]))


def table(rows, names=("n", "c")):
    cells = np.empty((len(rows), len(names)), dtype=object)
    cells[:] = rows
    return Table(names, cells, np.arange(2, len(rows) + 2), "t")


def fit(train):
    return TablePreprocessing.fit(train, {"n": ".", "c": None})[0]


TRAIN = [("1", "u"), ("", "v"), ("4", "u"), ("7", ""), ("20", "v"), ("5", "w")]


def test_by_hand():
    fitted = fit(table(TRAIN))
    filled = np.array([1, 5, 4, 7, 20, 5])  # the median of 1, 4, 5, 7, 20 is 5
    X = fitted.transform(table(TRAIN))
    assert fitted.features == ("n", "c=u", "c=v", "c=w")
    assert np.allclose(X[:, 0], (filled - filled.mean()) / filled.std(), atol=1e-6)
    assert X[:, 1:].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]


@given(st.lists(CELLS, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_other_rows_do_not_change_the_transform(others):
    """A row's X is the same alone, among others, and whatever the others are."""
    fitted, one = fit(table(TRAIN)), table([("3.5", "v")])
    alone = fitted.transform(one)
    among = fitted.transform(table([*others, ("3.5", "v")]))
    assert among.shape == (len(others) + 1, 4)
    assert np.array_equal(among[-1], alone[0])


@given(st.lists(st.floats(-1e3, 1e3).map(lambda v: round(v, 3)), min_size=12, max_size=12))
@settings(max_examples=15, deadline=None)
def test_test_rows_do_not_change_what_training_sees(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "leak.csv"

    def written(changed):
        rows = [f"{changed.get(i, i * i % 17)},{'uvw'[i % 3]},{i * 0.5}" for i in range(60)]
        path.write_text("n,c,y\n" + "\n".join(rows))
        return from_csv(path, target="y")

    plain = written({})
    tested = [round(v * 2) for v in plain.target.to_units(plain.test[1])[:, 0]]
    other = written(dict(zip(tested, values, strict=True)))
    assert np.array_equal(plain.train[0], other.train[0])
    assert plain.preprocessing == other.preprocessing
    assert plain.target == other.target


def test_training_rows_do_change_it():
    assert fit(table(TRAIN)) != fit(table([*TRAIN[:-1], ("6", "w")]))


def test_json_and_back():
    fitted = fit(table(TRAIN))
    again = Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert np.array_equal(again.transform(table(TRAIN)), fitted.transform(table(TRAIN)))


@pytest.mark.parametrize("name", ["digits", "xor"])
def test_arrays_json_and_back(name):
    data = load(name)
    for fitted in (data.preprocessing, data.flattened().preprocessing):
        assert Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    assert Target.from_dict(json.loads(json.dumps(data.target.to_dict()))) == data.target


def test_unseen_and_missing_are_said():
    fitted, other = fit(table(TRAIN)), table([("", "q"), ("2", "r"), ("3", ""), ("4", "q"), ("5", "u")])
    X, notes = fitted.transform(other), [r.text() for r in fitted.remarks(other)]
    assert X[:4, 1:].tolist() == [[0, 0, 0]] * 4
    assert "Column 'n': 1 missing values become the training median 5." in notes
    assert "Column 'c': 3 rows have a category not seen in training (q, r); all zeros." in notes
    assert "Column 'c': 1 missing values belong to no category (all zeros)." in notes


def test_nothing_to_say_of_a_whole_row():
    assert fit(table(TRAIN)).remarks(table([("1", "u")])) == ()


def test_a_cell_that_is_no_number_is_named():
    with pytest.raises(InputError, match=r"t, line 3: column 'n' holds numbers(.|\n)*'many'"):
        fit(table(TRAIN)).transform(table([("1", "u"), ("many", "u")]))


def test_marks_are_read_off_the_whole_table():
    assert read_marks(table([("1,5", "u"), ("2", "3")]), ()) == {"n": ",", "c": None}
    assert read_marks(table([("1", "2")]), ["n"]) == {"n": None, "c": "."}


def written_csv(write, name="train.csv"):
    rows = [f"{'uvw'[i % 3]},{i * 0.5},{i % 7}" for i in range(40)]
    return from_csv(write("c,y,n\n" + "\n".join(rows), name), target="y")


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ("n,c\n3,v\n6,u\n", ["3v", "6u"]),
        ("c;id;n\nv;1;3\nu;2;6\n", ["3v", "6u"]),
        ("y,n,c\n,3,v\n", ["3v"]),
    ],
)
def test_columns_of_a_new_file_are_found_by_name(write, content, want):
    data = written_csv(write)
    X, remarks = read_inputs(write(content, "new.csv"), data.preprocessing)
    whole = np.concatenate([pair[0] for pair in data.parts.values()])
    y = np.concatenate([data.target.to_units(pair[1])[:, 0] * 2 for pair in data.parts.values()]).round().astype(int)
    known = {f"{i % 7}{'uvw'[i % 3]}": x for i, x in zip(y, whole, strict=True)}
    assert np.array_equal(X, [known[key] for key in want])
    assert remarks == ()


def test_columns_that_are_not_there(write):
    data = written_csv(write)
    with pytest.raises(InputError, match=r"new.csv: columns that the model was trained on(.|\n)*expected: c\n"):
        read_inputs(write("n,d\n1,2\n", "new.csv"), data.preprocessing)
    with pytest.raises(InputError, match=r"trained on(.|\n)*X\[2, 3\]"):
        data.preprocessing.transform(np.zeros((2, 3)))
    with pytest.raises(FileError, match="no such file"):
        read_inputs("absent.csv", data.preprocessing)


def test_images_from_files(write, tmp_path):
    data = load("digits")
    raw = np.round(data.test[0][:3] * 16).astype(np.uint8)
    np.savez(tmp_path / "new.npz", X=raw[..., 0])
    np.save(tmp_path / "new.npy", raw)
    rows = "\n".join(",".join(map(str, image.ravel())) for image in raw)
    headed = ",".join(f'"{name}"' for name in ("label", *data.features)) + "\n"
    headed += "\n".join("7," + row for row in rows.split("\n"))
    files = (tmp_path / "new.npz", tmp_path / "new.npy", write(rows, "rows.csv"), write(headed, "headed.csv"))
    for file in files:
        assert np.array_equal(read_inputs(file, data.preprocessing)[0], data.test[0][:3])
        assert np.array_equal(read_inputs(file, data.flattened().preprocessing)[0], data.flattened().test[0][:3])


def test_samples_of_another_shape(write, tmp_path):
    fitted = load("digits").preprocessing
    with pytest.raises(InputError, match=r"X\[N, 8, 8, 1\] \| X\[N, 64\] \| X\[N, 8, 8\](.|\n)*X\[2, 1, 8, 8\]"):
        fitted.transform(np.zeros((2, 1, 8, 8)))
    with pytest.raises(InputError, match=r"X\[2, 3\]"):
        read_inputs(write("1,2,3\n4,5,6\n"), fitted)
    with pytest.raises(InputError, match="shape"):
        fitted.transform(np.zeros(64))
    with pytest.raises(InputError, match="not a finite number"):
        fitted.transform(np.full((1, 64), np.nan))
    np.savez(tmp_path / "odd.npz", Z=np.zeros(3))
    with pytest.raises(InputError, match="looked for"):
        read_inputs(tmp_path / "odd.npz", fitted)


@given(st.lists(st.tuples(*[st.floats(-1e5, 1e5)] * 2), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_a_scaler_standardises_and_comes_back(rows):
    X = np.array(rows)
    scaler = Scaler.fit(X)
    Z = (X - np.array(scaler.mean)) / np.array(scaler.std)
    for column, z in zip(X.T, Z.T, strict=True):
        if np.ptp(column) > 1e-6:
            assert abs(z.mean()) < 1e-6
            assert abs(z.std() - 1) < 1e-6
    assert np.allclose(scaler.apply(X), Z, atol=1e-5)
    assert np.allclose(scaler.undo(Z), X, atol=1e-6)


def test_a_constant_column_stays_finite():
    scaler = Scaler.fit(np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 2.0]]))
    assert scaler.std[0] == 1.0
    assert np.abs(scaler.apply(np.array([[0.1, 2.0]]))).max() < 1e-6


def test_bytes_are_scaled_exactly_and_not_changed():
    X = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    assert np.array_equal(Scaler((0.0,), (255.0,)).apply(X)[:, 0], np.arange(256, dtype=np.float32) / np.float32(255))
    assert np.array_equal(X[:, 0], np.arange(256))


def test_targets_come_back_in_units():
    target = Target.fit("price", None, np.array([1.0, 2.0, 6.0]), "t")
    z = target.encode(np.array([1.0, 2.0, 6.0]))
    assert (z.shape, z.dtype) == ((3, 1), np.float32)
    assert np.allclose(z[:, 0], (np.array([1, 2, 6]) - 3) / np.sqrt(14 / 3))
    assert np.allclose(target.to_units(z)[:, 0], [1, 2, 6])
    labels = Target("kind", ("a", "b"))
    assert labels.to_units([0, 1]) == [0, 1]


def test_feature_names():
    assert index_names("x", (3,)) == ("x[0]", "x[1]", "x[2]")
    assert index_names("p", (1, 2, 1)) == ("p[0,0]", "p[0,1]")
    assert len(index_names("p", (4, 4, 3))) == 48
    assert ArrayPreprocessing((2,), ("a", "b")).features == ("a", "b")
