"""The losses: numbers worked out by hand, extremes, parts of a batch, and what is refused."""

from __future__ import annotations

from math import inf, log

import numpy as np
import pytest

from backlit import rules
from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from rules.losses import LOSSES, REGRESSION, SOFT, Result, close, random_classification, whole_batch

LN3 = log(3.0)

# --- by hand ----------------------------------------------------------------------------------------------------------

PRED, TARGET = [[1.0, 2.0], [3.0, 5.0]], [[0.0, 4.0], [3.0, 1.0]]  # errors 1, -2 and 0, 4


@pytest.mark.parametrize(
    ("name", "weights", "loss", "gradient"),
    [
        ("mse", None, 5.25, [[0.5, -1.0], [0.0, 2.0]]),
        ("mse", [3.0, 1.0], 3.875, [[0.75, -1.5], [0.0, 1.0]]),
        ("mse", [0.0, 2.0], 8.0, [[0.0, 0.0], [0.0, 4.0]]),
        ("mae", None, 1.75, [[0.25, -0.25], [0.0, 0.25]]),
        ("mae", [3.0, 1.0], 1.625, [[0.375, -0.375], [0.0, 0.125]]),
        ("huber", None, 1.375, [[0.25, -0.25], [0.0, 0.25]]),
        ("huber", [3.0, 1.0], 1.1875, [[0.375, -0.375], [0.0, 0.125]]),
    ],
)
def test_regression_by_hand(name, weights, loss, gradient):
    found = Result(name, PRED, TARGET, weights)
    assert (found.loss, found.mass) == (loss, 2.0 if weights is None else sum(weights))
    assert np.array_equal(found.gradient, gradient)


def test_huber_is_quadratic_within_delta_and_linear_beyond():
    found = Result("huber", [1.0, 3.0, -4.0], [0.0, 0.0, 0.0], delta=2.0)
    close(3 * found.loss, 0.5 + 2.0 * (3.0 - 1.0) + 2.0 * (4.0 - 1.0))
    close(3 * found.gradient, [1.0, 2.0, -2.0])


LOGITS = [[0.0, LN3], [0.0, 0.0]]  # p = (1/4, 3/4) and (1/2, 1/2)


@pytest.mark.parametrize(
    ("options", "loss", "mass", "gradient"),
    [
        ({}, (log(4 / 3) + log(2)) / 2, 2.0, [[0.125, -0.125], [-0.25, 0.25]]),
        ({"class_weights": [1.0, 3.0]}, (3 * log(4 / 3) + log(2)) / 4, 4.0, [[3 / 16, -3 / 16], [-0.125, 0.125]]),
        ({"weights": [1.0, 4.0]}, (log(4 / 3) + 4 * log(2)) / 5, 5.0, [[0.05, -0.05], [-0.4, 0.4]]),
        ({"ignore": 0}, log(4 / 3), 1.0, [[0.25, -0.25], [0.0, 0.0]]),
        (
            {"label_smoothing": 0.2},
            (0.1 * log(4) + 0.9 * log(4 / 3) + log(2)) / 2,
            2.0,
            [[0.075, -0.075], [-0.2, 0.2]],
        ),
        (
            {"class_weights": [1.0, 3.0], "weights": [2.0, 1.0], "label_smoothing": 0.2},
            (2 * (0.1 * log(4) + 2.7 * log(4 / 3)) + (0.9 + 0.3) * log(2)) / 7,
            7.0,
            [[2 * (0.7 - 0.1) / 7, 2 * (2.1 - 2.7) / 7], [(0.6 - 0.9) / 7, (0.6 - 0.3) / 7]],
        ),
    ],
)
def test_softmax_cross_entropy_by_hand(options, loss, mass, gradient):
    options = dict(options)
    given = options.pop("weights", None), options.pop("class_weights", None)
    found = Result("softmax_cross_entropy", LOGITS, [1, 0], *given, **options)
    close((found.loss, found.mass), (loss, mass))
    close(found.gradient, gradient)
    close(found.p, [[0.25, 0.75], [0.5, 0.5]])


def test_soft_targets_by_hand():
    found = Result(SOFT, LOGITS, [[0.5, 0.5], [1.0, 0.0]], None, [1.0, 3.0])
    close((found.loss, found.mass), ((0.5 * log(4) + 1.5 * log(4 / 3) + log(2)) / 2, 2.0))
    close(found.gradient, [[0.5 * (0.25 * 2 - 0.5), 0.5 * (0.75 * 2 - 1.5)], [-0.25, 0.25]])


