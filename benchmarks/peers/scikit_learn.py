"""scikit-learn's MLPClassifier."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier
from workloads import BETA1, BETA2, EPS, RATE, Task

PACKAGES = ("scikit-learn", "numpy")
HOW = (
    "a batch is one partial_fit; batch_size the batch, shuffle=False, alpha=0, "
    "assume_finite and skip_parameter_validation; threads of OpenBLAS"
)


EPSILON = EPS * (1 - BETA2) ** 0.5
"""scikit-learn adds it to the root of v, not of v_hat: this makes the first step the same, and the next ones nearly."""


class Peer:
    """partial_fit, batch by batch."""

    def __init__(self, task: Task, threads: int) -> None:  # noqa: ARG002  the environment has set them
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
        self.task = task
        self.model = MLPClassifier(
            task.workload.sizes[1:-1], solver="adam", alpha=0, batch_size=task.workload.batch, shuffle=False,
            learning_rate_init=RATE, beta_1=BETA1, beta_2=BETA2, epsilon=EPSILON,
        )  # fmt: skip
        self._start()

    def _start(self) -> None:
        """Let a step make the arrays, then begin again at the task's parameters and an Adam of no steps."""
        rows = self.task.batches(1)[0]
        self.model.partial_fit(self.task.X[rows], self.task.y[rows], classes=np.arange(self.task.workload.sizes[-1]))
        given = self.task.flat
        for W, b, W0, b0 in zip(self.model.coefs_, self.model.intercepts_, given[::2], given[1::2], strict=True):
            W[...], b[...] = W0.T, b0
        adam = self.model._optimizer  # noqa: SLF001  there is no public way to give first parameters
        adam.t = 0
        for slot in (*adam.ms, *adam.vs):
            slot[...] = 0

    def run(self, steps: int) -> list[float]:
        losses = []
        for rows in self.task.batches(steps):
            self.model.partial_fit(self.task.X[rows], self.task.y[rows])
            losses.append(self.model.loss_)
        return losses
