"""The vectorised functions against mpmath, NumPy's accuracy vectors and float64, as plain Python and compiled."""

from __future__ import annotations

import math
import re
from math import inf, nan
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

pytest.importorskip("numba")

import numba
from llvmlite import binding as llvm

from backlit.engines.fast import vector_gates, vector_math
from backlit.engines.fast.compiler import known
from backlit.engines.fast.jit import as_python, span

known()
F = np.float32
AVX2 = getattr(llvm.get_host_cpu_features(), "get", lambda _: False)("avx2")
LN2 = math.log(2.0)
STEP = 39989 if as_python() else 1999  # a prime
FUSED = 1.3 if as_python() else 1.0  # Python has no fused multiply-add
LIMITS = {"exp": 1.0, "expm1": 1.0, "log": 1.0, "log1p": 1.0, "tanh": 1.0, "erf": 1.0, "sigmoid": 2.0, "softplus": 2.0}
LIMITS |= dict.fromkeys(("silu", "gelu", "gelu_tanh", "mish"), 2.0)
LIMITS |= dict.fromkeys(("silu_slope", "gelu_slope", "gelu_tanh_slope", "mish_slope"), 2.0)
HARD = [
    *(2.0**k for k in range(-149, 128)),  # subnormals and every binade
    *(s * LN2 for s in np.arange(-152.0, 130.0, 0.5)),  # where the range reduction changes its k
    *(0.9, 1.2, 0.75, 0.707106781, 1.41421356, 0.41421356, -0.29289322, -0.7517915, -0.99999994, 3.8325, 9.01),
    *(-87.336544, -87.33655, -103.27893, -103.97208, 88.72283, 88.72284, -14.0, -13.2),
]


def mp_sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def cubic(x):
    return 2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)


def gated(gate):
    """x · gate(x), and its derivative as (value, largest term), by mpmath's own differentiation."""

    def slope(x):
        term = gate(x)
        return term + x * mp.diff(gate, x), term

    return lambda x: (x * gate(x), 0), slope


def plain(function):
    return lambda x: (function(x), 0)


def of_gates():
    gates = {
        "silu": mp_sigmoid,
        "gelu": mp.ncdf,
        "gelu_tanh": lambda x: mp_sigmoid(cubic(x)),
        "mish": lambda x: mp.tanh(mp.log1p(mp.exp(x))),
    }
    for name, gate in gates.items():
        yield from zip((name, f"{name}_slope"), gated(gate), strict=True)


EXACT = {name: plain(getattr(mp, name)) for name in ("exp", "expm1", "log", "log1p", "tanh", "erf")}
EXACT |= {"sigmoid": plain(mp_sigmoid), "softplus": plain(lambda x: mp.log1p(mp.exp(x)))} | dict(of_gates())


def function(name):
    return getattr(vector_math, name, None) or getattr(vector_gates, name)


def looped(name, **options):
    """The function in a loop over arrays, compiled."""
    one = function(name)

    @numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, **options)
    def loop(lo, hi, x, y):
        for i in span(lo, hi):
            y[i] = one(x[i])

    return loop


LOOPS = {name: looped(name) for name in EXACT}


def compiled(name, x):
    y = np.empty_like(x)
    with np.errstate(all="ignore"):  # where NUMBA_DISABLE_JIT leaves Python
        LOOPS[name](0, x.size, x, y)
    return y


def python(name, x):
    """The same without Numba."""
    single, double = parts(name)
    one = single if x.dtype == F else double
    with np.errstate(all="ignore"):
        return np.array([one(v) for v in x], x.dtype)


def parts(name):
    cells = dict(zip(function(name).__code__.co_freevars, function(name).__closure__, strict=True))
    return cells["single"].cell_contents, cells["double"].cell_contents


def units(y, exact, term, dtype):
    """|y - exact| in units in the last place of the larger of |exact| and |term|, in exact arithmetic."""
    info = np.finfo(dtype)
    size = max(abs(exact), abs(term), mp.mpf(float(info.smallest_normal)))
    if abs(exact) >= mp.mpf(2) ** info.maxexp * (1 - mp.mpf(2) ** (-info.nmant - 2)):
        return 0.0 if np.isinf(y) and (y > 0) == (exact > 0) else inf
    return float(abs(mp.mpf(float(y)) - exact) / mp.mpf(2) ** (int(mp.floor(mp.log(size, 2))) - info.nmant))


def domain(name, x):
    return x[x > {"log": 0.0, "log1p": -1.0}.get(name, -inf)]


def sample(name, count, dtype=F):
    """Hard points, and points spread over all binades and over the middle; none where e^x leaves the range by far."""
    rng = np.random.default_rng(5)
    spread = np.exp2(rng.uniform(-30.0, 7.0, count)) * rng.choice([-1.0, 1.0], count)
    x = np.concatenate([HARD, -np.array(HARD), spread, rng.normal(size=count) * 4.0]).astype(dtype)
    return domain(name, x if name.startswith("log") else x[np.abs(x) < (40.0 if "g" in name else 110.0)])


