"""The fast engine against the reference engine, and what a listing promises."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import backlit as bl
from backlit import optim
from backlit.engines import reference

pytest.importorskip("numba")

from backlit.engines.fast import compiling, memory
from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors
from backlit.nn import losses

WIDTH, BATCH = 5, 10
shared = bl.Dense(WIDTH, "relu")
D = bl.Dense


def branches(x):
    return D(3)(bl.Concatenate()(D(4, "relu")(x), D(4, "tanh")(x), x))


def value_used_twice(x):
    h = D(6, "relu")(x)
    return D(3)(h * h + h)


ZOO = {
    "relu, tanh, sigmoid": lambda: bl.Sequential(D(8, "relu"), D(7, "tanh"), D(6, "sigmoid"), D(3)),
    "rules without kernel": lambda: bl.Sequential(D(8, "gelu"), D(6, "softplus"), D(3)),
    "norms": lambda: bl.Sequential(D(8, bias=False), bl.BatchNorm(), bl.ReLU(), bl.LayerNorm(), bl.Tanh(), D(3)),
    "dropout": lambda: bl.Sequential(D(8, "relu"), bl.Dropout(0.4), D(3)),
    "residual": lambda: bl.Sequential(D(8, "relu"), bl.Residual(D(8, "relu"), D(8)), bl.ReLU(), D(3)),
    "shared layer": lambda: bl.Model(lambda x: D(3)(shared(shared(x)) + x * 2.0)),
    "branches": lambda: bl.Model(branches),
    "value used twice": lambda: bl.Model(value_used_twice),
    "frozen layer": lambda: bl.Sequential(D(8, "relu", trainable=False), D(3)),
    "reshaped": lambda: bl.Sequential(D(8, "relu"), bl.Reshape((2, 4)), D(3, "relu"), bl.Flatten(), D(3)),
}
LOSSES = ("softmax_cross_entropy", "mse", "huber", bl.SoftmaxCrossEntropy(label_smoothing=0.1))
OPTIMIZERS = (
    optim.Adam(0.01), optim.AdamW(0.01), optim.Adam(0.01, l1=0.01), optim.NAdam(0.01), optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9, nesterov=True), optim.SGD(0.1, l2=0.01, weight_decay=0.1), optim.RMSprop(0.01),
    optim.Lion(0.001),
)  # fmt: skip


class Job:
    """A built model with two batches of data, and its program."""

    def __init__(self, model, loss="softmax_cross_entropy", optimizer=OPTIMIZERS[0], clip=None, dtype="float64"):
        rng = np.random.default_rng(0)
        recipe = losses.get(loss)
        y = rng.integers(0, 3, 2 * BATCH) if recipe.labels else rng.normal(size=(2 * BATCH, 3))
        self.model, self.optimizer, self.clip = model.build((WIDTH,), seed=1, dtype=dtype), optimizer, clip
        self.data = {"x": rng.normal(size=(2 * BATCH, WIDTH)).astype(dtype), "y": recipe.target(y, dtype)}
        shapes = {n: ((BATCH, *a.shape[1:]), a.dtype.name) for n, a in self.data.items()}
        self.graph = model.graph((shapes["x"],), training=True, loss=recipe, target=shapes["y"])
        self.vectors = Vectors.of(self.graph, optimizer, dtype)
        params = {n: model.params[n] for n in self.graph.trainable}
        self.slots = optim.init_state(np, optimizer, params)
        self.vectors.load(model.params, model.state, self.slots)
        self.program = Program(self.graph, optimizer, clip, self.vectors, seed=3)
        vars(self.program)["compiled"] = False

    def steps(self, count, first=1):
        order = np.tile(np.arange(2 * BATCH), count)[: count * BATCH]
        return self.program.run(self.data, order, np.full(count, 0.01), first)

    def by_reference(self, count):
        """The same steps by the interpreter: (losses, parameters and state, gradients of the last)."""
        params, state, slots, found = dict(self.model.params), dict(self.model.state), self.slots, []
        for step in range(1, count + 1):
            rows = slice(BATCH, None) if step % 2 == 0 else slice(0, BATCH)
            given = params | state | {n: a[rows] for n, a in self.data.items()}
            env = reference.leaves(self.graph, given, seed=3, step=step)
            values, d = reference.value_and_grad(self.graph, env, self.graph.trainable)
            grads = {n: d[n] for n in self.graph.trainable}
            found.append(float(values[self.graph.outputs[0]]))
            clipped = self.clip(np, grads) if self.clip else grads
            params, slots = optim.apply(np, self.optimizer, params, clipped, slots, lr=0.01, t=step)
            state = {n: values[self.graph.updates[n]] for n in state}
        return found, params | state, grads


def assert_equal_steps(job, tolerance, count=4):
    losses_, values, grads = job.by_reference(count)
    made = job.steps(count)
    assert np.allclose(made.losses, losses_, rtol=tolerance, atol=tolerance)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values()))
    assert made.norms[-1] == pytest.approx(norm, rel=max(tolerance, 1e-12))
    for name, value in values.items():
        assert np.allclose(job.vectors.views[name], value, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_every_model_and_loss(name, loss):
    assert_equal_steps(Job(ZOO[name](), loss), 1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{o.name}{o.formulas[-1:]}")
@pytest.mark.parametrize(
    "clip", [None, optim.ClipByGlobalNorm(0.1), optim.ClipByValue(0.01)], ids=["", "norm", "value"]
)
def test_ten_steps_of_every_optimizer(optimizer, clip):
    assert_equal_steps(Job(ZOO["residual"](), optimizer=optimizer, clip=clip), 1e-12, count=10)


@pytest.mark.parametrize("name", ZOO)
def test_float32(name):
    """One step, so that Adam does not magnify what is only rounding; 64 eps of the largest value."""
    job = Job(ZOO[name](), optimizer=optim.SGD(0.1), dtype="float32")
    assert_equal_steps(job, 64 * float(np.finfo(np.float32).eps), count=1)


def test_a_small_net_is_compiled_whole_and_equals_the_listing_run_as_it_is():
    jobs = [Job(bl.Sequential(bl.Dense(8, "relu"), bl.Dense(3)), dtype="float32") for _ in range(2)]
    del vars(jobs[0].program)["compiled"]
    assert jobs[0].program.compiled
    a, b = (job.steps(6) for job in jobs)
    assert np.allclose(a.losses, b.losses, rtol=1e-6)
    assert np.allclose(jobs[0].vectors.params, jobs[1].vectors.params, atol=1e-6)


def test_steps_in_one_call_equal_steps_one_by_one_bit_for_bit():
    jobs = [Job(ZOO["dropout"](), dtype="float32") for _ in range(2)]
    together = jobs[0].steps(4).losses
    alone = [
        jobs[1].program.run(jobs[1].data, np.arange(BATCH) + BATCH * (s % 2), np.full(1, 0.01), s + 1) for s in range(4)
    ]
    assert np.array_equal(together, np.concatenate([m.losses for m in alone]))
    assert np.array_equal(jobs[0].vectors.params, jobs[1].vectors.params)


def test_a_step_that_is_not_finite_changes_nothing():
    job = Job(ZOO["relu, tanh, sigmoid"](), "mse")
    job.data["y"] = job.data["y"] * np.where(np.arange(2 * BATCH) < BATCH, 1.0, np.inf)[:, None]
    with np.errstate(all="ignore"):
        made = job.steps(3)
    before = Job(ZOO["relu, tanh, sigmoid"](), "mse")
    before.steps(1)
    assert len(made.losses) == 1
    assert np.array_equal(job.vectors.params, before.vectors.params)


def test_the_listing_reads_as_what_it_does():
    job = Job(bl.Sequential(bl.Dense(8, "relu"), bl.Dense(3)))
    lines = [line.split("#")[0].strip() for line in job.program.show().splitlines()]
    assert lines[:11] == [
        "product_nt(x, dense1_W, dense1_z)",
        "bias_relu(dense1_z, dense1_b)",
        "product_nt(dense1_a, dense2_W, dense2_z)",
        "bias(dense2_z, dense2_b)",
        "softmax_cross_entropy(dense2_z, y, d_dense2_z, stats)",
        "product_tn(d_dense2_z, dense1_a, d_dense2_W)",
        "sum_rows(d_dense2_z, d_dense2_b)",
        "product_nn(d_dense2_z, dense2_W, d_dense1_a)",
        "bias_relu_grad(d_dense1_a, dense1_a, d_dense1_b)",
        "product_tn(d_dense1_z, x, d_dense1_W)",
        "adam(p, g, m, v, rates[s], first + s, 0.9, 0.999, 1e-08, 0.0, 0.0)",
    ]
    assert compile(job.program.source(), "listing", "exec")


def test_a_step_of_kernels_allocates_nothing():
    job = Job(bl.Sequential(bl.Dense(256, "relu"), bl.Dense(128, "tanh"), bl.Dense(3)), dtype="float32")
    job.steps(2)
    tracemalloc.start()
    try:
        before, steps = tracemalloc.get_traced_memory()[0], 50
        job.steps(steps)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    results = steps * (3 * 8 + BATCH * 3 * 4 + 2 * BATCH * 8 + 8)  # losses, masses, norms, outputs, order, rates
    assert peak < results + BATCH * 128 * 4  # less than the smallest hidden layer's activations


def test_buffers_that_live_at_once_do_not_overlap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shapes = {f"b{i}": (int(rng.integers(1, 40)), int(rng.integers(1, 9))) for i in range(20)}
        uses = {n: tuple(sorted(int(u) for u in rng.integers(0, 30, 2))) for n in shapes}
        placed, size = memory.plan(shapes, uses)
        for a in placed.values():
            assert a.offset + a.size <= size
            for b in placed.values():
                apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
                assert a.name == b.name or apart or a.last < b.first or b.last < a.first


def test_the_plan_is_smaller_than_all_buffers_together():
    job = Job(bl.Sequential(*(bl.Dense(64, "relu") for _ in range(6)), bl.Dense(3)))
    assert sum(b.size for b in job.program.buffers.values()) > 1.5 * job.program.arena.size


def test_where_the_cache_cannot_be_written_it_compiles_all_the_same(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path / "file"))
    source = "def run(p, g):\n    sgd(p, g, 1.0, 0.0, 0.0)\n    return 1\n"
    p = np.ones(3)
    assert compiling.compiled(source)(p, np.full(3, 0.25)) == 1
    assert np.array_equal(p, np.full(3, 0.75))
