"""Recurrent layers against PyTorch, and what they promise besides."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.core.i18n import use_language
from backlit.rules import get

KINDS = {"RNN": bl.RNN, "LSTM": bl.LSTM, "GRU": bl.GRU}
STATES = {"RNN": 1, "LSTM": 2, "GRU": 1}
ENDS = np.array([[1.0] * 7, [1.0] * 3 + [0.0] * 4, [1.0] * 5 + [0.0] * 2])


def parts(kind, layers, bidirectional):
    """(our prefix, PyTorch's suffix) of every part, in PyTorch's order."""
    for k in range(layers):
        for back in (False, True)[: 1 + bidirectional]:
            names = [f"{kind.lower()}1"]
            names += [f"layer{k + 1}"] if layers > 1 else []
            names += [("forward", "backward")[back]] if bidirectional else []
            yield ".".join(names), f"l{k}{'_reverse' if back else ''}"


def twin(torch, model, kind, inputs, *, layers=1, bidirectional=False):
    """PyTorch's layer with the weights of ours."""
    units = next(a for n, a in model.params.items() if n.endswith(".U")).shape[1]
    made = getattr(torch.nn, kind)(inputs, units, layers, batch_first=True, bidirectional=bidirectional).double()
    with torch.no_grad():
        for ours, theirs in parts(kind, layers, bidirectional):
            getattr(made, f"weight_ih_{theirs}").copy_(torch.tensor(model.params[f"{ours}.W"]))
            getattr(made, f"weight_hh_{theirs}").copy_(torch.tensor(model.params[f"{ours}.U"]))
            getattr(made, f"bias_ih_{theirs}").copy_(torch.tensor(model.params[f"{ours}.b"]))
            hidden = getattr(made, f"bias_hh_{theirs}").zero_()
            if kind == "GRU":
                hidden[2 * units :] = torch.tensor(model.params[f"{ours}.b_n"])
    return made


def gradients(made, kind, layers=1, bidirectional=False):
    """PyTorch's gradients under our names."""
    found = {}
    for ours, theirs in parts(kind, layers, bidirectional):
        for local, name in (("W", "weight_ih"), ("U", "weight_hh"), ("b", "bias_ih")):
            found[f"{ours}.{local}"] = getattr(made, f"{name}_{theirs}").grad.numpy()
        if kind == "GRU":
            hidden = getattr(made, f"bias_hh_{theirs}").grad.numpy()
            found[f"{ours}.b_n"] = hidden[2 * len(hidden) // 3 :]
    return found


def built(layer, sample, *, seed=3, masked=False):
    """A model of one layer, with random biases too."""
    model = bl.Model(layer) if masked else bl.Sequential(layer)
    model.build((sample, sample[:1]) if masked else sample, seed=seed, dtype="float64")
    rng = np.random.default_rng(seed)
    model.params = {n: a + 0.2 * rng.normal(size=a.shape) for n, a in model.params.items()}
    return model


def compare(model, made, X, y, out, kind, **settings):
    """Outputs, and the gradients of the mean squared error of ``out``, PyTorch's output for the same X."""
    import torch

    tolerance = 1e-9
    np.testing.assert_allclose(model.predict(X), out.detach().numpy(), rtol=tolerance, atol=tolerance)
    torch.nn.functional.mse_loss(out, torch.tensor(y)).backward()
    _, found = bl.value_and_grad(model, X, y, loss="mse")
    wanted = gradients(made, kind, **settings)
    assert found.keys() == wanted.keys()
    for name, g in wanted.items():
        np.testing.assert_allclose(found[name], g, rtol=tolerance, atol=tolerance * np.abs(g).max(), err_msg=name)


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_steps(kind):
    torch = pytest.importorskip("torch")
    model = built(KINDS[kind](8), (200, 3))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2, 200, 3)), rng.normal(size=(2, 200, 8))
    made = twin(torch, model, kind, 3)
    compare(model, made, X, y, made(torch.tensor(X))[0], kind)


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, True), (2, False), (2, True)])
def test_stacked_and_both_directions(kind, layers, bidirectional):
    torch = pytest.importorskip("torch")
    model = built(KINDS[kind](4, bidirectional=bidirectional, layers=layers), (6, 3))
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(3, 6, 3)), rng.normal(size=(3, 6, 4 * (1 + bidirectional)))
    settings = {"layers": layers, "bidirectional": bidirectional}
    made = twin(torch, model, kind, 3, **settings)
    compare(model, made, X, y, made(torch.tensor(X))[0], kind, **settings)


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("sequences", [True, False])
def test_masks_are_packed_sequences(kind, bidirectional, sequences):
    torch = pytest.importorskip("torch")
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    layer = KINDS[kind](4, sequences, bidirectional, layers=2)
    model = built(layer, (7, 3), masked=True)
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3, 7, 3))
    settings = {"layers": 2, "bidirectional": bidirectional}
    made = twin(torch, model, kind, 3, **settings)
    lengths = torch.tensor(ENDS.sum(axis=1)).long()
    packed, end = made(pack(torch.tensor(X), lengths, batch_first=True, enforce_sorted=False))
    h_n = end[0] if kind == "LSTM" else end
    out = pad(packed, batch_first=True)[0] if sequences else torch.cat(list(h_n[-1 - bidirectional :]), dim=-1)
    compare(model, made, (X, ENDS), rng.normal(size=tuple(out.shape)), out, kind, **settings)


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
def test_initial_state(kind):
    torch = pytest.importorskip("torch")
    layer = KINDS[kind](4)
    model = bl.Model(lambda x, *state: layer(x, state=state))
    model.build(((5, 3), *[(4,)] * STATES[kind]), dtype="float64")
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 4))
    state = [rng.normal(size=(2, 4)) for _ in range(STATES[kind])]
    made = twin(torch, model, kind, 3)
    hx = tuple(torch.tensor(s)[None] for s in state)
    out = made(torch.tensor(X), hx if kind == "LSTM" else hx[0])[0]
    compare(model, made, (X, *state), y, out, kind)


