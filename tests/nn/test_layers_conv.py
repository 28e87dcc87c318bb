"""Layers of images: shapes, options, names; whole convolutional models looked through, and beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import backlit as bl
from backlit.core.errors import InputError

RNG = np.random.default_rng(11)


def output(layer, *sample):
    return bl.Sequential(layer).build(sample).predict(np.zeros((2, *sample))).shape[1:]


def applied(layer, x, **params):
    """The layer's output for ``x`` with these parameters."""
    model = bl.Sequential(layer).build(x.shape[1:], dtype="float64")
    model.params |= {name.replace("__", "."): np.asarray(a, float) for name, a in params.items()}
    return model.predict(x)


# --- shapes and padding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 2), (5, 1)])
def test_same_gives_a_window_for_every_stride(size, stride, kernel, dilation):
    want = math.ceil(size / stride)
    assert output(bl.Conv2D(3, kernel, stride, dilation=dilation), size, size + 1, 2)[0] == want
    assert output(bl.Conv1D(3, kernel, stride, dilation=dilation), size, 2) == (want, 3)
    if dilation == 1:
        assert output(bl.MaxPool2D(kernel, stride, "same"), size, size, 2) == (want, want, 2)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 2), (3, 2), (5, 3), (2, 3)])
def test_same_of_a_transposed_convolution_multiplies_the_size(kernel, stride):
    assert output(bl.ConvTranspose2D(3, kernel, stride), 4, 5, 2) == (4 * stride, 5 * stride, 3)


def test_same_pads_the_odd_entry_behind():
    x = np.array([1.0, 10.0])[None, :, None]
    found = applied(bl.Conv1D(1, 2), x, conv1__W=[[[1], [2]]])
    assert found.ravel().tolist() == [21.0, 10.0]


@pytest.mark.parametrize(
    ("padding", "shape"),
    [
        ("valid", (4, 6, 1)),
        (0, (4, 6, 1)),
        (1, (6, 8, 1)),
        (((1, 0), (0, 3)), (5, 9, 1)),
        ([[1, 0], [0, 3]], (5, 9, 1)),
    ],
)
def test_forms_of_padding(padding, shape):
    assert output(bl.Conv2D(1, 3, padding=padding), 6, 8, 2) == shape


def test_pooling_a_sequence():
    x = np.array([3.0, 1.0, 4.0, 1.0, 5.0])[None, :, None]
    assert applied(bl.MaxPool1D(2), x).ravel().tolist() == [3.0, 4.0]
    assert applied(bl.MaxPool1D(3, 1, "same"), x).ravel().tolist() == [3.0, 4.0, 4.0, 5.0, 5.0]
    assert applied(bl.MaxPool1D(2, padding=(1, 0)), x).ravel().tolist() == [3.0, 4.0, 5.0]
    with pytest.raises(InputError, match="BL132"):
        output(bl.MaxPool1D(2), 4, 4, 1)
    model = bl.Sequential(bl.MaxPool1D(2)).build((5, 1), dtype="float64")
    assert bl.trace(model, x, np.zeros((1, 2, 1)), loss="mse").grads["maxpool1.a"].ravel().tolist() == [3.0, 4.0]


def test_padding_of_one_axis_is_one_pair():
    assert output(bl.Conv1D(1, 3, padding=(2, 0)), 7, 2) == (7, 1)
    assert output(bl.Conv1D(1, 3, padding=((2, 0),)), 7, 2) == (7, 1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (bl.Conv2D(5, (3, 1), stride=(2, 1), padding="valid"), (2, 8, 5)),
        (bl.ConvTranspose2D(5, 3, padding="valid"), (8, 10, 5)),
        (bl.ConvTranspose2D(5, 3, 2, padding=((1, 0), (1, 0))), (12, 16, 5)),
        (bl.MaxPool2D(2), (3, 4, 4)),
        (bl.MaxPool2D((3, 2), stride=1), (4, 7, 4)),
        (bl.AvgPool2D(4), (1, 2, 4)),
        (bl.GlobalAvgPool2D(), (4,)),
        (bl.AdaptiveAvgPool2D((1, 3)), (1, 3, 4)),
        (bl.UpSample2D(2), (12, 16, 4)),
        (bl.UpSample2D((1, 3), "bilinear"), (6, 24, 4)),
        (bl.GroupNorm(2), (6, 8, 4)),
        (bl.InstanceNorm(), (6, 8, 4)),
    ],
    ids=repr,
)
def test_shapes(layer, shape):
    assert output(layer, 6, 8, 4) == shape


