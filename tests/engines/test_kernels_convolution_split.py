"""Convolution by a matrix unit against the definition of convolution: as Python, and by tiles of parts."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("numba")

import backlit as bl
from backlit.engines.fast import kernels_convolution_split, machine_code, processor, split_convolution
from backlit.engines.fast.memory import zeros
from backlit.engines.fast.split_convolution import BAND, fits, panels
from backlit.engines.fast.split_tiles import LINES, PARTS, TERMS
from engines.image_definitions import convolution_gradients, convolved
from engines.kernel_calls import Calls, by_machine_code, by_python, close, needs_machine_code, untested, wide

needs_matrix_unit = pytest.mark.skipif(
    not processor.has_matrix_unit(), reason="this processor has no matrix unit that Linux lends"
)
LAYERS = [
    ((2, 9, 9, 16), (16, 3, 3), ((1, 1), (1, 1))),
    ((3, 14, 14, 16), (32, 5, 5), ((2, 2), (2, 2))),
    ((2, 7, 21, 32), (48, 3, 5), ((0, 2), (1, 0))),
    ((3, 1, 300, 16), (16, 1, 7), ((0, 0), (6, 0))),
    ((2, 12, 8, 32), (16, 1, 1), ((0, 0), (0, 0))),
    ((1, 4, 2, 16), (16, 2, 2), ((3, 0), (2, 5))),
    ((2, 30, 130, 48), (16, 4, 3), ((3, 1), (0, 1))),
    ((2, 90, 96, 16), (80, 2, 2), ((0, 0), (0, 0))),
]
"""(shape of x, (F, kh, kw), padding): lines of whole tiles, or not; one panel of filters, half of one, several; one
line; more lines, and more places, than a band has."""
UNITS = 64


class Layer:
    """A convolution, its arrays, and what its kernels work in."""

    def __init__(self, x, filters, padding):
        rng, self.chunks = np.random.default_rng(7), 2
        self.x, self.W, self.b = (
            rng.normal(size=size).astype(np.float32) for size in (x, (*filters, x[3]), filters[0])
        )
        self.padding, self.size = padding, self.W[0].size
        self.want = convolved(*wide(self.x, self.W, self.b), padding=padding)
        self.d = rng.normal(size=self.want.shape).astype(np.float32)
        self.gradients = convolution_gradients(*wide(self.d, self.x, self.W), padding=padding)

    @property
    def turned(self):
        """The filters as columns, and the bias below."""
        return np.ascontiguousarray(np.vstack([self.W.reshape(len(self.b), -1).T, self.b]))

    def padded(self):
        (_, kh, kw, channels), (_, rows, columns, _) = self.W.shape, self.want.shape
        return empty(self.chunks, rows + kh - 1, (columns + kw - 1) * channels)

    @property
    def geometry(self):
        (top, _), (left, _) = self.padding
        return *self.W.shape[1:3], top, left


def empty(*shape):
    """Not a number anywhere, from a cache line on."""
    made = zeros(shape, "float32")
    made[...] = np.nan
    return made


def lines(x):
    return np.ascontiguousarray(x.reshape(*x.shape[:2], -1))


@pytest.fixture(params=["python", pytest.param("compiled", marks=[needs_machine_code, needs_matrix_unit])])
def run(request):
    return Calls(by_python if request.param == "python" else by_machine_code)


@pytest.fixture(params=LAYERS, ids=str)
def layer(request):
    return Layer(*request.param)


def test_every_kernel_is_tested_here():
    assert not untested(kernels_convolution_split, __file__)


@pytest.mark.parametrize("relu", [0, 1])
def test_forward(run, layer, relu):
    filters, kh, kw, channels = layer.W.shape
    parts, z, Wt = empty(panels(filters, kh, kw * channels)), empty(*layer.want.shape), layer.turned
    run("filters_split", 1, kh, kw * channels, Wt, parts)
    given = layer.chunks, relu, lines(layer.x), Wt, parts, z, layer.padded(), *layer.geometry
    run("conv2d_split", layer.chunks, *given)
    close(z, np.maximum(layer.want, 0) if relu else layer.want, z.dtype, UNITS)


def test_weights_grad(run, layer):
    filters, _, kw, _ = layer.W.shape
    _, rows, columns, _ = layer.want.shape
    parts, sums = empty(layer.chunks, filters, layer.size + 1), empty(layer.chunks, filters)
    errors = empty(layer.chunks, rows * (columns + kw - 1), filters)
    given = layer.chunks, layer.d, lines(layer.x), parts, layer.padded(), errors, sums, *layer.geometry
    run("conv2d_split_weights_grad", layer.chunks, *given)
    dW, db = empty(filters, layer.size), empty(filters)
    run("filters_grad", filters, 0, parts, dW, db)
    close(dW.reshape(layer.W.shape), layer.gradients[1], dW.dtype, UNITS)
    close(db, layer.gradients[2], db.dtype, UNITS)


@needs_machine_code
@needs_matrix_unit
def test_a_sum_is_no_less_exact_than_numpy_s():
    """Of filters of 400 weights: the largest error to Σ |w x| is at most that of NumPy's product of float32."""
    layer = Layer((4, 14, 14, 16), (32, 5, 5), ((2, 2), (2, 2)))
    size, found = convolved(*map(np.abs, wide(layer.x, layer.W, layer.b)), padding=layer.padding), []
    for do in (by_machine_code, by_python):
        parts, z, Wt = empty(panels(32, 5, 80)), empty(*layer.want.shape), layer.turned
        do("filters_split", 0, 1, 5, 80, Wt, parts)
        do("conv2d_split", 0, 2, 2, 0, lines(layer.x), Wt, parts, z, layer.padded(), *layer.geometry)
        found.append(np.abs((z - layer.want) / size).max())
    assert found[0] <= found[1]


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_seen_by_its_image_alone(bad):
    layer = Layer((3, 9, 9, 16), (16, 3, 3), ((1, 1), (1, 1)))
    layer.x[1, 4, 4, 3] = bad
    parts, z, Wt = empty(panels(16, 3, 48)), empty(*layer.want.shape), layer.turned
    by_machine_code("filters_split", 0, 1, 3, 48, Wt, parts)
    by_machine_code("conv2d_split", 0, 1, 1, 0, lines(layer.x), Wt, parts, z, layer.padded(), *layer.geometry)
    assert not np.isfinite(z[1, 3:6, 3:6]).any()
    assert np.isfinite(z[[0, 2]]).all()