@pytest.mark.parametrize(
    ("pos_weight", "losses", "slopes"),
    [
        (None, [log(4 / 3), log(4), log(2)], [-0.25, 0.75, 0.0]),
        (2.0, [2 * log(4 / 3), log(4), 1.5 * log(2)], [-0.5, 0.75, -0.25]),
    ],
)
def test_binary_cross_entropy_by_hand(pos_weight, losses, slopes):
    logits, targets = [[LN3], [LN3], [0.0]], [[1.0], [0.0], [0.5]]
    plain = Result("binary_cross_entropy", logits, targets, None, pos_weight)
    close((plain.loss, plain.mass), (sum(losses) / 3, 3.0))
    close(3 * plain.gradient, np.transpose([slopes]))
    weighted = Result("binary_cross_entropy", logits, targets, [2.0, 1.0, 1.0], pos_weight)
    close((weighted.loss, weighted.mass), ((losses[0] + sum(losses)) / 4, 4.0))
    close(4 * weighted.gradient, np.transpose([[2 * slopes[0], *slopes[1:]]]))


def test_kl_divergence_by_hand():
    log_q, p = np.log([[0.25, 0.75], [0.5, 0.5]]), [[0.5, 0.5], [0.0, 1.0]]
    found = Result("kl_divergence", log_q, p, [3.0, 1.0])
    close((found.loss, found.mass), ((1.5 * log(4 / 3) + log(2)) / 4, 4.0))
    close(found.gradient, [[-0.375, -0.375], [0.0, -0.25]])


def test_delta_of_softmax_cross_entropy_is_p_minus_y_over_n_to_the_bit():
    logits, labels = np.random.default_rng(0).normal(size=(4, 5)), np.asarray([0, 4, 2, 2])
    found = Result("softmax_cross_entropy", logits, labels)
    assert np.array_equal(found.gradient, (found.p - np.eye(5)[labels]) / 4)


# --- relations between the losses -------------------------------------------------------------------------------------


def test_one_hot_probabilities_are_the_same_as_class_numbers():
    logits, labels, weights = random_classification((2, 3), 4)
    numbers = Result("softmax_cross_entropy", logits, labels, weights, label_smoothing=0.1)
    one_hot = Result(SOFT, logits, np.eye(4)[labels], weights, label_smoothing=0.1)
    close((one_hot.loss, one_hot.mass), (numbers.loss, numbers.mass))
    close(one_hot.gradient, numbers.gradient)


def test_kl_divergence_is_cross_entropy_less_entropy():
    rng = np.random.default_rng(1)
    logits, p, weights = rng.normal(size=(3, 2, 4)), rng.dirichlet(np.ones(4), size=(3, 2)), np.asarray([1.0, 0.5, 2.0])
    log_q = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    entropy = -(weights[:, None, None] * p * np.log(p)).sum() / (2 * weights.sum())
    kl, cross = Result("kl_divergence", log_q, p, weights), Result(SOFT, logits, p, weights)
    close(kl.loss, cross.loss - entropy, 1e-13)
    through_log_softmax = kl.gradient - np.exp(log_q) * kl.gradient.sum(axis=-1, keepdims=True)
    close(through_log_softmax, cross.gradient)


def test_two_classes_are_one_logit():
    z, y = np.asarray([0.3, -1.2, 2.0]), np.asarray([1, 0, 0])
    two = Result("softmax_cross_entropy", np.stack([np.zeros(3), z], axis=-1), y)
    one = Result("binary_cross_entropy", z, y)
    close(one.loss, two.loss)
    close(one.gradient, two.gradient[:, 1])


