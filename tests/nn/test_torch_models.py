"""Whole models beside PyTorch with the same weights, in float64: losses, gradients, steps of optimizers, statistics."""

from __future__ import annotations

import numpy as np
import pytest

import backlit as bl
from backlit.nn.grad import loss_graph

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


ACTIVATIONS = (
    None,
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softmax",
)
LOSSES = {
    "mse": "mse_loss",
    "mae": "l1_loss",
    "huber": "huber_loss",
    "softmax_cross_entropy": "cross_entropy",
    "binary_cross_entropy": "binary_cross_entropy_with_logits",
}


def activated(F, name, z):
    """PyTorch's activation of that name."""
    if name is None:
        return z
    options = {"gelu_tanh": {"approximate": "tanh"}, "softmax": {"dim": -1}}.get(name, {})
    return getattr(F, name.removesuffix("_tanh"))(z, **options)


class Plan:
    """A random network as a list of (operation, operands, options), run once by backlit and once by PyTorch."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.features = int(self.rng.integers(2, 6))
        self.outputs = int(self.rng.integers(2, 5))
        self.loss = list(LOSSES)[seed % len(LOSSES)]
        self.widths = [self.features]
        self.steps = []
        self.layers = {}
        for _ in range(int(self.rng.integers(1, 7))):
            getattr(self, self.rng.choice([*["dense"] * 4, *KINDS]))()
        self._step("dense", [len(self.widths) - 1], self.outputs, layer=self._dense(self.outputs, None))

    def _step(self, kind, operands, width, **options):
        self.steps.append((kind, operands, options))
        self.widths.append(width)

    def _any(self):
        return int(self.rng.integers(max(0, len(self.widths) - 3), len(self.widths)))

    def _new(self, kind, layer):
        name = f"{kind}{len(self.layers)}"
        self.layers[name] = layer(name)
        return name

    def _dense(self, units, activation):
        bias = bool(self.rng.random() < 0.8)
        return self._new("dense", lambda name: bl.Dense(units, activation, bias=bias, name=name))

    def dense(self):
        units, i = int(self.rng.integers(1, 7)), self._any()
        activation = ACTIVATIONS[self.rng.integers(len(ACTIVATIONS))]
        self._step("dense", [i], units, layer=self._dense(units, activation))

    def shared(self):
        """A dense layer on two values of one width, or on its own output."""
        i = self._any()
        layer = self._dense(self.widths[i], "tanh")
        self._step("dense", [i], self.widths[i], layer=layer)
        self._step("dense", [len(self.widths) - 1], self.widths[i], layer=layer)

    def residual(self):
        i = self._any()
        layer = self._dense(self.widths[i], "softplus")
        self._step("dense", [i], self.widths[i], layer=layer)
        self._step("add", [i, len(self.widths) - 1], self.widths[i])

    def branch(self):
        i = self._any()
        for activation in ("sigmoid", "relu"):
            self._step("dense", [i], 3, layer=self._dense(3, activation))
        end = len(self.widths)
        self._step("mul", [end - 2, end - 1], 3)

    def concatenate(self):
        i, j = self._any(), self._any()
        self._step("concatenate", [i, j], self.widths[i] + self.widths[j])

    def batchnorm(self):
        i = self._any()
        self._step("batchnorm", [i], self.widths[i], layer=self._new("batchnorm", lambda n: bl.BatchNorm(name=n)))

    def layernorm(self):
        i = self._any()
        self._step("layernorm", [i], self.widths[i], layer=self._new("layernorm", lambda n: bl.LayerNorm(name=n)))

    def dropout(self):
        i = self._any()
        self._step("dropout", [i], self.widths[i], layer=self._new("dropout", lambda n: bl.Dropout(0.4, name=n)))

    def staged(self, x):
        values = [x]
        for kind, operands, options in self.steps:
            arguments = [values[i] for i in operands]
            if kind == "add":
                values.append(arguments[0] + arguments[1])
            elif kind == "mul":
                values.append(arguments[0] * arguments[1])
            elif kind == "concatenate":
                values.append(bl.Concatenate()(*arguments))
            else:
                values.append(self.layers[options["layer"]](*arguments))
        return values[-1]

    def in_torch(self, torch, x, params, masks):
        F = torch.nn.functional
        values = [x]
        for kind, operands, options in self.steps:
            a, *b = (values[i] for i in operands)
            name = options.get("layer", "")
            if kind == "add":
                y = a + b[0]
            elif kind == "mul":
                y = a * b[0]
            elif kind == "concatenate":
                y = torch.cat([a, *b], dim=-1)
            elif kind == "dense":
                z = F.linear(a, params[f"{name}.W"], params.get(f"{name}.b"))
                y = activated(F, self.layers[name].activation, z)
            elif kind == "dropout":
                y = a * masks[f"{name}.mask"]
            else:
                gamma, beta = params[f"{name}.gamma"], params[f"{name}.beta"]
                y = (
                    F.batch_norm(a, None, None, gamma, beta, training=True)
                    if kind == "batchnorm"
                    else F.layer_norm(a, a.shape[-1:], gamma, beta)
                )
            values.append(y)
        return values[-1]

    def target(self, n):
        shape = (n, self.outputs)
        if self.loss == "softmax_cross_entropy":
            return self.rng.integers(0, self.outputs, n)
        return self.rng.random(shape) if self.loss == "binary_cross_entropy" else self.rng.normal(size=shape)


KINDS = ("shared", "residual", "branch", "concatenate", "batchnorm", "layernorm", "dropout")


def test_the_random_models_hold_every_operation_activation_and_loss():
    plans = [Plan(seed) for seed in range(40)]
    kinds = {kind for plan in plans for kind, *_ in plan.steps}
    assert kinds == {"dense", "add", "mul", "concatenate", "batchnorm", "layernorm", "dropout"}
    calls = [[o["layer"] for _, _, o in plan.steps if "layer" in o] for plan in plans]
    assert any(len(set(names)) < len(names) for names in calls)
    dense = [layer for plan in plans for layer in plan.layers.values() if isinstance(layer, bl.Dense)]
    assert {layer.activation for layer in dense} == set(ACTIVATIONS)
    assert {plan.loss for plan in plans} == set(LOSSES)


@pytest.mark.parametrize("seed", range(40))
def test_loss_and_every_gradient(torch, seed):
    plan = Plan(seed)
    x, y = plan.rng.normal(size=(7, plan.features)), plan.target(7)
    model = bl.Model(plan.staged).build((plan.features,), seed=seed, dtype="float64")
    model.params = {n: p + 0.1 * plan.rng.normal(size=p.shape) for n, p in model.params.items()}
    loss, grads = bl.value_and_grad(model, x, y, loss=plan.loss, seed=seed)
    graph, env = loss_graph(model, x, y, loss=plan.loss, seed=seed)
    masks = {n: torch.tensor(env[n]) for n in graph.masks}
    params = {n: torch.tensor(p, requires_grad=True) for n, p in model.params.items()}
    output = plan.in_torch(torch, torch.tensor(x), params, masks)
    theirs = getattr(torch.nn.functional, LOSSES[plan.loss])(output, torch.tensor(y))
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-10, abs=1e-12)
    assert set(grads) == set(params)
    for name, p in params.items():
        wanted = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        np.testing.assert_allclose(grads[name], wanted, rtol=1e-10, atol=1e-12, err_msg=name)


# --- ten steps --------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": (bl.SGD(0.1), lambda o, p: o.SGD(p, 0.1)),
    "momentum": (bl.SGD(0.05, momentum=0.9), lambda o, p: o.SGD(p, 0.05, momentum=0.9)),
    "nesterov": (
        bl.SGD(0.05, momentum=0.8, nesterov=True),
        lambda o, p: o.SGD(p, 0.05, momentum=0.8, nesterov=True),
    ),
    "l2": (bl.SGD(0.05, l2=0.02), lambda o, p: o.SGD(p, 0.05, weight_decay=0.02)),
    "adam": (bl.Adam(0.01), lambda o, p: o.Adam(p, 0.01)),
    "adamw": (bl.AdamW(0.01, weight_decay=0.1), lambda o, p: o.AdamW(p, 0.01, weight_decay=0.1)),
    "nadam": (bl.NAdam(0.01), lambda o, p: o.NAdam(p, 0.01)),
    "rmsprop": (bl.RMSprop(0.01), lambda o, p: o.RMSprop(p, 0.01)),
    "adagrad": (bl.Adagrad(0.05), lambda o, p: o.Adagrad(p, 0.05)),
    "adadelta": (bl.Adadelta(0.5), lambda o, p: o.Adadelta(p, 0.5)),
}


@pytest.fixture
def double(torch):
    torch.set_default_dtype(torch.float64)  # NAdam keeps a number of its own in the default dtype
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.05])
def test_ten_steps_of_fit(torch, name, clip, double):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(37, 4)), rng.integers(0, 3, 37)  # the last batch of each epoch has 7 samples
    model = bl.Sequential(bl.Dense(6, "tanh"), bl.LayerNorm(), bl.Dense(3)).build((4,), seed=1, dtype="float64")
    names = {"0.weight": "dense1.W", "0.bias": "dense1.b", "2.weight": "layernorm1.gamma", "2.bias": "layernorm1.beta"}
    names |= {"3.weight": "dense2.W", "3.bias": "dense2.b"}
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.LayerNorm(6), torch.nn.Linear(6, 3)
    ).double()
    theirs.load_state_dict({k: torch.tensor(model.params[n]) for k, n in names.items()})
    ours, make = OPTIMIZERS[name]
    optimizer = make(torch.optim, theirs.parameters())
    for start in [0, 10, 20, 30] * 3:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            theirs(torch.tensor(x[start : start + 10])), torch.tensor(y[start : start + 10])
        ).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        optimizer.step()
    run = bl.fit(
        model, (x, y), loss="softmax_cross_entropy", optimizer=ours, epochs=3, batch_size=10, shuffle=False,
        progress=False, clip=None if clip is None else bl.ClipByGlobalNorm(clip),
    )  # fmt: skip
    assert run.step == 12
    for key, p in theirs.state_dict().items():
        tolerance = 1e-9 if clip is None else 2e-5  # PyTorch divides by the norm + 1e-6
        np.testing.assert_allclose(model.params[names[key]], p.numpy(), rtol=tolerance, atol=tolerance)


# --- statistics of batch normalisation --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (3, 2, 4)])
@pytest.mark.parametrize("momentum", [0.1, 0.35])
def test_running_statistics_and_inference(torch, shape, momentum):
    rng = np.random.default_rng(3)
    x = rng.normal(1.5, 2.0, size=(20, *shape))
    model = bl.Sequential(bl.BatchNorm(momentum), bl.Flatten(), bl.Dense(2)).build(shape, dtype="float64")
    norm = torch.nn.BatchNorm1d(4, momentum=momentum).double()
    frozen = bl.SGD(1e-300)  # the statistics move, the parameters do not
    y = np.zeros((20, 2))
    for start in (0, 8, 16):  # batches of 8, 8 and 4 samples
        norm(torch.tensor(x[start : start + 8].reshape(-1, 4)))
    bl.fit(model, (x, y), loss="mse", optimizer=frozen, epochs=1, batch_size=8, shuffle=False, progress=False)
    np.testing.assert_allclose(model.state["batchnorm1.running_mean"], norm.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(model.state["batchnorm1.running_var"], norm.running_var.numpy(), rtol=1e-12)
    flat = norm.eval()(torch.tensor(x.reshape(-1, 4))).detach().numpy().reshape(20, -1)
    wanted = flat @ model.params["dense1.W"].T + model.params["dense1.b"]
    np.testing.assert_allclose(model.predict(x), wanted, rtol=1e-11, atol=1e-12)


def test_a_shared_batch_normalisation_moves_its_statistics_at_each_call(torch):
    layer = bl.BatchNorm()

    def twice(x):
        return layer(layer(x) * 3.0 + 1.0)

    x = np.random.default_rng(4).normal(2.0, 3.0, size=(10, 3))
    model = bl.Model(twice).build((3,), dtype="float64")
    bl.fit(model, (x, x), loss="mse", optimizer=bl.SGD(1e-300), epochs=1, batch_size=10, progress=False, shuffle=False)
    norm = torch.nn.BatchNorm1d(3).double()
    norm(norm(torch.tensor(x)) * 3.0 + 1.0)
    np.testing.assert_allclose(model.state["batchnorm1.running_mean"], norm.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(model.state["batchnorm1.running_var"], norm.running_var.numpy(), rtol=1e-12)
