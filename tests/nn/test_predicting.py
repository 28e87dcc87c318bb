"""Prediction by the fast engine: what the reference engine predicts, bit for bit repeatable, and when it is chosen."""

from __future__ import annotations

import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError, UnknownNameError
from backlit.nn import predicting

RNG = np.random.default_rng(0)
D, C = bl.Dense, bl.Conv2D


def skipping(x):
    h = D(6, "relu")(x)
    return D(3)(bl.Concatenate()(h * h, x) + 1.0)


def masked(ids, mask):
    return D(3)(bl.MultiHeadAttention(2)(bl.Embedding(11, 8)(ids), mask=mask))


def real(*shape):
    return lambda n: RNG.normal(size=(n, *shape))


def ids(*shape):
    return lambda n: RNG.integers(0, 11, (n, *shape))


MODELS = {
    "dense": (lambda: bl.Sequential(D(40, "relu"), D(8, "gelu"), D(7, "tanh"), D(3)), real(5)),
    "norms": (lambda: bl.Sequential(D(8), bl.BatchNorm(), bl.ReLU(), bl.LayerNorm(), bl.BatchNorm(), D(3)), real(5)),
    "dropout": (lambda: bl.Sequential(D(8, "silu"), bl.Dropout(0.4), D(3, "softmax")), real(5)),
    "branches": (lambda: bl.Model(skipping), real(5)),
    "frozen": (lambda: bl.Sequential(D(8, "relu", trainable=False), D(3)), real(5)),
    "nothing to learn": (lambda: bl.Sequential(bl.Flatten(), bl.Tanh()), real(2, 3)),
    "one column": (lambda: bl.Sequential(D(1)), real(5)),
    "images": (
        lambda: bl.Sequential(C(8, 3), bl.BatchNorm(), bl.ReLU(), bl.MaxPool2D(2), bl.Flatten(), D(3)),
        real(8, 8, 2),
    ),
    "images, groups": (
        lambda: bl.Sequential(C(4, 5, activation="relu"), bl.GroupNorm(2), bl.GlobalAvgPool2D(), D(3)),
        real(8, 8, 2),
    ),
    "lstm": (lambda: bl.Sequential(bl.Embedding(11, 7), bl.LSTM(9), D(4)), ids(6)),
    "transformer": (
        lambda: bl.Sequential(bl.Embedding(11, 8), bl.PositionalEmbedding(6), bl.TransformerBlock(2, causal=True)),
        ids(6),
    ),
}


def built(name, dtype="float64"):
    """A model whose parameters and running statistics are not those it began with."""
    make, data = MODELS[name]
    model = make().build(data(1).shape[1:], seed=1, dtype=dtype)
    for table in (model.params, model.state):
        for n, a in table.items():
            table[n] = (a + 0.1 * RNG.random(size=a.shape)).astype(a.dtype)
    return model, data


