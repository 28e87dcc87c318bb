"""Weights of PyTorch models: loaded, they give the same outputs and gradients; what does not fit is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError, UnknownNameError

load = bl.interop.from_torch_state_dict
RNG = np.random.default_rng(3)


def state(**shapes):
    """A state dict of arrays of these shapes; two underscores stand for the dot."""
    return {name.replace("__", "."): RNG.normal(size=shape) for name, shape in shapes.items()}


def mlp():
    return bl.Sequential(bl.Dense(3, "tanh"), bl.Dense(2)).build((4,), dtype="float64")


MLP = state(a__weight=(3, 4), a__bias=3, b__weight=(2, 3), b__bias=2)


def test_layers_and_modules_are_paired_in_order():
    model = load(mlp(), MLP)
    assert model.params["dense1.W"].tolist() == MLP["a.weight"].tolist()
    assert model.params["dense2.b"].tolist() == MLP["b.bias"].tolist()


def test_names_pair_them_otherwise():
    turned = {n: MLP[n] for n in ("b.weight", "b.bias", "a.weight", "a.bias")}
    with pytest.raises(InputError, match="BL361"):
        load(mlp(), turned)
    model = load(mlp(), turned, names={"dense1": "a"})
    assert model.params["dense1.W"].tolist() == MLP["a.weight"].tolist()
    assert model.params["dense2.W"].tolist() == MLP["b.weight"].tolist()


def test_one_module_needs_no_name():
    model = bl.Sequential(bl.Dense(3)).build((4,))
    load(model, state(weight=(3, 4), bias=3))
    assert model.params["dense1.W"].dtype == np.float32


def test_a_convolution_has_its_channels_last():
    model = bl.Sequential(bl.Conv2D(2, (3, 1))).build((5, 5, 4), dtype="float64")
    given = state(conv__weight=(2, 4, 3, 1), conv__bias=2)
    assert load(model, given).params["conv1.W"][1, 2, 0, 3] == given["conv.weight"][1, 3, 2, 0]


def test_a_transposed_convolution_group_by_group():
    model = bl.Sequential(bl.ConvTranspose2D(6, (3, 1), groups=2)).build((5, 5, 4), dtype="float64")
    given = state(up__weight=(4, 3, 3, 1), up__bias=6)
    W = load(model, given).params["convtranspose1.W"]
    assert W.shape == (6, 3, 1, 2)
    assert W[1, 2, 0, 1] == given["up.weight"][1, 1, 2, 0]
    assert W[4, 2, 0, 1] == given["up.weight"][3, 1, 2, 0]


@pytest.mark.parametrize("between", [(), (bl.ReLU(), bl.Dropout(0.5))], ids=["at once", "after relu and dropout"])
def test_columns_after_flatten_follow_the_image(between):
    model = bl.Sequential(bl.Flatten(), *between, bl.Dense(1)).build((2, 3, 4), dtype="float64")
    weight = np.arange(24.0).reshape(1, 24)
    W = load(model, {"weight": weight, "bias": np.zeros(1)}).params["dense1.W"]
    assert W.reshape(2, 3, 4)[1, 2, 3] == weight.reshape(4, 2, 3)[3, 1, 2]


def test_sequences_flatten_alike_unless_a_convolution_made_them():
    weight, conv = np.arange(12.0)[None], state(c__weight=(4, 2, 1), c__bias=4)
    plain = bl.Sequential(bl.Flatten(), bl.Dense(1, bias=False)).build((3, 4), dtype="float64")
    assert load(plain, {"weight": weight}).params["dense1.W"].tolist() == weight.tolist()
    model = bl.Sequential(bl.Conv1D(4, 1), bl.Flatten(), bl.Dense(1, bias=False)).build((3, 2), dtype="float64")
    W = load(model, conv | {"d.weight": weight}).params["dense1.W"]
    assert W.reshape(3, 4).tolist() == weight.reshape(4, 3).T.tolist()


def test_running_averages_are_state():
    model = bl.Sequential(bl.BatchNorm()).build((3,), dtype="float64")
    given = state(bn__weight=3, bn__bias=3, bn__running_mean=3, bn__running_var=3) | {"bn.num_batches_tracked": 7}
    load(model, given)
    assert model.state["batchnorm1.running_var"].tolist() == given["bn.running_var"].tolist()
    assert model.params["batchnorm1.gamma"].tolist() == given["bn.weight"].tolist()


def test_a_shared_layer_is_one_module():
    layer = bl.Dense(4)
    model = bl.Model(lambda x: layer(layer(x))).build((4,), dtype="float64")
    given = state(fc__weight=(4, 4), fc__bias=4)
    assert load(model, given).params["dense1.W"].tolist() == given["fc.weight"].tolist()


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({n: a for n, a in MLP.items() if n[0] == "a"}, "BL362", "dense2"),
        ({}, "BL362", "dense1"),
        (MLP | state(c__weight=(2, 2)), "BL363", "c.weight[2, 2]"),
        (MLP | {"a.bias": np.zeros(5)}, "BL361", "dense1.b[5]"),
        ({n: a for n, a in MLP.items() if n != "b.bias"}, "BL361", "dense2.b[2]"),
    ],
    ids=["a module too few", "nothing", "a module too many", "another shape", "no bias"],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(given, code, says):
    model = mlp()
    before = {n: a.copy() for n, a in model.params.items()}
    with pytest.raises(InputError, match=code) as refused:
        load(model, given)
    assert says in str(refused.value)
    assert all(np.array_equal(a, before[n]) for n, a in model.params.items())


def test_a_name_that_is_none_is_refused():
    with pytest.raises(UnknownNameError, match="dense1"):
        load(mlp(), MLP, names={"dens1": "a"})
    with pytest.raises(InputError, match="BL362"):
        load(mlp(), MLP, names={"dense1": "c"})


def test_an_unknown_kind_of_layer_is_refused():
    class Scale(bl.Layer):
        def stage(self, scope, *inputs):
            return inputs[0] * scope.parameter("s", (1,), bl.init.Constant(1.0))

    try:
        with pytest.raises(InputError, match="BL360"):
            load(bl.Sequential(Scale()).build((3,)), {})
    finally:
        del bl.Layer.KINDS["Scale"]


def test_a_model_must_be_built():
    with pytest.raises(InputError, match="BL304"):
        load(bl.Sequential(bl.Dense(2)), MLP)


def test_pytorch_is_not_needed():
    probe = "import sys, backlit as bl; bl.interop.from_torch_state_dict; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


# --- beside PyTorch ---------------------------------------------------------------------------------------------------


def convolutional(t):
    n = t.nn
    return n.Sequential(
        *(n.Conv2d(2, 4, 3, padding=1), n.BatchNorm2d(4), n.ReLU(), n.MaxPool2d(2)),
        *(n.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), n.GroupNorm(3, 6), n.ReLU(), n.Upsample(scale_factor=2)),
        *(
            n.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
            n.InstanceNorm2d(4, affine=True),
        ),
        *(n.AvgPool2d(2), n.Flatten(), n.Linear(64, 5), n.Tanh(), n.Linear(5, 3)),
    )


def ours():
    return bl.Sequential(
        *(bl.Conv2D(4, 3), bl.BatchNorm(), bl.ReLU(), bl.MaxPool2D(2)),
        *(bl.Conv2D(6, 3, 2, 1, groups=2), bl.GroupNorm(3), bl.ReLU(), bl.UpSample2D(2)),
        *(bl.ConvTranspose2D(4, 3, 2, ((1, 0), (1, 0)), groups=2), bl.InstanceNorm()),
        *(bl.AvgPool2D(2), bl.Flatten(), bl.Dense(5, "tanh"), bl.Dense(3)),
    )


@pytest.mark.torch
def test_a_convolutional_model_gives_the_same_outputs_and_gradients_and_trains_on():
    t = pytest.importorskip("torch")
    t.manual_seed(0)
    theirs, model = convolutional(t).double(), ours().build((8, 8, 2), seed=1, dtype="float64")
    for module in theirs:  # weights that a mistake of order cannot hide behind
        for parameter in module.parameters():
            t.nn.init.normal_(parameter, 0.3, 0.5)
    load(model, theirs.state_dict())
    x, y = RNG.normal(size=(6, 8, 8, 2)), RNG.integers(0, 3, 6)
    images = t.tensor(x).permute(0, 3, 1, 2)
    theirs.eval()
    np.testing.assert_allclose(model.predict(x), theirs(images).detach(), rtol=1e-10, atol=1e-11)
    theirs.train()
    loss, grads = bl.value_and_grad(model, x, y, loss="softmax_cross_entropy")
    want = t.nn.functional.cross_entropy(theirs(images), t.tensor(y))
    want.backward()
    assert loss == pytest.approx(want.item(), rel=1e-12)
    as_gradients = ours().build((8, 8, 2), dtype="float64")
    buffers = {n: b for n, b in theirs.state_dict().items() if "running" in n}
    order = [n for n in theirs.state_dict() if "num_batches" not in n]
    slopes = {n: p.grad for n, p in theirs.named_parameters()} | buffers
    load(as_gradients, {n: slopes[n] for n in order})
    for name, gradient in grads.items():
        np.testing.assert_allclose(gradient, as_gradients.params[name], rtol=1e-9, atol=1e-11, err_msg=name)
    before = loss
    run = bl.fit(
        model, (x, y), loss="softmax_cross_entropy", epochs=10, batch_size=6, progress=False, engine="reference"
    )
    assert run.history["loss"][-1] < before


@pytest.mark.torch
def test_float32_weights_of_pytorch_in_a_float32_model():
    t = pytest.importorskip("torch")
    t.manual_seed(1)
    theirs, model = convolutional(t).eval(), ours().build((8, 8, 2))
    load(model, theirs.state_dict())
    x = RNG.normal(size=(3, 8, 8, 2)).astype(np.float32)
    want = theirs(t.tensor(x).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(model.predict(x), want, rtol=0, atol=1e-6)
