"""Models as files: what is saved comes back, in every kind of layer, and damaged files are named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import FileError, InputError
from backlit.core.files import read_tensors, write_tensors

X = np.random.default_rng(0).normal(size=(6, 4))


def round_trip(saved, path, **options):
    bl.save(saved, path / "m.safetensors")
    return bl.load(path / "m.safetensors", **options)


def same(one, other):
    assert (list(one.params), list(one.state)) == (list(other.params), list(other.state))
    for name, a in (one.params | one.state).items():
        b = (other.params | other.state)[name]
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def used(model):
    """The model with parameters and state that no initialiser would give."""
    rng = np.random.default_rng(7)
    for table in (model.params, model.state):
        table |= {n: (a + rng.random(a.shape)).astype(a.dtype) for n, a in table.items()}
    return model


LAYERS = {
    "dense": bl.Dense(3, "relu", bias=False),
    "dense, named, frozen": bl.Dense(3, name="first", trainable=False),
    "activation": bl.Activation("tanh"),
    "leaky_relu": bl.LeakyReLU(0.3),
    "elu": bl.ELU(0.5, name="bent"),
    "softmax": bl.Softmax(axis=-1),
    "gelu": bl.GELU(approximate=True),
    "dropout": bl.Dropout(0.25),
    "batchnorm": bl.BatchNorm(0.3, 1e-3),
    "layernorm": bl.LayerNorm(1e-3),
    "rmsnorm": bl.RMSNorm(1e-3),
    "flatten": bl.Flatten(),
    "reshape": bl.Reshape((2, 2)),
    "residual": bl.Residual(bl.Dense(5, "silu"), bl.Dense(4), name="skip"),
    "nested": bl.Sequential(bl.Dense(3, "relu"), bl.Sequential(bl.BatchNorm())),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_comes_back(kind, dtype, tmp_path):
    model = used(bl.Sequential(LAYERS[kind], bl.Flatten(), bl.Dense(2)).build((4,), seed=9, dtype=dtype))
    loaded = round_trip(model, tmp_path)
    same(loaded, model)
    assert repr(loaded) == repr(model)
    assert (loaded.samples, loaded.dtype, loaded.seed) == (model.samples, dtype, 9)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    training = {"training": True}
    assert str(loaded.graph([((2, 4), dtype)], **training)) == str(model.graph([((2, 4), dtype)], **training))


IDS = np.arange(15).reshape(3, 5) % 9
SEQUENCES = {
    "embedding": bl.Embedding(9, 4, init=bl.init.Normal(0.3)),
    "sparse embedding": bl.Embedding(9, 4, sparse=True),
    "positions": bl.Sequential(bl.Embedding(9, 4), bl.PositionalEmbedding(7)),
    "waves": bl.Sequential(bl.Embedding(9, 4), bl.SinusoidalPositions(100.0)),
    "attention": bl.Sequential(bl.Embedding(9, 4), bl.MultiHeadAttention(2, True, bias=False)),
    "transformer": bl.Sequential(bl.Embedding(9, 4), bl.TransformerBlock(2, 3, causal=True, dropout=0.1)),
}


IMAGES = {
    "convolution": bl.Conv2D(4, 3, (2, 1), groups=2, activation="relu"),
    "padded by hand": bl.Conv2D(2, (3, 2), padding=((1, 1), (0, 1)), dilation=2),
    "transposed": bl.ConvTranspose2D(3, 2, 2),
    "rows of an image": bl.Sequential(bl.Reshape((8, 8)), bl.Conv1D(4, 3), bl.MaxPool1D(2)),
    "pools": bl.Sequential(bl.MaxPool2D(2), bl.AvgPool2D((2, 1)), bl.AdaptiveAvgPool2D(1)),
    "means": bl.Sequential(bl.UpSample2D(2), bl.GlobalAvgPool2D()),
    "norms": bl.Sequential(bl.GroupNorm(2), bl.InstanceNorm(1e-3)),
    "normed weights": bl.Sequential(bl.Flatten(), bl.WeightNorm(bl.Dense(3)), bl.SpectralNorm(bl.Dense(2))),
    "depth": bl.StochasticDepth(0.2),
    "recurrence": bl.Sequential(
        bl.Reshape((8, 8)),
        bl.RNN(4),
        bl.LSTM(3, bidirectional=True),
        bl.GRU(2, False, layers=2),
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_every_layer_of_images_comes_back(kind, tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 4, 8, 2))
    model = used(bl.Sequential(IMAGES[kind], bl.Flatten(), bl.Dense(2)).build((4, 8, 2), seed=9, dtype="float64"))
    loaded = round_trip(model, tmp_path)
    same(loaded, model)
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded.predict(images), model.predict(images))


@pytest.mark.parametrize("kind", SEQUENCES)
def test_every_layer_of_sequences_comes_back(kind, tmp_path):
    model = used(bl.Sequential(SEQUENCES[kind], bl.Flatten(), bl.Dense(2)).build((5,), seed=9))
    loaded = round_trip(model, tmp_path)
    same(loaded, model)
    assert (repr(loaded), loaded.dtypes) == (repr(model), ("int64",))
    np.testing.assert_array_equal(loaded.predict(IDS), model.predict(IDS))


@pytest.mark.parametrize(
    "init",
    [
        *("zeros", "ones", "normal", "uniform", "xavier_normal", "xavier_uniform", "he_normal", "he_uniform"),
        *("lecun_normal", "lecun_uniform", "orthogonal", "glorot_uniform", "kaiming_normal", 0.5, 2),
        *(bl.init.Zeros(), bl.init.Constant(0.1), bl.init.Normal(0.2), bl.init.Uniform(0.3), bl.init.Orthogonal(1.5)),
        bl.init.VarianceScaling(2.0, "out", uniform=True),
    ],
    ids=str,
)
def test_every_initializer_comes_back(init, tmp_path):
    model = bl.Sequential(bl.Dense(3, init=init)).build((4,), seed=2)
    loaded = round_trip(model, tmp_path)
    assert loaded.layers[0].init == init
    same(loaded.build((4,), seed=2), model)


def test_every_kind_of_layer_is_tried_above():
    parts = [p for part in (LAYERS | SEQUENCES | IMAGES).values() for p in (part, *getattr(part, "layers", ()))]
    tried = {type(part).__name__ for part in parts}
    own = bl.Layer.KINDS.keys() & set(bl.__all__)
    assert own - {"Add", "Concatenate", "TransformerDecoderBlock"} <= tried  # these take several inputs


def test_shared_layers_stay_shared(tmp_path):
    layer, block = bl.Dense(4, "tanh"), bl.Sequential(bl.Dense(4))
    model = used(bl.Sequential(layer, bl.Residual(layer), block, layer, block).build((4,)))
    loaded = round_trip(model, tmp_path)
    same(loaded, model)
    assert loaded.layers[0] is loaded.layers[3] is loaded.layers[1].layers[0]
    assert loaded.layers[2] is loaded.layers[4] is not loaded.layers[0]
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def f(x):
    return bl.Dense(2)(bl.Dense(3, "relu")(x))


def test_a_function_is_given_again(tmp_path):
    model = used(bl.Model(f).build((4,), seed=1))
    same(round_trip(model, tmp_path, model=bl.Model(f)), model)
    with pytest.raises(InputError, match=r"BL310[\s\S]*model="):
        bl.load(tmp_path / "m.safetensors")


def test_a_function_of_several_inputs(tmp_path):
    def two(a, b):
        return bl.Dense(2)(bl.Concatenate()(a, b))

    model = used(bl.Model(two).build([(4,), (1,)]))
    loaded = round_trip(model, tmp_path, model=bl.Model(two))
    same(loaded, model)
    assert loaded.samples == ((4,), (1,))


@pytest.mark.parametrize("part", [bl.Model(f), bl.Dense(3, init=lambda _rng, shape: np.ones(shape))])
def test_python_code_in_a_sequential_asks_for_the_model(part, tmp_path):
    model = bl.Sequential(part).build((4,))
    same(round_trip(model, tmp_path, model=bl.Sequential(part)), model)
    with pytest.raises(InputError, match="BL310"):
        bl.load(tmp_path / "m.safetensors")


def test_a_kind_that_is_not_known_here_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Mine:
        def __call__(self, rng, shape):
            return np.ones(shape)

    bl.save(bl.Sequential(bl.Dense(2, init=Mine())).build((4,)), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"BL310\] Mine"):
        bl.load(tmp_path / "m.safetensors")


def test_a_trained_model_goes_on_after_loading(tmp_path):
    y = X[:, :2] ** 2
    model = bl.Sequential(bl.Dense(5, "tanh"), bl.BatchNorm(), bl.Dense(2)).build((4,))
    bl.fit(model, (X, y), loss="mse", epochs=2, progress=False)
    loaded = round_trip(model, tmp_path)
    for m in (model, loaded):
        bl.fit(m, (X, y), loss="mse", epochs=2, progress=False)
    same(loaded, model)


# --- files that do not fit --------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    return bl.save(bl.Sequential(bl.Dense(3), bl.Dense(2)).build((4,)), tmp_path / "m.safetensors")


def test_no_file(tmp_path):
    with pytest.raises(FileError, match=r"BL603.*none\.safetensors"):
        bl.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_cut_file(saved, cut):
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(FileError, match=r"BL605.*m\.safetensors"):
        bl.load(saved)


def test_a_file_of_another_program(saved):
    from safetensors.numpy import save_file

    save_file({"W": np.ones(2)}, saved)
    with pytest.raises(FileError, match="BL605"):
        bl.load(saved)


def test_a_newer_format(saved):
    arrays, head = read_tensors(saved)
    write_tensors(saved, arrays, head | {"format": 99})
    with pytest.raises(FileError, match="99"):
        bl.load(saved)


def test_another_model(saved):
    with pytest.raises(InputError, match=r"BL311[\s\S]*dense1\.W\[5, 4\][\s\S]*dense1\.W\[3, 4\]"):
        bl.load(saved, model=bl.Sequential(bl.Dense(5), bl.Dense(2)))
    with pytest.raises(InputError, match=r"BL311[\s\S]*no dense3\.W"):
        bl.load(saved, model=bl.Sequential(bl.Dense(3), bl.Dense(2), bl.Dense(2)))
