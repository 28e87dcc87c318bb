"""Kernels of values side by side and of enlarged images, against NumPy and against the reference engine."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

import backlit as bl
from backlit import optim
from backlit.engines import reference
from backlit.engines.fast import kernels_structure
from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors
from backlit.nn import losses
from engines.kernel_calls import close, untested

C = bl.Conv2D


def test_every_kernel_is_tested_here():
    assert not untested(kernels_structure, __file__)


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_columns_are_put_and_taken(run, draw):
    part, whole = draw(5, 3), draw(5, 8)
    want, back = whole.copy(), draw(5, 3)
    want[:, 4:7] = part
    run("put_columns", 5, part, whole, 4)
    assert np.array_equal(whole, want)
    run("take_columns", 5, whole, 4, back)
    assert np.array_equal(back, part)


@pytest.mark.parametrize("scale", [(1, 1), (2, 2), (3, 1), (1, 2)])
def test_enlarged_images(run, draw, scale):
    (p, q), x = scale, draw(2, 3, 4, 5)
    y, dx = draw(6, p, 4, q, 5), draw(6, 4, 5)
    run("upsample_nearest2d", 6, x.reshape(6, 4, 5), y)
    want = np.repeat(np.repeat(x, p, axis=1), q, axis=2)
    assert np.array_equal(y.reshape(want.shape), want)
    d = draw(*y.shape)
    run("upsample_nearest2d_grad", 6, d, dx)
    close(dx, d.astype(np.float64).sum(axis=(1, 3)), draw.dtype)


# --- as written down --------------------------------------------------------------------------------------------------


def skip(x):
    """The shape of a U-Net."""
    full = C(3, 3, activation="relu")(x)
    half = C(4, 3, activation="relu")(bl.MaxPool2D(2)(full))
    return C(2, 1)(bl.Concatenate()(bl.UpSample2D(2)(half), full))


def along_rows(x):
    return C(2, 3)(bl.Concatenate(axis=1)(x, C(1, 3)(x)))


def twice_the_same(x):
    h = C(2, 3)(x)
    return C(2, 1)(bl.Concatenate()(h, h, x))


def steps(stage, loss, parts, target, count=3):
    """(what the fast engine's parameters become, what the reference engine's do, names of calls)."""
    rng, adam = np.random.default_rng(0), optim.Adam(0.01)
    model = bl.Model(stage).build((4, 6, 1), seed=1, dtype="float64")
    data = {"x": rng.normal(size=(3, 4, 6, 1)), "y": rng.integers(0, 2, target)}
    shapes = {n: (a.shape, a.dtype.name) for n, a in data.items()}
    graph = model.graph((shapes["x"],), training=True, loss=losses.get(loss), target=shapes["y"])
    vectors, slots = Vectors.of(graph, adam, "float64"), optim.init_state(np, adam, model.params)
    vectors.load(model.params, model.state, slots)
    program = Program(graph, adam, None, vectors, seed=3, threads=parts)
    program.parts = parts
    program.run(data, np.tile(np.arange(3), count), np.full(count, 0.01), 1)
    params = dict(model.params)
    for step in range(1, count + 1):
        env = reference.leaves(graph, params | data, seed=3, step=step)
        _, d = reference.value_and_grad(graph, env, graph.trainable)
        params, slots = optim.apply(np, adam, params, {n: d[n] for n in params}, slots, lr=0.01, t=step)
    return {n: vectors.views[n] for n in params}, params, program


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("stage", "target"), [(skip, (3, 4, 6)), (along_rows, (3, 8, 6)), (twice_the_same, (3, 4, 6))])
def test_models_move_as_by_the_reference_engine(stage, target, parts):
    found, want, program = steps(stage, "softmax_cross_entropy", parts, target)
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-11, atol=1e-11, err_msg=name)
    assert not program.low.closures


def test_smoothed_labels_of_every_pixel_have_a_kernel():
    found, want, program = steps(skip, bl.SoftmaxCrossEntropy(label_smoothing=0.2), 2, (3, 4, 6))
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-11, atol=1e-11, err_msg=name)
    assert not program.low.closures
