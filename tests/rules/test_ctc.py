"""ctc against the enumeration of all alignments, PyTorch, and what it promises besides."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from backlit.graph.builder import Builder
from rules.applied import Applied

FAR = -1e29
"""Below it a log stands for 0."""


def read(path, blank):
    """The label that an alignment spells: repetitions dropped, then blanks."""
    return tuple(c for c, _ in groupby(path) if c != blank)


def states_of(path, label, blank):
    """The state at every frame: a blank after k classes is 2k, the k-th class is 2k - 1."""
    found, k, before = [], 0, blank
    for c in path:
        k += c not in (blank, before)
        found.append(2 * k if c == blank else 2 * k - 1)
        before = c
    assert k == len(label)
    return found


def enumerated(logits, label, blank):
    """(-ln P, share of P in each state at each frame, ∂(-ln P)/∂logits) by all C^T alignments of one sequence."""
    T, C = logits.shape
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total, occupied, by_class = 0.0, np.zeros((T, 2 * len(label) + 1)), np.zeros((T, C))
    for path in product(range(C), repeat=T):
        if read(path, blank) != tuple(label):
            continue
        q = np.prod([p[t, c] for t, c in enumerate(path)])
        total += q
        for t, (c, s) in enumerate(zip(path, states_of(path, label, blank), strict=True)):
            occupied[t, s] += q
            by_class[t, c] += q
    return -np.log(total), occupied / total, p - by_class / total


@pytest.mark.parametrize(
    ("frames", "label", "blank"),
    [
        (1, [1], 0),
        (2, [1], 0),
        (3, [1, 1], 0),
        (4, [1, 2], 0),
        (5, [2, 2, 1], 0),
        (6, [1, 2, 1], 0),
        (5, [0, 2], 1),
        (5, [1, 0, 0], 2),
        (4, [], 0),
    ],
)
def test_all_alignments(frames, label, blank):
    logits = np.random.default_rng(frames).normal(size=(frames, 3))
    loss, occupied, gradient = enumerated(logits, label, blank)
    padded = np.array([[*label, blank]])
    found = Applied("ctc", logits[None], padded, blank=blank)
    *_, surprise, _, alpha, beta = found.outputs
    np.testing.assert_allclose(found.y, loss, rtol=1e-12)
    np.testing.assert_allclose(found.back()[0][0], gradient, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        np.exp(alpha + beta + surprise[:, None, None])[0, :, : occupied.shape[1]], occupied, atol=1e-13
    )


def test_alpha_and_beta_by_hand():
    """Class, blank, class again out of three frames of p = 1/2: numbers beside which the 0 of 10^-30 does not hide."""
    *_, alpha, beta = Applied("ctc", np.zeros((1, 3, 2)), np.array([[1, 1]])).outputs
    never = np.nan
    ways = [[1, 1, never, never, never], [1, 2, 1, never, never], [1, 3, 3, 1, never]]
    went = [[never, 1, 3, 3, 1], [never, never, 1, 2, 1], [never, never, never, 1, 1]]
    for got, count, halves in ((alpha, ways, [1, 2, 3]), (beta, went, [2, 1, 0])):
        want = np.log(np.array(count)) - np.log(2) * np.array(halves)[:, None]
        assert np.array_equal(got[0] < FAR, np.isnan(want))
        np.testing.assert_allclose(got[0][~np.isnan(want)], want[~np.isnan(want)], rtol=1e-12, atol=1e-14)


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(4))
def test_long_sequences_as_in_torch(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(5, 80, 12)) * 3, rng.integers(1, 12, size=(5, 20))
    inputs, lengths = rng.integers(45, 81, size=5), rng.integers(0, 21, size=5)
    found = Applied("ctc", logits, labels, inputs, lengths)
    x = torch.tensor(logits, requires_grad=True)
    log_p = torch.log_softmax(x, dim=-1).transpose(0, 1)
    args = (torch.tensor(a) for a in (labels, inputs, lengths))
    want = torch.nn.functional.ctc_loss(log_p, *args, reduction="sum") / 5
    (gradient,) = torch.autograd.grad(want, x)
    np.testing.assert_allclose(found.y, want.item(), rtol=1e-12)
    np.testing.assert_allclose(found.back()[0], gradient.numpy(), rtol=1e-9, atol=1e-13)


def test_frames_after_the_end_are_sure_blanks():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(2, 6, 3)), np.array([[1, 2], [2, 2]])
    short = Applied("ctc", logits, labels, np.array([4, 6]))
    silent = logits.copy()
    silent[0, 4:] = [0, -1000, -1000]
    np.testing.assert_allclose(short.y, Applied("ctc", silent, labels).y, rtol=1e-12)
    assert not short.back()[0][0, 4:].any()
    other = logits.copy()
    other[0, 4:] = 99.0
    assert Applied("ctc", other, labels, np.array([4, 6])).y == short.y


def test_it_stays_finite():
    """Two thousand frames in float32, and logits of a thousand: P is far below the smallest float."""
    rng = np.random.default_rng(2)
    logits = (rng.normal(size=(1, 2000, 5)) * 20).astype(np.float32)
    found = Applied("ctc", logits, rng.integers(1, 5, size=(1, 300)))
    assert found.y.dtype == np.float32
    assert found.y > 1000
    (gradient,) = found.back()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient.sum(axis=-1)).max() < 1e-2  # each frame's probabilities sum to 1 on either side
    sure = Applied("ctc", np.array([[[0.0, 1000.0], [1000.0, 0.0]]]), np.array([[1]]))
    assert sure.y == 0
    assert not sure.back()[0].any()


def test_a_model_learns_to_spell():
    """Frames show the classes of a label, each for some frames, with gaps: found without being told where."""
    rng = np.random.default_rng(3)
    X, y = np.zeros((64, 12, 4)), np.zeros((64, 3), int)
    for n in range(64):
        y[n] = rng.integers(1, 4, size=3)
        X[n, np.sort(rng.choice(6, size=3, replace=False)) * 2, y[n]] = 1.0
    model = bl.Sequential(bl.LSTM(16, bidirectional=True), bl.Dense(4))
    settings = {"loss": "ctc", "optimizer": bl.Adam(0.02), "epochs": 40, "batch_size": 16, "engine": "reference"}
    run = bl.fit(model, (X, y), **settings, seed=0, progress=False)
    spelled = [read(path, 0) for path in run.model.predict(X).argmax(axis=-1)]
    assert np.mean([s == tuple(label) for s, label in zip(spelled, y.tolist(), strict=True)]) > 0.9


def test_explained_and_checked():
    rng = np.random.default_rng(4)
    model = bl.Sequential(bl.Dense(3)).build((4, 2), dtype="float64")
    X, y = rng.normal(size=(2, 4, 2)), np.array([[1, 2], [2, 0]])
    t = bl.trace(model, X, y, loss="ctc")
    for entry in ("dense1.W[1,0]", "dense1.δ[0,1,2]", "loss"):
        receipt = t.explain(entry)
        assert receipt.ok
        assert np.isclose(receipt.exact, receipt.value, rtol=1e-10)
    assert bl.check(model, X, y, loss="ctc").ok


def _graph(labels, frames=3, **lengths):
    builder = Builder(dtype="float64")
    x = builder.input("x", (len(labels), frames, 4))
    given = [lengths.get(n) for n in ("input_lengths", "label_lengths")]
    return builder.graph(builder.add("ctc", x, np.array(labels), *given, name="loss")[:1])


def _require(labels, **settings):
    from backlit.engines import reference

    graph = _graph(labels, **settings)
    reference.require(graph, reference.leaves(graph, {"x": np.zeros(graph.values["x"].shape)}))


@pytest.mark.parametrize(
    ("code", "labels", "settings"),
    [
        ("BL125", [[1, 2, 3, 1]], {}),
        ("BL125", [[1, 1, 2, 0]], {}),  # 3 classes and the blank between the equal ones
        ("BL125", [[1, 2, 0]], {"input_lengths": np.array([1])}),
        ("BL124", [[1, 4]], {}),
        ("BL124", [[1, -1]], {}),
        ("BL124", [[1, 0]], {"label_lengths": np.array([2])}),
        ("BL123", [[1, 2]], {"label_lengths": np.array([3])}),
        ("BL123", [[1, 2]], {"input_lengths": np.array([4])}),
        ("BL123", [[1, 2]], {"input_lengths": np.array([0])}),
    ],
)
def test_refused_where_data_come_in(code, labels, settings):
    with pytest.raises(InputError, match=code):
        _require(labels, **settings)


def test_labels_that_just_fit():
    _require([[1, 1, 0], [1, 2, 3], [0, 0, 0]])
    _require([[1, 4]], label_lengths=np.array([1]))


@pytest.mark.parametrize(("lang", "words"), [("en", "longer than its input"), ("zh", "标签比输入长")])
def test_a_label_longer_than_the_input_of_a_model(lang, words):
    model = bl.Sequential(bl.Dense(4)).build((3, 2))
    X, y = np.zeros((2, 3, 2)), np.array([[1, 2, 0, 0], [2, 2, 3, 0]])
    for train in (
        lambda: bl.value_and_grad(model, X, y, loss="ctc"),
        lambda: bl.fit(model, (X, y), loss="ctc", optimizer=bl.SGD(0.1), epochs=1, progress=False),
    ):
        with use_language(lang):
            with pytest.raises(InputError) as caught:
                train()
            assert words in str(caught.value)
            assert "T ≥ 3 + 1 = 4" in str(caught.value)


def test_labels_are_whole_numbers():
    model = bl.Sequential(bl.Dense(4)).build((3, 2))
    with pytest.raises(InputError, match="BL344"):
        bl.value_and_grad(model, np.zeros((1, 3, 2)), np.array([[1.0]]), loss="ctc")


@pytest.mark.parametrize(
    ("logits", "labels", "attributes", "code"),
    [
        ((2, 3), (2, 1), {}, "BL152"),
        ((2, 3, 4), (3, 1), {}, "BL102"),
        ((2, 3, 4), (2, 0), {}, "BL102"),
        ((2, 3, 4), (2,), {}, "BL102"),
        ((2, 3, 4), (2, 1), {"blank": 4}, "BL104"),
    ],
)
def test_shapes(logits, labels, attributes, code):
    from backlit.rules import get

    with pytest.raises(InputError, match=code):
        get("ctc").shapes(logits, labels, **attributes)