# --- states handed from one layer to another ------------------------------------------------------------------------


def handed(kind, **options):
    """An encoder whose state alone goes on to a decoder of another sequence."""

    def function(x, y):
        _, state = KINDS[kind](4, return_state=True, **options)(x)
        return KINDS[kind](4, **options)(y, state=state)

    model = bl.Model(function).build(((5, 3), (6, 2)), seed=3, dtype="float64")
    rng = np.random.default_rng(3)
    model.params = {n: a + 0.2 * rng.normal(size=a.shape) for n, a in model.params.items()}
    return model


def alone(model, kind, number):
    """The parameters of one of the two layers as a model's with that layer alone, for ``twin``."""
    own, first = f"{kind.lower()}{number}.", f"{kind.lower()}1."
    params = {first + n.removeprefix(own): a for n, a in model.params.items() if n.startswith(own)}
    return type("Alone", (), {"params": params})


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"layers": 2, "bidirectional": True}])
def test_a_decoder_begins_with_the_encoders_state_and_gradients_come_back_through_it(kind, settings):
    """As PyTorch's layers, the whole (h, c) handed over: outputs, and the gradients of both layers."""
    torch = pytest.importorskip("torch")
    model, rng = handed(kind, **settings), np.random.default_rng(4)
    X, Y = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 6, 2))
    encoder, decoder = (twin(torch, alone(model, kind, k), kind, n, **settings) for k, n in ((1, 3), (2, 2)))
    out = decoder(torch.tensor(Y), encoder(torch.tensor(X))[1])[0]
    target = rng.normal(size=tuple(out.shape))
    np.testing.assert_allclose(model.predict((X, Y)), out.detach().numpy(), rtol=1e-9, atol=1e-12)
    torch.nn.functional.mse_loss(out, torch.tensor(target)).backward()
    _, found = bl.value_and_grad(model, (X, Y), target, loss="mse")
    wanted = {}
    for number, made in ((1, encoder), (2, decoder)):
        own = gradients(made, kind, **settings)
        wanted |= {n.replace(f"{kind.lower()}1", f"{kind.lower()}{number}", 1): g for n, g in own.items()}
    assert found.keys() == wanted.keys()
    for name, g in wanted.items():
        assert np.abs(g).max() > 0, name
        np.testing.assert_allclose(found[name], g, rtol=1e-9, atol=1e-9 * np.abs(g).max(), err_msg=name)


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_state_of_masked_sequences_is_that_of_their_last_steps(kind, bidirectional):
    """h_n and c_n of PyTorch's packed sequences, of every layer and direction."""
    torch = pytest.importorskip("torch")
    settings = {"layers": 2, "bidirectional": bidirectional}
    layer = KINDS[kind](4, return_state=True, **settings)
    model = bl.Model(lambda x, m: np.concatenate(layer(x, m)[1], axis=-1)).build(((7, 3), (7,)), dtype="float64")
    made, X = twin(torch, model, kind, 3, **settings), np.random.default_rng(2).normal(size=(3, 7, 3))
    lengths = torch.tensor(ENDS.sum(axis=1)).long()
    pack = torch.nn.utils.rnn.pack_padded_sequence
    _, end = made(pack(torch.tensor(X), lengths, batch_first=True, enforce_sorted=False))
    parts = zip(*end, strict=True) if kind == "LSTM" else zip(end, strict=True)
    want = torch.cat([s for part in parts for s in part], dim=-1)
    np.testing.assert_allclose(model.predict((X, ENDS)), want.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequences", [True, False])
def test_the_output_is_the_same_with_the_state_beside_it(kind, sequences):
    X = np.random.default_rng(0).normal(size=(2, 5, 3))
    plain = bl.Model(KINDS[kind](4, sequences, truncate=2)).build((5, 3), dtype="float64")
    beside = bl.Model(lambda x: KINDS[kind](4, sequences, truncate=2, return_state=True)(x)[0])
    beside.build((5, 3), dtype="float64")
    np.testing.assert_array_equal(plain.predict(X), beside.predict(X))


@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_train_through_a_state_that_is_handed_over(kind):
    rng = np.random.default_rng(0)
    X, Y, target = rng.normal(size=(8, 5, 3)), rng.normal(size=(8, 6, 2)), rng.normal(size=(8, 6, 4))
    runs = [
        bl.fit(handed(kind), ((X, Y), target), loss="mse", epochs=3, batch_size=4, engine=engine, progress=False)
        for engine in ("reference", "fast")
    ]
    for name, a in runs[0].model.params.items():
        np.testing.assert_allclose(runs[1].model.params[name], a, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_handed_over_cell_is_explained():
    """Its receipt names what comes back to the cell; without a state handed on nothing is said of it."""
    model, rng = handed("LSTM"), np.random.default_rng(1)
    X, Y, y = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 6, 2)), rng.normal(size=(2, 6, 4))
    trace = bl.trace(model, (X, Y), y, loss="mse")
    receipt = trace.explain("lstm1.delta[0,4,0]")
    assert receipt.ok
    assert receipt.rounding < 50
    assert "lstm1.c" in {e.name for e in receipt.rests_on if e.kind == "grad"}
    assert trace.open("lstm1.a").grad("lstm1.U") == pytest.approx(trace.grad("lstm1.U"), rel=1e-9)
    assert bl.check(model, (X, Y), y, loss="mse").ok
    plain = bl.trace(
        bl.Sequential(bl.LSTM(4)).build((5, 3), dtype="float64"), X, rng.normal(size=(2, 5, 4)), loss="mse"
    )
    told = plain.explain("lstm1.delta[0,4,0]")
    assert "∂L/∂lstm1.c" not in told.formula
    assert told.ok