@pytest.mark.parametrize("name", ["softmax_cross_entropy", SOFT])
def test_weights_of_samples_count_for_every_position(name):
    logits, labels, _ = random_classification((2, 3), 4)
    target = np.eye(4)[labels] if name == SOFT else labels
    short = Result(name, logits, target, [0.5, 2.0])
    long = Result(name, logits, target, [[0.5] * 3, [2.0] * 3])
    assert (short.loss, short.mass) == (long.loss, long.mass) == (short.loss, 7.5)
    assert np.array_equal(short.gradient, long.gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_weights_are_no_weights(name):
    first, second, _ = whole_batch(name)
    plain, weighted = Result(name, first, second), Result(name, first, second, np.full(6, 0.25))
    close((weighted.loss, 4 * weighted.mass), (plain.loss, plain.mass))
    close(weighted.gradient, plain.gradient)


# --- parts of a batch combine by mass ---------------------------------------------------------------------------------


OPTIONS = {
    "softmax_cross_entropy": ([0.5, 1.0, 2.0, 0.0], {"label_smoothing": 0.1, "ignore": 1}),
    SOFT: ([0.5, 1.0, 2.0, 0.0], {"label_smoothing": 0.1}),
    "binary_cross_entropy": ([0.5, 1.0, 2.0, 3.0], {}),
    "huber": (None, {"delta": 0.5}),
}


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_parts_combine_to_the_whole_by_their_masses(name, weighted):
    first, second, weights = whole_batch(name)
    of_classes, attributes = OPTIONS.get(name, (None, {}))
    more = () if of_classes is None else (of_classes,)

    def on(rows):
        return Result(name, first[rows], second[rows], weights[rows] if weighted else None, *more, **attributes)

    parts, whole = [on(slice(*ends)) for ends in ((0, 2), (2, 3), (3, 6))], on(slice(0, 6))
    total = sum(part.mass for part in parts)
    close((sum(part.mass * part.loss for part in parts) / total, total), (whole.loss, whole.mass))
    close(np.concatenate([part.gradient * part.mass / total for part in parts]), whole.gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_where_nothing_counts_the_loss_and_its_gradient_are_zero(name):
    first, second, _ = whole_batch(name)
    found = Result(name, first, second, np.zeros(6), dloss=3.0)
    assert (found.loss, found.mass) == (0.0, 0.0)
    assert not found.gradient.any()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_scale_with_dloss_and_constants_may_have_any_dtype(name):
    first, second, _ = whole_batch(name)
    single, weights = first.astype(np.float32), np.asarray([1, 2, 0, 1, 3, 1])
    one, three = Result(name, single, second, weights), Result(name, single, second, weights, dloss=3.0)
    assert one.gradient.dtype == three.gradient.dtype == np.float32
    close(three.gradient, 3.0 * one.gradient, 1e-6)
    close(one.gradient, Result(name, first, second, weights.astype(float)).gradient, 1e-6)


# --- extremes ---------------------------------------------------------------------------------------------------------

FAR = np.asarray(
    [[1000.0, 0.0, -1000.0], [40.0, 0.0, -2.0], [-745.0, -750.0, -740.0], [1e-9, 0.0, 3e-9], [30, 30, -30]]
)


def softmax_exactly(mpmath, logits):
    raised = [[mpmath.exp(mpmath.mpf(z)) for z in row] for row in logits]
    return [[e / sum(row) for e in row] for row in raised]


@pytest.fixture
def mpmath():
    found = pytest.importorskip("mpmath")
    with found.workdps(900):
        yield found


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("row", range(len(FAR)))
def test_softmax_cross_entropy_of_extreme_logits(mpmath, row, label):
    found = Result("softmax_cross_entropy", FAR[row : row + 1], [label])
    (p,) = softmax_exactly(mpmath, FAR[row : row + 1])
    assert found.loss == pytest.approx(float(-mpmath.log(p[label])), rel=1e-15, abs=5e-324)
    exact = [float(q - (c == label)) for c, q in enumerate(p)]
    np.testing.assert_allclose(found.gradient, [exact], rtol=1e-15, atol=2e-16)
    np.testing.assert_allclose(found.p, [[float(q) for q in p]], rtol=1e-15, atol=5e-324)


@pytest.mark.parametrize("pos_weight", [None, 3.0])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.25])
@pytest.mark.parametrize("z", [1000.0, -1000.0, 40.0, -40.0, 745.0, -745.0, 1e-300, 0.0, -3.0])
def test_binary_cross_entropy_of_extreme_logits(mpmath, z, target, pos_weight):
    found = Result("binary_cross_entropy", [[z]], [[target]], None, pos_weight)
    p = 1 / (1 + mpmath.exp(-mpmath.mpf(z)))
    yes = target * (pos_weight or 1)
    exact = float(-yes * mpmath.log(p) - (1 - target) * mpmath.log(1 - p))
    assert found.loss == pytest.approx(exact, rel=1e-15, abs=5e-324)  # abs: the rounding of a subnormal number
    assert found.gradient[0, 0] == pytest.approx(float((1 - target) * p - yes * (1 - p)), rel=1e-15, abs=1e-16)


def test_kl_divergence_of_tiny_probabilities(mpmath):
    p, q = [1e-300, 0.5, 0.0, 0.5], [1e-20, 1e-200, 1e-5, 1.0]
    exact = sum(mpmath.mpf(a) * mpmath.log(mpmath.mpf(a) / mpmath.mpf(b)) for a, b in zip(p, q, strict=True) if a)
    assert Result("kl_divergence", [np.log(q)], [p]).loss == pytest.approx(float(exact), rel=1e-15)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", SOFT])
