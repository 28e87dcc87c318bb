"""Convolution and its relatives at many settings beside PyTorch, and what holds of them whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from backlit.core.errors import InputError
from backlit.interop.images_torch import EQUIVALENTS
from backlit.rules import get
from rules.applied import Applied

SAME = {"stride": (1, 1), "padding": ((1, 1), (1, 1))}


def drawn(seed):
    """(inputs, attributes) of a random convolution: channels in groups, and an image that the kernel fits into."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 4))
    channels, filters = (int(groups * rng.integers(1, 4)) for _ in range(2))
    kernel, stride, dilation = (tuple(map(int, rng.integers(1, 4, size=2))) for _ in range(3))
    padding = tuple(tuple(map(int, rng.integers(0, 3, size=2))) for _ in range(2))
    least = [max(d * (k - 1) + 1 - sum(p), 1) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = [int(n + rng.integers(0, 5)) for n in least]
    x = rng.normal(size=(int(rng.integers(1, 4)), *size, channels))
    W, b = rng.normal(size=(filters, *kernel, channels // groups)), rng.normal(size=filters)
    return (x, W, b), {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def beside_torch(t, name, inputs, attributes):
    """The rule and PyTorch, with outputs and gradients within 1e-10 of the largest."""
    rule = Applied(name, *inputs, **attributes)
    given = [t.tensor(a).requires_grad_() for a in inputs]
    want = EQUIVALENTS[name](t, *given, **attributes)
    dy = np.random.default_rng(0).normal(size=rule.y.shape)
    grads = t.autograd.grad(want, given, t.tensor(dy))
    wanted = [a.detach().numpy() for a in (want, *grads)]
    for got, expected in zip((rule.y, *rule.back(dy)), wanted, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * max(1.0, np.abs(expected).max()))


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(200))
def test_conv2d_at_random_settings(seed):
    t = pytest.importorskip("torch")
    inputs, attributes = drawn(seed)
    beside_torch(t, "conv2d", inputs, attributes)


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(40))
def test_conv_transpose2d_at_random_settings(seed):
    t = pytest.importorskip("torch")
    inputs, attributes = drawn(seed)
    try:
        get("conv_transpose2d").shapes(*map(np.shape, inputs), **attributes)
    except InputError:
        attributes["padding"] = ((0, 0), (0, 0))
    beside_torch(t, "conv_transpose2d", inputs, attributes)


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_pooling_at_random_settings(name, seed):
    t = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    kernel, stride = (tuple(map(int, rng.integers(1, 5, size=2))) for _ in range(2))
    padding = tuple(tuple(map(int, rng.integers(0, k, size=2))) for k in kernel)
    x = rng.normal(size=(2, *(int(k + rng.integers(0, 6)) for k in kernel), 3))
    beside_torch(t, name, (x,), {"kernel": kernel, "stride": stride, "padding": padding})


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(20))
def test_resampling_at_random_sizes(seed):
    t = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    x, pair = rng.normal(size=(2, *rng.integers(1, 8, size=2), 3)), tuple(map(int, rng.integers(1, 5, size=2)))
    beside_torch(t, "adaptive_avg_pool2d", (x,), {"size": pair})
    for name in ("upsample_nearest2d", "upsample_bilinear2d"):
        beside_torch(t, name, (x,), {"scale": pair})


def test_a_window_that_lies_beside_the_image_sends_it_nothing():
    """The kernel's only place is on the rim, two columns before the image."""
    inputs = np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1))
    rule = Applied("conv2d", *inputs, stride=(1, 3), padding=((0, 0), (2, 0)))
    assert rule.y.tolist() == [[[[0.0]]]]
    assert rule.back()[0].tolist() == [[[[0.0]]]]


