"""The table of mistakes that a user makes, with what must be said of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import backlit as bl
from backlit.core import files
from backlit.core.errors import BacklitError, FileError, GraphError, InputError, NumericError, UnknownNameError
from backlit.data import sources
from backlit.train.rundir import RunDir

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4))
Y = np.arange(20) % 3
VALUES = RNG.normal(size=(20, 2))


@dataclass(frozen=True)
class Mistake:
    """``make(place)`` makes it, in the folder ``place`` that ``before(place)`` has filled."""

    what: str
    make: Callable[[Path], Any]
    error: type[BacklitError]
    code: str
    says: tuple[str, ...]
    """What the message must contain in any language: the layer or file, axis names and numbers, what came."""
    advises: tuple[str, ...] = ()
    """What the remedy must contain."""
    before: Callable[[Path], Any] = field(default=lambda place: None)


def mlp(*layers):
    return bl.Sequential(*(layers or (bl.Dense(8, "relu"), bl.Dense(3))))


def built():
    return mlp().build((4,))


def fit(model=None, data=(X, Y), **options):
    settings = {"loss": "softmax_cross_entropy", "epochs": 1, "progress": False} | options
    return bl.fit(mlp() if model is None else model, data, **settings)


def changed(array, index, value):
    copy = array.copy()
    copy[index] = value
    return copy


# --- arrays ---------------------------------------------------------------------------------------------------------

ARRAYS = [
    Mistake("wrong feature count in training", lambda _: fit(built(), (X[:, :3], Y)),
            InputError, "BL305", ("Sequential", "x[N, 4]", "x[20, 3]")),
    Mistake("wrong feature count in prediction", lambda _: built().predict(X[:, :3]),
            InputError, "BL305", ("Sequential", "x[N, 4]", "x[20, 3]")),
    Mistake("transposed input in training", lambda _: fit(data=(X.T, Y)),
            InputError, "BL520", ("x_train, y_train", "X[N, …]", "X[4, 20], y[20]")),
    Mistake("transposed input in prediction", lambda _: built().predict(X.T),
            InputError, "BL305", ("x[N, 4]", "x[4, 20]")),
    Mistake("one sample without the batch axis", lambda _: built().predict(X[0]),
            InputError, "BL305", ("x[N, 4]", "x[4]"), ("x[None]",)),
    Mistake("labels out of range", lambda _: fit(data=(X, changed(Y, 7, 3))),
            InputError, "BL525", ("y_train", " 0 ", " 2 ", " 3 ", "y_train[7]")),
    Mistake("labels counted from 1 in a gradient",
            lambda _: bl.value_and_grad(built(), X, Y + 1, loss="softmax_cross_entropy"),
            InputError, "BL525", ("y[2]", " 3 ")),
    Mistake("labels out of range in a check",
            lambda _: bl.check(built(), X, changed(Y, 4, 9), loss="softmax_cross_entropy"),
            InputError, "BL525", ("y[4]", " 9")),
    Mistake("a negative label", lambda _: fit(data=(X, changed(Y, 5, -2))),
            InputError, "BL525", ("-2", "y_train[5]")),
    Mistake("bad labels in the validation data", lambda _: fit(validation=(X, changed(Y, 5, 40))),
            InputError, "BL525", ("y_validation[5]", "40")),
    Mistake("one-hot given for integers", lambda _: fit(data=(X, np.eye(3, dtype=int)[Y])),
            InputError, "BL527", ("y_train[N]", "y_train[20, 3]"), ("argmax(axis=1)",)),
    Mistake("a column of labels", lambda _: fit(data=(X, Y[:, None])),
            InputError, "BL527", ("y_train[N]", "y_train[20, 1]"), ("y_train[:, 0]",)),
    Mistake("float labels", lambda _: fit(data=(X, Y.astype(float))),
            InputError, "BL526", ("y_train[N]", "float64"), ("y_train.astype(int)",)),
    Mistake("float labels in a gradient",
            lambda _: bl.value_and_grad(built(), X, Y * 1.0, loss="softmax_cross_entropy"),
            InputError, "BL526", ("y[N]", "float64")),
    Mistake("NaN in the data", lambda _: fit(data=(changed(X, (3, 1), np.nan), Y)),
            InputError, "BL521", ("nan", "x_train[3, 1]", "1")),
    Mistake("NaN in the targets", lambda _: fit(mlp(bl.Dense(2)), (X, changed(VALUES, (6, 0), np.nan)), loss="mse"),
            InputError, "BL521", ("y_train[6, 0]",)),
    Mistake("infinity in the validation data", lambda _: fit(validation=(changed(X, (5, 2), np.inf), Y)),
            InputError, "BL521", ("inf", "x_validation[5, 2]")),
    Mistake("NaN in the data of a check",
            lambda _: bl.check(built(), changed(X, (0, 2), np.nan), Y, loss="softmax_cross_entropy"),
            InputError, "BL521", ("x[0, 2]",)),
    Mistake("numbers too large for float32", lambda _: fit(data=(changed(X, (3, 1), 1e300), Y)),
            InputError, "BL415", ("x_train", "float32", "3.4e+38"), ("float64",)),
    Mistake("an empty batch in training", lambda _: fit(data=(X[:0], Y[:0])),
            InputError, "BL522", ("x_train[0, 4]",)),
    Mistake("an empty batch in prediction", lambda _: built().predict(X[:0]),
            InputError, "BL315", ("x[0, 4]",)),
    Mistake("object dtype", lambda _: fit(data=(X.astype(object), Y)),
            InputError, "BL523", ("x_train", "object"), ("numpy.asarray(x_train",)),
    Mistake("text data", lambda _: fit(data=(X.astype("U4"), Y)),
            InputError, "BL523", ("x_train", "<U4")),
    Mistake("text labels", lambda _: fit(data=(X, ["cat"] * 20)),
            InputError, "BL523", ("y_train", "<U3")),
    Mistake("text in prediction", lambda _: built().predict(X.astype("U4")),
            InputError, "BL208", ("x: <U4",)),
    Mistake("complex data", lambda _: fit(data=(X + 1j, Y)),
            InputError, "BL523", ("x_train", "complex128")),
    Mistake("rows of unequal length", lambda _: fit(data=([[1, 2], [3]], [0, 1])),
            InputError, "BL533", ("x_train[N, …]", "(2,)")),
    Mistake("rows of unequal length in prediction", lambda _: built().predict([[1, 2], [3]]),
            InputError, "BL533", ("x[N, …]",)),
    Mistake("X and y of unequal length", lambda _: fit(data=(X, Y[:-1])),
            InputError, "BL520", ("X[20, 4], y[19]", "N")),
    Mistake("two inputs of unequal length", lambda _: fit(bl.Model(lambda a, b: bl.Dense(3)(a + b)), ((X, X[:-1]), Y)),
            InputError, "BL520", ("x2_train", "X[19, 4], y[20]")),
    Mistake("data that are no pair", lambda _: fit(data=X),
            InputError, "BL406", ("(X, y)", "ndarray"), ("fit(model, (X, y)",)),
    Mistake("a share for validation", lambda _: fit(validation=0.2),
            InputError, "BL406", ("validation", "float")),
    Mistake("pred [N, 1] against target [N, 2]", lambda _: fit(mlp(bl.Dense(1)), (X, VALUES), loss="mse"),
            InputError, "BL151", ("pred[20, 1], target[20, 2]", "target[20, 1]")),
    Mistake("probabilities outside 0 to 1", lambda _: fit(mlp(bl.Dense(1)), (X, Y), loss="binary_cross_entropy"),
            InputError, "BL410", ("y_train", "0 … 2")),
    Mistake("too few sample weights", lambda _: fit(sample_weight=np.ones(3)),
            InputError, "BL409", ("w[20]", "w[3]")),
    Mistake("sample weights that are all 0", lambda _: fit(sample_weight=np.zeros(20)),
            InputError, "BL409", ("Σ w > 0", "0 … 0")),
    Mistake("too many class weights", lambda _: fit(class_weight=[1, 2, 3, 4]),
            InputError, "BL408", ("w[3]", "[1, 2, 3, 4]")),
    Mistake("class weights of a regression",
            lambda _: fit(mlp(bl.Dense(2)), (X, VALUES), loss="mse", class_weight="balanced"),
            InputError, "BL414", ("y[20, 2]", "mse"), ("sample_weight",)),
]  # fmt: skip

# --- options and names ----------------------------------------------------------------------------------------------

OPTIONS = [
    Mistake("batch_size 0", lambda _: fit(batch_size=0), InputError, "BL303", ("fit", "batch_size", "1, 2, 3", " 0")),
    Mistake("epochs 1.5", lambda _: fit(epochs=1.5), InputError, "BL303", ("fit", "epochs", "1, 2, 3", "1.5")),
    Mistake("a seed that is no number", lambda _: fit(seed=None), InputError, "BL303", ("fit", "seed", "None")),
    Mistake("units -3", lambda _: bl.Dense(-3), InputError, "BL303", ("Dense", "units", "1, 2, 3", "-3")),
    Mistake("dropout rate 1.0", lambda _: bl.Dropout(1.0, name="drop"),
            InputError, "BL303", ("drop", "rate", "< 1.0", " 1.0")),
    Mistake("a negative learning rate", lambda _: bl.Adam(-0.1),
            InputError, "BL801", ("Adam", "0 < learning_rate", "-0.1"), ("help(bl.Adam)",)),
    Mistake("label smoothing of 2", lambda _: fit(loss=bl.SoftmaxCrossEntropy(label_smoothing=2)),
            InputError, "BL104", ("label_smoothing", "1", "2")),
    Mistake("a number for clipping", lambda _: fit(clip=1.0),
            InputError, "BL412", ("fit", "clip = 1.0", "bl.ClipByGlobalNorm")),
    Mistake("a misspelt condition", lambda _: fit(until="convergence"),
            InputError, "BL412", ("until = 'convergence'", "'converged'")),
    Mistake("a function that is no list of listeners", lambda _: fit(callbacks=print),
            InputError, "BL412", ("callbacks", "print")),
    Mistake("notes that JSON cannot hold", lambda _: fit(notes={"a": X}),
            InputError, "BL412", ("notes", "JSON", "ndarray")),
    Mistake("early stopping without validation", lambda _: fit(early_stopping=True),
            InputError, "BL413", ("val_loss", "validation"), ("validation=(Xv, yv)",)),
    Mistake("a misspelt metric to watch", lambda _: fit(early_stopping=bl.EarlyStopping("val_acc"), validation=(X, Y)),
            UnknownNameError, "BL001", ("'val_acc'", "val_accuracy")),
    Mistake("an unknown loss", lambda _: fit(loss="softmax_crossentropy"),
            UnknownNameError, "BL001", ("'softmax_crossentropy'",), ("softmax_cross_entropy",)),
    Mistake("an unknown optimizer", lambda _: fit(optimizer="adm"), UnknownNameError, "BL001", ("'adm'",), ("adam",)),
    Mistake("an unknown activation", lambda _: bl.Dense(3, "rellu"),
            UnknownNameError, "BL001", ("'rellu'",), ("relu",)),
    Mistake("an unknown initializer", lambda _: mlp(bl.Dense(3, init="he_norml")).build((4,)),
            UnknownNameError, "BL001", ("'he_norml'",), ("he_normal",)),
    Mistake("an unknown metric", lambda _: fit(metrics=["acuracy"]),
            UnknownNameError, "BL001", ("'acuracy'",), ("accuracy",)),
    Mistake("an unknown engine", lambda _: fit(engine="refrence"),
            UnknownNameError, "BL001", ("'refrence'",), ("reference",)),
    Mistake("an unknown data set", lambda _: bl.data.load("minst"),
            UnknownNameError, "BL001", ("'minst'",), ("mnist",)),
    Mistake("a loss's class instead of a loss", lambda _: fit(loss=bl.MSE),
            InputError, "BL317", ("loss", "MSE"), ("bl.MSE()",)),
    Mistake("an optimizer's class", lambda _: fit(optimizer=bl.Adam), InputError, "BL803", ("Adam",), ("bl.Adam()",)),
    Mistake("a model's class", lambda _: fit(bl.Sequential), InputError, "BL411", ("Sequential",), ("Sequential(…)",)),
    Mistake("a list of layers for a model", lambda _: fit([bl.Dense(3)]), InputError, "BL411", ("fit", "[Dense(")),
]  # fmt: skip

# --- models and functions -------------------------------------------------------------------------------------------


class Inward(bl.Layer):
    """A layer that calls itself."""

    def stage(self, scope, *inputs):
        return self(*inputs)


def sequential_in_itself(_):
    loop = mlp(bl.Dense(4))
    loop.layers = (bl.Dense(4), loop)
    loop.build((4,))


def shared_between_widths(_):
    shared = bl.Dense(3, name="both")
    mlp(shared, shared).build((4,))


MODELS = [
    Mistake("a layer called within itself", lambda _: mlp(Inward()).build((4,)),
            GraphError, "BL205", ("inward", "Inward → inward")),
    Mistake("a Sequential inside itself", sequential_in_itself, GraphError, "BL205", ("Sequential → Sequential",)),
    Mistake("a shape clash in a residual", lambda _: mlp(bl.Dense(8), bl.Residual(bl.Dense(5))).build((4,)),
            InputError, "BL312", ("residual1", "F(x)[2, 8]", "F(x)[2, 5]"), ("F", "x")),
    Mistake("a shape clash in an Add",
            lambda _: bl.Model(lambda x: bl.Add()(bl.Dense(3)(x), bl.Dense(5)(x))).build((4,)),
            InputError, "BL102", ("add1.a", "a[2, 3], b[2, 5]")),
    Mistake("a shape clash in a sum", lambda _: bl.Model(lambda x: bl.Dense(3)(x) + bl.Dense(5)(x)).build((4,)),
            InputError, "BL102", ("add1", "a[2, 3], b[2, 5]")),
    Mistake("a shape clash in a concatenation",
            lambda _: bl.Model(lambda x: bl.Concatenate(axis=0)(bl.Dense(3)(x), bl.Dense(5)(x))).build((4,)),
            InputError, "BL102", ("concatenate1", "[2, 3]", "[2, 5]")),
    Mistake("a shared layer with two widths", shared_between_widths,
            InputError, "BL206", ("both.W", "both.W[3, 4]", "both.W[3, 3]")),
    Mistake("two layers of one name", lambda _: mlp(bl.Dense(3, name="a"), bl.Dense(3, name="a")).build((4,)),
            InputError, "BL207", ("'a'",)),
    Mistake("a layer called on an array", lambda _: bl.Dense(3, name="mine")(X),
            InputError, "BL302", ("mine", "ndarray"), ("Sequential",)),
    Mistake("predict before build", lambda _: mlp().predict(X), InputError, "BL304", ("Sequential",), ("model.build",)),
    Mistake("summary before build", lambda _: mlp().summary(), InputError, "BL304", ("Sequential",), ("model.build",)),
    Mistake("a list given to Sequential", lambda _: bl.Sequential([bl.Dense(3)]),
            InputError, "BL309", ("Sequential", "[Dense("), ("Dense(10)",)),
    Mistake("a class instead of a layer", lambda _: bl.Sequential(bl.Dense),
            InputError, "BL309", ("Sequential", "Dense"), ("Dense(10)",)),
    Mistake("softmax before softmax_cross_entropy", lambda _: fit(mlp(bl.Dense(3), bl.Softmax())),
            InputError, "BL307", ("softmax1.a", "softmax_cross_entropy"), ("softmax", "model.predict_proba")),
    Mistake("a sigmoid before binary_cross_entropy",
            lambda _: fit(mlp(bl.Dense(1, "sigmoid")), (X, Y % 2), loss="binary_cross_entropy"),
            InputError, "BL307", ("dense1.a", "binary_cross_entropy", "sigmoid")),
    Mistake("a model that returns nothing", lambda _: bl.Model(lambda x: None).build((4,)),
            InputError, "BL308", ("Model", "NoneType")),
    Mistake("one input for two", lambda _: fit(bl.Model(lambda a, b: bl.Dense(3)(a + b))),
            InputError, "BL316", ("Model", "a, b")),
    Mistake("two inputs for one", lambda _: fit(data=((X, X), Y)), InputError, "BL316", ("Sequential", "x1, x2")),
    Mistake("a size instead of a sample's shape", lambda _: mlp().build(4),
            InputError, "BL306", ("(64,)", " 4"), ("model.build",)),
    Mistake("a function that returns an array", lambda _: bl.grad(lambda a: a * 2)(np.ones(3)),
            GraphError, "BL211", ("[]", "float64[3]"), ("numpy.sum",)),
    Mistake("if on a symbolic value", lambda _: bl.grad(lambda a: a if a > 0 else -a)(1.0),
            GraphError, "BL209", ("greater1", "if"), ("where",)),
    Mistake("a number out of a symbolic value", lambda _: bl.grad(lambda a: float(a) ** 2)(1.0),
            GraphError, "BL209", ("argument1", "float")),
    Mistake("a NumPy function without a rule", lambda _: bl.grad(lambda a: np.sum(np.convolve(a, a)))(np.ones(3)),
            GraphError, "BL210", ("numpy.convolve", "exp", "tanh")),
    Mistake("a function of linear algebra", lambda _: bl.grad(np.linalg.det)(np.eye(2)),
            GraphError, "BL210", ("numpy.det",)),
    Mistake("matrices that do not fit", lambda _: bl.grad(lambda a, b: np.sum(a @ b))(np.ones((2, 3)), np.ones((2, 3))),
            InputError, "BL102", ("matmul1", "a[…, I, K], b[…, K, J]", "a[2, 3], b[2, 3]")),
    Mistake("text for a function", lambda _: bl.grad(lambda a: a)("x"), InputError, "BL208", ("str",)),
    Mistake("numbers that overflow",
            lambda _: fit(mlp(bl.Dense(2)), (X, VALUES), loss="mse", optimizer=bl.SGD(1e30), epochs=3),
            NumericError, "BL401", ("2", "inf"), ("ClipByGlobalNorm",)),
]  # fmt: skip

# --- files ----------------------------------------------------------------------------------------------------------


def with_model(place):
    bl.save(built(), place / "m.safetensors")


def with_run(place):
    fit(epochs=3, run_dir=place / "run")


def with_cut_model(place):
    with_model(place)
    data = (place / "m.safetensors").read_bytes()
    (place / "m.safetensors").write_bytes(data[: len(data) // 2])


def with_cut_snapshot(place):
    with_run(place)
    last = list(RunDir(place / "run").snapshots().values())[-1]
    last.write_bytes(last.read_bytes()[:-9])


def with_newer_snapshot(place):
    with_run(place)
    last = list(RunDir(place / "run").snapshots().values())[-1]
    arrays, header = files.read_tensors(last)
    files.write_tensors(last, arrays, header | {"format": 99})


def with_table(text, encoding="utf-8"):
    return lambda place: (place / "t.csv").write_bytes(text.encode(encoding))


def load_run(place):
    return bl.open_run(place / "run")


def resume(place, **changes):
    return fit(**{"epochs": 3, "run_dir": place / "run", "resume": True} | changes)


def wrong_bytes_for_published(place):
    """A data folder whose file is not the published one."""
    old = os.environ.get("BACKLIT_DATA")
    os.environ["BACKLIT_DATA"] = str(place)
    try:
        sources.read("wine_quality/winequality-red.csv")
    finally:
        del os.environ["BACKLIT_DATA"]
        if old is not None:
            os.environ["BACKLIT_DATA"] = old


def with_wrong_wine(place):
    (place / "wine_quality").mkdir()
    (place / "wine_quality" / "winequality-red.csv").write_text("not;the;published\n")


FILES = [
    Mistake("a ragged CSV", lambda p: bl.data.from_csv(p / "t.csv"),
            FileError, "BL503", ("t.csv", "3", "2", "','"), ("delimiter",), with_table("a,b\n1,2\n1,2,3\n")),
    Mistake("a CSV that is not UTF-8", lambda p: bl.data.from_csv(p / "t.csv"),
            FileError, "BL504", ("t.csv", "2", "0xe9"), ("UTF-8",), with_table("a,b\n1,café\n", "latin1")),
    Mistake("a missing target column", lambda p: bl.data.from_csv(p / "t.csv", target="prise"),
            UnknownNameError, "BL511", ("t.csv", "'prise'", "size, price"), ("price",),
            with_table("size,price\n" + "1,2\n2,3\n" * 9)),
    Mistake("a CSV that is not there", lambda p: bl.data.from_csv(p / "t.csv"), FileError, "BL501", ("t.csv",)),
    Mistake("a CSV without rows", lambda p: bl.data.from_csv(p / "t.csv"),
            FileError, "BL502", ("t.csv",), (), with_table("a,b\n")),
    Mistake("a model that is not there", lambda p: bl.load(p / "no.safetensors"),
            FileError, "BL603", ("no.safetensors",)),
    Mistake("a folder for a model", bl.load, FileError, "BL604", ("directory",)),
    Mistake("a corrupt model", lambda p: bl.load(p / "m.safetensors"),
            FileError, "BL605", ("m.safetensors", "safetensors"),
            (), lambda p: (p / "m.safetensors").write_bytes(b"\x00garbage" * 9)),
    Mistake("a cut model", lambda p: bl.load(p / "m.safetensors"),
            FileError, "BL605", ("m.safetensors",), (), with_cut_model),
    Mistake("a snapshot for a model", lambda p: bl.load(p / "run" / "snapshots" / "step-00000003.safetensors"),
            FileError, "BL318", ("step-00000003", "bl.save"), ("bl.open_run",), with_run),
    Mistake("weights for another model", lambda p: bl.load(p / "m.safetensors", model=mlp(bl.Dense(9), bl.Dense(3))),
            InputError, "BL311", ("m.safetensors", "dense1.W[9, 4]", "dense1.W[8, 4]"), (), with_model),
    Mistake("a truncated snapshot", load_run,
            FileError, "BL405", ("step-00000003",), ("step-00000002",), with_cut_snapshot),
    Mistake("a truncated snapshot when resuming", resume,
            FileError, "BL405", ("step-00000003",), ("step-00000002",), with_cut_snapshot),
    Mistake("a snapshot of a newer version", load_run,
            FileError, "BL606", ("step-00000003", "format <= 1", "format 99"), ("pip",), with_newer_snapshot),
    Mistake("a run directory that is already there", lambda p: fit(run_dir=p / "run"),
            FileError, "BL403", ("run", "3"), ("resume=True", "overwrite=True"), with_run),
    Mistake("resuming with other data", lambda p: resume(p, data=(X + 1, Y)),
            FileError, "BL404", ("run", "data.train"), ("data.train",), with_run),
    Mistake("resuming with other settings", lambda p: resume(p, batch_size=7),
            FileError, "BL404", ("settings.batch_size", "32", "7"), (), with_run),
    Mistake("resuming with another model", lambda p: resume(p, model=mlp(bl.Dense(8, "tanh"), bl.Dense(3))),
            FileError, "BL404", ("model.recipe.layers.0.activation", '"relu"', '"tanh"'), (), with_run),
    Mistake("a run that is not there", lambda p: bl.open_run(p / "absent"),
            FileError, "BL402", ("absent", "run.json"), ("backlit train",)),
    Mistake("a folder without a run", bl.open_run, FileError, "BL402", ("t.csv", "run.json"), (), with_table("a\n1\n")),
    Mistake("a damaged run.json", load_run, FileError, "BL605", ("run.json", "JSON"), (),
            lambda p: (with_run(p), (p / "run" / "run.json").write_text('{"format": 1, "sett'))),
    Mistake("a file for a run directory", lambda p: fit(run_dir=p / "t.csv"),
            FileError, "BL602", ("t.csv",), (), with_table("a\n1\n")),
    Mistake("a file of a data set with another checksum", wrong_bytes_for_published,
            FileError, "BL510", ("winequality-red.csv", "c9614512e980", "SHA-256"), (), with_wrong_wine),
]  # fmt: skip

# --- sequences ------------------------------------------------------------------------------------------------------

IDS = RNG.integers(0, 5, (20, 6))
SHOWN = np.ones((20, 6))


def tokens(length=6, heads=2):
    return mlp(bl.Embedding(5, 4), bl.PositionalEmbedding(length), bl.TransformerBlock(heads), bl.Dense(5))


def padded():
    return bl.Model(lambda ids, mask: bl.Dense(5)(bl.TransformerBlock(2)(bl.Embedding(5, 4)(ids), mask=mask)))


SEQUENCES = [
    Mistake("a token id out of range in training", lambda _: fit(tokens(), (changed(IDS, (7, 2), 5), IDS)),
            InputError, "BL170", ("embedding1.a", "indices[7, 2] = 5", "0 ≤ indices < 5"), ("Embedding(n, d)",)),
    Mistake("a token id out of range in prediction", lambda _: tokens().build((6,)).predict(changed(IDS, (3, 1), -1)),
            InputError, "BL170", ("embedding1.a", "indices[3, 1] = -1")),
    Mistake("token ids as floats", lambda _: fit(tokens(), (IDS * 1.0, IDS)),
            InputError, "BL171", ("x[20, 6]", "float64"), ("X.astype(int)",)),
    Mistake("a sequence longer than the position table", lambda _: fit(tokens(length=5), (IDS, IDS)),
            InputError, "BL330", ("positions1", "T ≤ 5", "x[2, 6, 4]"), ("PositionalEmbedding(length)",)),
    Mistake("heads that do not divide the width", lambda _: fit(tokens(heads=3), (IDS, IDS)),
            InputError, "BL172", ("block1.attention.a", " 4", "heads = 3")),
    Mistake("a mask that hides everything", lambda _: fit(padded(), ((IDS, changed(SHOWN, 4, 0)), IDS)),
            InputError, "BL175", ("block1.attention.a", "mask[4] = 0")),
    Mistake("a mask of another length", lambda _: fit(padded(), ((IDS, SHOWN[:, 1:]), IDS)),
            InputError, "BL174", ("block1.attention.a", "mask[2, 6]", "mask[2, 5]")),
    Mistake("attention over rows of features", lambda _: fit(mlp(bl.MultiHeadAttention(2), bl.Dense(3))),
            InputError, "BL331", ("attention1", "x[N, T, D]", "x[2, 4]"), ("Embedding(n, d)",)),
    Mistake("causal attention to a sequence of another length",
            lambda _: bl.Model(bl.MultiHeadAttention(2, causal=True)).build(((6, 4), (5, 4))),
            InputError, "BL173", ("attention1.a", "k[2, 5, 4]")),
    Mistake("a label out of range in a sequence", lambda _: fit(tokens(), (IDS, changed(IDS, (0, 3), 9))),
            InputError, "BL525", ("y_train[0, 3]", " 9")),
]  # fmt: skip

# --- images ---------------------------------------------------------------------------------------------------------

IMAGES = RNG.normal(size=(20, 8, 8, 3))


def cnn(*layers):
    return bl.Sequential(*layers, bl.GlobalAvgPool2D(), bl.Dense(3))


def linear_weights(**shapes):
    return {name.replace("__", "."): np.zeros(shape) for name, shape in shapes.items()}


CONVOLUTIONS = [
    Mistake("a kernel larger than the image", lambda _: fit(cnn(bl.Conv2D(4, 9, padding="valid")), (IMAGES, Y)),
            InputError, "BL130", ("conv1", "≤ 8 × ≤ 8", "9 × 9"), ('padding="same"',)),
    Mistake("more pooling than there is image", lambda _: fit(cnn(*[bl.MaxPool2D(3)] * 3), (IMAGES, Y)),
            InputError, "BL130", ("maxpool1", "max_pool2d", "3 × 3", "x[")),
    Mistake("channels not divisible by groups", lambda _: fit(cnn(bl.Conv2D(4, 3, groups=2)), (IMAGES, Y)),
            InputError, "BL131", ("conv1", "conv2d", "channels = 3", "channels % 2"), ("groups",)),
    Mistake("filters not divisible by groups", lambda _: fit(cnn(bl.Conv2D(4, 3, groups=3)), (IMAGES, Y)),
            InputError, "BL131", ("conv1", "filters = 4")),
    Mistake("groups of a normalisation that do not divide", lambda _: fit(cnn(bl.GroupNorm(2)), (IMAGES, Y)),
            InputError, "BL131", ("groupnorm1", "channels = 3")),
    Mistake("images without an axis of channels", lambda _: fit(cnn(bl.Conv2D(4, 3)), (IMAGES[..., 0], Y)),
            InputError, "BL132", ("conv1", "x[N, H, W, C]", "8, 8]"), ("x[..., None]",)),
    Mistake("rows for a convolution", lambda _: fit(cnn(bl.Conv2D(4, 3)), (X, Y)),
            InputError, "BL132", ("conv1", "x[N, H, W, C]", "4]")),
    Mistake("a stride of 0", lambda _: bl.Conv2D(4, 3, stride=0),
            InputError, "BL303", ("Conv2D", "stride", "0")),
    Mistake("a misspelt padding", lambda _: bl.Conv2D(4, 3, padding="smae"),
            InputError, "BL303", ("Conv2D", "padding", "'same', 'valid'", "'smae'")),
    Mistake("weights of a model with fewer layers",
            lambda _: bl.interop.from_torch_state_dict(built(), linear_weights(fc__weight=(8, 4), fc__bias=8)),
            InputError, "BL362", ("dense2",), ("names=dict",)),
    Mistake("weights of another shape",
            lambda _: bl.interop.from_torch_state_dict(built(), linear_weights(fc__weight=(9, 4), fc__bias=9)),
            InputError, "BL361", ("dense1", "fc", "dense1.W[8, 4]", "dense1.W[9, 4]")),
    Mistake("weights of a model with more layers",
            lambda _: bl.interop.from_torch_state_dict(bl.Sequential(bl.Dense(1)).build((4,)),
                                                       linear_weights(a__weight=(1, 4), a__bias=1, b__weight=(2, 2))),
            InputError, "BL363", ("Sequential", "dense1", "b.weight[2, 2]")),
    Mistake("weights for a layer that PyTorch's are not known of",
            lambda _: bl.interop.from_torch_state_dict(
                bl.Sequential(bl.SpectralNorm(bl.Dense(2))).build((4,)), linear_weights(weight=(2, 4))),
            InputError, "BL360", ("SpectralNorm",), ("model.params",)),
]  # fmt: skip

# --- what training is fed with --------------------------------------------------------------------------------------

FEEDING = [
    Mistake("augmentation of images on a table", lambda _: fit(augment=[bl.augment.Crop(4)]),
            InputError, "BL541", ("Crop", "x[N, H, W, C]", "x[20, 4]"), ("bl.Flatten()",)),
    Mistake("an augmentation by name", lambda _: fit(augment=["flip"]),
            InputError, "BL540", ("fit", "'flip'"), ("bl.augment",)),
    Mistake("masks that do not move with the images",
            lambda _: fit(mlp(bl.Flatten(), bl.Dense(3)), (np.ones((20, 4, 4, 1)), Y),
                          augment=bl.augment.Flip(target=True)),
            InputError, "BL542", ("Flip", "y[20, 4, 4, …]", "y[20]")),
    Mistake("mix-up with labels to be ignored",
            lambda _: fit(loss=bl.SoftmaxCrossEntropy(ignore=0), augment=bl.augment.MixUp()),
            InputError, "BL544", ("softmax_cross_entropy", "y[20]: int64"), ("MixUp",)),
    Mistake("a crop of no pixels", lambda _: bl.augment.Crop(0),
            InputError, "BL303", ("Crop", "padding", "1, 2, 3, …", "0")),
    Mistake("a mapped file that is not there", lambda place: fit(data=(place / "X.npy", Y)),
            FileError, "BL546", ("X.npy",)),
    Mistake("a mapped file that holds no array", lambda place: fit(data=(str(place / "X.npy"), Y)),
            FileError, "BL547", ("X.npy",), ("np.save",),
            lambda place: (place / "X.npy").write_text("a,b")),
    Mistake("less than no threads", lambda _: fit(workers=-1),
            InputError, "BL303", ("workers", "0, 1, 2, …", "-1")),
    Mistake("nothing to pad", lambda _: bl.data.pad([]),
            InputError, "BL548", ("data.pad", "0 sequences")),
    Mistake("sequences of different widths", lambda _: bl.data.pad([X[:3], X[:2, :3]]),
            InputError, "BL549", ("data.pad", "1", "[T, 4]", "[2, 3]")),
    Mistake("a sequence longer than asked for", lambda _: bl.data.pad([X[:3], X[:9]], length=5),
            InputError, "BL550", ("data.pad", "T <= 5", "x[9, …]")),
    Mistake("fewer labels than steps", lambda _: bl.data.pad([X[:3]], labels=[Y[:2]]),
            InputError, "BL551", ("data.pad", "[3]", "[2]")),
    Mistake("a loss of pairs on single vectors", lambda _: fit(loss="contrastive", data=(X, (Y > 1).astype(int))),
            InputError, "BL380", ("contrastive", "[N, 2, D]"), ("bl.ops.stack",)),
    Mistake("spectral norm of a layer without weights", lambda _: mlp(bl.SpectralNorm(bl.ReLU())).build((4,)),
            InputError, "BL381", ("SpectralNorm", "ReLU()")),
]  # fmt: skip

TABLE = [*ARRAYS, *OPTIONS, *MODELS, *FILES, *SEQUENCES, *CONVOLUTIONS, *FEEDING]
