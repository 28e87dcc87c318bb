"""Models of images and sequences by the fast engine against the reference engine: values, every gradient, no Python."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit import optim
from backlit.engines import reference

pytest.importorskip("numba")

from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors
from backlit.nn import losses

C, P = bl.Conv2D, bl.MaxPool2D


def two_readers(x):
    h = C(4, 3, activation="relu")(x)
    return bl.GlobalAvgPool2D()(P(2)(h) + bl.AvgPool2D(2)(h))


def normed(*layers):
    """Convolution, batch normalisation, relu and what follows."""
    return bl.Sequential(C(8, 3), bl.BatchNorm(), bl.ReLU(), *layers, bl.Flatten(), bl.Dense(3))


MODELS = {
    "convolution, relu, pooling": lambda: bl.Sequential(C(4, 5, activation="relu"), P(2), bl.Flatten(), bl.Dense(3)),
    "pooling with a rest": lambda: bl.Sequential(C(8, 3), bl.ReLU(), P((3, 2)), C(9, 3), bl.GlobalAvgPool2D()),
    "pooling that overlaps": lambda: bl.Sequential(C(4, 3), bl.ReLU(), P(3, stride=1), bl.GlobalAvgPool2D()),
    "padded pooling": lambda: bl.Sequential(C(4, 3), P(3, stride=2, padding="same"), bl.GlobalAvgPool2D()),
    "3 × 3, twice": lambda: bl.Sequential(C(8, 3, activation="relu"), C(9, 3, padding="valid"), bl.GlobalAvgPool2D()),
    "strides and dilation": lambda: bl.Sequential(C(9, 3, stride=2), C(4, (2, 3), dilation=2), bl.GlobalAvgPool2D()),
    "no bias": lambda: bl.Sequential(C(8, 3, bias=False), C(8, 3, bias=False), bl.GlobalAvgPool2D()),
    "no bias, by patches": lambda: bl.Sequential(C(3, 5, bias=False), C(8, 2, bias=False), bl.GlobalAvgPool2D()),
    "frozen": lambda: bl.Sequential(C(8, 3), C(8, 3, trainable=False), C(3, 5, trainable=False), bl.GlobalAvgPool2D()),
    "two readers": lambda: bl.Model(two_readers),
    "normed": normed,
    "normed, then pooled": lambda: normed(P(2)),
    "normed, then pooled with a rest": lambda: normed(P(2, stride=3)),
    "normed, then pooled by windows that overlap": lambda: normed(P(3, stride=2)),
    "in groups": lambda: bl.Sequential(
        C(6, 3),
        C(4, 3, groups=2, activation="relu"),
        C(4, 3, groups=4, stride=2),
        bl.GroupNorm(2),
        bl.GlobalAvgPool2D(),
    ),
    "made larger": lambda: bl.Sequential(
        C(4, 3, stride=2),
        bl.ConvTranspose2D(3, 2, stride=2, activation="relu"),
        bl.ConvTranspose2D(2, 3),
        bl.Flatten(),
        bl.Dense(3),
    ),
    "up-sampled": lambda: bl.Sequential(C(4, 3), bl.UpSample2D(2), C(8, 3), bl.GlobalAvgPool2D(), bl.Dense(3)),
}


class Job:
    """One step of a model on a batch of images or sequences, by both engines."""

    def __init__(self, model, shape, dtype, threads):
        rng = np.random.default_rng(0)
        recipe, self.model = losses.get("mse"), model.build(shape[1:], seed=1, dtype=dtype)
        for name, value in self.model.params.items():
            self.model.params[name] = value + 0.1 * rng.normal(size=value.shape).astype(dtype)
        out = self.model.predict(np.zeros((1, *shape[1:]), dtype)).shape[1:]
        self.data = {"x": rng.normal(size=shape).astype(dtype), "y": rng.normal(size=(shape[0], *out)).astype(dtype)}
        given = {n: (a.shape, a.dtype.name) for n, a in self.data.items()}
        self.graph = model.graph((given["x"],), training=True, loss=recipe, target=given["y"])
        optimizer = optim.SGD(0.1)
        self.vectors = Vectors.of(self.graph, optimizer, dtype)
        params = {n: self.model.params[n] for n in self.graph.trainable}
        self.vectors.load(self.model.params, self.model.state, optim.init_state(np, optimizer, params))
        self.program = Program(self.graph, optimizer, None, self.vectors, seed=3, threads=threads)
        self.program.parts = threads

    def compare(self, tolerance):
        env = reference.leaves(self.graph, self.model.params | self.model.state | self.data, seed=3, step=1)
        values, wanted = reference.value_and_grad(self.graph, env, self.graph.trainable)
        made = self.program.run(self.data, np.arange(len(self.data["x"])), np.zeros(1), 1)
        assert made.losses[0] == pytest.approx(float(values[self.graph.outputs[0]]), rel=tolerance)
        scale = max(float(np.abs(wanted[n]).max()) for n in self.graph.trainable)
        for name in self.graph.trainable:
            found = self.vectors.views[f"d {name}"]
            np.testing.assert_allclose(found, wanted[name], rtol=0, atol=tolerance * scale, err_msg=name)
        for name, new in self.graph.updates.items():
            np.testing.assert_allclose(self.vectors.views[name], values[new], rtol=tolerance, atol=tolerance)

    @property
    def by_python(self):
        return [call.kernel for call in self.program.calls if call.kernel in self.program.low.closures]


@pytest.mark.parametrize("shape", [(3, 9, 8, 3), (1, 7, 9, 8)], ids=str)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_models_of_images(name, shape, threads):
    job = Job(MODELS[name](), shape, "float64", threads)
    job.compare(1e-12)
    assert not job.by_python


@pytest.mark.parametrize("name", MODELS)
def test_models_of_images_in_float32(name):
    Job(MODELS[name](), (3, 9, 8, 3), "float32", 2).compare(128 * float(np.finfo(np.float32).eps))


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2, "padding": "valid"}, {"bias": False}], ids=str)
@pytest.mark.parametrize("channels", [2, 9])
def test_sequences(options, channels):
    layers = bl.Conv1D(4, 3, activation="relu", **options), bl.Conv1D(3, 2)
    job = Job(bl.Sequential(*layers), (3, 9, channels), "float64", 2)
    job.compare(1e-12)
    assert not job.by_python


def test_fusions_are_in_the_listing():
    """A relu is done with its convolution; behind pooling its gradient too."""
    job = Job(MODELS["convolution, relu, pooling"](), (2, 8, 8, 1), "float64", 1)
    kernels = [call.kernel for call in job.program.calls]
    assert not {"relu", "relu_grad"} & set(kernels)
    assert "conv2d_of_few" in kernels
