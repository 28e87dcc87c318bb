"""The updates: formulas, hand-computed numbers, purity, dtypes, namespaces, whole models."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit import optim
from backlit.core.errors import InputError, UnknownNameError
from optim.variants import VARIANTS, learning_rate, problem

OPTIMIZERS = {name: variant.optimizer for name, variant in VARIANTS.items()}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
MATH = {"sqrt": math.sqrt, "max": max, "sign": lambda x: 0.0 if x == 0 else math.copysign(1.0, x)}


def run(xp, optimizer, params, gradient, steps, *, lr=None, convert=lambda x: x):
    state = optim.init_state(xp, optimizer, params)
    for t in range(1, steps + 1):
        grads = {k: convert(g) for k, g in gradient({k: np.asarray(p) for k, p in params.items()}, t).items()}
        params, state = optim.apply(xp, optimizer, params, grads, state, lr=lr or learning_rate(optimizer), t=t)
    return params, state


def by_formulas(optimizer, names):
    """The formulas as Python reads them, on single numbers."""
    for formula in optimizer.formulas:
        name, expression = formula.split(" = ", 1)
        names[name] = eval(expression, MATH, names)
    return names


@every_optimizer
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_formulas_number_by_number_give_the_update(optimizer, data):
    number = st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3)
    p, g = (np.array(data.draw(st.lists(number, min_size=3, max_size=3))) for _ in range(2))
    t, lr = data.draw(st.integers(1, 1000)), data.draw(st.floats(1e-4, 1.0))
    state = {s: data.draw(st.floats(0.5, 2.0)) + 0 * a for s, a in optimizer.init(np, p).items()}
    state |= {"mu_product": np.array(0.5)} if "mu_product" in state else {}
    state |= {"s": state["s"] + 16.0} if "m" in state and "s" in state else {}  # a variance is not negative
    new, new_state = optimizer.update(np, p, g, state, lr=lr, t=t)
    for i in range(3):
        own = {k: float(v[i]) if v.shape else float(v) for k, v in state.items()}
        names = by_formulas(optimizer, optimizer.options | {"p": p[i].item(), "g": g[i].item(), "lr": lr, "t": t} | own)
        scale = abs(p[i]) + abs(names["p"] - p[i])
        assert abs(new[i] - names["p"]) <= 8 * np.spacing(scale)
        for slot, value in new_state.items():
            found = value[i] if value.shape else value
            assert abs(found - names[slot]) <= 8 * np.spacing(abs(own[slot]) + g[i] ** 2 + abs(g[i]) + 1)


@every_optimizer
def test_steps_tell_every_assignment_and_end_in_the_update(optimizer):
    params, gradient = problem()
    p, g = params["dense1.W"], gradient(params, 1)["dense1.W"]
    state = optimizer.init(np, p)
    told = list(optimizer.steps(np, p, g, state, lr=0.1, t=1))
    assert [name for name, _ in told] == [formula.split(" = ")[0] for formula in optimizer.formulas]
    np.testing.assert_array_equal(dict(told)["p"], optimizer.update(np, p, g, state, lr=0.1, t=1)[0])


def test_formulas_show_only_what_the_options_switch_on():
    assert optim.SGD().formulas == ("p = p - lr * g",)
    assert optim.SGD(0.1, 0.9, nesterov=True, l2=0.1).formulas == (
        "g = g + l2 * p",
        "v = momentum * v + g",
        "p = p - lr * (g + momentum * v)",
    )
    assert optim.AdamW().formulas == (
        "p = p - lr * weight_decay * p",
        "m = beta1 * m + (1 - beta1) * g",
        "v = beta2 * v + (1 - beta2) * g**2",
        "m_hat = m / (1 - beta1**t)",
        "v_hat = v / (1 - beta2**t)",
        "p = p - lr * m_hat / (sqrt(v_hat) + eps)",
    )


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (optim.SGD(), ()),
        (optim.SGD(momentum=0.5), ("v",)),
        (optim.Adagrad(), ("s",)),
        (optim.Adadelta(), ("s", "u")),
        (optim.RMSprop(), ("s",)),
        (optim.RMSprop(centered=True, momentum=0.9), ("s", "m", "v")),
        (optim.Adam(), ("m", "v")),
        (optim.Adam(amsgrad=True, l1=0.1), ("m", "v", "v_max")),
        (optim.NAdam(), ("mu_product", "m", "v")),
        (optim.Lion(), ("m",)),
    ],
    ids=str,
)
def test_slots_are_what_the_formulas_remember(optimizer, slots):
    p = np.ones((2, 3), dtype="float32")
    assert optimizer.slots == slots
    state = optimizer.init(np, p)
    assert tuple(state) == slots
    assert {a.dtype.name for a in state.values()} <= {"float32"}
    assert {s: a.shape for s, a in state.items()} == {s: () if s == "mu_product" else (2, 3) for s in slots}


@pytest.mark.parametrize(
    ("options", "p", "g", "expected"),
    [
        ({"l1": 0.5}, 2.0, 1.0, 1.85),
        ({"l1": 0.5}, -2.0, 1.0, -2.05),
        ({"l1": 0.5}, 0.0, 1.0, -0.1),
        ({"l2": 0.5}, 2.0, 1.0, 1.8),
        ({"weight_decay": 0.5}, 2.0, 1.0, 1.8),
        ({"l1": 0.5, "l2": 0.25, "weight_decay": 1.0}, 2.0, 1.0, 1.6),
    ],
)
def test_regularisation_by_hand(options, p, g, expected):
    new, _ = optim.SGD(0.1, **options).update(np, np.array([p]), np.array([g]), {}, lr=0.1, t=1)
    np.testing.assert_allclose(new, [expected], rtol=1e-15)


@every_optimizer
def test_decoupled_decay_stays_out_of_the_gradient(optimizer):
    """With a gradient of zero, and nothing remembered, decoupled decay alone moves the parameter."""
    plain = replace(optimizer, l1=0.0, l2=0.0, weight_decay=0.2)
    p = np.array([3.0, -2.0])
    new, _ = plain.update(np, p, np.zeros(2), plain.init(np, p), lr=0.5, t=1)
    np.testing.assert_allclose(new, [2.7, -1.8], rtol=1e-15)


def test_lion_is_the_loop_of_the_paper():
    for optimizer in (OPTIMIZERS["lion"], OPTIMIZERS["lion decay"]):
        lr, decay, (params, gradient) = learning_rate(optimizer), optimizer.weight_decay, problem(1)
        theta, m = params["dense1.W"].ravel().tolist(), [0.0] * 12
        ours, state = run(np, optimizer, params, gradient, 50)
        for t in range(1, 51):
            grads = gradient({"dense1.W": np.reshape(theta, (3, 4))}, t)["dense1.W"].ravel().tolist()
            for i, g in enumerate(grads):
                c = optimizer.beta1 * m[i] + (1 - optimizer.beta1) * g
                direction = (c > 0) - (c < 0)
                theta[i] = theta[i] - lr * (direction + decay * theta[i])
                m[i] = optimizer.beta2 * m[i] + (1 - optimizer.beta2) * g
        np.testing.assert_allclose(ours["dense1.W"].ravel(), theta, rtol=0, atol=1e-12)
        np.testing.assert_allclose(state["dense1.W"]["m"].ravel(), m, rtol=0, atol=1e-12)


def test_centered_rmsprop_survives_a_variance_rounded_below_zero():
    optimizer, p = optim.RMSprop(rho=0.5, centered=True), np.array([1.0])
    g = np.array([0.1])
    state = {"s": np.array([np.nextafter(0.01, 0.0)]), "m": g}
    assert state["s"][0] < g[0] ** 2
    new, _ = optimizer.update(np, p, g, state, lr=1e-9, t=100)
    assert np.isfinite(new[0])


@every_optimizer
def test_a_zero_gradient_from_the_start_changes_nothing(optimizer):
    plain = replace(optimizer, l1=0.0, l2=0.0, weight_decay=0.0)
    params = problem(dtype="float32")[0]
    zero = {k: np.zeros_like(p) for k, p in params.items()}
    found, _ = run(np, plain, params, lambda *_: zero, 3)
    assert all(np.array_equal(found[k], p) for k, p in params.items())


@every_optimizer
def test_nothing_is_changed_in_place(optimizer):
    params, gradient = problem()
    _, state = run(np, optimizer, params, gradient, 2)
    grads = gradient(params, 3)
    held = [*params.values(), *grads.values(), *optim.flatten_state(state).values()]
    before = [a.copy() for a in held]
    for a in held:
        a.flags.writeable = False
    names = {k: set(v) for k, v in state.items()}
    optim.apply(np, optimizer, params, grads, state, lr=0.1, t=3)
    assert all(np.array_equal(a, b) for a, b in zip(held, before, strict=True))
    assert {k: set(v) for k, v in state.items()} == names


@every_optimizer
@pytest.mark.parametrize("lr", [0.01, np.float64(0.01), np.float32(0.01), np.asarray(0.01)], ids=repr)
def test_float32_stays_float32_whatever_the_rate_is(optimizer, lr):
    params, gradient = problem(dtype="float32")
    found, state = run(np, optimizer, params, gradient, 3, lr=lr)
    arrays = [*found.values(), *optim.flatten_state(state).values()]
    assert {(type(a), a.dtype.name) for a in arrays} == {(np.ndarray, "float32")}
    reference, _ = run(np, optimizer, *problem(), 3)
    if lr == 0.01 == learning_rate(optimizer) and not isinstance(optimizer, optim.Lion):
        for k, p in reference.items():
            np.testing.assert_allclose(found[k], p, rtol=2e-5, atol=2e-6)


@every_optimizer
def test_numpy_scalars_change_no_bit_and_arrays_no_dtype(optimizer):
    params, gradient = problem(dtype="float32")
    grads, state = gradient(params, 1), optim.init_state(np, optimizer, params)
    found = []
    for lr, t in ((0.01, 3), (np.float64(0.01), np.int64(3)), (np.asarray(0.01), np.asarray(3))):
        new, new_state = optim.apply(np, optimizer, params, grads, state, lr=lr, t=t)
        found.append(new | optim.flatten_state(new_state))
    plain, scalars, arrays = found
    assert all(np.array_equal(plain[k], scalars[k]) for k in plain)
    assert {a.dtype.name for a in arrays.values()} == {"float32"}


@pytest.mark.jax
@every_optimizer
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4)])
def test_the_update_runs_under_jit_with_traced_rate_and_step(optimizer, dtype, tolerance):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(dtype == "float64"):
        params, gradient = problem(dtype=dtype)
        step = jax.jit(lambda p, g, s, lr, t: optim.apply(jax.numpy, optimizer, p, g, s, lr=lr, t=t))
        traced = {k: jax.numpy.asarray(p) for k, p in params.items()}
        state = optim.init_state(jax.numpy, optimizer, traced)
        own, own_state = params, optim.init_state(np, optimizer, params)
        for t in range(1, 6):
            grads = gradient(own, t)
            traced, state = step(traced, grads, state, learning_rate(optimizer), t)
            own, own_state = optim.apply(np, optimizer, own, grads, own_state, lr=learning_rate(optimizer), t=t)
        ours, theirs = own | optim.flatten_state(own_state), traced | optim.flatten_state(state)
        for k in ours:
            assert theirs[k].dtype == dtype
            np.testing.assert_allclose(np.asarray(theirs[k]), ours[k], rtol=tolerance, atol=tolerance)


@pytest.mark.strict
@every_optimizer
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_update_needs_only_the_array_api_standard(optimizer, dtype):
    xp = pytest.importorskip("array_api_strict")
    params, gradient = problem(dtype=dtype)
    strict, state = run(xp, optimizer, {k: xp.asarray(p) for k, p in params.items()}, gradient, 5, convert=xp.asarray)
    own, own_state = run(np, optimizer, params, gradient, 5)
    ours, theirs = own | optim.flatten_state(own_state), strict | optim.flatten_state(state)
    for k in ours:
        assert np.asarray(theirs[k]).dtype == dtype
        np.testing.assert_allclose(np.asarray(theirs[k]), ours[k], rtol=1e-12 if dtype == "float64" else 1e-5)


@dataclass(frozen=True)
class HeavyBall(optim.Optimizer):
    """An optimizer written outside the package: Polyak's, in terms of the parameter before."""

    friction: float = 0.9

    def _rule(self):
        return ("d = friction * d - lr * g", "p = p + d")


