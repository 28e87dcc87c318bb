"""The losses equal PyTorch's, in value and gradient, for every combination of options that PyTorch has."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from rules.losses import SOFT, Result, close, random_classification

pytestmark = pytest.mark.torch


def torch_gradient(loss_of, first):
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(first, requires_grad=True)
    loss = loss_of(torch, leaf)
    loss.backward()
    return float(loss.detach()), leaf.grad.numpy()


def agree(found, loss_of, first):
    loss, gradient = torch_gradient(loss_of, first)
    close(found.loss, loss, 1e-13)
    close(found.gradient, gradient, 1e-13)


def weighted_by(torch, losses, weights):
    """The weighted mean over samples of the means of their entries, out of PyTorch's unreduced losses."""
    w = torch.tensor(weights)
    return (w * losses.reshape(len(weights), -1).mean(1)).sum() / w.sum()


FUNCTIONS = {"mse": "mse_loss", "mae": "l1_loss", "huber": "huber_loss"}


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize(
    ("name", "options"), [("mse", {}), ("mae", {}), *(("huber", {"delta": d}) for d in (0.3, 1.0, 2.0))]
)
def test_regression_equals_pytorch(name, options, shape):
    rng = np.random.default_rng(4)
    pred, target, weights = rng.normal(size=shape), rng.normal(size=shape), rng.uniform(0.0, 2.0, size=shape[0])

    def unreduced(torch, leaf, reduction):
        f = getattr(torch.nn.functional, FUNCTIONS[name])
        return f(leaf, torch.tensor(target), reduction=reduction, **options)

    agree(Result(name, pred, target, **options), lambda torch, leaf: unreduced(torch, leaf, "mean"), pred)
    found = Result(name, pred, target, weights, **options)
    agree(found, lambda torch, leaf: weighted_by(torch, unreduced(torch, leaf, "none"), weights), pred)


CLASS_WEIGHTS = np.asarray([0.5, 1.0, 2.0, 0.25])


def cross_entropy(torch, leaf, target, class_weights, **options):
    """PyTorch wants the classes along the second axis."""
    given = torch.tensor(np.moveaxis(target, -1, 1) if target.ndim == leaf.ndim else target)
    w = None if class_weights is None else torch.tensor(class_weights)
    return torch.nn.functional.cross_entropy(torch.movedim(leaf, -1, 1), given, weight=w, **options)


@pytest.mark.parametrize(
    ("lead", "class_weights", "smoothing", "ignore"),
    list(product([(1,), (6,), (2, 3), (2, 2, 3)], [None, CLASS_WEIGHTS], [0.0, 0.1, 1.0], [None, 0, -100])),
)
def test_softmax_cross_entropy_equals_pytorch(lead, class_weights, smoothing, ignore):
    logits, labels, _ = random_classification(lead, 4)
    labels.reshape(-1)[0] = 3
    if ignore is not None and labels.size > 1:
        labels.reshape(-1)[1] = ignore
    options = {"label_smoothing": smoothing, **({} if ignore is None else {"ignore_index": ignore})}
    found = Result(
        "softmax_cross_entropy", logits, labels, None, class_weights, label_smoothing=smoothing, ignore=ignore
    )
    agree(found, lambda torch, leaf: cross_entropy(torch, leaf, labels, class_weights, **options), logits)


@pytest.mark.parametrize(
    ("lead", "class_weights", "smoothing", "sums_to"),
    list(product([(1,), (6,), (2, 3)], [None, CLASS_WEIGHTS], [0.0, 0.1, 1.0], [1.0, 2.0])),
)
def test_probabilities_as_targets_equal_pytorch(lead, class_weights, smoothing, sums_to):
    logits, _, _ = random_classification(lead, 4)
    target = sums_to * np.random.default_rng(5).dirichlet(np.ones(4), size=lead)
    found = Result(SOFT, logits, target, None, class_weights, label_smoothing=smoothing)
    agree(
        found, lambda torch, leaf: cross_entropy(torch, leaf, target, class_weights, label_smoothing=smoothing), logits
    )


@pytest.mark.parametrize(
    ("class_weights", "smoothing", "ignore"), list(product([None, CLASS_WEIGHTS], [0.0, 0.1], [None, 0]))
)
def test_weights_multiply_the_class_weights(class_weights, smoothing, ignore):
    logits, labels, weights = random_classification((2, 3), 4)
    options = {"label_smoothing": smoothing, "reduction": "none"}
    counted = weights * (labels != (-100 if ignore is None else ignore))
    of_labels = 1.0 if class_weights is None else class_weights[labels]

    def numbers(torch, leaf):
        losses = cross_entropy(torch, leaf, labels, class_weights, **options)
        return (torch.tensor(counted) * losses).sum() / (counted * of_labels).sum()

    def soft(torch, leaf):
        losses = cross_entropy(torch, leaf, np.eye(4)[labels], class_weights, **options)
        return (torch.tensor(counted) * losses).sum() / counted.sum()

    given = {"label_smoothing": smoothing, "ignore": ignore}
    agree(Result("softmax_cross_entropy", logits, labels, weights, class_weights, **given), numbers, logits)
    agree(Result(SOFT, logits, np.eye(4)[labels], counted, class_weights, label_smoothing=smoothing), soft, logits)


@pytest.mark.parametrize("pos_weight", [None, 2.5, (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (4, 2, 3)])
def test_binary_cross_entropy_equals_pytorch(shape, pos_weight):
    rng = np.random.default_rng(6)
    logits, targets, weights = 5 * rng.normal(size=shape), rng.uniform(size=shape), rng.uniform(0.1, 2.0, size=shape[0])
    targets.reshape(-1)[:2] = 0.0, 1.0

    def unreduced(torch, leaf, reduction):
        given = None if pos_weight is None else torch.tensor(pos_weight, dtype=torch.float64)
        f = torch.nn.functional.binary_cross_entropy_with_logits
        return f(leaf, torch.tensor(targets), pos_weight=given, reduction=reduction)

    plain = Result("binary_cross_entropy", logits, targets, None, pos_weight)
    agree(plain, lambda torch, leaf: unreduced(torch, leaf, "mean"), logits)
    weighted = Result("binary_cross_entropy", logits, targets, weights, pos_weight)
    agree(weighted, lambda torch, leaf: weighted_by(torch, unreduced(torch, leaf, "none"), weights), logits)


def test_kl_divergence_equals_pytorch():
    rng = np.random.default_rng(7)
    log_q, p, weights = (
        np.log(rng.dirichlet(np.ones(4), size=5)),
        rng.dirichlet(np.ones(4), size=5),
        rng.uniform(size=5),
    )
    p[0] = 0.0, 0.5, 0.5, 0.0

    def unreduced(torch, leaf, reduction):
        return torch.nn.functional.kl_div(leaf, torch.tensor(p), reduction=reduction)

    agree(Result("kl_divergence", log_q, p), lambda torch, leaf: unreduced(torch, leaf, "batchmean"), log_q)
    found = Result("kl_divergence", log_q, p, weights)
    agree(found, lambda torch, leaf: 4 * weighted_by(torch, unreduced(torch, leaf, "none"), weights), log_q)
