"""Weights of PyTorch's recurrent layers."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError
from backlit.interop.torch_weights import from_torch_state_dict

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def twins(kind, *, layers=1, bidirectional=False, bias=True, **ours):
    """PyTorch's network, ours with its weights: one recurrent layer and a dense one, float32."""
    torch.manual_seed(0)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bool(bias), "batch_first": True}
            self.scan = getattr(torch.nn, kind)(3, 5, **options)
            self.out = torch.nn.Linear(5 * (1 + bidirectional), 2)

        def forward(self, x):
            return self.out(self.scan(x)[0])

    theirs = Network()
    model = bl.Sequential(getattr(bl, kind)(5, bidirectional=bidirectional, layers=layers, **ours), bl.Dense(2))
    model.build((6, 3))
    return theirs, from_torch_state_dict(model, theirs.state_dict())


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers": 2},
        {"bidirectional": True},
        {"layers": 3, "bidirectional": True},
        {"bias": False},
        {"stateful": 4},
    ],
    ids=str,
)
def test_the_same_outputs_and_gradients(kind, settings):
    theirs, model = twins(kind, **settings)
    rng = np.random.default_rng(1)
    X, y = (rng.normal(size=(4, 6, n)).astype(np.float32) for n in (3, 2))
    out = theirs(torch.tensor(X))
    np.testing.assert_allclose(model.predict(X), out.detach().numpy(), atol=1e-6)
    torch.nn.functional.mse_loss(out, torch.tensor(y)).backward()
    _, found = bl.value_and_grad(model, X, y, loss="mse")
    scan = theirs.scan
    name = next(n for n in found if n.endswith(".W")).removesuffix(".W")
    np.testing.assert_allclose(found[f"{name}.W"], scan.weight_ih_l0.grad.numpy(), atol=1e-6)
    np.testing.assert_allclose(found[f"{name}.U"], scan.weight_hh_l0.grad.numpy(), atol=1e-6)
    if kind == "GRU" and settings.get("bias", True):
        np.testing.assert_allclose(found[f"{name}.b_n"], scan.bias_hh_l0.grad.numpy()[10:], atol=1e-6)


def test_both_biases_count():
    theirs, model = twins("LSTM")
    scan = theirs.scan
    want = (scan.bias_ih_l0 + scan.bias_hh_l0).detach().numpy()
    np.testing.assert_array_equal(model.params["lstm1.b"], want)


def test_a_deeper_one_is_refused():
    theirs, _ = twins("LSTM", layers=2)
    model = bl.Sequential(bl.LSTM(5), bl.Dense(2)).build((6, 3))
    before = dict(model.params)
    with pytest.raises(InputError, match="lstm1"):
        from_torch_state_dict(model, theirs.state_dict())
    assert all(model.params[n] is a for n, a in before.items())