@pytest.mark.parametrize(("lang", "words"), [("en", "take apart"), ("zh", "拆开")])
def test_a_pair_is_taken_apart(lang, words):
    encoder = bl.LSTM(4, return_state=True)
    _refused("BL345", lambda: bl.Sequential(encoder, bl.Dense(2)).build((5, 3)), lang, words)
    _refused("BL345", lambda: bl.Model(lambda x: bl.LSTM(4)(x, state=encoder(x))).build((5, 3)), lang, words)


@pytest.mark.parametrize(("lang", "words"), [("en", "initial state"), ("zh", "初始状态")])
def test_a_state_of_other_widths_or_kinds_is_refused(lang, words):
    def between(one, other):
        return bl.Model(lambda x: other(x, state=one(x)[1])).build((5, 3))

    _refused("BL120", lambda: between(bl.LSTM(4, return_state=True), bl.LSTM(5)), lang, words)
    _refused("BL341", lambda: between(bl.GRU(4, return_state=True), bl.LSTM(4)), lang, words)
    _refused("BL341", lambda: between(bl.LSTM(4, layers=2, return_state=True), bl.LSTM(4)), lang, words)


@pytest.mark.torch
def test_relu():
    torch = pytest.importorskip("torch")
    model = built(bl.RNN(4, activation="relu"), (6, 3))
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(3, 6, 3)), rng.normal(size=(3, 6, 4))
    made = twin(torch, model, "RNN", 3)
    made.nonlinearity, made.mode = "relu", "RNN_RELU"
    compare(model, made, X, y, made(torch.tensor(X))[0], "RNN")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequences", [True, False])