def test_a_class_ruled_out_by_minus_infinity(name):
    target = [1] if name == "softmax_cross_entropy" else [[0.0, 1.0, 0.0]]
    found = Result(name, [[0.0, LN3, -inf]], target)
    close(found.loss, log(4 / 3))
    close(found.gradient, [[0.25, -0.25, 0.0]])


def test_kl_divergence_where_both_are_impossible():
    found = Result("kl_divergence", [[-inf, 0.0]], [[0.0, 1.0]])
    assert (found.loss, found.gradient.tolist()) == (0.0, [[0.0, -1.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huber_and_mae_do_not_square_what_lies_far_out(dtype):
    pred = np.asarray([np.finfo(dtype).max / 4, 0.0], dtype)
    for name in ("huber", "mae"):
        found = Result(name, pred, np.zeros(2, dtype))
        assert np.isfinite(found.loss)
        assert found.gradient.tolist() == [0.5, 0.0]


# --- kinks ------------------------------------------------------------------------------------------------------------


def test_pieces_of_the_kinks():
    e = np.asarray([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    assert rules.get("mae").kinks(np, e, 0.0 * e).tolist() == [-1, -1, -1, 0, 1, 1, 1]
    pieces = rules.get("huber").kinks(np, e, 0.0 * e, delta=2.0).tolist()
    assert [pieces[:2], pieces[2:5], pieces[5:]] == [[-2, -1], [0, 0, 0], [1, 2]]


@pytest.mark.parametrize("name", ["mae", "huber"])
def test_kinks_take_integer_targets_and_all_options(name):
    rule = rules.get(name)
    assert rule.kinks(np, np.asarray([1.5]), np.asarray([1]), np.asarray([2.0]), **rule.defaults).shape == (1,)


# --- traced -----------------------------------------------------------------------------------------------------------


@pytest.mark.jax
@pytest.mark.parametrize("name", LOSSES)
def test_a_mass_of_zero_is_met_inside_a_traced_function(name):
    jax = pytest.importorskip("jax")
    rule = rules.get(name)
    first, second, weights = whole_batch(name)

    @jax.jit
    def both(first, second, weights):
        inputs = (first, second, weights, *([None] * (len(rule.inputs) - 3)))
        outputs = rule.call(jax.numpy, *inputs, **rule.defaults)
        saved = rule.saved_from(inputs, outputs, rule.defaults)
        return outputs[0], rule.gradients(jax.numpy, [jax.numpy.ones_like(outputs[0])], saved)[0]

    with jax.enable_x64(True):
        for w in (weights, 0.0 * weights):
            loss, gradient = both(first, second, w)
            found = Result(name, first, second, w)
            close((float(loss), np.asarray(gradient)[0, 0, 0]), (found.loss, found.gradient[0, 0, 0]), 1e-13)
            close(np.asarray(gradient), found.gradient, 1e-13)


# --- what is refused --------------------------------------------------------------------------------------------------

CE, BCE, KL = "softmax_cross_entropy", "binary_cross_entropy", "kl_divergence"
REFUSED = [
    *((name, ((8, 1), (8,)), {}, "loss_reshape", "target[8, 1]", "pred[8, 1], target[8]") for name in REGRESSION),
    ("mse", ((8,), (8, 1)), {}, "loss_reshape", "target[8]", "pred[8], target[8, 1]"),
    ("mse", ((8, 3), (8,)), {}, "loss_pair", "target[8, 3]", "pred[8, 3], target[8]"),
    ("mae", ((8, 3), (8, 2)), {}, "loss_pair", "target[8, 3]", "pred[8, 3], target[8, 2]"),
    ("mse", ((), ()), {}, "loss_axes", "pred[N, …]", "pred[]"),
    ("mse", ((0, 3), (0, 3)), {}, "loss_axes", "pred[N, …]", "pred[0, 3]"),
    ("mse", ((8, 3), (8, 3), (7,)), {}, "loss_weights", "weights[8]", "weights[7]"),
    ("mae", ((8, 3), (8, 3), (8, 1)), {}, "loss_weights", "weights[8]", "weights[8, 1]"),
    ("huber", ((8,), (8,)), {"delta": 0.0}, "rule_option", "0 < delta < ∞", "0.0"),
    ("huber", ((8,), (8,)), {"delta": inf}, "rule_option", "0 < delta < ∞", "inf"),
    (CE, ((8, 10), (8, 10)), {}, "loss_one_hot", "labels: int[8] | float[8, 10]", "labels[8, 10]"),
    (CE, ((8, 10), (8, 1)), {}, "loss_labels", "labels: int[8] | float[8, 10]", "labels[8, 1]"),
    (CE, ((8, 10), (7,)), {}, "loss_labels", "labels: int[8] | float[8, 10]", "labels[7]"),
    (CE, ((2, 5, 10), (2,)), {}, "loss_labels", "labels: int[2, 5] | float[2, 5, 10]", "labels[2]"),
    (SOFT, ((8, 10), (8, 9)), {}, "loss_labels", "labels: int[8] | float[8, 10]", "labels[8, 9]"),
    (CE, ((8, 1), (8,)), {}, "loss_classes", "logits[N, …, C ≥ 2]", "logits[8, 1]"),
    (CE, ((8,), ()), {}, "loss_axes", "logits[N, …, C]", "logits[8]"),
    (SOFT, ((0, 3), (0, 3)), {}, "loss_axes", "logits[N, …, C]", "logits[0, 3]"),
    (CE, ((2, 5, 3), (2, 5), (5,)), {}, "loss_weights", "weights[2] | weights[2, 5]", "weights[5]"),
    (CE, ((8, 3), (8,), None, (2,)), {}, "loss_weights", "class_weights[3]", "class_weights[2]"),
    (SOFT, ((8, 3), (8, 3), None, (8,)), {}, "loss_weights", "class_weights[3]", "class_weights[8]"),
    (CE, ((8, 3), (8,)), {"label_smoothing": 1.5}, "rule_option", "0 ≤ label_smoothing ≤ 1", "1.5"),
    (SOFT, ((8, 3), (8, 3)), {"label_smoothing": -0.1}, "rule_option", "0 ≤ label_smoothing ≤ 1", "-0.1"),
    (CE, ((8, 3), (8,)), {"ignore": "pad"}, "rule_option", "int | None", "'pad'"),
    (BCE, ((8, 1), (8,)), {}, "loss_reshape", "targets[8, 1]", "logits[8, 1], targets[8]"),
    (BCE, ((8, 4), (8, 4), None, (3,)), {}, "loss_weights", "pos_weight[] | pos_weight[4]", "pos_weight[3]"),
    (BCE, ((8,), (8,), None, (8,)), {}, "loss_weights", "pos_weight[]", "pos_weight[8]"),
    (BCE, ((8, 4), (8, 4), (4,)), {}, "loss_weights", "weights[8]", "weights[4]"),
    (KL, ((8, 4), (8,)), {}, "loss_pair", "p[8, 4]", "log_q[8, 4], p[8]"),
    (KL, ((8,), (8,)), {}, "loss_axes", "log_q[N, …, C]", "log_q[8]"),
    (KL, ((2, 5, 3), (2, 5, 3), (2, 5)), {}, "loss_weights", "weights[2]", "weights[2, 5]"),
]


@pytest.mark.parametrize(("name", "given", "attributes", "told"), [(*row[:3], row[3:]) for row in REFUSED])
def test_what_does_not_fit_is_refused_with_the_remedy(name, given, attributes, told):
    with pytest.raises(InputError) as caught:
        rules.get(name).shapes(*given, **attributes)
    error = caught.value.at("loss")
    assert (error.key, error.part("expected"), error.part("got")) == told
    assert name in error.part("problem")
    for lang in ("en", "zh"):
        with use_language(lang):
            assert all("{" not in error.part(part) for part in ("problem", "fix"))


def test_the_remedies_name_what_to_write():
    def fix(name, *shapes):
        with pytest.raises(InputError) as caught:
            rules.get(name).shapes(*shapes)
        return caught.value.part("fix")

    assert "target.reshape(8, 1)" in fix("mse", (8, 1), (8,))
    assert "labels.argmax(axis=-1)" in fix("softmax_cross_entropy", (8, 3), (8, 3))
    assert "binary_cross_entropy" in fix("softmax_cross_entropy", (8, 1), (8,))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("softmax_cross_entropy", ((2, 5, 3), (2, 5), (2, 5), (3,))),
        (SOFT, ((2, 5, 3), (2, 5, 3), (2,), (3,))),
        ("binary_cross_entropy", ((8, 2, 4), (8, 2, 4), (8,), (2, 4))),
        ("binary_cross_entropy", ((8, 2, 4), (8, 2, 4), None, (4,))),
        ("kl_divergence", ((2, 5, 3), (2, 5, 3), (2,))),
        ("mse", ((8,), (8,), (8,))),
    ],
)
def test_what_fits_gives_scalars(name, shapes):
    found = rules.get(name).shapes(*shapes)
    assert found[:2] == ((), ())
    assert found[2:] in ((), (shapes[0],))
