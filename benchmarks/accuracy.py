"""How exact and how fast the fast engine's elementary functions are in float32: writes benchmarks/results/accuracy.md.

    python benchmarks/accuracy.py [NAME …] [--every N]

Each function is compared with float64, whose own error is some 1e-8 of a float32's unit in the last place (ULP): at
every float32 with 2^-12 ≤ |x| < 2^7, where it bends, and at every N-th (default 97) of all others, subnormals included.
An error is |computed - exact| in ULP of the exact value; of a slope, which has a zero, in ULP of its largest term.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from backlit.engines.fast import vector_gates, vector_math
from backlit.engines.fast.compiler import known

known()  # to Numba: what the functions compile to
ROOT = Path(__file__).resolve().parent
BLOCK = 1 << 16
DENSE = tuple(int(np.float32(x).view(np.uint32)) for x in (2.0**-12, 2.0**7))
SIGN, INFINITE = 1 << 31, 0x7F800000
PEAK = 1.0 / math.sqrt(2.0 * math.pi)


# --- the exact values, in float64: value and largest term -------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + np.exp(-x)) if x > -700.0 else 0.0 * np.exp(x) + np.exp(x)


def normal(x: float) -> float:
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def cubic(x: float) -> float:
    return 2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)


sigmoid, normal, cubic = njit(sigmoid), njit(normal), njit(cubic)


def silu(x: float) -> Any:
    return (x * sigmoid(x) if x > -np.inf else 0.0), 0.0


def silu_slope(x: float) -> Any:
    a = min(max(x, -700.0), 700.0)
    return sigmoid(a) + a * sigmoid(a) * sigmoid(-a), sigmoid(a)


def gelu(x: float) -> Any:
    return (x * normal(x) if x > -40.0 else 0.0), 0.0


def gelu_slope(x: float) -> Any:
    a = min(max(x, -37.0), 37.0)
    return normal(a) + a * PEAK * np.exp(-0.5 * a * a), normal(a)


def gelu_tanh(x: float) -> Any:
    a = min(max(x, -20.0), 20.0)
    return max(x, a) * sigmoid(cubic(a)), 0.0


def gelu_tanh_slope(x: float) -> Any:
    a = min(max(x, -20.0), 20.0)
    s, slope = sigmoid(cubic(a)), 2.0 * math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * a * a)
    return s + a * s * sigmoid(-cubic(a)) * slope, s


def mish(x: float) -> Any:
    return (x * np.tanh(np.log1p(np.exp(min(x, 40.0)))) if x > -np.inf else 0.0), 0.0


def mish_slope(x: float) -> Any:
    a = min(max(x, -300.0), 40.0)
    gate = np.tanh(np.log1p(np.exp(a)))
    return gate + a * (1.0 - gate * gate) * sigmoid(a), gate


EXACT = {
    "exp": lambda x: (np.exp(x), 0.0),
    "expm1": lambda x: (np.expm1(x), 0.0),
    "log": lambda x: (np.log(x), 0.0),
    "log1p": lambda x: (np.log1p(x), 0.0),
    "tanh": lambda x: (np.tanh(x), 0.0),
    "erf": lambda x: (math.erf(x), 0.0),
    "sigmoid": lambda x: (sigmoid(x), 0.0),
    "softplus": lambda x: ((x if x > 40.0 else np.log1p(np.exp(x))), 0.0),
    "silu": silu,
    "silu_slope": silu_slope,
    "gelu": gelu,
    "gelu_slope": gelu_slope,
    "gelu_tanh": gelu_tanh,
    "gelu_tanh_slope": gelu_tanh_slope,
    "mish": mish,
    "mish_slope": mish_slope,
}


def function(name: str) -> Any:
    """The function under test, of a float32."""
    return getattr(vector_math, name, None) or getattr(vector_gates, name)


# --- the search for the worst float -----------------------------------------------------------------------------------


def error(y: float, exact: float, term: float) -> float:
    """|y - exact| in float32 ULP of the larger of |exact| and term; inf where one is NaN, or of the other sign."""
    if np.isnan(exact) or np.isnan(y):
        return 0.0 if np.isnan(exact) and np.isnan(y) else np.inf
    if abs(exact) >= 2.0**128 * (1.0 - 2.0**-25):  # rounds to inf
        return 0.0 if np.isinf(y) and (y > 0.0) == (exact > 0.0) else np.inf
    if np.isinf(y):  # as if the float32 numbers went on
        y = math.copysign(2.0**128, y)
    exponent = (np.float64(max(abs(exact), term)).view(np.int64) >> 52) - 1023
    unit = np.int64((max(exponent, -126) - 23 + 1023) << 52).view(np.float64)
    return abs(y - exact) / unit


error = njit(error)


def searcher(name: str) -> Any:
    """Compiled: (bits of the first float, step, count) -> (largest error, bits of the float with it)."""
    mine, exact = function(name), njit(EXACT[name], error_model="numpy")

    @njit(error_model="numpy", nogil=True)
    def search(first: int, step: int, count: int, bits: Any, y: Any) -> Any:
        for i in range(count):
            bits[i] = np.uint32(first + step * i)
        x = bits.view(np.float32)
        for i in range(count):
            y[i] = mine(x[i])
        worst, at = -1.0, np.uint32(0)
        for i in range(count):
            value, term = exact(np.float64(x[i]))
            found = error(np.float64(y[i]), value, term)
            if found > worst:
                worst, at = found, bits[i]
        return worst, at

    return search


def worst(name: str, every: int) -> tuple[float, np.float32, int]:
    """The largest error, the float with it, and the number of floats looked at."""
    search, bits, y = searcher(name), np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    found, looked = (-1.0, np.uint32(0)), 0
    for low, high, step in ((0, DENSE[0], every), (*DENSE, 1), (DENSE[1], INFINITE + 2, every)):
        for sign in (0, SIGN):
            for first in range(low, high, BLOCK * step):
                count = min(BLOCK, -(-(high - first) // step))
                found = max(found, search(first + sign, step, count, bits, y), key=lambda pair: pair[0])
                looked += count
    return float(found[0]), np.uint32(found[1]).view(np.float32), looked


# --- speed ------------------------------------------------------------------------------------------------------------


def nanoseconds(call: Any, size: int) -> float:
    """The best of 30 calls, for one entry."""
    call()
    best = math.inf
    for _ in range(30):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best / size * 1e9


def looped(mine: Any) -> Any:
    """The function in a loop over an array, compiled."""

    @njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
    def loop(x: Any, y: Any) -> None:
        for i in range(x.size):
            y[i] = mine(x[i])

    return loop


def peers(name: str, x: Any) -> list[str]:
    """Time of NumPy and of PyTorch (one thread), where they have the function."""
    y = np.empty_like(x)
    told = [f"{nanoseconds(lambda: getattr(np, name)(x, out=y), x.size):.2f}" if hasattr(np, name) else "–"]
    try:
        import torch
    except ImportError:
        return [*told, "–"]
    torch.set_num_threads(1)
    of = {"gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu, "mish": torch.nn.functional.mish}
    of |= {"softplus": torch.nn.functional.softplus}
    call, given = of.get(name) or getattr(torch, name, None), torch.from_numpy(x)
    return [*told, f"{nanoseconds(lambda: call(given), x.size):.2f}" if call else "–"]


def row(name: str, every: int) -> str:
    """One line of the table."""
    x = np.abs(np.random.default_rng(0).normal(size=100_000) * 3).astype(np.float32)
    y, loop = np.empty_like(x), looped(function(name))
    ulp, at, looked = worst(name, every)
    own = nanoseconds(lambda: loop(x, y), x.size)
    return f"| {name} | {ulp:.3f} | {at!s} | {looked:,} | {own:.2f} | {' | '.join(peers(name, x))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(EXACT))
    parser.add_argument("--every", type=int, default=97)
    chosen = parser.parse_args()
    head = (
        "| function | largest error, ULP | at x | floats | ns | NumPy ns | PyTorch ns |\n|---|---|---|---|---|---|---|"
    )
    print(head)
    rows = []
    for name in chosen.names:
        rows.append(row(name, chosen.every))
        print(rows[-1], flush=True)
    if chosen.names == list(EXACT):
        (ROOT / "results" / "accuracy.md").write_text(report(head, rows, chosen.every), "utf-8")


def processor() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def report(head: str, rows: list[str], every: int) -> str:
    """The page of results."""
    versions = f"{platform.machine()}, {processor()}; Python {platform.python_version()}, NumPy {np.__version__}"
    note = "ns: for one entry of 100 000 that are |normal|·3, one thread; PyTorch's time includes making the result."
    return "\n".join(
        [
            "# Accuracy of float32 functions",
            "",
            (__doc__ or "").split("\n\n", 2)[2],
            f"{versions}. N = {every}.",
            note,
            "",
            head,
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