# --- parameters and names ---------------------------------------------------------------------------------------------


def test_parameters_and_names():
    model = bl.Sequential(bl.Conv2D(4, (3, 5), activation="relu"), bl.Conv2D(6, 1, groups=2, bias=False)).build(
        (6, 6, 2)
    )
    assert {n: p.shape for n, p in model.params.items()} == {
        "conv1.W": (4, 3, 5, 2),
        "conv1.b": (4,),
        "conv2.W": (6, 1, 1, 2),
    }
    names = list(model.graph(model.batch_of(1)).values)
    assert {"conv1.z", "conv1.a", "conv2.z"} <= set(names)


def test_first_weights_have_the_variance_of_their_fan_in():
    model = bl.Sequential(bl.Conv2D(64, 3, activation="relu")).build((8, 8, 32))
    assert model.params["conv1.W"].std() == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.02)


@pytest.mark.parametrize(
    "layer",
    [
        bl.Conv2D(8, 3),
        bl.Conv2D(8, (3, 1), 2, "valid", (1, 2), 2, "relu", bias=False),
        bl.Conv1D(8, 3, padding=((2, 0),)),
        bl.ConvTranspose2D(8, 4, 2, ((1, 0), (1, -1))),
        bl.MaxPool2D(),
        bl.MaxPool1D(3, 2),
        bl.MaxPool2D(3, (2, 1), "same"),
        bl.AvgPool2D(3),
        bl.AdaptiveAvgPool2D(2),
        bl.UpSample2D(3, "bilinear"),
        bl.GroupNorm(4, 1e-3),
        bl.InstanceNorm(),
        bl.GlobalAvgPool2D(),
    ],
    ids=repr,
)
def test_a_layer_is_written_as_it_is_made_and_survives_a_file(layer, tmp_path):
    assert repr(eval(repr(layer), {name: getattr(bl, name) for name in bl.__all__})) == repr(layer)
    sample = (9, 8) if isinstance(layer, (bl.Conv1D, bl.MaxPool1D)) else (9, 9, 8)
    model = bl.Sequential(layer).build(sample, seed=3)
    bl.save(model, tmp_path / "m.safetensors")
    again = bl.load(tmp_path / "m.safetensors")
    assert repr(again) == repr(model)
    x = RNG.normal(size=(2, *sample))
    assert np.array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda: bl.Conv2D(0, 3), "BL303", "filters"),
        (lambda: bl.Conv2D(4, 0), "BL303", "kernel"),
        (lambda: bl.Conv2D(4, (3, 3, 3)), "BL303", "(3, 3, 3)"),
        (lambda: bl.Conv1D(4, (3, 3)), "BL303", "(3, 3)"),
        (lambda: bl.Conv2D(4, 3, stride=1.5), "BL303", "stride"),
        (lambda: bl.Conv2D(4, 3, dilation=True), "BL303", "dilation"),
        (lambda: bl.Conv2D(4, 3, padding="full"), "BL303", "'same', 'valid'"),
        (lambda: bl.Conv2D(4, 3, padding=(1, 2)), "BL303", "(before, after)"),
        (lambda: bl.Conv2D(4, 3, padding=-1), "BL303", "padding"),
        (lambda: bl.Conv2D(4, 3, padding=((0, -1), (0, 0))), "BL303", "padding"),
        (lambda: bl.Conv2D(4, 3, groups=0), "BL303", "groups"),
        (lambda: bl.MaxPool2D(stride=0), "BL303", "stride"),
        (lambda: bl.UpSample2D(2, "cubic"), "BL303", "'nearest', 'bilinear'"),
        (lambda: bl.AdaptiveAvgPool2D(0), "BL303", "size"),
        (lambda: bl.GroupNorm(0), "BL303", "groups"),
        (lambda: bl.InstanceNorm(eps=-1.0), "BL303", "eps"),
        (lambda: output(bl.Conv2D(4, 3), 6, 2), "BL132", "x[N, H, W, C]"),
        (lambda: output(bl.Conv1D(4, 3), 6, 6, 2), "BL132", "x[N, T, C]"),
        (lambda: output(bl.MaxPool2D(2), 6), "BL132", "maxpool1"),
        (lambda: output(bl.GlobalAvgPool2D(), 6, 2), "BL132", "globalavgpool1"),
        (lambda: output(bl.Conv2D(4, 3, groups=2), 6, 6, 3), "BL131", "conv1"),
        (lambda: output(bl.Conv2D(4, 7, padding="valid"), 6, 6, 3), "BL130", "conv1.z"),
        (lambda: output(bl.MaxPool2D(4), 3, 3, 1), "BL130", "maxpool1.a"),
        (lambda: output(bl.GroupNorm(2), 6, 6, 3), "BL131", "groupnorm1.a"),
        (lambda: output(bl.ConvTranspose2D(2, 2, padding=((0, -3), (0, 0))), 4, 4, 1), "BL104", "convtranspose1.z"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, code, says):
    with pytest.raises(InputError) as refused:
        make()
    assert refused.value.code == code
    assert says in str(refused.value)


