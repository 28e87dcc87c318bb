"""The independent judges of a rule. Each takes a rule and a case and raises AssertionError where the rule is wrong.

None uses the rule's own backward to judge backward. ``tests/teeth`` gives them wrong rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.core.types import Array
from backlit.rules import Case, Rule
from backlit.rules.formula import bind, formulas_of
from rules.calls import Call, assert_close, call, cases_of, largest, mapped
from rules.differences import CrossedError, derivative

EPS32 = float(np.finfo(np.float32).eps)
EPS64 = float(np.finfo(np.float64).eps)
SMOOTH = 1e-10
"""What an exact oracle and a rule may differ by in float64, relative to the largest entry."""


@dataclass(frozen=True)
class Oracle:
    """One judge, and for which rules and cases it has something to say."""

    check: Callable[[Rule, Case], None]
    applies: Callable[[Rule, Case], bool]
    lane: str | None = None
    """The pytest mark of what it needs."""

    def __call__(self, rule: Rule, case: Case) -> None:
        self.check(rule, case)


ORACLES: dict[str, Oracle] = {}


def oracle(
    applies: Callable[[Rule, Case], bool], lane: str | None = None
) -> Callable[[Callable[[Rule, Case], None]], Oracle]:
    def enter(check: Callable[[Rule, Case], None]) -> Oracle:
        ORACLES[check.__name__] = made = Oracle(check, applies, lane)
        return made

    return enter


def always(rule: Rule, case: Case) -> bool:
    return True


def differentiable(rule: Rule, case: Case) -> bool:
    return rule.backward is not None


def smooth(rule: Rule, case: Case) -> bool:
    return rule.backward is not None and not case.on_kink


# --- shapes, dtypes, side effects -------------------------------------------------------------------------------------


@oracle(always)
def shapes_and_dtypes(rule: Rule, case: Case) -> None:
    for dtype in (np.float64, np.float32):
        c = call(rule, case, dtype)
        promised = rule.shapes(*mapped(np.shape, c.inputs), **c.attributes)
        promised = promised if len(rule.outputs) > 1 else (promised,)
        for name, y, shape in zip(rule.outputs, c.forward(*c.inputs), promised, strict=True):
            assert tuple(y.shape) == tuple(shape), f"{name}: shape {y.shape}, shapes() says {shape}"
            assert y.dtype == np.dtype(rule.dtype or dtype), f"{name}: dtype {y.dtype} from {np.dtype(dtype)}"
        for name, g in c.gradients.items() if rule.backward else ():
            x = c.inputs[c.names.index(name[1:])]
            assert g.shape == x.shape, f"{name}: shape {g.shape}, expected {x.shape}"
            assert g.dtype == x.dtype, f"{name}: dtype {g.dtype}, expected {x.dtype}"


@oracle(always)
def inputs_not_mutated(rule: Rule, case: Case) -> None:
    c = call(rule, case)
    inputs = mapped(np.array, c.inputs)
    outputs = rule.call(np, *inputs, **c.attributes)
    _unchanged("forward", c.names, inputs, c.inputs)
    if rule.backward:
        dys = mapped(np.array, c.dys)
        saved = rule.saved_from(inputs, outputs, c.attributes)
        kept = mapped(np.array, outputs)
        rule.gradients(np, dys, saved)
        _unchanged("backward", c.names, inputs, c.inputs)
        _unchanged("backward", rule.outputs, outputs, kept)
        _unchanged("backward", tuple(f"d{n}" for n in rule.differentiated), dys, c.dys)


def _unchanged(who: str, names: tuple[str, ...], now: tuple[Array, ...], before: tuple[Array, ...]) -> None:
    for name, a, b in zip(names, now, before, strict=True):
        assert a is b or np.array_equal(a, b, equal_nan=True), f"{who} wrote into {name}"


@oracle(always)
def same_every_time(rule: Rule, case: Case) -> None:
    """Nothing is remembered between calls: another call in between changes nothing."""
    first, other, again = (call(rule, case) for _ in range(3))
    _ = first.outputs, first.gradients if rule.backward else ()
    other = other.scaled(2.0)
    _ = other.outputs, other.gradients if rule.backward else ()
    for a, b in zip(first.outputs, again.outputs, strict=True):
        assert np.array_equal(a, b), "forward gave another result the second time"
    for name, g in first.gradients.items() if rule.backward else ():
        assert np.array_equal(g, again.gradients[name]), f"{name}: another result the second time"


# --- difference quotients ---------------------------------------------------------------------------------------------


def along(c: Call, direction: tuple[Array, ...]) -> Callable[[float], Array]:
    """t -> the differentiated outputs at (inputs + t · direction), one vector; only on the smooth piece of t = 0."""
    here = c.pieces(*c.inputs)

    def f(t: float) -> Array:
        moved = tuple(c.inputs[i] + t * d for i, d in zip(c.wrt, direction, strict=True))
        inputs = c.with_inputs(c.wrt, moved)
        if here is not None and not np.array_equal(c.pieces(*inputs), here):
            raise CrossedError
        return _flat(c.of_differentiated(c.forward(*inputs)))

    return f


def _flat(arrays: tuple[Array, ...]) -> Array:
    return np.concatenate([np.ravel(a) for a in arrays])


def _judge(names: list[str], got: Array, want: Array, error: Array, noise: float) -> None:
    """Differences are good to 1e-8 of the largest, and must know so themselves."""
    size = max(largest([want]), largest([got]))
    unsure = error > 1e-7 * size + noise
    assert not unsure.any(), f"{names[int(np.argmax(unsure))]}: the difference quotient is too rough to judge by"
    wrong = np.abs(got - want) > 1e-8 * size + 4 * error + noise
    at = int(np.argmax(np.abs(got - want) * wrong))
    assert not wrong.any(), f"{names[at]}: backward gives {got[at]:.10g}, difference quotients {want[at]:.10g}"


@oracle(smooth)
def random_directions(rule: Rule, case: Case) -> None:
    """At the case, and at a point near by: backward must not remember where it was before."""
    c = call(rule, case)
    for seed, at in enumerate((c, c.scaled(1.0625), c)):
        _judge_direction(at, seed)


def _judge_direction(c: Call, seed: int) -> None:
    rng, dy = np.random.default_rng(seed), _flat(c.dys)
    direction = tuple(rng.normal(size=c.inputs[i].shape) for i in c.wrt)
    f = along(c, direction)
    want, error = derivative(lambda t: np.atleast_1d(dy @ f(t)))
    got = sum((np.vdot(g, d) for g, d in zip(c.gradients.values(), direction, strict=True)), 0.0)
    _judge([f"direction {seed}"], np.atleast_1d(got), want, error, 1e-12 * float(np.abs(dy) @ np.abs(f(0.0))))


def _tiny(rule: Rule, case: Case) -> bool:
    if not smooth(rule, case):
        return False
    c = call(rule, case)
    return sum(c.inputs[i].size for i in c.wrt) <= 40 and sum(y.size for y in c.differentiated) <= 40


@oracle(_tiny)
def full_jacobian(rule: Rule, case: Case) -> None:
    c = call(rule, case)
    rows = _rows_of_backward(c)
    labels = [
        f"{n}{list(at)}"
        for n, y in zip(rule.differentiated, c.differentiated, strict=True)
        for at in np.ndindex(y.shape)
    ]
    noise = 1e-12 * largest(c.differentiated)
    for i in c.wrt:
        for at in np.ndindex(c.inputs[i].shape):
            direction = tuple(np.zeros(c.inputs[j].shape) for j in c.wrt)
            direction[c.wrt.index(i)][at] = 1.0
            want, error = derivative(along(c, direction))
            got = np.array([row[f"d{c.names[i]}"][at] for row in rows])
            _judge([f"∂{o}/∂{c.names[i]}{list(at)}" for o in labels], got, want, error, noise) if labels else None


def _rows_of_backward(c: Call) -> list[dict[str, Array]]:
    """backward for each unit dy: the rows of the Jacobian."""
    rows = []
    for k, y in enumerate(c.differentiated):
        for at in np.ndindex(y.shape):
            dys = tuple(np.zeros(o.shape) for o in c.differentiated)
            dys[k][at] = 1.0
            rows.append(c.named(c.backward(*dys)))
    return rows


# --- algebra ----------------------------------------------------------------------------------------------------------


@oracle(differentiable)
def linear_in_dy(rule: Rule, case: Case) -> None:
    c = call(rule, case)
    u, v = c.random_dys(1), c.random_dys(2)
    at_u, at_v = c.named(c.backward(*u)), c.named(c.backward(*v))
    mixed = c.named(c.backward(*(2.5 * a - 0.75 * b for a, b in zip(u, v, strict=True))))
    zero = c.named(c.backward(*(np.zeros_like(a) for a in u)))
    for name, g in mixed.items():
        scale = largest([at_u[name], at_v[name]])
        assert_close(name, g, 2.5 * at_u[name] - 0.75 * at_v[name], rtol=64 * EPS64, scale=scale + EPS64)
        assert not np.any(zero[name]), f"{name}: not 0 for dy = 0"


@oracle(always)
def index_formulas(rule: Rule, case: Case) -> None:
    """The formulas, evaluated by index loops in 40 digits, from the values that forward took and gave.

    Entries much smaller than the largest are right to 1e-12 of themselves too, down to the rounding of the largest.
    """
    import mpmath

    from backlit.rules.formula import Arithmetic

    c = call(rule, case)
    values = bind(rule, c.inputs, c.outputs, c.attributes) | _source_of(c)
    values |= {f"d{n}": dy for n, dy in zip(rule.differentiated, c.dys if rule.backward else (), strict=True)}
    computed = dict(zip(rule.outputs, c.outputs, strict=True)) | (_joined_gradients(c) if rule.backward else {})
    arrays = {n: v for n, v in values.items() if n not in rule.attributes} | computed
    attributes = {n: values[n] for n in rule.attributes}
    with mpmath.workdps(40):
        for target, formula in formulas_of(rule).items():
            if target in computed:
                got = computed[target]
                want = formula.evaluate(arrays, attributes, got.shape, arithmetic=Arithmetic(mpmath.mpf, mpmath))
                scale = largest(c.dys) if target.startswith("d") else largest(c.inputs)
                assert_close(target, got, want.astype(np.float64), rtol=1e-12, scale=scale, floor=1e-3)


def _joined_gradients(c: Call) -> dict[str, Array]:
    if not c.rule.variadic:
        return c.gradients
    return {f"d{c.rule.inputs[0]}": _flat(tuple(c.gradients.values()))}


# --- movement ---------------------------------------------------------------------------------------------------------


def moves(rule: Rule, case: Case) -> bool:
    return rule.moves


def source_map(c: Call) -> Array:
    """For each entry of the output the flat position in the (joined) inputs that it copies; -1 for a constant.

    forward is run on positions, and on positions moved by their number: a constant stays what it is.
    """
    sizes = [c.inputs[i].size for i in c.wrt]
    starts = np.cumsum([0, *sizes])
    places = [
        np.arange(s, s + c.inputs[i].size).reshape(c.inputs[i].shape) for i, s in zip(c.wrt, starts[:-1], strict=True)
    ]
    once = c.forward(*c.with_inputs(c.wrt, tuple(places)))[0]
    moved = c.forward(*c.with_inputs(c.wrt, tuple(p + starts[-1] for p in places)))[0]
    return np.where(moved == once, -1, once).astype(int)


def _source_of(c: Call) -> dict[str, Array]:
    return {"source": source_map(c)} if c.rule.moves else {}


@oracle(moves)
def scatter_of_the_source(rule: Rule, case: Case) -> None:
    c = call(rule, case)
    source, inputs = source_map(c).ravel(), _flat(tuple(c.inputs[i] for i in c.wrt))
    copied = source >= 0
    assert np.array_equal(c.outputs[0].ravel()[copied], inputs[source[copied]]), (
        "an output entry is no copy of its source"
    )
    assert len(set(c.outputs[0].ravel()[~copied])) <= 1, "the entries without a source are not one constant"
    want = np.zeros(inputs.size)
    np.add.at(want, source[copied], c.dys[0].ravel()[copied])
    assert_close("gradient", _flat(tuple(c.gradients.values())), want, rtol=8 * EPS64)


# --- other programs ---------------------------------------------------------------------------------------------------


def expands(rule: Rule, case: Case) -> bool:
    return rule.expand is not None and not case.on_kink


@oracle(expands)
def fused_equals_composed(rule: Rule, case: Case) -> None:
    """``expand``, run by the reference engine, gives the outputs that have gradients, and the gradients."""
    from backlit.engines import reference
    from backlit.graph import Builder, functions

    c = call(rule, case)
    builder = Builder(dtype="float64")
    given = {n: x for n, x in zip(c.names, c.inputs, strict=True) if x is not None}
    leaves = {n: builder.input(n, x.shape, x.dtype.name) for n, x in given.items()}
    y = rule.expand(functions, *(leaves.get(n) for n in c.names), **c.attributes)
    if not rule.backward:
        values = reference.forward(builder.graph((y,)), reference.leaves(builder.graph((y,)), given))
        return assert_close(rule.outputs[0], c.outputs[0], values[y.name], rtol=SMOOTH)
    ys = y if isinstance(y, tuple) else (y,)
    assert len(ys) == len(rule.differentiated)
    loss = sum(functions.apply("sum", functions.apply("mul", y, dy)) for y, dy in zip(ys, c.dys, strict=True))
    graph = builder.graph((loss,))
    wrt = [c.names[i] for i in c.wrt]
    values, grads = reference.value_and_grad(graph, reference.leaves(graph, given), wrt)
    for n, y in zip(rule.differentiated, ys, strict=True):
        assert_close(n, c.outputs[rule.outputs.index(n)], values[y.name], rtol=SMOOTH)
    for n in wrt:
        assert_close(f"d{n}", c.gradients[f"d{n}"], grads[n], rtol=SMOOTH, scale=largest(c.dys))
    return None


@oracle(smooth, lane="jax")
def jax_differentiates_forward(rule: Rule, case: Case) -> None:
    import jax
    import jax.numpy as jnp

    c = call(rule, case)
    with jax.enable_x64(True):

        def forward(*wrt: Any) -> Any:
            return c.of_differentiated(rule.call(jnp, *c.with_inputs(c.wrt, wrt), **c.attributes))

        c_inputs = mapped(jnp.asarray, c.inputs)
        outputs, pull = jax.vjp(forward, *(c_inputs[i] for i in c.wrt))
        grads = pull(tuple(mapped(jnp.asarray, c.dys)))
    for name, y, want in zip(rule.differentiated, c.differentiated, outputs, strict=True):
        assert_close(name, y, want, rtol=SMOOTH)
    for i, want in zip(c.wrt, grads, strict=True):
        assert_close(f"d{c.names[i]}", c.gradients[f"d{c.names[i]}"], want, rtol=SMOOTH, scale=largest(c.dys))


def _first_of_its_kind(rule: Rule, case: Case) -> bool:
    """Compiling takes long: one case for each set of inputs and attributes that are given."""
    return case.label == next(c.label for c in cases_of(rule) if c.call.keys() == case.call.keys())


@oracle(_first_of_its_kind, lane="jax")
def runs_under_jit(rule: Rule, case: Case) -> None:
    import jax
    import jax.numpy as jnp

    c = call(rule, case)

    def both(inputs: Any, dys: Any) -> Any:
        outputs = rule.call(jnp, *inputs, **c.attributes)
        return outputs, rule.gradients(
            jnp, dys, rule.saved_from(inputs, outputs, c.attributes)
        ) if rule.backward else ()

    with jax.enable_x64(True):
        outputs, grads = jax.jit(both)(
            mapped(jnp.asarray, c.inputs), mapped(jnp.asarray, c.dys if rule.backward else ())
        )
    _same_as_numpy(c, outputs, grads)


@oracle(always, lane="strict")
def runs_on_array_api_strict(rule: Rule, case: Case) -> None:
    import array_api_strict as xp

    c = call(rule, case)
    inputs, dys = mapped(xp.asarray, mapped(np.array, c.inputs)), c.dys if rule.backward else ()
    outputs = rule.call(xp, *inputs, **c.attributes)
    saved = rule.saved_from(inputs, outputs, c.attributes)
    grads = rule.gradients(xp, mapped(xp.asarray, mapped(np.array, dys)), saved) if rule.backward else ()
    _same_as_numpy(c, outputs, grads)


def _same_as_numpy(c: Call, outputs: tuple[Any, ...], grads: tuple[Any, ...]) -> None:
    for name, y, want in zip(c.rule.outputs, outputs, c.outputs, strict=True):
        assert str(y.dtype).rpartition(".")[2] == want.dtype.name, f"{name}: dtype {y.dtype}, with NumPy {want.dtype}"
        assert_close(name, y, want, rtol=1e-12)
    for name, g in c.named(grads).items() if c.rule.backward else ():
        assert_close(name, g, c.gradients[name], rtol=1e-12, scale=largest(c.dys))


def _in_torch(rule: Rule, case: Case) -> bool:
    from rules.torch_table import OTHERWISE, TABLE

    return rule.name in TABLE and (rule.name, case.label) not in OTHERWISE


@oracle(_in_torch, lane="torch")
def pytorch_agrees(rule: Rule, case: Case) -> None:
    import torch

    from rules.torch_table import TABLE

    c = call(rule, case)
    inputs = mapped(lambda x: torch.tensor(np.array(x)), c.inputs)
    wrt = [inputs[i].requires_grad_() for i in c.wrt] if rule.backward else []
    made = TABLE[rule.name](torch, *inputs, **c.attributes)
    ys = made if isinstance(made, tuple) else (made,)
    for n, y in zip(rule.differentiated or rule.outputs[:1], ys, strict=True):
        assert_close(n, c.outputs[rule.outputs.index(n)], y.detach().numpy(), rtol=SMOOTH)
    if rule.backward:
        dys = [torch.tensor(np.array(dy)) for dy in c.dys]
        grads = torch.autograd.grad(ys, wrt, dys, materialize_grads=True)
        for i, want in zip(c.wrt, grads, strict=True):
            assert_close(
                f"d{c.names[i]}", c.gradients[f"d{c.names[i]}"], want.numpy(), rtol=SMOOTH, scale=largest(c.dys)
            )


# --- what was promised ------------------------------------------------------------------------------------------------


@oracle(lambda rule, case: bool(case.expect))
def expected_by_hand(rule: Rule, case: Case) -> None:
    c = call(rule, case)
    known = dict(zip(rule.outputs, c.outputs, strict=True))
    known |= c.named(c.backward(*(np.ones_like(y) for y in c.differentiated))) if rule.backward else {}
    for name, want in case.expect.items():
        assert name in known, f"expect names {name}, which is neither an output nor a gradient"
        assert_close(
            name, known[name], np.broadcast_to(np.asarray(want, float), known[name].shape), rtol=1e-14, scale=1.0
        )


@oracle(always)
def float32_within_its_precision(rule: Rule, case: Case) -> None:
    """Within 16 eps of the largest entry, and twice what a change of the inputs by 4 eps does in float64."""
    single = call(rule, case, np.float32)
    double = Call(rule, case, mapped(_doubled, single.inputs), single.attributes)
    rng = np.random.default_rng(0)
    nudge = 0.0 if case.on_kink else 4 * EPS32
    nudged = Call(rule, case, mapped(lambda x: _nudged(rng, x, nudge), double.inputs), single.attributes)
    for kind in ("outputs", "gradients") if rule.backward else ("outputs",):
        got, want, near = (_named_results(c, kind, single) for c in (single, double, nudged))
        for name, w in want.items():
            loss = largest([near[name] - w]) if w.dtype.kind == "f" else 0.0
            scale = largest(double.dys) if kind == "gradients" else 0.0
            assert_close(name, got[name], w, rtol=8 * EPS32, scale=scale + loss / (4 * EPS32))


def _doubled(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _nudged(rng: Any, x: Array, nudge: float) -> Array:
    return x * (1 + nudge * rng.choice([-1.0, 1.0], size=x.shape)) if x.dtype.kind == "f" else x


def _named_results(c: Call, kind: str, single: Call) -> dict[str, Array]:
    if kind == "outputs":
        return dict(zip(c.rule.outputs, c.outputs, strict=True))
    return c.named(c.backward(*(dy.astype(y.dtype) for dy, y in zip(single.dys, c.differentiated, strict=True))))


# --- of a whole rule --------------------------------------------------------------------------------------------------


def documented(rule: Rule) -> None:
    """Formulas for the first output and every gradient, a source, cases, and the convention on every kink."""
    targets = formulas_of(rule).keys()
    missing = {rule.outputs[0], *(f"d{n}" for n in rule.differentiable)} - targets
    assert not missing, f"no formula for {sorted(missing)}"
    cases = cases_of(rule)
    assert len(cases) >= 2, "a rule needs two cases"
    assert rule.source.strip(), "no source"
    if rule.kinks:
        assert rule.kink_note, "no kink_note"
        assert any(c.on_kink and c.expect for c in cases), "no case on the kink that says what is expected"


class _Poison:
    """Stands for a value that must not be looked at."""


def every_saved_name_is_used(rule: Rule) -> None:
    """The memory contract holds nothing that backward does not need: without it some gradient fails or changes."""
    for name in rule.saved:
        assert any(_needs(call(rule, case), name) for case in cases_of(rule)), f"backward does not use {name}"


def _needs(c: Call, name: str) -> bool:
    saved = c.rule.saved_from(c.inputs, c.outputs, c.attributes)
    try:
        grads = c.named(c.rule.gradients(np, c.dys, saved | {name: _Poison()}))
    except (TypeError, AttributeError, ValueError, FloatingPointError):
        return True
    return not all(np.array_equal(g, c.gradients[n]) for n, g in grads.items())
