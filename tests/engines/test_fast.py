"""The fast engine against the reference engine, and what a listing promises."""

from __future__ import annotations

import platform
import re
import tracemalloc

import numpy as np
import pytest

import backlit as bl
from backlit import optim
from backlit.engines import reference

pytest.importorskip("numba")

from backlit.engines.fast import memory
from backlit.engines.fast.program import Program
from backlit.engines.fast.vectors import Vectors
from backlit.nn import losses
from engines.kernel_calls import needs_machine_code
from optim.variants import VARIANTS

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
ADAM = optim.Adam(0.01)
CLIPS = (None, optim.ClipByGlobalNorm(0.1), optim.ClipByValue(0.01), optim.ClipByNorm(0.05))
LOSSES = ("softmax_cross_entropy", "mse", "huber", bl.SoftmaxCrossEntropy(label_smoothing=0.1))


class Job:
    """A built model with two batches of data, and its program."""

    def __init__(self, model, loss="softmax_cross_entropy", optimizer=ADAM, clip=None, dtype="float64", parts=0):
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
        self.program = Program(self.graph, optimizer, clip, self.vectors, seed=3, threads=max(parts, 1))
        self.program.parts = parts or self.program.parts

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


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_every_model_and_loss(name, loss, parts):
    assert_equal_steps(Job(ZOO[name](), loss, parts=parts), 1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name if clip else "")
def test_ten_steps_of_every_optimizer(variant, clip):
    optimizer = VARIANTS[variant].optimizer
    assert_equal_steps(Job(ZOO["residual"](), optimizer=optimizer, clip=clip), 1e-12, count=10)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ZOO)
def test_float32(name, parts):
    """One step, so that Adam does not magnify what is only rounding; 64 eps of the largest value."""
    job = Job(ZOO[name](), optimizer=optim.SGD(0.1), dtype="float32", parts=parts)
    assert_equal_steps(job, 64 * float(np.finfo(np.float32).eps), count=1)


@pytest.mark.parametrize("parts", [1, 2])
def test_two_runs_with_one_number_of_threads_have_the_same_bits(parts):
    jobs = [Job(ZOO["dropout"](), dtype="float32", parts=parts) for _ in range(2)]
    a, b = (job.steps(6) for job in jobs)
    assert np.array_equal(a.losses, b.losses)
    assert np.array_equal(a.norms, b.norms)
    assert np.array_equal(jobs[0].vectors.params, jobs[1].vectors.params)


@needs_machine_code
def test_machine_code_and_the_table_read_line_by_line_do_the_same(monkeypatch):
    jobs = [Job(ZOO["branches"]()) for _ in range(2)]
    a = jobs[0].steps(6)
    monkeypatch.setattr(jobs[1].program, "_execute", jobs[1].program._interpret)
    b = jobs[1].steps(6)
    assert np.allclose(a.losses, b.losses, rtol=1e-12)
    assert np.allclose(jobs[0].vectors.params, jobs[1].vectors.params, atol=1e-12)


def test_a_small_step_is_done_by_one_thread_and_a_big_one_by_all():
    small = Job(bl.Sequential(D(8, "relu"), D(3)))
    big = Job(bl.Sequential(D(300, "relu"), D(300, "relu"), D(3)))
    by_rules = Job(bl.Sequential(D(300, "relu"), bl.LayerNorm(), D(300, "relu"), D(3)))
    found = [Program(j.graph, j.optimizer, None, j.vectors, threads=2) for j in (small, big, by_rules)]
    if not any(call.arguments and call.kernel in found[2].low.closures for call in found[2].calls):
        found[2].parts = 1  # once a layer norm has kernels
    assert [program.parts for program in found] == [1, 2, 1]


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
    lines = [
        re.sub(r"adam_[0-9a-f]{8}", "adam", line.split("#")[0].strip()) for line in job.program.show().splitlines()
    ]
    assert lines == [
        "gather(all_x, order, x)",
        "gather(all_y, order, y_gathered)",
        "linear(0, 1, x, dense1_W, dense1_b, dense1_z)",
        "linear(0, 0, dense1_a, dense2_W, dense2_b, dense2_z)",
        "softmax_cross_entropy(dense2_z, y, d_dense2_z, losses_of_loss, 0.0)",
        "mean_loss(losses_of_loss, 10, 10, stats)",
        "product_tn(1, d_dense2_z, dense1_a, d_dense2_W)",
        "sum_rows(d_dense2_z, d_dense2_b)",
        "product_nn(0, d_dense2_z, dense2_W, d_dense1_a)",
        "bias_relu_grad(d_dense1_a, dense1_a, d_dense1_b_row)",
        "product_tn(0, d_dense1_z, x, d_dense1_W)",
        "squares(g, sums)",
        "note(stats, sums, losses, masses, norms, stop)",
        "keep(dense2_z_flat, outputs)",
        "adam(p, g, m, v, rates, clock, 0.9, 0.999, 1e-08)",
        "",
    ]
    assert "dense1.z, dense1.a" in job.program.show()
    assert f"in {job.program.arena.nbytes:,} bytes" in job.program.show()


