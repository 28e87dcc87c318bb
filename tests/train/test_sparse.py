"""A sparse table: its gradient is rows from the walk back to the optimizer, and only these rows move."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit import optim
from backlit.core.errors import InputError
from backlit.core.rows import Rows, stored
from backlit.engines import reference
from backlit.nn import losses
from backlit.train.step import Samples, gradients

V, D, N, T = 30, 4, 12, 3
RNG = np.random.default_rng(2)
IDS, Y = RNG.integers(0, 20, (N, T)), RNG.normal(size=(N, T, 2))
TABLE = "embedding1.E"


def model(*, sparse=True):
    return bl.Sequential(bl.Embedding(V, D, sparse=sparse), bl.Dense(2, "tanh")).build((T,), dtype="float64")


def fit(*, sparse=True, **changes):
    options = {"loss": "mse", "optimizer": bl.Adam(1e-2), "epochs": 3, "batch_size": 4, "engine": "reference"}
    return bl.fit(model(sparse=sparse), (IDS, Y), **options | {"progress": False} | changes)


def step(made, ids, y):
    """The gradients of one step of training."""
    return gradients(made, losses.get("mse"), [Samples((ids,), y)], {}, seed=0, step=1).grads


# --- rows -----------------------------------------------------------------------------------------------------------


def test_rows_with_the_same_number_add_up():
    found = Rows.of(np.array([3, 1, 3]), np.array([[1.0, 2], [3, 4], [10, 20]]), (5, 2))
    assert found.numbers.tolist() == [1, 3]
    assert found.values.tolist() == [[3, 4], [11, 22]]
    assert np.asarray(found).tolist() == [[0, 0], [3, 4], [0, 0], [11, 22], [0, 0]]


def test_rows_are_added_scaled_and_cast_as_the_arrays_are():
    one, other = (Rows.of(RNG.integers(0, 6, 5), RNG.normal(size=(5, 2)), (6, 2)) for _ in range(2))
    np.testing.assert_allclose((one + other).dense(), one.dense() + other.dense())
    np.testing.assert_array_equal((one * 3.0).dense(), 3.0 * one.dense())
    assert one.astype("float32").dense().dtype == np.float32
    assert np.sum(np.square(one)) == pytest.approx(np.sum(stored(one) ** 2))


def test_no_rows_are_no_rows():
    none = Rows.of(np.zeros(0, int), np.zeros((0, 2)), (4, 2))
    assert not none.dense().any()
    assert none.dense().shape == (4, 2)


# --- gradients ------------------------------------------------------------------------------------------------------


def test_training_keeps_rows_and_everything_else_sees_the_array():
    made = model()
    found = step(made, IDS, Y)
    whole = bl.value_and_grad(made, IDS, Y, loss="mse")[1]
    assert isinstance(found[TABLE], Rows)
    assert found[TABLE].numbers.tolist() == sorted(set(IDS.ravel().tolist()))
    assert all(isinstance(g, np.ndarray) for g in whole.values())
    for name, g in whole.items():
        np.testing.assert_array_equal(np.asarray(found[name]), g)
    assert isinstance(bl.trace(made, IDS, Y, loss="mse").grad(TABLE), np.ndarray)


def test_a_table_that_is_read_twice_has_the_rows_of_both():
    def both(ids):
        table = bl.Embedding(V, D, sparse=True)
        return table(ids[:, :1]) + table(ids[:, 1:2])

    made = bl.Model(both).build((T,), dtype="float64")
    y = RNG.normal(size=(N, 1, D))
    found, whole = step(made, IDS, y)[TABLE], bl.value_and_grad(made, IDS, y, loss="mse")[1][TABLE]
    assert found.numbers.tolist() == sorted(set(IDS[:, :2].ravel().tolist()))
    np.testing.assert_allclose(found.dense(), whole, rtol=1e-14)


def test_no_array_of_the_tables_size_is_made_on_the_way_back(monkeypatch):
    monkeypatch.setattr(Rows, "dense", lambda self: pytest.fail("made dense"))
    fit()


def test_parts_of_a_step_are_combined_as_the_whole_batch():
    parts, whole = fit(accumulate=2, batch_size=2), fit(batch_size=4)
    for name, p in whole.model.params.items():
        np.testing.assert_allclose(parts.model.params[name], p, rtol=1e-9, atol=1e-12)


# --- updates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [bl.SGD(0.1), bl.Adagrad(0.1)], ids=repr)
def test_optimizers_that_do_nothing_without_a_gradient_are_the_same(optimizer):
    one, other = fit(optimizer=optimizer), fit(optimizer=optimizer, sparse=False)
    for name, p in other.model.params.items():
        np.testing.assert_array_equal(one.model.params[name], p)


WITH_STATE = [bl.Adam(0.1), bl.NAdam(0.1), bl.SGD(0.1, momentum=0.9), bl.AdamW(0.1), bl.SGD(0.1, l2=0.5)]


@pytest.mark.parametrize("optimizer", WITH_STATE, ids=repr)
def test_a_row_that_was_not_read_stays_bit_for_bit(optimizer):
    made = model()
    params, state = dict(made.params), optim.init_state(np, optimizer, made.params)
    for t, ids in enumerate((IDS[:4], IDS[4:8] * 0, IDS[8:]), start=1):
        read = np.isin(np.arange(V), ids)
        found = step(made, ids, Y[:4])
        new, after = optim.apply(np, optimizer, params, found, state, lr=0.1, t=t)
        assert np.array_equal((new[TABLE] != params[TABLE]).any(axis=1), read)
        for slot, a in after[TABLE].items():
            moved = a != state[TABLE][slot]
            assert np.array_equal(moved.any(axis=1), read) if a.shape else moved, slot
        assert (new["dense1.W"] != params["dense1.W"]).all()
        params, state = new, after
        made.params = dict(params)


def test_a_row_is_updated_as_an_array_of_its_own_would_be():
    p, slots = RNG.normal(size=(V, D)), {"m": RNG.normal(size=(V, D)), "v": RNG.random((V, D))}
    g = Rows(np.array([2, 7]), RNG.normal(size=(2, D)), (V, D))
    new, state = optim.apply(np, bl.Adam(), {"E": p}, {"E": g}, {"E": slots}, lr=0.1, t=3)
    for i, row in zip(g.numbers, g.values, strict=True):
        want, own = bl.Adam().update(np, p[i], row, {n: a[i] for n, a in slots.items()}, lr=0.1, t=3)
        assert np.array_equal(new["E"][i], want)
        assert all(np.array_equal(state["E"][n][i], a) for n, a in own.items())


@pytest.mark.parametrize("clip", [bl.ClipByGlobalNorm(0.01), bl.ClipByNorm(0.01), bl.ClipByValue(0.001)], ids=repr)
def test_rows_are_clipped_as_the_array_would_be(clip):
    found = step(model(), IDS, Y)
    rows, whole = clip(np, found), clip(np, {n: np.asarray(g) for n, g in found.items()})
    assert isinstance(rows[TABLE], Rows)
    for name, g in whole.items():
        np.testing.assert_allclose(np.asarray(rows[name]), g, rtol=1e-12)
        assert np.abs(g).max() < np.abs(np.asarray(found[name])).max()


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_updates_are_pytorchs_sparse_ones(kind):
    """SparseAdam adds eps before the correction of v, ours after: with an eps that does not count they are one."""
    torch = pytest.importorskip("torch")
    made = model()
    table = torch.nn.Embedding(V, D, sparse=True, dtype=torch.float64)
    head = torch.nn.Linear(D, 2, dtype=torch.float64)
    with torch.no_grad():
        for theirs, name in ((table.weight, TABLE), (head.weight, "dense1.W"), (head.bias, "dense1.b")):
            theirs.copy_(torch.tensor(made.params[name]))
    if kind == "adam":
        ours = bl.Adam(0.01, eps=1e-30)
        theirs = [
            torch.optim.SparseAdam(table.parameters(), lr=0.01, eps=1e-30),
            torch.optim.Adam(head.parameters(), lr=0.01, eps=1e-30),
        ]
    else:
        ours, theirs = bl.SGD(0.3), [torch.optim.SGD([*table.parameters(), *head.parameters()], lr=0.3)]
    params, state = dict(made.params), optim.init_state(np, ours, made.params)
    for t in range(1, 11):
        ids, y = IDS[t % 3 :: 3], Y[t % 3 :: 3]
        found = step(made, ids, y)
        params, state = optim.apply(np, ours, params, found, state, lr=ours.learning_rate, t=t)
        made.params = params
        for o in theirs:
            o.zero_grad()
        torch.nn.functional.mse_loss(torch.tanh(head(table(torch.tensor(ids)))), torch.tensor(y)).backward()
        for o in theirs:
            o.step()
    np.testing.assert_allclose(params[TABLE], table.weight.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(params["dense1.W"], head.weight.detach().numpy(), rtol=1e-10, atol=1e-12)


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("clip", [None, bl.ClipByGlobalNorm(0.01)], ids=["plain", "clipped"])
def test_updates_of_a_run_are_explained(tmp_path, clip, engine):
    if engine == "fast":
        pytest.importorskip("numba")
    run = fit(run_dir=tmp_path / "run", clip=clip, engine=engine)
    trace = run.at(step=5)
    read = set(trace["x"].ravel().tolist())
    other = next(i for i in range(V) if i not in read)
    saved = type(trace).load(trace.save(tmp_path / "t.safetensors"))
    for t in (trace, saved):
        moved, still = t.explain(f"Δ{TABLE}[{min(read)},1]"), t.explain(f"Δ{TABLE}[{other},1]")
        assert moved.ok
        assert moved.value != 0
        assert still.ok
        assert still.value == 0
        assert str(other) in str(still)
        assert t.update.params[TABLE][other].tolist() == t[TABLE][other].tolist()
    assert all(equal for _, equal in run.verify())


def test_a_model_with_a_sparse_table_is_saved_and_loaded(tmp_path):
    found = bl.load(bl.save(model(), tmp_path / "m.safetensors"))
    assert repr(found) == "Sequential(Embedding(30, 4, sparse=True), Dense(2, 'tanh'))"
    graph = found.graph(found.batch_of(2))
    assert graph.sparse == {TABLE}


def test_what_a_sparse_table_cannot_do():
    def tied(ids):
        table = bl.Embedding(V, D, sparse=True)
        return table.logits(table(ids))

    with pytest.raises(InputError, match="BL332"):
        bl.Model(tied).build((T,))


def test_the_plain_walk_back_is_of_arrays():
    made = model()
    graph = made.graph(made.batch_of(N), loss=losses.get("mse"), target=(Y.shape, "float64"))
    env = reference.leaves(graph, {"x": IDS, "y": Y} | made.params)
    _, d = reference.value_and_grad(graph, env, graph.trainable)
    assert isinstance(d[TABLE], np.ndarray)