def test_padding_changes_nothing(kind, sequences):
    """Each sequence by itself gives what it gives in a padded batch; padding comes out as 0."""
    model = built(KINDS[kind](4, sequences, bidirectional=True), (7, 3), masked=True)
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3, 7, 3))
    found = model.predict((X, ENDS))
    noise = np.where(ENDS[..., None] > 0, X, rng.normal(size=X.shape))
    np.testing.assert_array_equal(model.predict((noise, ENDS)), found)
    for n, length in enumerate(ENDS.sum(axis=1).astype(int)):
        alone = bl.Model(KINDS[kind](4, sequences, bidirectional=True)).build((length, 3), dtype="float64")
        alone.params = model.params
        want = alone.predict(X[n : n + 1, :length])[0]
        np.testing.assert_allclose(found[n, :length] if sequences else found[n], want, rtol=1e-12, atol=1e-14)
        assert not sequences or not found[n, length:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_truncation_cuts_gradients_and_no_values(kind):
    """Stretches of 2 of 6 steps: the values of the whole; the gradient is that of three stretches from given states."""
    rng = np.random.default_rng(6)
    X, y = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6, 4))
    whole, cut = built(KINDS[kind](4), (6, 3)), built(KINDS[kind](4, truncate=2), (6, 3))
    np.testing.assert_allclose(cut.predict(X), whole.predict(X), rtol=1e-12)
    _, found = bl.value_and_grad(cut, X, y, loss="mse")
    _, full = bl.value_and_grad(whole, X, y, loss="mse")
    t = bl.trace(whole, X, y, loss="mse")
    name = f"{kind.lower()}1"
    states = [t[f"{name}.{s}"] for s in ("a", "c")[: STATES[kind]]]
    layer = KINDS[kind](4)
    wanted = dict.fromkeys(found, 0.0)
    for k in (0, 2, 4):
        start = [np.zeros((2, 4)) if k == 0 else s[:, k - 1] for s in states]
        stretch = bl.Model(lambda x, *s: layer(x, state=s)).build(((2, 3), *[(4,)] * STATES[kind]), dtype="float64")
        stretch.params = whole.params
        _, g = bl.value_and_grad(stretch, (X[:, k : k + 2], *start), y[:, k : k + 2], loss="mse")
        wanted = {n: wanted[n] + g[n] / 3 for n in wanted}
    for n, g in wanted.items():
        np.testing.assert_allclose(found[n], g, rtol=1e-10, atol=1e-13, err_msg=n)
    assert np.abs(found[f"{name}.U"] - full[f"{name}.U"]).max() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_carried_state_goes_on_where_the_batch_before_stopped(kind):
    """Two steps of training on halves of long sequences: the second begins with the state that the first left."""
    rng = np.random.default_rng(7)
    X, y = rng.normal(size=(2, 8, 3)), rng.normal(size=(2, 8, 4))
    halves = np.concatenate([X[:, :4], X[:, 4:]]), np.concatenate([y[:, :4], y[:, 4:]])
    model = bl.Sequential(KINDS[kind](4, stateful=2)).build((4, 3), dtype="float64")
    start = {n: a.copy() for n, a in model.params.items()}
    run = bl.fit(
        model, halves, loss="mse", optimizer=bl.SGD(1e-30), epochs=1, batch_size=2, shuffle=False, progress=False,
        engine="reference",
    )  # fmt: skip
    long = bl.Sequential(KINDS[kind](4)).build((8, 3), dtype="float64")
    long.params = start
    want = long.predict(X)
    np.testing.assert_allclose(run.model.state[f"{kind.lower()}1.h_last"], want[:, -1], rtol=1e-12)
    np.testing.assert_allclose(run.history["loss"][-1], np.mean((want - y) ** 2), rtol=1e-12)
    np.testing.assert_allclose(model.predict(X[:, 4:]), _from_zero(long, X[:, 4:], kind), rtol=1e-12)


