"""Losses of masks and pairs: parts of a batch combine by mass, and what is refused says why."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp

from backlit import rules
from backlit.core.errors import InputError

EPS = np.finfo(float).eps


def inputs(name, samples=6):
    rng = np.random.default_rng(5)
    x, weights = rng.normal(size=(samples, 3)), np.asarray([0.5, 2.0, 0.0, 1.25, 0.0, 1.0])[:samples]
    if name in ("focal", "dice"):
        return x, rng.uniform(size=x.shape), weights
    if name == "softmax_focal":
        return x, rng.integers(0, 3, size=samples), weights
    if name == "negative_sampling":
        return rng.normal(size=samples), x, weights
    if name == "smooth_l1":
        return x, rng.normal(size=x.shape), weights
    return x, rng.normal(size=x.shape), np.arange(samples) % 2.0, weights


def result(name, *given):
    """(loss, mass, gradients)."""
    rule = rules.get(name)
    given = (*given, *[None] * (len(rule.inputs) - len(given)))
    outputs = rule.call(np, *given, **rule.defaults)
    saved = rule.saved_from(given, outputs, rule.defaults)
    return float(outputs[0]), float(outputs[1]), rule.gradients(np, [np.asarray(1.0, given[0].dtype)], saved)


NAMES = ("smooth_l1", "focal", "softmax_focal", "dice", "cosine_embedding", "contrastive", "negative_sampling")


@pytest.mark.parametrize("name", NAMES)
def test_parts_combine_to_the_whole_by_their_masses(name):
    given = inputs(name)
    parts = [result(name, *(a[rows] for a in given)) for rows in (slice(0, 2), slice(2, 3), slice(3, 6))]
    loss, mass, gradients = result(name, *given)
    total = sum(m for _, m, _ in parts)
    assert total == pytest.approx(mass, rel=4 * EPS)
    assert sum(m * part for part, m, _ in parts) / total == pytest.approx(loss, rel=16 * EPS)
    for i, gradient in enumerate(gradients):
        joined = np.concatenate([g[i] * m / total for _, m, g in parts])
        np.testing.assert_allclose(joined, gradient, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", NAMES)
def test_constants_may_have_any_dtype_and_the_result_keeps_its_own(name):
    *given, weights = inputs(name)
    single = [np.asarray(a, np.float32) for a in given]
    _, _, gradients = result(name, *single, np.asarray([1, 2, 0, 1, 3, 1]))
    assert {g.dtype.name for g in gradients} == {"float32"}
    assert weights.dtype == np.float64


def test_similar_vectors_of_any_length_are_similar():
    x = np.asarray([[1e-3, 2e-3], [3.0, -4.0]])
    (cos, *_) = rules.get("cosine_similarity").call(np, x, 1e3 * x, eps=1e-8)
    np.testing.assert_allclose(cos, 1.0, rtol=4 * EPS)


@pytest.mark.parametrize(
    ("name", "shapes", "options", "key"),
    [
        ("focal", ((8, 1), (8,)), {}, "loss_reshape"),
        ("focal", ((8, 2), (8, 2)), {"gamma": -1.0}, "rule_option"),
        ("focal", ((8, 2), (8, 2)), {"alpha": 1.0}, "rule_option"),
        ("softmax_focal", ((8, 3), (8,)), {"gamma": -1.0}, "rule_option"),
        ("softmax_focal", ((8, 3), (8,)), {"ignore": 0.5}, "rule_option"),
        ("softmax_focal", ((8, 1), (8,)), {}, "loss_classes"),
        ("softmax_focal", ((8, 3), (8, 3)), {}, "loss_labels"),
        ("softmax_focal", ((8, 3), (8,), None, (2,)), {}, "loss_weights"),
        ("dice", ((8,), (8,)), {}, "loss_axes"),
        ("dice", ((8, 4), (8, 3)), {}, "loss_pair"),
        ("dice", ((8, 4), (8, 4)), {"smooth": 0.0}, "rule_option"),
        ("dice", ((8, 4), (8, 4), (4,)), {}, "loss_weights"),
        ("smooth_l1", ((8,), (8,)), {"beta": 0.0}, "rule_option"),
        ("cosine_similarity", ((8, 3), (8, 4)), {}, "loss_pair"),
        ("cosine_embedding", ((8, 3), (8, 3), (7,)), {}, "loss_pair"),
        ("cosine_embedding", ((8, 3), (8, 3), (8,)), {"margin": 1.0}, "rule_option"),
        ("contrastive", ((8,), (8,), (8,)), {}, "loss_axes"),
        ("contrastive", ((8, 3), (8, 3), (8,), (3,)), {}, "loss_weights"),
        ("contrastive", ((8, 3), (8, 3), (8,)), {"margin": 0.0}, "rule_option"),
        ("negative_sampling", ((7,), (8, 3)), {}, "loss_pair"),
        ("negative_sampling", ((8,), (8,)), {}, "loss_axes"),
        ("weight_norm", ((3,), (3,)), {}, "shape_clash"),
        ("weight_norm", ((3, 4), (4,)), {}, "shape_clash"),
        ("spectral_norm", ((3, 4), (4,), (3,)), {}, "shape_clash"),
        ("power_iteration", ((3, 4), (3,)), {}, "shape_clash"),
    ],
)
def test_what_does_not_fit_is_refused(name, shapes, options, key):
    with pytest.raises(InputError) as caught:
        rules.get(name).shapes(*shapes, **options)
    assert caught.value.key == key
    assert name in caught.value.at("loss").part("problem")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("row", "label"), [([30.0, 0.0, -1.0], 0), ([28.0, 0.0, 3.0], 0), ([0.0, 9.0, 60.0], 1)])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_focal_of_what_is_decided_loses_no_digits(row, label, gamma, dtype):
    """Against mpmath at 60 digits, where 1 - p rounds to 0 in floating point."""
    with mp.workdps(60):
        z = [mp.mpf(v) for v in row]
        total = mp.fsum(mp.exp(v) for v in z)
        p, q = mp.exp(z[label]) / total, mp.fsum(mp.exp(v) for c, v in enumerate(z) if c != label) / total
        slope = q ** mp.mpf(gamma) * (gamma * p * -mp.log(p) / q + 1)
        want = [slope * (mp.exp(v) / total if c != label else -q) for c, v in enumerate(z)]
        loss = float(-(q ** mp.mpf(gamma)) * mp.log(p))
    given = np.asarray([row], dtype), np.asarray([label]), None, None
    rule = rules.get("softmax_focal")
    options = rule.defaults | {"gamma": gamma}
    outputs = rule.call(np, *given, **options)
    saved = rule.saved_from(given, outputs, options)
    (found,) = rule.gradients(np, [np.asarray(1.0, dtype)], saved)
    exact = 200 * float(np.finfo(dtype).eps)  # powers of numbers like e⁻²⁵ magnify their exponents' rounding
    assert float(outputs[0]) == pytest.approx(loss, rel=exact, abs=0)
    np.testing.assert_allclose(found[0], np.asarray([float(w) for w in want]), rtol=exact)


def test_softmax_focal_of_two_classes_is_focal():
    rng = np.random.default_rng(0)
    z, y, weights = rng.normal(size=8), rng.integers(0, 2, size=8), rng.uniform(size=8)
    both = np.stack([np.zeros(8), z], axis=1), y, weights, np.asarray([0.7, 0.3])
    one = z[:, None], y[:, None], weights
    many, binary = rules.get("softmax_focal"), rules.get("focal")
    options = {"gamma": 1.5, "ignore": None}
    found, want = many.call(np, *both, **options), binary.call(np, *one, gamma=1.5, alpha=0.3)
    assert float(found[0]) == pytest.approx(float(want[0]), rel=1e-13)
    (dz,) = many.gradients(np, [np.asarray(1.0)], many.saved_from(both, found, options))
    settings = {"gamma": 1.5, "alpha": 0.3}
    (dwant,) = binary.gradients(np, [np.asarray(1.0)], binary.saved_from(one, want, settings))
    np.testing.assert_allclose(dz[:, 1:], dwant, rtol=1e-12)
    np.testing.assert_allclose(dz.sum(axis=1), 0.0, atol=1e-17)