# --- identities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_convolution_and_transposed_convolution_are_adjoint(seed):
    """<conv(x), z> = <x, conv_transpose(z)> with the kernel's ends exchanged."""
    (x, W, _), attributes = drawn(seed)
    attributes["groups"] = 1
    W = np.random.default_rng(seed).normal(size=(*W.shape[:3], x.shape[-1]))
    z = Applied("conv2d", x, W, **attributes).y
    span = [d * (k - 1) + 1 for k, d in zip(W.shape[1:3], attributes["dilation"], strict=True)]
    axes = zip(x.shape[1:3], z.shape[1:3], attributes["stride"], span, attributes["padding"], strict=True)
    rest = [n - ((m - 1) * s + k - sum(p)) for n, m, s, k, p in axes]  # what the strides did not reach
    attributes["padding"] = tuple((p[0], p[1] - r) for p, r in zip(attributes["padding"], rest, strict=True))
    other = np.random.default_rng(seed + 1).normal(size=z.shape)
    back = Applied("conv_transpose2d", other, W.transpose(3, 1, 2, 0), **attributes).y
    assert np.vdot(z, other) == pytest.approx(np.vdot(x, back), rel=1e-12)


def test_a_kernel_of_one_pixel_is_a_dense_layer_at_every_place():
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 1, 1, 5)), rng.normal(size=6)
    np.testing.assert_allclose(Applied("conv2d", x, W, b).y, Applied("linear", x, W[:, 0, 0], b).y, rtol=1e-13)


def test_a_kernel_as_large_as_the_image_is_a_dense_layer():
    rng = np.random.default_rng(1)
    x, W = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 3, 4, 5))
    want = Applied("linear", x.reshape(2, -1), W.reshape(6, -1)).y
    np.testing.assert_allclose(Applied("conv2d", x, W).y[:, 0, 0], want, rtol=1e-12)


def test_an_image_that_moves_moves_the_output():
    rng = np.random.default_rng(2)
    x, W = rng.normal(size=(1, 8, 8, 2)), rng.normal(size=(3, 3, 3, 2))
    whole = Applied("conv2d", x, W).y
    assert np.allclose(Applied("conv2d", x[:, 2:, 1:], W).y, whole[:, 2:, 1:], rtol=1e-13)


def test_groups_are_convolutions_side_by_side():
    rng = np.random.default_rng(3)
    x, W = rng.normal(size=(2, 5, 5, 6)), rng.normal(size=(9, 3, 3, 2))
    parts = [Applied("conv2d", x[..., 2 * g : 2 * g + 2], W[3 * g : 3 * g + 3], **SAME).y for g in range(3)]
    found = Applied("conv2d", x, W, groups=3, **SAME).y
    np.testing.assert_allclose(found, np.concatenate(parts, axis=-1), rtol=1e-12, atol=1e-13)


def test_conv1d_is_conv2d_of_one_row():
    rng = np.random.default_rng(4)
    x, W = rng.normal(size=(2, 7, 4)), rng.normal(size=(6, 3, 2))
    one = Applied("conv1d", x, W, stride=2, padding=(1, 0), dilation=2, groups=2).y
    options = {"stride": (1, 2), "padding": ((0, 0), (1, 0)), "dilation": (1, 2), "groups": 2}
    np.testing.assert_array_equal(one, Applied("conv2d", x[:, None], W[:, None], **options).y[:, 0])


def test_pooling_one_window_is_a_reduction():
    x = np.random.default_rng(5).normal(size=(2, 3, 4, 5))
    whole = {"kernel": (3, 4), "stride": (1, 1)}
    np.testing.assert_array_equal(Applied("max_pool2d", x, **whole).y[:, 0, 0], x.max(axis=(1, 2)))
    np.testing.assert_allclose(Applied("avg_pool2d", x, **whole).y[:, 0, 0], x.mean(axis=(1, 2)), rtol=1e-13)
    np.testing.assert_allclose(
        Applied("adaptive_avg_pool2d", x, size=(1, 1)).y[:, 0, 0], x.mean(axis=(1, 2)), rtol=1e-13
    )


def test_a_nan_is_not_hidden_by_pooling():
    x = np.ones((1, 2, 2, 1))
    x[0, 1, 0, 0] = np.nan
    assert np.isnan(Applied("max_pool2d", x, kernel=(2, 2), stride=(2, 2)).y).all()


def test_pooling_an_upsampled_image_gives_it_back():
    x = np.random.default_rng(6).normal(size=(2, 3, 2, 4))
    large = Applied("upsample_nearest2d", x, scale=(2, 3)).y
    np.testing.assert_array_equal(Applied("max_pool2d", large, kernel=(2, 3), stride=(2, 3)).y, x)