# --- whole models -----------------------------------------------------------------------------------------------------


def residual(x):
    """A small residual network: two convolutions beside a shortcut of stride 2, then one more."""
    h = bl.BatchNorm()(bl.Conv2D(4, 3, activation="tanh")(x))
    wide = bl.GroupNorm(2)(bl.Conv2D(6, 3, stride=2, activation="silu")(h))
    h = bl.Conv2D(6, 1, stride=2, bias=False)(h) + bl.Conv2D(6, 3)(wide)
    return bl.Dense(3)(bl.GlobalAvgPool2D()(bl.Conv2D(6, 3, groups=6, activation="relu")(h)))


@pytest.fixture(scope="module")
def net():
    x, y = np.random.default_rng(5).normal(size=(6, 7, 6, 2)), np.arange(6) % 3
    model = bl.Model(residual).build((7, 6, 2), seed=2, dtype="float64")
    return model, x, y


def test_every_gradient_of_a_residual_network_is_certified(net):
    model, x, y = net
    assert bl.check(model, x, y, loss="softmax_cross_entropy").ok


def test_a_residual_network_is_derived_and_costed(net):
    model, _, _ = net
    text = str(bl.derive(model))
    assert "conv2" in text
    cost = bl.cost(model, batch_size=4)
    places, patch = 4 * 7 * 6, 9 * 2
    products, sums, bias = 2 * places * patch * 4, 2 * places * 4, places * 4
    assert (
        cost["conv1.z"].forward.flops == products + sums + bias
    )  # three products, one for each row of the kernel, added up


def test_explaining_a_weight_ranks_the_places_of_the_images(net):
    model, x, y = net
    trace = bl.trace(model, x, y, loss="softmax_cross_entropy")
    receipt = trace.explain("conv1.W[0,1,2,0]")
    assert receipt.value == trace.grad("conv1.W")[0, 1, 2, 0]
    delta, shares = trace.delta("conv1"), {}
    for n, i, j in np.ndindex(6, 7, 5):  # the last column of the kernel does not reach the image from j = 5
        shares[n, i, j] = delta[n, i, j, 0] * x[n, i, j + 1, 0]
    assert len(receipt.terms) == len(shares)
    ranked = sorted(shares.values(), key=abs, reverse=True)
    np.testing.assert_allclose([abs(t.value) for t in receipt.terms], np.abs(ranked), rtol=1e-12)
    largest = max(shares, key=lambda at: abs(shares[at]))
    n, i, j = largest
    assert receipt.terms[0].label == f"n={n}, i={i}, j={j}"
    assert [str(e) for e, _ in receipt.terms[0].operands] == [f"conv1.δ[{n},{i},{j},0]", f"x[{n},{i},{j + 1},0]"]
    assert receipt.formula.endswith("x[n,i + p - 1,j + q - 1,c]")