def _from_zero(long, X, kind):
    made = bl.Sequential(KINDS[kind](4)).build(X.shape[1:], dtype="float64")
    made.params = long.params
    return made.predict(X)


def test_first_values():
    model = bl.Sequential(bl.LSTM(6)).build((5, 4), seed=1)
    W, U, b = (model.params[f"lstm1.{n}"] for n in "WUb")
    np.testing.assert_array_equal(b.reshape(4, 6), [[0] * 6, [1] * 6, [0] * 6, [0] * 6])
    for gate in U.reshape(4, 6, 6):
        np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-6)
    assert np.abs(W).max() <= np.sqrt(6 / (4 + 6))
    assert np.abs(W).max() > 0.9 * np.sqrt(6 / (4 + 6))


def test_a_stacked_layer_is_saved_and_read(tmp_path):
    model = bl.Sequential(bl.GRU(4, False, True, layers=2), bl.Dense(2)).build((5, 3))
    again = bl.load(bl.save(model, tmp_path / "m.safetensors"))
    X = np.random.default_rng(8).normal(size=(2, 5, 3))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert repr(again) == repr(model) == "Sequential(GRU(4, False, True, layers=2), Dense(2))"


def test_a_model_learns_what_it_must_remember():
    """The class is the first symbol of eight; the other seven are noise."""
    rng = np.random.default_rng(9)
    symbols = rng.integers(0, 4, size=(256, 8))
    X, y = np.eye(4)[symbols], symbols[:, 0]
    model = bl.Sequential(bl.LSTM(16, return_sequences=False), bl.Dense(4))
    settings = {"loss": "softmax_cross_entropy", "optimizer": bl.Adam(0.02), "epochs": 30, "batch_size": 64}
    run = bl.fit(model, (X, y), **settings, seed=0, progress=False, engine="reference")
    assert np.mean(run.model.predict(X).argmax(axis=1) == y) > 0.98


# --- what can be seen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_receipts_go_back_through_time(kind):
    model = built(KINDS[kind](3, return_sequences=False), (4, 2))
    rng = np.random.default_rng(10)
    t = bl.trace(model, rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 3)), loss="mse")
    name = f"{kind.lower()}1"
    receipt = t.explain(f"{name}.U[1,2]")
    assert receipt.ok
    assert receipt.value == t.grad(f"{name}.U")[1, 2]
    assert np.isclose(receipt.exact, receipt.value, rtol=1e-12)
    steps = {e.index[1] for term in receipt.terms if term.value for e, _ in term.operands if e.name == f"{name}.z"}
    assert steps == {1, 2, 3}, "there is no state before step 0"
    for m in range(t[f"{name}.z"].shape[2]):
        delta = t.explain(f"{name}.δ[0,1,{m}]")
        assert delta.ok
        assert np.isclose(delta.exact, delta.value, rtol=1e-12, atol=1e-16)
        assert max(e.index[1] for e in delta.rests_on if e.kind == "grad") > 1 or kind == "GRU"
    walk = t.walk(f"{name}.U[1,2]")
    assert walk.ok
    assert str(walk.up[-1].entry) == "loss"
    assert walk.end is not None
    assert walk.end.name == "x"


@pytest.mark.parametrize(("activation", "slope"), [("tanh", "1 - rnn1.a[n,t,j]²"), ("relu", "[rnn1.a[n,t,j] > 0]")])
def test_formulas_are_those_of_this_call(activation, slope):
    """No mask, no initial state and no other activation is spoken of where there is none."""
    model = built(bl.RNN(3, activation=activation), (4, 2))
    t = bl.trace(model, np.ones((2, 4, 2)), np.zeros((2, 4, 3)), loss="mse")
    assert slope.strip("[]") in t.explain("rnn1.δ[0,1,2]").formula
    for entry in ("rnn1.a[0,1,2]", "rnn1.δ[0,1,2]", "rnn1.U[1,2]"):
        formula = t.explain(entry).formula
        assert not any(word in formula for word in ("mask", "h0", "activation")), formula