def test_bilinear_keeps_straight_lines_inside():
    x = np.arange(5.0)[None, :, None, None] * 4
    y = Applied("upsample_bilinear2d", x, scale=(4, 1)).y[0, :, 0, 0]
    assert y[2:-2].tolist() == [0.5 + i for i in range(16)]
    assert (y[:2].tolist(), y[-2:].tolist()) == ([0.0, 0.0], [16.0, 16.0])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groupnorm_gives_every_group_mean_0_and_variance_1(groups):
    x = 5 + 3 * np.random.default_rng(7).normal(size=(2, 3, 3, 4))
    y = Applied("groupnorm", x, np.ones(4), np.zeros(4), groups=groups, eps=1e-12).y.reshape(2, 9, groups, -1)
    np.testing.assert_allclose(y.mean(axis=(1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(1, 3)), 1, rtol=1e-10)


def test_instancenorm_is_groupnorm_of_single_channels():
    rng = np.random.default_rng(8)
    arguments = (rng.normal(size=(2, 3, 3, 4)), rng.normal(size=4), rng.normal(size=4))
    one, other = Applied("instancenorm", *arguments), Applied("groupnorm", *arguments, groups=4)
    np.testing.assert_array_equal(one.y, other.y)


# --- what is refused --------------------------------------------------------------------------------------------------

X, W = (2, 6, 5, 4), (8, 3, 3, 2)


@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "code", "says"),
    [
        ("conv2d", (X[1:], W), {"groups": 2}, "BL132", "x[N, H, W, C]"),
        ("conv1d", (X, W), {}, "BL132", "x[N, T, C]"),
        ("conv2d", (X, W), {}, "BL102", "W[8, kh, kw, 4]"),
        ("conv1d", ((2, 6, 4), (8, 3, 2)), {}, "BL102", "W[8, k, 4]"),
        ("conv2d", (X, W, (7,)), {"groups": 2}, "BL102", "b[8]"),
        ("conv2d", (X, W), {"groups": 3}, "BL131", "channels = 4"),
        ("conv2d", (X, (9, 3, 3, 2)), {"groups": 2}, "BL131", "filters = 9"),
        ("conv2d", (X, W), {"groups": 0}, "BL131", "groups ≥ 1"),
        ("conv2d", (X, (8, 7, 3, 4)), {}, "BL130", "≤ 6 × ≤ 5"),
        ("conv2d", (X, (8, 3, 3, 4)), {"dilation": (1, 3)}, "BL130", "3 × 7"),
        ("conv2d", (X, (8, 3, 3, 4)), {"stride": (0, 1)}, "BL104", "stride"),
        ("conv2d", (X, (8, 3, 3, 4)), {"stride": (1,)}, "BL104", "stride"),
        ("conv2d", (X, (8, 3, 3, 4)), {"padding": ((0, -1), (0, 0))}, "BL104", "padding"),
        ("conv_transpose2d", (X, (8, 3, 3, 4)), {"padding": ((4, 4), (0, 0))}, "BL104", "padding"),
        ("conv_transpose2d", (X, (8, 3, 3, 4)), {"padding": ((0, -1), (0, 0))}, "BL104", "1 - stride"),
        ("max_pool2d", (X,), {"kernel": (7, 2), "stride": (1, 1)}, "BL130", "≤ 6"),
        ("avg_pool2d", (X,), {"kernel": (2, 2), "stride": (1, 1), "padding": ((2, 0), (0, 0))}, "BL104", "< kernel"),
        ("adaptive_avg_pool2d", (X,), {"size": (0, 1)}, "BL104", "size"),
        ("upsample_nearest2d", (X,), {"scale": (0, 1)}, "BL104", "scale"),
        ("upsample_bilinear2d", (X[1:],), {"scale": (2, 2)}, "BL132", "x[6, 5, 4]"),
        ("groupnorm", (X, (4,), (4,)), {"groups": 3}, "BL131", "channels % 3"),
        ("groupnorm", (X, (3,), (4,)), {"groups": 2}, "BL102", "gamma[4]"),
        ("instancenorm", ((3,), (3,), (3,)), {}, "BL132", "x[3]"),
    ],
)
def test_shapes_and_options_that_do_not_fit(name, shapes, attributes, code, says):
    with pytest.raises(InputError) as refused:
        get(name).shapes(*shapes, **attributes)
    assert refused.value.code == code
    assert says in str(refused.value)