@needs_machine_code
@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_of_kernels_allocates_nothing(parts):
    model = bl.Sequential(bl.Dense(256, "relu"), bl.Residual(bl.Dense(256, "relu")), bl.Dense(3))
    job = Job(model, dtype="float32", parts=parts, clip=optim.ClipByGlobalNorm(0.1))
    assert not job.program.low.closures
    job.steps(1)  # machine code has nothing to allocate with: tests/engines/test_machine_code.py
    results = 3 * 8 + BATCH * 3 * 4 + 2 * BATCH * 8 + 8  # of a step: losses, masses, norms, outputs, order, rates
    assert peak(job, 110) - peak(job, 60) <= 50 * 2 * results < 50 * BATCH * 256 * 4  # a hidden layer's activations


def peak(job, steps):
    """Bytes that Python and NumPy hold at most while so many steps are done."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        job.steps(steps)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


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


# --- data as people have it -------------------------------------------------------------------------------------------


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS = {
    "by columns": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "read-only": read_only,
    "foreign-endian": lambda a: a.astype(a.dtype.newbyteorder()),
    "small labels": lambda a: a.astype("uint16" if a.dtype.kind == "i" else "float16").astype(a.dtype),
}


def fitted(X, y, dtype="float32", engine="fast"):
    model = bl.Sequential(D(4, "relu"), D(3)).build((WIDTH,), seed=0, dtype=dtype)
    run = bl.fit(model, (X, y), loss="softmax_cross_entropy", epochs=2, batch_size=4, engine=engine, seed=0)
    return np.array(run.history["loss"]), run.model.params


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_every_layout_give_the_bits_of_plain_ones(form, dtype):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(20, WIDTH)).astype("float16").astype(dtype), rng.integers(0, 3, 20)
    losses_, params = fitted(X, y, dtype)
    found, others = fitted(FORMS[form](X), FORMS[form](y), dtype)
    assert np.array_equal(found, losses_)
    assert all(np.array_equal(others[n], a) for n, a in params.items())


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64", ">i4"])
def test_labels_of_every_integer_kind(kind):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(20, WIDTH)), rng.integers(0, 3, 20)
    assert np.array_equal(fitted(X, y.astype(kind))[0], fitted(X, y)[0])


# --- what a person asks for ------------------------------------------------------------------------------------------


def test_the_program_of_a_model_is_shown_with_its_bytes_flops_and_nodes():
    model = bl.Sequential(bl.Dense(96, "relu"), bl.Dense(10)).build((784,), seed=0)
    lines = bl.program(model, 32, loss="softmax_cross_entropy").show().splitlines()
    first = next(line for line in lines if line.startswith("linear_of_few("))
    call, _, remarks = first.partition("#")
    assert call.strip() == "linear_of_few(1, x, dense1_W, dense1_b, turned_of_dense1_z, dense1_z)"
    arrays = 4 * (784 * 32 + 96 * 784 + 96 + 2 * 96 * 32)
    assert remarks.split() == [f"{arrays:,}", "B", f"{2 * 32 * 96 * 784:,}", "dense1.z,", "dense1.a"]
    assert lines[-1].startswith("# ")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_layer_is_done_turned_where_each_thread_has_fewer_units_than_there_are_rows(monkeypatch, threads):
    """64 of 128 units for each of two threads, and 128 rows; one thread has 128, three have too few to be worth it."""
    monkeypatch.setenv("BACKLIT_THREADS", str(threads))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(256, 256)).astype("float32"), rng.integers(0, 3, 256)

    def trained(engine):
        model = bl.Sequential(bl.Dense(128, "relu"), bl.Dense(3)).build((256,), seed=0)
        run = bl.fit(model, (X, y), loss="softmax_cross_entropy", epochs=3, batch_size=128, engine=engine)
        return model, run

    (model, fast), (_, reference) = trained("fast"), trained("reference")
    listing = bl.program(model, 128, loss="softmax_cross_entropy").show()
    assert ("linear_of_few(1, x, dense1_W" in listing) == (threads == 2)
    np.testing.assert_allclose(fast.history["loss"], reference.history["loss"], rtol=1e-5)
    for name, value in reference.model.params.items():
        np.testing.assert_allclose(fast.model.params[name], value, atol=1e-5, err_msg=name)


@needs_machine_code
@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="only x86 flushes small numbers")
@pytest.mark.parametrize("parts", [1, 2])
def test_moments_whose_gradient_is_0_do_not_stay_subnormal(parts):
    """A feature that is always 0: its moments fade, past the least normal number to 0, and no step becomes slow."""
    job = Job(bl.Sequential(D(8, "relu"), D(3)), dtype="float32", parts=parts)
    job.data["x"][:, 0] = 0.0
    least = np.finfo(np.float32).tiny
    moments = [job.vectors.slots[name] for name in ("m", "v")]
    for moment in moments:
        moment[...] = 100 * least
    job.steps(400)
    fading, faded = moments[1], moments[0]
    for moment in moments:
        assert not ((moment != 0) & (np.abs(moment) < least)).any()
    assert np.count_nonzero(faded == 0) >= 8  # 100 · 0.9⁴⁰⁰ is far below 1
    assert np.count_nonzero(fading) == fading.size  # 100 · 0.999⁴⁰⁰ is not
    assert np.isfinite(job.vectors.params).all()


def test_a_program_of_a_model_that_is_not_built_is_refused():
    with pytest.raises(bl.BacklitError, match="program"):
        bl.program(bl.Sequential(bl.Dense(1)))


def test_an_arena_that_cannot_fit_says_what_it_needs_and_the_largest_batch_that_would(monkeypatch):
    from backlit.engines.fast import program as programs

    model = bl.Sequential(bl.Dense(1000, "relu"), bl.Dense(10)).build((100,), seed=0)
    need = bl.program(model, 1000, loss="softmax_cross_entropy").arena.nbytes
    monkeypatch.setattr(programs, "available_memory", lambda: need // 4)
    with pytest.raises(bl.BacklitError, match="batch_size=250 or less") as caught:
        bl.program(model, 1000, loss="softmax_cross_entropy")
    assert "MiB" in str(caught.value)
    assert bl.program(model, 200, loss="softmax_cross_entropy")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (1000,)])
def test_zeros_begin_with_a_cache_line(shape, dtype):
    for found in (memory.zeros(shape, dtype) for _ in range(5)):
        assert found.ctypes.data % memory.LINE == 0
        assert found.shape == shape
        assert found.flags.c_contiguous
        assert not found.any()


def test_all_buffers_of_a_program_begin_with_one():
    job = Job(bl.Sequential(D(7, "relu"), D(3)), dtype="float32", optimizer=optim.Adam(1e-3))
    vectors = [job.vectors.params, job.vectors.grads, *job.vectors.slots.values(), job.program.arena]
    buffers = [job.program.space[name] for name in job.program.buffers]
    parameters = [job.vectors.views[name] for name in job.graph.trainable]
    assert all(a.ctypes.data % memory.LINE == 0 for a in (*vectors, *buffers, *parameters))