@pytest.mark.parametrize("kind", KINDS)
def test_the_box_opens_per_time_step(kind):
    model = built(KINDS[kind](3, return_sequences=False), (4, 2))
    rng = np.random.default_rng(11)
    t = bl.trace(model, rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 3)), loss="mse")
    name = f"{kind.lower()}1"
    inside = t.open(f"{name}.a")
    assert sum(node.rule == "linear" for node in inside.graph.nodes) == 3, "one for each step but the first"
    assert sum(node.rule == "tanh" for node in inside.graph.nodes) == (8 if kind == "LSTM" else 4)
    for leaf in (f"{name}.z", f"{name}.U"):
        np.testing.assert_allclose(inside.grads[leaf], t.grads[leaf], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("kind", KINDS)
def test_flow_has_one_row_for_each_layer(kind):
    model = bl.Sequential(KINDS[kind](3, return_sequences=False), bl.Dense(2)).build((4, 2), dtype="float64")
    rng = np.random.default_rng(13)
    t = bl.trace(model, rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 2)), loss="mse")
    ledger = t.flow()
    name = f"{kind.lower()}1"
    assert [row.layer for row in ledger.rows] == ["dense1", name]
    wanted = np.linalg.norm(t.delta(name)) / np.linalg.norm(t.delta("dense1"))
    assert np.isclose(ledger[name].ratio, wanted)
    assert np.isclose(np.prod([g.gain for g in ledger[name].gains]), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_checked_and_derived(kind):
    model = built(KINDS[kind](3, bidirectional=True), (4, 2))
    rng = np.random.default_rng(12)
    X, y = rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 4, 6))
    assert bl.check(model, X, y, loss="mse").ok
    text = str(bl.derive(model, lang="zh"))
    assert "forward" in text
    assert bl.cost(model, batch_size=2)


# --- what is refused --------------------------------------------------------------------------------------------------


def _refused(code, make, lang="en", words=""):
    with use_language(lang):
        with pytest.raises(InputError) as caught:
            make()
        assert code in str(caught.value)
        assert words in str(caught.value)


@pytest.mark.parametrize(("lang", "words"), [("en", "hides every step"), ("zh", "遮住了")])
def test_a_mask_that_hides_everything(lang, words):
    model = bl.Model(bl.LSTM(4, False, True)).build(((7, 3), (7,)))
    mask = ENDS.copy()
    mask[1] = 0
    X, y = np.zeros((3, 7, 3)), np.zeros((3, 8))
    _refused("BL122", lambda: bl.value_and_grad(model, (X, mask), y, loss="mse"), lang, words)


@pytest.mark.parametrize(("lang", "words"), [("en", "initial state"), ("zh", "初始状态")])
def test_states_of_other_shapes(lang, words):
    layer = bl.GRU(4)
    model = bl.Model(lambda x, h: layer(x, state=h))
    _refused("BL120", lambda: model.build(((5, 3), (5,))), lang, words)
    two = bl.Model(lambda x, h: bl.LSTM(4)(x, state=h))
    _refused("BL341", lambda: two.build(((5, 3), (4,))), lang, words)


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("BL340", lambda: bl.Sequential(bl.LSTM(4)).build((5,))),
        ("BL121", lambda: bl.Model(bl.RNN(4)).build(((5, 3), (4,)))),
        ("BL342", lambda: bl.Model(bl.RNN(4, truncate=2)).build(((5, 3), (5,)))),
        ("BL343", lambda: bl.LSTM(4, bidirectional=True, stateful=8)),
        ("BL303", lambda: bl.LSTM(0)),
        ("BL303", lambda: bl.LSTM(4, layers=0)),
        ("BL303", lambda: bl.GRU(4, truncate=0)),
        ("BL104", lambda: bl.Sequential(bl.RNN(4, activation="sine")).build((5, 3))),
        ("BL102", lambda: get("gru").shapes((1, 2, 6), (6, 2), (3,))),
        ("BL102", lambda: get("lstm").shapes((1, 2, 6), (8, 2))),
    ],
)
def test_errors(code, make):
    _refused(code, make)
