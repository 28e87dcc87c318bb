"""Every layer: shapes, names, parameters, what it computes, and the options it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import BacklitError, InputError, UnknownNameError
from backlit.graph import Builder
from backlit.nn.layer import ACTIVATIONS

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
IMAGES = np.arange(24.0).reshape(2, 3, 4) / 10 - 1


def model_of(layer, sample=(3,)):
    return bl.Sequential(layer).build(sample, seed=3, dtype="float64")


def nodes(model, *, training=False, n=2):
    graph = model.graph([((n, *model.samples[0]), model.dtype)], training=training)
    return {node.name: node.rule for node in graph.nodes}


LAYERS = {  # layer, sample shape, output shape, parameters, nodes
    "dense": (bl.Dense(4), (3,), (4,), {"dense1.W": (4, 3), "dense1.b": (4,)}, ["dense1.z"]),
    "dense with f": (bl.Dense(4, "tanh"), (3,), (4,), {"dense1.W": (4, 3), "dense1.b": (4,)}, ["dense1.z", "dense1.a"]),
    "dense linear": (bl.Dense(4, "linear"), (3,), (4,), {"dense1.W": (4, 3), "dense1.b": (4,)}, ["dense1.z"]),
    "dense without b": (bl.Dense(1, bias=False), (3,), (1,), {"dense1.W": (1, 3)}, ["dense1.z"]),
    "dense on rows": (bl.Dense(2), (5, 3), (5, 2), {"dense1.W": (2, 3), "dense1.b": (2,)}, ["dense1.z"]),
    "activation": (bl.Activation("mish"), (3,), (3,), {}, ["mish1.a"]),
    "linear activation": (bl.Activation("linear"), (3,), (3,), {}, []),
    "dropout": (bl.Dropout(0.5), (3,), (3,), {}, []),
    "batchnorm": (bl.BatchNorm(), (3,), (3,), {"batchnorm1.gamma": (3,), "batchnorm1.beta": (3,)}, ["batchnorm1.a"]),
    "batchnorm of images": (
        bl.BatchNorm(), (3, 4), (3, 4), {"batchnorm1.gamma": (4,), "batchnorm1.beta": (4,)}, ["batchnorm1.a"],
    ),
    "layernorm": (
        bl.LayerNorm(), (3, 4), (3, 4), {"layernorm1.gamma": (4,), "layernorm1.beta": (4,)}, ["layernorm1.a"],
    ),
    "rmsnorm": (bl.RMSNorm(), (3,), (3,), {"rmsnorm1.gamma": (3,)}, ["rmsnorm1.a"]),
    "flatten": (bl.Flatten(), (3, 4), (12,), {}, ["flatten1.a"]),
    "flatten of numbers": (bl.Flatten(), (), (1,), {}, ["flatten1.a"]),
    "reshape": (bl.Reshape((2, -1)), (3, 4), (2, 6), {}, ["reshape1.a"]),
    "residual": (
        bl.Residual(bl.Dense(3, "relu"), bl.Dense(3)), (3,), (3,),
        {"dense1.W": (3, 3), "dense1.b": (3,), "dense2.W": (3, 3), "dense2.b": (3,)},
        ["dense1.z", "dense1.a", "dense2.z", "residual1.a"],
    ),
    "residual of nothing": (bl.Residual(), (3,), (3,), {}, ["residual1.a"]),
    "named": (bl.Dense(4, name="head"), (3,), (4,), {"head.W": (4, 3), "head.b": (4,)}, ["head.z"]),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYERS)
def test_shapes_names_and_parameters(case):
    layer, sample, output, parameters, names = LAYERS[case]
    model = model_of(layer, sample)
    assert {n: p.shape for n, p in model.params.items()} == parameters
    assert list(nodes(model)) == names
    found = model.predict(np.ones((5, *sample)))
    assert (found.shape, found.dtype) == ((5, *output), np.float64)


def test_dense_computes_f_of_wx_plus_b():
    model = model_of(bl.Dense(2, "tanh"))
    W, b = model.params["dense1.W"], np.array([0.3, -0.2])
    model.params["dense1.b"] = b
    wanted = [[np.tanh(sum(W[j, i] * x[i] for i in range(3)) + b[j]) for j in range(2)] for x in X]
    np.testing.assert_allclose(model.predict(X), wanted, rtol=1e-14)


MAKERS = {
    "relu": (bl.ReLU(), lambda x: np.maximum(x, 0)),
    "leaky_relu": (bl.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "elu": (bl.ELU(0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "selu": (bl.SELU(), lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "sigmoid": (bl.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (bl.Tanh(), np.tanh),
    "softplus": (bl.Softplus(), lambda x: np.log1p(np.exp(x))),
    "gelu_tanh": (
        bl.GELU(approximate=True),
        lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    "silu": (bl.SiLU(), lambda x: x / (1 + np.exp(-x))),
    "mish": (bl.Mish(), lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "softmax": (bl.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_activation_layers(kind):
    layer, wanted = MAKERS[kind]
    model = model_of(layer)
    assert nodes(model) == {f"{kind}1.a": kind}
    np.testing.assert_allclose(model.predict(X), wanted(X), rtol=1e-13)


def test_gelu_is_x_times_the_normal_distribution():
    from math import erf, sqrt

    wanted = [[x * (1 + erf(x / sqrt(2))) / 2 for x in row] for row in X]
    np.testing.assert_allclose(model_of(bl.GELU()).predict(X), wanted, rtol=1e-13)


def test_softmax_along_another_axis():
    found = model_of(bl.Softmax(axis=1), (3, 4)).predict(IMAGES)
    np.testing.assert_allclose(found.sum(axis=1), np.ones((2, 4)), rtol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_can_follow_a_dense_layer(name):
    assert nodes(model_of(bl.Dense(2, name))) == {"dense1.z": "linear", "dense1.a": name}


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (bl.LayerNorm(0.1), lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)),
        (bl.RMSNorm(0.1), lambda x: x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 0.1)),
        (bl.BatchNorm(eps=0.1), lambda x: x / np.sqrt(1.1)),  # inference: running mean 0, variance 1
    ],
)
def test_normalisations_before_training(layer, wanted):
    np.testing.assert_allclose(model_of(layer).predict(X), wanted(X), rtol=1e-13)


def test_flatten_and_reshape_keep_the_order():
    np.testing.assert_array_equal(model_of(bl.Flatten(), (3, 4)).predict(IMAGES), IMAGES.reshape(2, 12))
    np.testing.assert_array_equal(model_of(bl.Reshape([6, 2]), (3, 4)).predict(IMAGES), IMAGES.reshape(2, 6, 2))


def test_residual_adds_its_input():
    model = model_of(bl.Residual(bl.Dense(3, "tanh")))
    W = model.params["dense1.W"]
    np.testing.assert_allclose(model.predict(X), X + np.tanh(X @ W.T), rtol=1e-14)


def test_add_and_concatenate():
    def f(x):
        return bl.Concatenate()(bl.Add()(x, x, x), x)

    def g(x):
        return bl.Concatenate(axis=1)(x, x)

    np.testing.assert_array_equal(bl.Model(f).build((3,), dtype="float64")(X), np.concatenate([3 * X, X], axis=1))
    assert bl.Model(g).build((3, 4)).predict(IMAGES).shape == (2, 6, 4)
    graph = bl.Model(f).build((3,)).graph([((2, 3), "float32")])
    assert [n.name for n in graph] == ["add1.sum2", "add1.a", "concatenate1.a"]


def test_dropout_only_in_training():
    model = model_of(bl.Dropout(0.4), (1000,))
    assert nodes(model) == {}
    assert nodes(model, training=True) == {"dropout1.a": "dropout"}
    assert nodes(model_of(bl.Dropout(0.0)), training=True) == {}
    graph = model.graph([((2, 1000), "float64")], training=True)
    assert graph.masks["dropout1.mask"].rate == 0.4


def test_batchnorm_has_state_and_moves_it_only_in_training():
    model = model_of(bl.BatchNorm(momentum=0.25))
    assert {n: s.tolist() for n, s in model.state.items()} == {
        "batchnorm1.running_mean": [0, 0, 0],
        "batchnorm1.running_var": [1, 1, 1],
    }
    graph = model.graph([((2, 3), "float64")], training=True)
    assert dict(graph.updates) == {
        "batchnorm1.running_mean": "batchnorm1.running_mean.next",
        "batchnorm1.running_var": "batchnorm1.running_var.next",
    }
    assert not model.graph([((2, 3), "float64")]).updates
    bl.fit(model, (X, X), loss="mse", optimizer=bl.SGD(1e-300), epochs=1, batch_size=2, progress=False)
    np.testing.assert_allclose(model.state["batchnorm1.running_mean"], 0.25 * X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(model.state["batchnorm1.running_var"], 0.75 + 0.25 * X.var(axis=0, ddof=1), rtol=1e-14)


@pytest.mark.parametrize("units", [np.int64(4), np.int32(4)])
def test_numpy_integers_are_numbers_of_units(units):
    assert type(bl.Dense(units).units) is int


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "no units": (lambda: bl.Dense(0), InputError, r"BL303\] Dense: units[\s\S]*1, 2, 3"),
    "negative units": (lambda: bl.Dense(-2), InputError, "BL303"),
    "half a unit": (lambda: bl.Dense(2.5), InputError, r"BL303[\s\S]*2\.5"),
    "units as text": (lambda: bl.Dense("10"), InputError, "BL303"),
    "units as truth value": (lambda: bl.Dense(True), InputError, "BL303"),
    "said of its name": (lambda: bl.Dense(0, name="head"), InputError, "head: units"),
    "unknown activation": (lambda: bl.Dense(3, "rleu"), UnknownNameError, r"activation named 'rleu'[\s\S]*relu"),
    "a rule that is no activation": (lambda: bl.Dense(3, "add"), UnknownNameError, "'add'"),
    "a function as activation": (lambda: bl.Dense(3, np.tanh), UnknownNameError, "BL001"),
    "unknown initializer": (lambda: model_of(bl.Dense(3, init="he")), UnknownNameError, "he_normal"),
    "rate 1": (lambda: bl.Dropout(1.0), InputError, r"BL303\] Dropout: rate[\s\S]*0.0 <= rate < 1.0"),
    "negative rate": (lambda: bl.Dropout(-0.1), InputError, "BL303"),
    "rate as text": (lambda: bl.Dropout("0.5"), InputError, "BL303"),
    "rate not a number": (lambda: bl.Dropout(float("nan")), InputError, "BL303"),
    "momentum": (lambda: bl.BatchNorm(momentum=1.5), InputError, r"momentum <= 1.0"),
    "eps of batchnorm": (lambda: bl.BatchNorm(eps=-1e-5), InputError, "eps"),
    "eps of layernorm": (lambda: bl.LayerNorm(eps=-1.0), InputError, r"LayerNorm: eps[\s\S]*0.0 <= eps < inf"),
    "eps of rmsnorm": (lambda: bl.RMSNorm(eps=float("inf")), InputError, "RMSNorm: eps"),
    "option of another activation": (
        lambda: bl.Activation("relu", (("slope", 0.1),)), InputError, r"BL213\] Activation[\s\S]*relu\(x\)[\s\S]*slope",
    ),
    "slope": (lambda: model_of(bl.LeakyReLU(-1.0)), InputError, r"BL104\] leaky_relu1\.a"),
    "reshape to another size": (lambda: model_of(bl.Reshape((2,))), InputError, r"reshape1\.a"),
    "residual of another width": (
        lambda: model_of(bl.Residual(bl.Dense(4))), InputError, r"BL312\] residual1[\s\S]*\[2, 3\][\s\S]*\[2, 4\]",
    ),
    "residual of no layer": (lambda: bl.Residual("relu"), InputError, "BL309"),
    "several inputs": (lambda: bl.Model(lambda x: bl.Dense(2)(x, x)).build((3,)), InputError, r"BL314\] dense"),
    "add of widths that differ": (
        lambda: bl.Model(lambda x: bl.Add()(x, bl.Dense(2)(x))).build((3,)), InputError, r"BL102\] add1\.a",
    ),
    "concatenate of batches that differ": (
        lambda: bl.Model(lambda x: bl.Concatenate()(x, x[:1])).build((3,)), InputError, r"concatenate1\.a",
    ),
    "arrays": (lambda: bl.Dense(3)(X), InputError, r"BL302\] dense[\s\S]*ndarray"),
    "a list": (lambda: bl.Model(lambda x: bl.Add()([x, x])).build((3,)), InputError, r"BL345\] add[\s\S]*one by one"),
    "nothing": (bl.Add(), InputError, "BL302"),
    "samples that are numbers": (lambda: model_of(bl.Dense(2), ()), InputError, r"BL313\] dense1[\s\S]*X\[:, None\]"),
    "batchnorm of numbers": (lambda: model_of(bl.BatchNorm(), ()), InputError, r"BL313\] batchnorm1"),
    "layernorm of numbers": (lambda: model_of(bl.LayerNorm(), ()), InputError, r"BL313\] layernorm1"),
    "rmsnorm of numbers": (lambda: model_of(bl.RMSNorm(), ()), InputError, r"BL313\] rmsnorm1"),
    "a name with a dot": (lambda: model_of(bl.Dense(2, name="a.b")), InputError, "BL214"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    make, kind, says = REFUSED[what]
    with pytest.raises(kind, match=says) as caught:
        make()
    assert isinstance(caught.value, BacklitError)
    assert all(caught.value.part(p) for p in ("problem", "expected", "fix"))


SHOWN = [
    "Dense(3)",
    "Dense(128, 'relu', name='head')",
    "Dense(3, bias=False, init='zeros')",
    "Dense(3, init=Normal(std=0.2), trainable=False)",
    "Dense(3, 'tanh', False, 'he_normal')",
    "Activation('log_softmax')",
    "Activation('linear', name='end')",
    *(
        f"{kind}()"
        for kind in [
            "ReLU",
            "LeakyReLU",
            "ELU",
            "SELU",
            "Sigmoid",
            "Tanh",
            "Softplus",
            "GELU",
            "SiLU",
            "Mish",
            "Softmax",
        ]
    ),
    "LeakyReLU(slope=0.2)",
    "ELU(alpha=0.5, name='bent')",
    "GELU(approximate=True)",
    "Softmax(axis=1)",
    "Dropout()",
    "Dropout(0.25)",
    "BatchNorm(0.3)",
    "BatchNorm(eps=0.001)",
    "LayerNorm(0.001)",
    "RMSNorm()",
    "Flatten()",
    "Reshape((2, 3))",
    "Add(name='join')",
    "Concatenate(1)",
    "Embedding(9, 4)",
    "Embedding(9, 4, init=Normal(std=0.02), sparse=True)",
    "PositionalEmbedding(5)",
    "SinusoidalPositions()",
    "MultiHeadAttention(2, True, bias=False)",
    "TransformerBlock(2, 3, dropout=0.1)",
    "TransformerBlock(2, causal=True)",
    "TransformerDecoderBlock(2, causal=False)",
    "Conv1D(8, 3, dilation=2)",
    "Conv2D(16, 5, activation='relu')",
    "Conv2D(4, (3, 2), 2, 'valid', groups=2)",
    "ConvTranspose2D(4, 2, 2)",
    "MaxPool1D(3)",
    "MaxPool2D(3)",
    "AvgPool2D((2, 3))",
    "AdaptiveAvgPool2D(1)",
    "GlobalAvgPool2D()",
    "UpSample2D(3)",
    "GroupNorm(4)",
    "InstanceNorm()",
    "RNN(5)",
    "LSTM(5, False)",
    "GRU(5, bidirectional=True, layers=2)",
    "StochasticDepth(0.2)",
    "WeightNorm(Dense(3))",
    "SpectralNorm(Dense(3, 'relu'))",
    "Residual()",
    "Residual(Dense(5, 'silu'), Dense(4), name='skip', trainable=False)",
    "Sequential()",
    "Sequential(Dense(4, 'relu'), Sequential(ReLU(), trainable=False), Dense(2))",
]


@pytest.mark.parametrize("text", SHOWN)
def test_a_layer_is_shown_as_it_is_made_without_the_defaults(text):
    assert repr(eval(text, vars(bl.init) | {n: getattr(bl, n) for n in bl.__all__})) == text


def test_every_layer_is_shown_above():
    own = bl.Layer.KINDS.keys() & set(bl.__all__)
    assert {kind for kind in own if kind not in " ".join(SHOWN)} == set()


def test_a_default_that_is_given_is_not_shown():
    assert repr(bl.Dense(3, None, bias=True, trainable=True)) == "Dense(3)"
    assert repr(bl.LeakyReLU(0.01)) == "LeakyReLU()"


def test_a_layer_of_ones_own():
    class Scale(bl.Layer):
        def stage(self, scope, *inputs):
            (x,) = inputs
            return scope.node("a", "mul", x, scope.parameter("s", x.shape[1:], bl.init.Constant(2.0)))

    try:
        model = model_of(Scale())
        np.testing.assert_array_equal(model.predict(X), 2 * X)
        assert list(model.params) == ["scale1.s"]
    finally:
        del bl.Layer.KINDS["Scale"]


def test_a_layer_without_stage_says_so():
    with pytest.raises(NotImplementedError):
        bl.Layer()(Builder().input("x", (2, 3)))


def test_layers_are_values_that_do_not_change():
    with pytest.raises(AttributeError):
        bl.Dense(3).units = 4