@pytest.fixture(params=[1, 2])
def threads(request, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("BACKLIT_THREADS", str(request.param))
    return request.param


@pytest.mark.parametrize(("dtype", "units"), [("float64", 1e-12), ("float32", 64 * float(np.finfo(np.float32).eps))])
@pytest.mark.parametrize("name", MODELS)
def test_both_engines_predict_the_same(name, dtype, units, threads):
    model, data = built(name, dtype)
    X = data(37)  # some batches and a rest
    want = model.predict(X, batch_size=10, engine="reference")
    found = model.predict(X, batch_size=10, engine="fast")
    assert found.dtype == want.dtype
    np.testing.assert_allclose(found, want, rtol=units, atol=units * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("count", [1, 9, 10, 11, 20, 3001])
def test_any_number_of_samples(count, threads):
    model, data = built("norms")
    X = data(count)
    found = model.predict(X, batch_size=10, engine="fast")
    np.testing.assert_allclose(found, model.predict(X, engine="reference"), rtol=1e-12, atol=1e-12)


def test_a_prediction_repeats_bit_for_bit(threads):
    model, data = built("images", "float32")
    X = data(300)
    first = model.predict(X, engine="fast")
    model.predict(data(77), engine="fast")
    assert np.array_equal(model.predict(X, engine="fast"), first)
    again = bl.Model(model.function)
    again.build((8, 8, 2), dtype="float32")
    again.params, again.state = model.params, model.state
    assert np.array_equal(again.predict(X, engine="fast"), first)


@pytest.mark.parametrize("name", ["images", "dense", "norms"])
def test_layers_are_done_by_kernels(name):
    pytest.importorskip("numba")
    from backlit.engines.fast.forward import Forwards

    model, data = built(name)
    arrays = model.arrays(data(10))
    graph = model.graph_like(arrays, 10)
    programs = Forwards.of(graph, model.dtype, 1)
    programs.outputs(lambda _: graph, arrays, 10)
    (program,) = (p for _, p in programs.programs.values())
    assert not program.low.closures
    assert "grad" not in program.show()


def test_what_has_changed_since_counts():
    pytest.importorskip("numba")
    model, data = built("norms")
    X = data(30)

    def same():
        want = model.predict(X, engine="reference")
        np.testing.assert_allclose(model.predict(X, engine="fast"), want, rtol=1e-12, atol=1e-12)

    same()
    model.params = {n: 2.0 * a for n, a in model.params.items()}
    model.state["batchnorm1.running_mean"] += 1.0
    same()
    model.freeze("dense1")
    same()
    model.build((5,), seed=9, dtype="float32")
    model.build((5,), seed=9, dtype="float64")
    same()


def test_few_programs_are_kept():
    pytest.importorskip("numba")
    from backlit.engines.fast.forward import KEPT_PROGRAMS

    model, data = built("dense")
    for n in range(1, 9):
        model.predict(data(n), engine="fast")
    assert list(vars(predicting._kept)["models"][model].programs) == list(range(9 - KEPT_PROGRAMS, 9))


def test_two_threads_may_ask_one_model():
    pytest.importorskip("numba")
    model, data = built("dense")
    given = [data(4000) for _ in range(4)]
    want, found = [model.predict(X, engine="fast") for X in given], [None] * 4

    def ask(i):
        for _ in range(5):
            found[i] = model.predict(given[i], engine="fast")

    threads = [Thread(target=ask, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for a, b in zip(found, want, strict=True):
        assert np.array_equal(a, b)


def test_several_inputs_and_values_that_a_rule_refuses():
    pytest.importorskip("numba")
    model = bl.Model(masked).build(((6,), (6,)), dtype="float64")
    X, mask = RNG.integers(0, 11, (45, 6)), np.ones((45, 6))
    mask[::2, 4:] = 0
    want = model.predict((X, mask), engine="reference")
    np.testing.assert_allclose(model.predict((X, mask), batch_size=8, engine="fast"), want, rtol=1e-12, atol=1e-12)
    X[44, 1] = 11
    errors = []
    for engine in ("reference", "fast"):
        with pytest.raises(InputError, match="embedding1") as caught:
            model.predict((X, mask), batch_size=8, engine=engine)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("form", [np.asfortranarray, lambda a: a[::-1], lambda a: a.astype(">f8")], ids=str)
def test_arrays_of_every_layout(form):
    pytest.importorskip("numba")
    model, data = built("images", "float32")
    X = form(data(40))
    plain = np.ascontiguousarray(X, "float32")
    assert np.array_equal(model.predict(X, engine="fast"), model.predict(plain, engine="fast"))


def test_a_file_is_read_piece_by_piece(tmp_path, monkeypatch):
    pytest.importorskip("numba")
    model, data = built("dense", "float32")
    X = data(500)
    np.save(tmp_path / "x.npy", X)
    seen, inner = [], predicting._by_programs
    monkeypatch.setattr(predicting, "_by_programs", lambda m, s, a: seen.append(len(a[0])) or inner(m, s, a))
    found = model.predict(tmp_path / "x.npy", batch_size=16, engine="fast")
    assert seen == [16] * 31 + [4]
    assert np.array_equal(found, model.predict(X, batch_size=16, engine="fast"))
    assert seen[32:] == [500]


# --- which engine -----------------------------------------------------------------------------------------------------


def used(model, X, monkeypatch, **options):
    """The engine that predicts."""
    names = []
    for engine, way in (("reference", "_by_reference"), ("fast", "_by_programs")):
        inner = getattr(predicting, way)
        monkeypatch.setattr(predicting, way, lambda *a, e=engine, f=inner: names.append(e) or f(*a))
    model.predict(X, **options)
    return set(names)


def test_the_fast_engine_is_for_many_samples(monkeypatch):
    pytest.importorskip("numba")
    model, data = built("dense")
    assert used(model, data(2000), monkeypatch) == {"reference"}
    monkeypatch.setattr(predicting, "QUICK", 1e-5)
    assert used(model, data(2000), monkeypatch) == {"fast"}
    assert used(model, data(20), monkeypatch) == {"reference"}


def test_without_numba_the_reference_engine_predicts(monkeypatch):
    model, data = built("dense")
    monkeypatch.setattr(predicting, "find_spec", lambda _: None)
    monkeypatch.setattr(predicting, "QUICK", 0.0)
    assert used(model, data(2000), monkeypatch) == {"reference"}
    with pytest.raises(InputError) as caught:
        model.predict(data(3), engine="fast")
    assert caught.value.code == "BL434"


def test_an_unknown_engine_is_refused():
    model, data = built("dense")
    with pytest.raises(UnknownNameError, match="fast"):
        model.predict(data(3), engine="fats")


def test_probabilities_by_both_engines():
    pytest.importorskip("numba")
    model, data = built("dense")
    X = data(40)
    want = model.predict_proba(X, engine="reference")
    np.testing.assert_allclose(model.predict_proba(X, engine="fast"), want, rtol=1e-12)


def test_a_small_prediction_loads_no_compiler():
    script = (
        "import sys, numpy as np, backlit as bl; "
        "bl.Sequential(bl.Dense(2)).build((3,)).predict(np.zeros((2000, 3))); "
        "print(*{'numba', 'llvmlite'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not found.stdout.split()
