"""Metrics against their definitions written as loops, and whole against any split into batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backlit as bl
from backlit.core.errors import InputError, UnknownNameError
from backlit.train import metrics

# --- definitions ----------------------------------------------------------------------------------------------------


def accuracy(out, y, w):
    hits = [max(range(len(row)), key=lambda c: (row[c], -c)) == label for row, label in zip(out, y, strict=True)]
    return sum(w * hit for w, hit in zip(w, hits, strict=True)) / sum(w)


def top_k(k, out, y, w):
    """In the k best, where a tie counts for the sample: fewer than k logits are strictly larger."""
    hits = [sum(other > row[label] for other in row) < k for row, label in zip(out, y, strict=True)]
    return sum(w * hit for w, hit in zip(w, hits, strict=True)) / sum(w)


def mean_error(power, out, y, w):
    total = 0.0
    for a, b, weight in zip(out, y, w, strict=True):
        total += weight * sum(abs(p - q) ** power for p, q in zip(a, b, strict=True)) / len(a)
    return total / sum(w)


def r2(out, y, w):
    scores = []
    for k in range(len(out[0])):
        mean = sum(weight * b[k] for b, weight in zip(y, w, strict=True)) / sum(w)
        residual = sum(weight * (b[k] - a[k]) ** 2 for a, b, weight in zip(out, y, w, strict=True))
        spread = sum(weight * (b[k] - mean) ** 2 for b, weight in zip(y, w, strict=True))
        scores.append(1 - residual / spread)
    return sum(scores) / len(scores)


CLASSES = {"accuracy": accuracy, "top1": accuracy, "top2": None, "top3": None, "top5": None}
VALUES = {
    "r2": r2,
    "mae": lambda *a: mean_error(1, *a),
    "mse": lambda *a: mean_error(2, *a),
    "rmse": lambda *a: math.sqrt(mean_error(2, *a)),
}


def definition(name):
    return CLASSES[name] or (lambda *a: top_k(int(name[3:]), *a))


def problem(name, *, weighted, samples=23, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.integers(0, 4, samples).astype(float) if weighted else np.ones(samples)
    if name in VALUES:
        return rng.normal(size=(samples, 3)), rng.normal(size=(samples, 3)) + 5.0, w
    return rng.integers(0, 4, (samples, 6)).astype(float), rng.integers(0, 6, samples), w  # whole numbers: ties


def figure(name, parts):
    (metric,) = metrics.get(name)
    return metric.result(np.sum([metric.collect(*part) for part in parts], axis=0))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", [*CLASSES, *VALUES])
def test_the_definition(name, weighted):
    out, y, w = problem(name, weighted=weighted)
    if name == "top1":  # top_k takes a tie for the sample, accuracy takes the first
        out = out + np.random.default_rng(1).uniform(0, 0.5, out.shape)
    want = (VALUES.get(name) or definition(name))(out.tolist(), y.tolist(), w.tolist())
    assert figure(name, [(out, y, w)]) == pytest.approx(want, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 23), max_size=6), st.sampled_from([*CLASSES, *VALUES]))
def test_any_split_into_batches_gives_the_same(cuts, name):
    out, y, w = problem(name, weighted=True)
    edges = [0, *sorted(cuts), 23]
    parts = [(out[a:b], y[a:b], w[a:b]) for a, b in itertools.pairwise(edges) if b > a]
    assert figure(name, parts) == pytest.approx(figure(name, [(out, y, w)]), rel=1e-12)


def test_top_k_with_ties_by_hand():
    out = np.array([[1.0, 1.0, 1.0, 0.0], [3.0, 2.0, 2.0, 2.0], [0.0, 1.0, 2.0, 3.0]])
    y = np.array([2, 3, 0])
    assert [figure(f"top{k}", [(out, y, np.ones(3))]) for k in (1, 2, 3, 4)] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])


def test_more_than_all_classes_are_always_right():
    out, y, w = problem("top5", weighted=False)
    assert figure("top6", [(out, y, w)]) == figure("top99", [(out, y, w)]) == 1.0


def test_accuracy_of_probabilities_and_of_single_logits():
    out = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 3.0]])
    soft = np.array([[0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    assert figure("accuracy", [(out, soft, np.ones(3))]) == pytest.approx(2 / 3)
    logit = np.array([[0.3], [-0.2], [5.0], [0.0]])
    for y in (np.array([1.0, 0.0, 0.0, 0.0]), np.array([[1.0], [0.0], [0.0], [0.0]]), np.array([1, 0, 0, 0])):
        assert figure("accuracy", [(logit, y, np.ones(4))]) == 0.75


def test_accuracy_of_sequences_is_the_share_of_positions():
    out = np.zeros((2, 3, 2))
    out[..., 1] = [[1, -1, 1], [1, 1, 1]]
    y = np.array([[1, 1, 1], [0, 1, 1]])
    assert figure("accuracy", [(out, y, np.array([1.0, 3.0]))]) == pytest.approx((2 / 3 + 3 * 2 / 3) / 4)


def test_an_ignored_label_does_not_count():
    out, y, w = problem("accuracy", weighted=True)
    kept = y != 2
    chosen = metrics.get(["accuracy", "top3"])
    found = metrics.collect(chosen, out, y, w, ignore=2)
    for metric in chosen:
        assert found[metric.name].tolist() == metric.collect(out[kept], y[kept], w[kept]).tolist()


@pytest.mark.parametrize("ignore", [-1, 255])
def test_an_ignored_label_may_be_no_class_at_all(ignore):
    out, y, w = problem("accuracy", weighted=False)
    y = np.where(np.arange(23) < 5, ignore, y)
    found = metrics.results(metrics.get(["top3"]), metrics.collect(metrics.get(["top3"]), out, y, w, ignore=ignore))
    assert found["top3"] == top_k(3, out[5:].tolist(), y[5:].tolist(), w[5:].tolist())


def test_ignored_positions_of_sequences():
    out = np.zeros((2, 3, 2))
    out[..., 1] = [[1, -1, 1], [1, 1, 1]]
    y = np.array([[1, 9, 1], [0, 1, 9]])
    found = metrics.collect(metrics.get("accuracy"), out, y, np.array([1.0, 3.0]), ignore=9)["accuracy"]
    assert found.tolist() == [1 + 1 + 3, 1 + 1 + 3 + 3]


def test_all_ignored_is_not_a_number_and_no_error():
    sums = metrics.collect(metrics.get(["accuracy", "top3"]), np.zeros((2, 4)), np.array([1, 1]), np.ones(2), ignore=1)
    assert all(math.isnan(v) for v in metrics.results(metrics.get(["accuracy", "top3"]), sums).values())


def test_r2_of_the_mean_is_zero_and_of_the_truth_one():
    y = np.random.default_rng(0).normal(size=(50, 2))
    assert figure("r2", [(y, y, np.ones(50))]) == 1.0
    assert figure("r2", [(np.broadcast_to(y.mean(axis=0), y.shape), y, np.ones(50))]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -1e-7])
def test_r2_of_a_constant_target_is_not_a_number(value):
    y = np.full((1000, 1), value)
    assert math.isnan(figure("r2", [(y[:300] + 1, y[:300], np.ones(300)), (y[300:], y[300:], np.ones(700))]))


def test_r2_far_from_zero():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 1))
    out = y + 0.1 * rng.normal(size=y.shape)
    near, far = figure("r2", [(out, y, np.ones(200))]), figure("r2", [(out + 1e4, y + 1e4, np.ones(200))])
    assert far == pytest.approx(near, rel=1e-6)


def test_regression_takes_one_output_with_or_without_its_axis():
    out, y = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 3.0, 3.0])
    for name in VALUES:
        assert figure(name, [(out, y, np.ones(3))]) == figure(name, [(out, y[:, None], np.ones(3))])


def test_float32_outputs_are_summed_in_float64():
    out = np.full((100_000, 1), 0.1, np.float32)
    error = figure("mae", [(out, np.zeros((100_000, 1), np.float32), np.ones(100_000))])
    assert error == pytest.approx(float(np.float32(0.1)), rel=1e-12)


# --- confusion matrix -----------------------------------------------------------------------------------------------


def test_the_confusion_matrix_counts_true_by_predicted():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    want = [[sum(1 for t, p in zip(true, pred, strict=True) if (t, p) == (i, j)) for j in range(4)] for i in range(4)]
    assert metrics.confusion_matrix(true, pred).tolist() == want


def test_the_confusion_matrix_of_logits_and_of_probabilities():
    logits = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    assert metrics.confusion_matrix([1, 2], logits).tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert metrics.confusion_matrix(np.eye(3)[[1, 2]], logits).tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_the_confusion_matrix_with_more_classes_than_seen():
    found = metrics.confusion_matrix([0, 1], [0, 0], classes=4)
    assert found.shape == (4, 4)
    assert found.sum() == 2


@pytest.mark.parametrize(("true", "pred", "classes"), [([0, -1], [0, 0], None), ([0, 1], [0, 5], 3)])
def test_labels_outside_the_matrix_are_refused(true, pred, classes):
    with pytest.raises(InputError, match="0 <= label <"):
        metrics.confusion_matrix(true, pred, classes=classes)


def test_a_matrix_of_unequal_lengths_is_refused():
    with pytest.raises(InputError, match=r"X\[3\], y\[2\]"):
        metrics.confusion_matrix([0, 1], [0, 1, 1])


# --- choosing -------------------------------------------------------------------------------------------------------


def test_metrics_by_name():
    assert [m.name for m in metrics.get(["accuracy", "top7", bl.metrics.METRICS["r2"]])] == ["accuracy", "top7", "r2"]
    assert [m.name for m in metrics.get("accuracy")] == ["accuracy"]


@pytest.mark.parametrize("name", ["acuracy", "top", "topk", "top²", 3, None])
def test_an_unknown_metric_names_those_there_are(name):
    with pytest.raises(UnknownNameError, match="accuracy"):
        metrics.get([name])


@pytest.mark.parametrize("k", [0, -1])
def test_top_of_nothing_is_refused(k):
    with pytest.raises(InputError, match="top_k: k"):
        metrics.top_k(k)


@pytest.mark.parametrize(
    ("loss", "names"),
    [("softmax_cross_entropy", ["accuracy"]), ("binary_cross_entropy", ["accuracy"]), ("mse", ["r2", "mae"]),
     ("huber", ["r2", "mae"]), ("kl_divergence", [])],
)  # fmt: skip
def test_what_is_reported_unless_told(loss, names):
    assert [m.name for m in metrics.usual(loss)] == names


def test_which_way_is_better():
    better = {name: m.better for name, m in metrics.METRICS.items()}
    assert better == {"accuracy": 1, "top3": 1, "top5": 1, "r2": 1, "mae": -1, "mse": -1, "rmse": -1}