def test_explaining_an_error_term_names_the_filters_that_send_it(net):
    model, x, y = net
    trace = bl.trace(model, x, y, loss="softmax_cross_entropy")
    for what in ("conv2.delta[0,1,1,3]", "∂batchnorm1.a[2,6,3,1]", "∂x[1,0,5,1]", "conv4.z[3,2,1,0]"):
        receipt = trace.explain(what)
        assert receipt.recompute() == receipt.value
        assert receipt.exact == pytest.approx(receipt.value, rel=1e-9, abs=1e-15)
    found = trace.explain("∂x[1,0,5,1]")
    assert len(found.terms) == 4 * 2 * 2  # a corner is seen by the 2 × 2 nearest places of each of 4 filters


def test_paths_from_a_weight_of_a_convolution_add_up(net):
    model, x, y = net
    found = bl.trace(model, x[:2], y[:2], loss="softmax_cross_entropy").paths("conv4.W[1,0,2,3]", limit=3)
    assert math.fsum(p.value for p in found) == pytest.approx(found.gradient, rel=1e-9)


def test_a_convolutional_network_is_summarised_and_learns(net):
    model, _, _ = net
    assert "conv3" in str(model.summary())
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64)
    images = rng.normal(0, 0.3, size=(64, 8, 8, 1))
    for image, label in zip(images, labels, strict=True):  # a bar, lying or standing
        at = rng.integers(1, 7)
        image[(at, slice(None)) if label else (slice(None), at)] += 1.0
    cnn = bl.Sequential(bl.Conv2D(4, 3, activation="relu"), bl.MaxPool2D(2), bl.Flatten(), bl.Dense(2))
    options = {"loss": "softmax_cross_entropy", "optimizer": bl.Adam(0.02), "epochs": 12, "batch_size": 16}
    run = bl.fit(cnn, (images, labels), **options, seed=0, progress=False, engine="reference")
    assert run.history["accuracy"][-1] == 1.0


@pytest.mark.torch
def test_a_residual_network_beside_pytorch(net):
    t = pytest.importorskip("torch")
    model, x, y = net
    F, p = t.nn.functional, {n: t.tensor(a, requires_grad=True) for n, a in model.params.items()}

    def conv(h, name, **options):
        W = p[f"{name}.W"].permute(0, 3, 1, 2)
        return F.conv2d(h, W, p.get(f"{name}.b"), **options)

    images = t.tensor(x).permute(0, 3, 1, 2)
    h = t.tanh(conv(images, "conv1", padding=1))
    h = F.batch_norm(h, None, None, p["batchnorm1.gamma"], p["batchnorm1.beta"], training=True)
    wide = F.silu(conv(F.pad(h, (0, 1, 1, 1)), "conv2", stride=2))  # 7 rows and 6 columns under stride 2
    wide = F.group_norm(wide, 2, p["groupnorm1.gamma"], p["groupnorm1.beta"])
    h = conv(h, "conv3", stride=2) + conv(wide, "conv4", padding=1)
    h = F.relu(conv(h, "conv5", padding=1, groups=6)).mean(dim=(2, 3))
    want = F.cross_entropy(F.linear(h, p["dense1.W"], p["dense1.b"]), t.tensor(y))
    want.backward()
    loss, grads = bl.value_and_grad(model, x, y, loss="softmax_cross_entropy")
    assert loss == pytest.approx(want.item(), rel=1e-12)
    for name, g in grads.items():
        np.testing.assert_allclose(g, p[name].grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
