"""MNIST by scikit-learn's MLPClassifier, start to end: python whole_sklearn.py EPOCHS.

It has no schedule for Adam: the rate stays at half of the others' first one.
"""

from __future__ import annotations

import mnist
import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
train, validation, test = mnist.pairs()
model = MLPClassifier(
    (mnist.HIDDEN,), alpha=0, batch_size=mnist.BATCH, learning_rate_init=mnist.RATE / 2, random_state=0
)


def epoch(_: int) -> float:
    """A call of partial_fit is one pass over what it is given, in mini-batches of batch_size."""
    model.partial_fit(*train, classes=np.arange(10))
    return float(model.score(*validation))


mnist.told(epoch, lambda: float(model.score(*test)))
