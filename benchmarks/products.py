"""Matrix products of the fast engine beside NumPy's, on one core: writes benchmarks/results/products.md.

    python benchmarks/products.py

For each shape C[m, n] = A[m, k] B[k, n] in float32, with A or B given transposed: the best of 15 timings of some
milliseconds each, ours and NumPy's in turn. Shapes are those of layers: 784-128, 784-512-512 and 2048-2048 at their
batch sizes, a recurrent step, a filter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
from workers import machine_now

from backlit.engines.fast import families, machine_code
from backlit.engines.fast.jit import kernel
from backlit.engines.fast.pointers import CODE
from backlit.engines.fast.products import gemm

assert families
SHAPES = [(128, 128, 784), (128, 32, 784), (512, 128, 784), (512, 784, 128), (768, 128, 128), (384, 512, 128)]
SHAPES += [(16, 512, 128), (196, 32, 400), (1024, 256, 2048), (1024, 2048, 256)]
HERE = Path(__file__).parent


@kernel
def repeated_product(lo: int, hi: int, ta: int, tb: int, m: int, n: int, k: int, A, B, C) -> None:  # noqa: ANN001, PLR0917
    """C = op(A) op(B), hi - lo times."""
    for _ in range(lo, hi):
        gemm(ta == 1, tb == 1, m, n, k, A, 0, A.shape[1], B, 0, B.shape[1], 0.0, C, 0, C.shape[1])


def gigaflops(do: Callable[[int], object], flops: float) -> float:
    """The best of many timings; ``do(n)`` does it n times."""
    count, best = max(1, int(3e8 / flops)), float("inf")
    for _ in range(15):
        started = time.perf_counter()
        do(count)
        best = min(best, (time.perf_counter() - started) / count)
    return flops / best / 1e9


def row(m: int, n: int, k: int) -> str:
    """A line of the table."""
    rng, cells = np.random.default_rng(0), []
    for ta, tb in ((0, 0), (1, 0), (0, 1)):
        A, B = (rng.normal(size=s).astype("f") for s in (((k, m) if ta else (m, k)), ((n, k) if tb else (k, n))))
        C, X, Y = np.zeros((m, n), "f"), A.T if ta else A, B.T if tb else B
        given = (ta, tb, m, n, k, A, B, C)
        code = CODE(machine_code.address("repeated_product", given))
        words = np.array(machine_code.words_of(given), np.int64)
        ours = gigaflops(lambda c, code=code, words=words: code(words.ctypes.data, 0, c, 0), 2 * m * n * k)
        theirs = gigaflops(lambda c, X=X, Y=Y, C=C: [np.matmul(X, Y, out=C) for _ in range(c)], 2 * m * n * k)
        cells.append(f"{ours:.0f} / {theirs:.0f} = {ours / theirs:.2f}")
    return f"| {m} × {n} × {k} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and write."""
    lines = ["# Matrix products on one core, GFLOP/s: backlit / NumPy", "", "| m × n × k | A B | Aᵀ B | A Bᵀ |"]
    lines += ["|---|---|---|---|", *(row(*shape) for shape in SHAPES)]
    about = machine_now()
    lines += ["", f"float32. Measured {about['date']} on {about['processor']}, NumPy {np.__version__}."]
    (HERE / "results" / "products.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