def test_what_fits():
    assert fits(16, 32, 5, 5, 14)
    assert not fits(8, 32, 5, 5, 14)
    assert not fits(16, 40, 5, 5, 14)
    most = (BAND // 3 // 64 - 48) // 3  # columns of which three lines and 48 places more have room
    assert fits(16, 16, 3, 1, most)
    assert not fits(16, 16, 3, 1, most + 1)
    assert fits(1024, 16, 1, 1, 16)
    assert not fits(4096, 16, 1, 1, 16)


@needs_machine_code
@needs_matrix_unit
@pytest.mark.parametrize(("filters", "lines_of", "run_of"), [(16, 2, 48), (32, 1, 64), (48, 3, 80), (80, 2, 16)])
def test_filters_lie_in_panels_line_by_line_pair_beside_pair(filters, lines_of, run_of):
    """A step has 16 pairs of terms, 2t with 2t + 1, of 32 filters; terms and filters there are not count as 0."""
    rng, steps = np.random.default_rng(3), -(-run_of // TERMS)
    W = rng.normal(size=(lines_of * run_of + 1, filters)).astype(np.float32)
    parts = empty(panels(filters, lines_of, run_of))
    by_machine_code("filters_split", 0, 1, lines_of, run_of, W, parts)
    words = parts.view(np.uint16).reshape(-1, lines_of, steps, PARTS, 2, LINES, LINES, 2)
    found = (words.astype(np.uint32) << 16).view(np.float32).astype(np.float64).sum(axis=3)
    want = np.zeros((len(words) * 2 * LINES, lines_of, steps * TERMS))
    want[:filters, :, :run_of] = W[:-1].T.reshape(filters, lines_of, run_of)
    want = want.reshape(-1, 2, LINES, lines_of, steps, LINES, 2)
    assert np.array_equal(found, want.transpose(0, 3, 4, 1, 5, 2, 6))


@needs_machine_code
@needs_matrix_unit
def test_what_a_thread_s_place_held_before_does_not_matter():
    """An image after another one that was not finite, and gradients likewise."""
    layer = Layer((2, 9, 9, 16), (32, 5, 5), ((2, 2), (2, 2)))
    parts, z, Wt = empty(panels(32, 5, 80)), empty(*layer.want.shape), layer.turned
    by_machine_code("filters_split", 0, 1, 5, 80, Wt, parts)

    def found(x, d):
        dW, sums, errors = empty(1, 32, layer.size + 1), empty(1, 32), empty(1, 9 * 13, 32)
        by_machine_code("conv2d_split", 0, 1, 1, 1, lines(x), Wt, parts, z, layer.padded(), *layer.geometry)
        given = 1, d, lines(x), dW, layer.padded(), errors, sums, *layer.geometry
        by_machine_code("conv2d_split_weights_grad", 0, 1, *given)
        return z.copy(), dW

    first = found(layer.x, layer.d)
    found(np.full_like(layer.x, np.nan), np.full_like(layer.d, np.inf))
    for again, before in zip(found(layer.x, layer.d), first, strict=True):
        assert np.array_equal(again, before)


# --- in programs ------------------------------------------------------------------------------------------------------

C1, C2, D = bl.Conv1D, bl.Conv2D, bl.Dense
FORWARD, WEIGHTS, MINIMAL = "conv2d_split(", "conv2d_split_weights_grad(", "winograd("
MODELS = {
    "5 × 5": ((14, 14, 2), (C2(16, 5, activation="relu"), C2(32, 5, padding="valid", activation="relu"), C2(16, 3)), 2),
    "1 × 1": ((9, 9, 16), (C2(32, 1), C2(16, 1, activation="tanh")), 3),
    "sequences": ((40, 16), (C1(16, 7, padding=((6, 0),), activation="relu"), C1(32, 4, padding="valid")), 3),
    "first layer": ((10, 12, 32), (C2(16, (2, 5), padding="valid"),), 1),
    "no bias": ((10, 10, 16), (C2(16, 5, bias=False, activation="relu"), C2(16, 5, bias=False)), 3),
    "frozen": ((10, 10, 16), (C2(16, 5), C2(16, 5, trainable=False, activation="relu"), C2(16, 5)), 5),
    "residual": ((10, 10, 16), (bl.Residual(C2(16, 5, activation="relu"), C2(16, 5)), bl.ReLU()), 3),
}
"""By name: shape of a sample, layers, and how often images are convolved by the unit, forward and backward."""
OTHERS = {
    "strides": ((12, 12, 16), (C2(16, 5, stride=2),)),
    "dilation": ((12, 12, 16), (C2(16, 5, dilation=2),)),
    "groups": ((12, 12, 32), (C2(32, 5, groups=2),)),
    "few columns": ((12, 5, 16), (C2(16, 5),)),
    "channels": ((12, 12, 24), (C2(16, 5),)),
    "filters": ((12, 12, 16), (C2(24, 5),)),
    "3 × 3": ((12, 12, 16), (C2(16, 3),)),
}
"""What is done in another way."""


def built(shape, layers, dtype):
    return bl.Sequential(*layers, bl.Flatten(), D(5)).build(shape, seed=1, dtype=dtype)


def trained(name, engine, dtype):
    """(losses, parameters) of six steps of Adam on 36 samples, the last mini-batch of each epoch smaller."""
    shape, layers, _ = MODELS[name]
    rng, model = np.random.default_rng(0), built(shape, layers, dtype)
    X, y = rng.normal(size=(31, *shape)).astype(dtype), rng.integers(0, 5, 31)
    run = bl.fit(model, (X, y), loss="softmax_cross_entropy", engine=engine, epochs=2, batch_size=12)
    return run.history["loss"], run.model.params


@needs_machine_code
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_a_network_trains_as_by_the_reference_engine(monkeypatch, name, dtype, threads):
    monkeypatch.setenv("BACKLIT_THREADS", str(threads))
    (losses, fast), (expected, reference) = (trained(name, engine, dtype) for engine in ("fast", "reference"))
    tolerance = 2e-4 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    for parameter, value in fast.items():
        np.testing.assert_allclose(value, reference[parameter], atol=tolerance, err_msg=parameter)
    again, same = trained(name, "fast", dtype)
    assert again == losses
    assert all(np.array_equal(same[parameter], value) for parameter, value in fast.items())


@needs_machine_code
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_the_unit_does_it_where_there_is_one_and_only_in_float32(name, dtype):
    shape, layers, times = MODELS[name]
    listing = bl.program(built(shape, layers, dtype), 12, loss="softmax_cross_entropy").show()
    used = split_convolution.convolves() and dtype == "float32"
    assert listing.count(FORWARD) == times * used
    assert (WEIGHTS in listing) == used


@needs_machine_code
@pytest.mark.parametrize("name", OTHERS)
def test_what_has_no_whole_tiles_or_is_as_fast_otherwise_is_left_alone(name):
    shape, layers = OTHERS[name]
    listing = bl.program(built(shape, layers, "float32"), 12, loss="softmax_cross_entropy").show()
    assert FORWARD not in listing
    assert WEIGHTS not in listing
    assert (MINIMAL in listing) == (name == "3 × 3")


@needs_machine_code
def test_without_a_unit_programs_are_what_they_were(monkeypatch):
    monkeypatch.setattr("backlit.engines.fast.program.convolves", lambda: False)
    shape, layers, _ = MODELS["5 × 5"]
    listing = bl.program(built(shape, layers, "float32"), 12, loss="softmax_cross_entropy").show()
    assert "conv2d_side_by_side(" in listing
    assert FORWARD not in listing


@needs_machine_code
@needs_matrix_unit
def test_prediction_gives_what_training_sees():
    """The same kernel on many samples: every sample's numbers do not depend on who is beside it."""
    shape, layers, _ = MODELS["5 × 5"]
    model, X = built(shape, layers, "float32"), np.random.default_rng(2).normal(size=(700, *shape)).astype(np.float32)
    fast, reference = model.predict(X, engine="fast"), model.predict(X[:50], engine="reference")
    np.testing.assert_allclose(fast[:50], reference, atol=2e-5)
    np.testing.assert_array_equal(model.predict(X[::-1].copy(), engine="fast"), fast[::-1])


@needs_machine_code
def test_two_networks_in_two_threads_do_not_disturb_each_other():
    """A unit's tiles are a thread's own, set up for as many rows as its image has columns."""
    names = ["5 × 5", "1 × 1", "sequences", "residual"]
    alone = [trained(name, "fast", "float32") for name in names]
    with ThreadPoolExecutor(4) as pool:
        for (losses, params), (before, values) in zip(
            pool.map(lambda name: trained(name, "fast", "float32"), names), alone, strict=True
        ):
            assert losses == before
            assert all(np.array_equal(params[name], value) for name, value in values.items())


SCRIPT = """
import sys
import numpy as np
import backlit as bl
X, y = np.random.default_rng(0).normal(size=(20, 10, 10, 16)), np.arange(20) % 3
model = bl.Sequential(bl.Conv2D(16, 5), bl.Flatten(), bl.Dense(3)).build((10, 10, 16), seed=0)
run = bl.fit(model, (X, y), loss="softmax_cross_entropy", epochs=1, batch_size=5, engine="fast", seed=0)
print(run.history["loss"][-1], *sorted({"numba", "llvmlite"} & set(sys.modules)))
"""


@needs_machine_code
@pytest.mark.slow
def test_what_one_process_has_compiled_the_next_one_finds(tmp_path):
    """Convolutions too are linked without the compiler."""

    def process():
        asked = os.environ | {"BACKLIT_CACHE": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    first = process()
    assert first.endswith("llvmlite numba")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.o")}
    again = process()
    assert again.split()[0] == first.split()[0]
    assert "numba" not in again
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.o")} == before


def test_object_code_has_a_name_for_each_of_its_functions():
    assert set(machine_code.CONVOLUTION) <= set(machine_code.PRODUCTS)
    assert len(set(machine_code.PRODUCTS)) == len(machine_code.PRODUCTS)