def test_a_new_optimizer_is_its_formulas():
    optimizer, (params, gradient) = HeavyBall(0.05), problem(2)
    assert optimizer.slots == ("d",)
    ours, _ = run(np, optimizer, params, gradient, 20)
    momentum, _ = run(np, optim.SGD(0.05, 0.9), params, gradient, 20)  # at a constant rate the same path
    np.testing.assert_allclose(ours["dense1.W"], momentum["dense1.W"], rtol=1e-12)


def test_a_parameter_without_a_gradient_is_frozen():
    params, gradient = problem()
    state = optim.init_state(np, optim.Adam(), params)
    grads = {"dense1.b": gradient(params, 1)["dense1.b"]}
    new, new_state = optim.apply(np, optim.Adam(), params, grads, state, lr=0.1, t=1)
    assert list(new) == list(params)
    assert new["dense1.W"] is params["dense1.W"]
    assert not np.array_equal(new["dense1.b"], params["dense1.b"])
    assert new_state["dense1.W"]["m"] is state["dense1.W"]["m"]


def test_flat_state_names_and_back():
    params, gradient = problem()
    _, state = run(np, optim.NAdam(), params, gradient, 2)
    flat = optim.flatten_state(state)
    assert list(flat)[:3] == ["dense1.W:mu_product", "dense1.W:m", "dense1.W:v"]
    back = optim.unflatten_state(flat)
    assert back.keys() == state.keys()
    assert all(back[k][s] is a for k, slots in state.items() for s, a in slots.items())


def test_what_does_not_fit_is_refused_by_name():
    params, gradient = problem()
    grads, adam = gradient(params, 1), optim.Adam()
    state = optim.init_state(np, adam, params)

    def update(optimizer=adam, **changed):
        given = {"params": params, "grads": grads, "state": state} | changed
        return optim.apply(np, optimizer, lr=0.1, t=1, **given)

    with pytest.raises(UnknownNameError, match=r"dense1\.w.*\n.*\n.*\n.*dense1\.W"):
        update(grads={"dense1.w": grads["dense1.W"]})
    with pytest.raises(InputError, match=r"(?s)BL804.*dense1\.W.*g\[3, 4\].*g\[4, 3\]"):
        update(grads={"dense1.W": grads["dense1.W"].T})
    with pytest.raises(InputError, match=r"(?s)BL805.*dense1\.W.*NAdam.*mu_product, m, v.*\{m, v\}"):
        update(optim.NAdam())
    with pytest.raises(InputError, match="BL805"):
        update(state={})
    np.testing.assert_array_equal(update(optim.SGD(), state={})[0]["scale"], params["scale"] - 0.1 * grads["scale"])
