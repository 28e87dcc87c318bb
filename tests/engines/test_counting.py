"""FLOPs and shapes found without numbers, against hand counts and against what NumPy really does with numbers."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from backlit import rules
from backlit.engines import counting, reference
from backlit.engines.counting import Counter, cost
from backlit.graph import Builder

N, I, O = 5, 4, 3  # noqa: E741  the design's names of these axes


# --- the oracle: NumPy arrays that count what NumPy is asked to do with them ------------------------------------------

INPUT_ENTRIES = {np.sum, np.prod, np.mean, np.max, np.min, np.all, np.any}
OUTPUT_ENTRIES = {np.where, np.clip, np.round}
FREE = {
    *(
        np.reshape,
        np.permute_dims,
        np.matrix_transpose,
        np.moveaxis,
        np.expand_dims,
        np.squeeze,
        np.broadcast_to,
        np.flip,
    ),
    *(np.concat, np.stack, np.unstack, np.take, np.astype, np.argsort, np.unique),
    *(np.zeros_like, np.ones_like, np.empty_like, np.full_like),
}


class Tally(np.ndarray):
    """An ordinary array with ordinary results; ``Tally.flops`` grows by what each call works on."""

    flops = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method == "reduceat":
            Tally.flops += inputs[0].size
            return tallied(ufunc.reduceat(*plain(inputs), **options))
        assert method == "__call__", f"{ufunc.__name__}.{method}"
        found = ufunc(*plain(inputs), **options)
        Tally.flops += np.size(found) * (2 * inputs[0].shape[-1] if ufunc is np.matmul else 1)
        return tallied(found)

    def __array_function__(self, function, types, args, kwargs):
        args, kwargs = plain(args), {k: plain(v) for k, v in kwargs.items()}
        found = function(*args, **kwargs)
        Tally.flops += self.entries(function, args, kwargs, found)
        return tallied(found)

    def __getitem__(self, index):
        return tallied(super().__getitem__(index))  # a single entry too

    @staticmethod
    def entries(function, args, kwargs, found):
        if function is np.tensordot:
            summed = prod(args[0].shape[k] for k in kwargs["axes"][0])
            return 2 * summed * np.size(found)
        if function in INPUT_ENTRIES:
            return np.size(args[0])
        assert function in OUTPUT_ENTRIES | FREE, f"the oracle does not know numpy.{function.__name__}"
        return np.size(found) if function in OUTPUT_ENTRIES else 0


class TallyingNumPy:
    """NumPy, with what is made from numbers tallied too."""

    def __getattr__(self, name):
        found = getattr(np, name)
        if name in {"zeros", "ones", "empty", "full", "arange", "asarray"}:
            return lambda *args, **kwargs: tallied(found(*plain(args), **kwargs))
        return found


def plain(value):
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value))
    return value.view(np.ndarray) if isinstance(value, Tally) else value


def tallied(value):
    return tuple(map(tallied, value)) if isinstance(value, tuple) else np.asarray(value).view(Tally)


# --- every rule -------------------------------------------------------------------------------------------------------


def all_cases():
    for name, rule in rules.REGISTRY.items():
        for case in rule.cases(np.random.default_rng(0)):
            yield pytest.param(rule, case, id=f"{name}-{case.label}")


def arguments(rule, case, dtype):
    """(inputs, attributes) of a case, what is real in ``dtype``."""
    given = case.call[rule.inputs[0]] if rule.variadic else [case.call.get(n) for n in rule.inputs]
    inputs = [None if a is None else np.asarray(a) for a in given]
    inputs = [a if a is None or a.dtype.kind != "f" else a.astype(dtype) for a in inputs]
    return inputs, rule.defaults | {n: case.call[n] for n in rule.attributes if n in case.call}


def measured(rule, xp, inputs, attributes, flops):
    """(outputs, gradients, FLOPs forward, FLOPs backward) of one run over ``xp``; ``flops()`` reads the counter."""
    before = flops()
    outputs = rule.call(xp, *inputs, **attributes)
    between = flops()
    gradients = ()
    if rule.backward is not None:
        dys = [xp.ones_like(y) for n, y in zip(rule.outputs, outputs, strict=True) if n in rule.differentiated]
        gradients = rule.gradients(xp, dys, rule.saved_from(tuple(inputs), outputs, attributes))
    return outputs, gradients, between - before, flops() - between


def run_with_numbers(rule, case, dtype):
    inputs, attributes = arguments(rule, case, dtype)
    with np.errstate(all="ignore"):  # float32 may overflow where the case was made for float64
        return measured(
            rule, TallyingNumPy(), [None if a is None else tallied(a) for a in inputs], attributes, lambda: Tally.flops
        )


def run_without(rule, case, dtype):
    inputs, attributes = arguments(rule, case, dtype)
    xp = Counter()
    ghosts = [None if a is None else xp.ghost(a.shape, a.dtype) for a in inputs]
    return measured(rule, xp, ghosts, attributes, lambda: xp.flops)


def looks(arrays):
    return [(a.shape, a.dtype) for a in arrays if a is not None]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("rule", "case"), list(all_cases()))
def test_as_with_numbers(rule, case, dtype):
    ghosts, ghost_gradients, *ghost_flops = run_without(rule, case, dtype)
    outputs, gradients, *flops = run_with_numbers(rule, case, dtype)
    assert ghost_flops == flops
    assert looks(ghosts) == looks(outputs)
    assert looks(ghost_gradients) == looks(gradients)


# --- rules counted by hand --------------------------------------------------------------------------------------------


def flops_of(name, *shapes, **attributes):
    rule, xp = rules.get(name), Counter()
    inputs = [None if s is None else xp.ghost(s, "float32") for s in shapes]
    return measured(rule, xp, inputs, rule.defaults | attributes, lambda: xp.flops)[2:]


def test_linear_by_hand():
    assert flops_of("linear", (N, I), (O, I), (O,)) == (2 * N * I * O + N * O, 4 * N * I * O + N * O)
    assert flops_of("linear", (N, I), (O, I), None)[0] == 2 * N * I * O
    assert flops_of("linear", (2, N, I), (O, I), (O,))[0] == 2 * (2 * N * I * O + N * O)
    assert flops_of("linear", (I,), (O, I), (O,)) == (2 * I * O + O, 4 * I * O + O)


def test_matmul_by_hand():
    assert flops_of("matmul", (7, N, I), (7, I, O)) == (7 * 2 * N * I * O, 7 * 4 * N * I * O)
    assert flops_of("matmul", (7, N, I), (I, O)) == (
        7 * 2 * N * I * O,
        7 * 4 * N * I * O + 7 * I * O,
    )  # db summed over 7


def test_relu_by_hand():
    assert flops_of("relu", (N, O)) == (2 * N * O, 2 * N * O)  # a comparison and a choice each


def test_softmax_by_hand():
    forward = N * O * (1 + 1 + 1 + 1 + 1)  # max, minus, exp, sum, divided by
    backward = N * O * (1 + 1 + 1 + 1)  # dy times y, sum, minus, times y
    assert flops_of("softmax", (N, O)) == (forward, backward)


def test_layernorm_by_hand():
    forward = (
        N * I * (4 + 3) + 2 * N
    )  # mean, minus, square, mean; divided by the root, gamma, beta; + eps and root a sample
    again = 2 * N * I + 2 * N  # x̂ and the root, made from what is saved
    dx = N * I * (1 + 2 + 3 + 2)  # times gamma; its mean, minus; times x̂, mean, times x̂; minus, divided
    parameters = N * I * (2 + 1)  # dgamma: times x̂, sum; dbeta: sum
    assert flops_of("layernorm", (N, I), (I,), (I,)) == (forward, again + dx + parameters)


def test_rules_that_move_are_free():
    assert flops_of("reshape", (N, I), shape=(I, N)) == (0, 0)
    assert flops_of("transpose", (N, I), axes=(1, 0)) == (0, 0)
    assert flops_of("concatenate", (N, I), (N, O), axis=1) == (0, 0)


def test_flops_do_not_need_memory():
    assert flops_of("linear", (10**6, 10**6), (10**6, 10**6), (10**6,))[0] == 2 * 10**18 + 10**12


# --- the namespace ----------------------------------------------------------------------------------------------------


@pytest.fixture
def xp():
    return Counter()


@pytest.fixture
def x(xp):
    return xp.ghost((2, 3), "float32")


def test_an_unknown_function_is_named(xp):
    with pytest.raises(AttributeError, match="'special_function'"):
        _ = xp.special_function
    assert not hasattr(xp, "var")  # its cost depends on how it is done: rules write it out


@pytest.mark.parametrize("convert", [bool, int, float, complex])
def test_a_ghost_has_no_number(x, convert):
    with pytest.raises(TypeError, match=r"float32\[2, 3\].* no values"):
        convert(x)


def test_a_ghost_is_no_index(xp):
    with pytest.raises(TypeError, match="no values"):
        range(3)[xp.ghost((), "int64")]


@pytest.mark.parametrize(
    "use",
    [
        *(
            lambda x, y: x + y,
            lambda x, y: x - y,
            lambda x, y: x * y,
            lambda x, y: x / y,
            lambda x, y: x // y,
            lambda x, y: x % y,
        ),
        *(lambda x, y: x**y, lambda x, y: x @ y.T, lambda x, y: x.mT @ y),
        *(
            lambda x, y: x < y,
            lambda x, y: x <= y,
            lambda x, y: x > y,
            lambda x, y: x >= y,
            lambda x, y: x == y,
            lambda x, y: x != y,
        ),
        *(
            lambda x, y: (x > y) & (x == y),
            lambda x, y: (x > y) | True,
            lambda x, y: True & (x > y),
            lambda x, y: (x > y) ^ (y > x),
        ),
        *(lambda x, y: -x, lambda x, y: +x, lambda x, y: abs(x), lambda x, y: ~(x > y)),
        *(
            lambda x, y: 2.0 + x,
            lambda x, y: 2 - x,
            lambda x, y: 2.0 * x,
            lambda x, y: 1 / x,
            lambda x, y: 2.0**x,
            lambda x, y: 2.0 // x,
        ),
        *(
            lambda x, y: np.float64(2.0) * x,
            lambda x, y: np.float32(2.0) + x,
            lambda x, y: np.ones((4, 1, 1)) / x,
            lambda x, y: 7.0 % x,
        ),
        *(lambda x, y: x[1], lambda x, y: x[..., None, ::2], lambda x, y: x[0, 1] + 1, lambda x, y: x[:, :0] * 2),
    ],
)
def test_operators(use):
    """The same shape, dtype and FLOPs as with numbers."""
    numbers = [np.arange(1, 7, dtype="float32").reshape(2, 3).view(Tally) for _ in "xy"]
    xp, before = Counter(), Tally.flops
    found, ghost = use(*numbers), use(*(xp.ghost(a.shape, a.dtype) for a in numbers))
    assert (ghost.shape, ghost.dtype, xp.flops) == (found.shape, found.dtype, Tally.flops - before)


@pytest.mark.parametrize(
    "call",
    [
        lambda xp, x: xp.where(x > 0, x, 0.0),
        lambda xp, x: xp.clip(x, None, 2.0),
        lambda xp, x: xp.clip(x, min=1.0, max=2.0),
        lambda xp, x: xp.logaddexp(x, x[:, :1]),
        lambda xp, x: xp.exp(xp.astype(x, xp.int8)),
        lambda xp, x: xp.sum(x > 0, axis=0),
        lambda xp, x: xp.mean(x, axis=(0, -1), keepdims=True),
        lambda xp, x: xp.sum(x, axis=(), dtype=xp.float64),
        lambda xp, x: xp.max(x),
        lambda xp, x: xp.any(x > 0, axis=1),
        lambda xp, x: xp.zeros((2, 3), dtype=xp.int64),
        lambda xp, x: xp.ones(3),
        lambda xp, x: xp.full((2,), 3),
        lambda xp, x: xp.full_like(x, 2, dtype=xp.float64),
        lambda xp, x: xp.zeros_like(x) + xp.ones_like(x > 0),
        lambda xp, x: xp.arange(3) + xp.arange(1.0, 7.0, 2.0),
        lambda xp, x: xp.asarray([[1, 2, 3]]) * x,
        lambda xp, x: xp.asarray(x, dtype=xp.float64) * 2,
        lambda xp, x: xp.reshape(x, (-1,)),
        lambda xp, x: xp.permute_dims(xp.expand_dims(x, axis=1), (2, 0, 1)),
        lambda xp, x: xp.matrix_transpose(x),
        lambda xp, x: xp.moveaxis(xp.broadcast_to(x, (4, 2, 3)), 0, -1),
        lambda xp, x: xp.concat([x, x[:, :1], xp.zeros((2, 2))], axis=-1),
        lambda xp, x: xp.stack([x, x], axis=-1),
        lambda xp, x: xp.unstack(x, axis=1)[2],
        lambda xp, x: xp.take(x, xp.asarray([[0, 2], [1, 1]]), axis=1),
        lambda xp, x: xp.tensordot(x, xp.ones((3, 5, 2)), axes=((1, 0), (0, 2))),
        lambda xp, x: xp.matmul(x, xp.ones(3)),
        lambda xp, x: xp.matmul(xp.ones((7, 4, 2)), x),
        lambda xp, x: xp.matmul(xp.ones(2), x),
    ],
)
def test_functions(call):
    """The same shape, dtype and FLOPs as with numbers."""
    numbers, xp, before = np.arange(6, dtype="float32").reshape(2, 3).view(Tally), Counter(), Tally.flops
    found, ghost = call(TallyingNumPy(), numbers), call(xp, xp.ghost((2, 3), "float32"))
    assert (ghost.shape, ghost.dtype, xp.flops) == (found.shape, found.dtype, Tally.flops - before)


@pytest.mark.parametrize(
    "call", [lambda xp, x: xp.matmul(x, x), lambda xp, x: xp.tensordot(x, x, axes=1), lambda xp, x: x + x.T]
)
def test_shapes_that_do_not_fit(xp, x, call):
    with pytest.raises(ValueError, match=r"float32\[2, 3\]|broadcast"):
        call(xp, x)


def test_tensordot_by_number_of_axes(xp):
    y = xp.tensordot(xp.ghost((7, 2, 3), "float64"), xp.ghost((2, 3, 5), "float64"))
    assert (y.shape, xp.flops) == ((7, 5), 2 * 7 * 5 * 6)


def test_every_name_of_the_table_is_one_of_numpy_too(xp):
    for name in counting.KINDS:
        assert hasattr(xp, name)
        assert hasattr(np, name)


def test_lap_begins_anew(xp, x):
    _ = x + x
    assert (xp.lap(), xp.flops, xp.lap()) == (6, 0, 0)


def test_a_ghost_knows_its_memory(x):
    assert (x.ndim, x.size, x.nbytes, x.stand_in.strides) == (2, 6, 24, (0, 0))
    assert repr(x) == "Ghost(float32[2, 3])"


# --- the nodes of a graph ---------------------------------------------------------------------------------------------


def zeros(_generator, shape):
    return np.zeros(shape)


def network(*, frozen=()):
    """x[5, 4] -> linear, relu -> h[5, 3]; output = h + tanh(h), with a side branch that leads nowhere."""
    b = Builder(dtype="float64")
    x = b.input("x", (N, I))
    W, bias = (
        b.parameter(n, s, zeros, trainable=n not in frozen) for n, s in (("dense1.W", (O, I)), ("dense1.b", (O,)))
    )
    (z,) = b.add("linear", x, W, bias, name="dense1.z")
    (h,) = b.add("relu", z, name="dense1.a")
    (t,) = b.add("tanh", h, name="tanh1.a")
    b.add("exp", z, name="nowhere")
    b.add("exp", x, name="of_input")
    return b.graph(b.add("add", h, t, name="sum"))


def by_name(graph):
    return {c.name: c for c in cost(graph)}


def test_cost_of_each_node_by_hand():
    found = by_name(network())
    assert list(found) == ["dense1.z", "dense1.a", "tanh1.a", "nowhere", "of_input", "sum"]
    z, a, total = found["dense1.z"], found["dense1.a"], found["sum"]
    assert (z.rule, z.forward_flops, z.backward_flops) == ("linear", 2 * N * I * O + N * O, 4 * N * I * O + N * O)
    assert (z.bytes_out, z.saved, z.bytes_saved) == (8 * N * O, ("x", "dense1.W"), 8 * (N * I + O * I))
    assert (a.saved, a.bytes_saved, a.backward_flops) == (("dense1.a",), 8 * N * O, 2 * N * O)
    assert (total.forward_flops, total.backward_flops, total.saved, total.bytes_saved) == (N * O, 0, (), 0)


def test_a_gradient_that_meets_another_is_added_to_it():
    own = flops_of("tanh", (N, O))[1]
    assert by_name(network())["tanh1.a"].backward_flops == own + N * O


def test_backward_is_counted_only_on_the_way():
    found = by_name(network())
    for name in ("nowhere", "of_input"):
        assert (found[name].backward_flops, found[name].saved, found[name].bytes_saved) == (0, (), 0)
        assert found[name].forward_flops == prod(network().values[name].shape)
    assert all(c.backward_flops == 0 for c in cost(network(frozen=("dense1.W", "dense1.b"))))
    assert by_name(network(frozen=("dense1.W",))) == found  # b alone needs the same walk


def test_an_array_used_twice_is_kept_once():
    b = Builder(dtype="float32")
    w = b.parameter("w", (7,), zeros)
    (found,) = cost(b.graph(b.add("mul", w, w, name="square")))
    assert (found.saved, found.bytes_saved, found.backward_flops) == (("w",), 28, 7 + 7 + 7)


def test_the_parts_of_a_variadic_rule_are_kept():
    b = Builder(dtype="float32")
    parts = [b.parameter(n, (2, 3), zeros) for n in "uv"]
    (found,) = cost(b.graph(b.add("concatenate", *parts, axis=0, name="both")))
    assert (found.bytes_out, found.saved, found.forward_flops) == (48, (), 0)


def with_loss():
    """A residual with a shared parameter, normalised, and its loss."""
    b = Builder(dtype="float64", training=True)
    x, labels = b.input("x", (N, O)), b.input("y", (N,), "int64")
    W = b.parameter("W", (O, O), zeros)
    (z,) = b.add("linear", x, W, None, name="first")
    (again,) = b.add("linear", z, W, None, name="second")
    loss, *_ = b.add("softmax_cross_entropy", again + z * b.lift(2.0), labels, name="loss")
    return b.graph((loss,))


@pytest.mark.parametrize("graph", [network(), with_loss()], ids=["network", "with loss"])
def test_the_sum_is_what_the_reference_engine_does(graph):
    """The interpreter itself, run on arrays that count."""
    given = {n: np.ones(graph.values[n].shape, graph.values[n].dtype) for n in (*graph.inputs, *graph.parameters)}
    env, xp = {n: tallied(a) for n, a in reference.leaves(graph, given).items()}, TallyingNumPy()
    before = Tally.flops
    values = reference.forward(graph, env, xp)
    between = Tally.flops
    reference.backward(graph, values, graph.trainable, graph.outputs[0], xp)
    costs = cost(graph)
    assert sum(c.forward_flops for c in costs) == between - before
    assert sum(c.backward_flops for c in costs) == Tally.flops - between