def worst(name, x, y):
    """(largest error, the x with it)."""
    with mp.workprec(160):
        return max((units(b, *EXACT[name](mp.mpf(float(a))), x.dtype), a) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("run", [compiled, python])
@pytest.mark.parametrize("name", EXACT)
def test_float32_against_mpmath(name, run):
    x = sample(name, 100)
    error, at = worst(name, x, run(name, x))
    assert error <= LIMITS[name] * (FUSED if run is compiled else 1.3), at


FAR_OUT = 1e-13  # erfc far out: the rounding of x/√2 counts x² times
LOOSE = {"gelu": FAR_OUT, "gelu_slope": FAR_OUT, "gelu_tanh": FAR_OUT, "gelu_tanh_slope": FAR_OUT}


@pytest.mark.parametrize("name", EXACT)
def test_float64_against_mpmath(name):
    x = sample(name, 100, np.float64)
    x = x[np.abs(x) < 13.0] if name in LOOSE else x
    error, at = worst(name, x, compiled(name, x))
    assert error * np.finfo(np.float64).eps <= LOOSE.get(name, 2e-15), at


# --- many points, against float64 -------------------------------------------------------------------------------------

erf, erfc = np.frompyfunc(math.erf, 1, 1), np.frompyfunc(math.erfc, 1, 1)
WIDE = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "erf": lambda x: erf(x).astype(float),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * erfc(-x * math.sqrt(0.5)).astype(float),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


@pytest.mark.parametrize("name", WIDE)
def test_float32_at_many_points(name):
    """Where |x| < 1000 for the logarithms and |x| < 16 for the others; bits apart by a prime."""
    edge = 1000.0 if name.startswith("log") else 16.0
    x = np.arange(0x2F000000, int(F(edge).view(np.int32)), STEP, dtype=np.int32).view(F)
    x = domain(name, np.concatenate([-x, x]))
    assert x.size > 150_000_000 // STEP
    exact = WIDE[name](x.astype(np.float64))
    error = np.abs(compiled(name, x) - exact) / np.spacing(np.abs(exact).astype(F))
    at = int(np.argmax(error))
    assert error[at] <= LIMITS[name] * FUSED, x[at]


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
def test_float32_at_the_accuracy_vectors_of_numpy(name):
    """Bits of x and of f(x), for float32; where NumPy comes without its tests they are skipped."""
    file = Path(np._core.__file__).parent / "tests" / "data" / f"umath-validation-set-{name}.csv"
    if not file.exists():
        pytest.skip(f"{file.name} is not installed")
    rows = [line.split(",") for line in file.read_text("utf-8").splitlines() if line.startswith("np.float32")]
    x, want = (np.array([int(r[i], 16) for r in rows], np.uint32).view(F) for i in (1, 2))
    got = compiled(name, x)
    assert len(rows) > 100
    usual = np.isfinite(want) & (np.abs(want) < np.finfo(F).max)
    np.testing.assert_array_equal(got[~usual], want[~usual])
    np.testing.assert_array_max_ulp(got[usual], want[usual], 1)


# --- the edges --------------------------------------------------------------------------------------------------------

EDGES = {  # at -inf, -0, 0, inf
    "exp": (0.0, 1.0, 1.0, inf),
    "expm1": (-1.0, -0.0, 0.0, inf),
    "log": (nan, -inf, -inf, inf),
    "log1p": (nan, -0.0, 0.0, inf),
    "tanh": (-1.0, -0.0, 0.0, 1.0),
    "erf": (-1.0, -0.0, 0.0, 1.0),
    "sigmoid": (0.0, 0.5, 0.5, 1.0),
    "softplus": (0.0, LN2, LN2, inf),
    **dict.fromkeys(("silu", "gelu", "gelu_tanh", "mish"), (-0.0, -0.0, 0.0, inf)),
    **dict.fromkeys(("silu_slope", "gelu_slope", "gelu_tanh_slope"), (0.0, 0.5, 0.5, 1.0)),
    "mish_slope": (0.0, 0.6, 0.6, 1.0),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("run", [compiled, python])
@pytest.mark.parametrize("name", EDGES)
def test_edges(name, run, dtype):
    got = run(name, np.array([-inf, -0.0, 0.0, inf, nan], dtype))
    np.testing.assert_allclose(got, np.array([*EDGES[name], nan], dtype), rtol=2 * np.finfo(dtype).eps, atol=1e-250)
    if "_slope" not in name:
        signs = np.signbit(np.array(EDGES[name]))[1:3]
        np.testing.assert_array_equal(np.signbit(got[1:3]), signs)


@pytest.mark.parametrize("name", ["log", "log1p"])
@pytest.mark.parametrize("run", [compiled, python])
def test_outside_the_domain(name, run):
    low = {"log": 0.0, "log1p": -1.0}[name]
    x = np.array([low - 1e-6, low - 1.0, -3e38, low], F)
    np.testing.assert_array_equal(run(name, x), np.array([nan, nan, nan, -inf], F))


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_are_odd_to_the_last_bit(name):
    x = sample(name, 1000)
    np.testing.assert_array_equal(compiled(name, -x), -compiled(name, x))


# --- speed ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not AVX2 or as_python(), reason="machine code for x86 with AVX2")
@pytest.mark.parametrize("name", EXACT)
def test_loops_over_float32_are_vectorised(name):
    """The machine code multiplies whole vectors, gathers nothing and calls no library function."""
    compiled(name, np.ones(1, F))
    (code,) = [text for kinds, text in LOOPS[name].inspect_asm().items() if kinds[2].dtype == numba.float32]
    assert re.search(r"v(mul|fmadd\d+)p[sd]\s.*[yz]mm", code)
    assert "gather" not in code
    assert not re.search(r"call.*(exp|log|erf|tanh)", code)
