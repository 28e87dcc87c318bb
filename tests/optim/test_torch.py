"""Fifty steps beside torch.optim, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from backlit import optim
from optim.variants import VARIANTS, learning_rate, problem

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def torch():
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)  # NAdam keeps its momentum product in the default dtype
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.torch_name])
def test_fifty_steps_and_the_state_agree(torch, name):
    optimizer, torch_name, options, slots = VARIANTS[name]
    params, gradient = problem()
    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}
    reference = getattr(torch.optim, torch_name)(theirs.values(), **options)
    state = optim.init_state(np, optimizer, params)
    for t in range(1, 51):
        for k, g in gradient({k: v.detach().numpy() for k, v in theirs.items()}, t).items():
            theirs[k].grad = torch.tensor(g)
        reference.step()
        params, state = optim.apply(np, optimizer, params, gradient(params, t), state, lr=learning_rate(optimizer), t=t)
        for k, p in params.items():
            np.testing.assert_allclose(p, theirs[k].detach().numpy(), rtol=1e-10, atol=1e-10)
    assert set(slots) == set(optimizer.slots)
    for k, tensor in theirs.items():
        for slot, torch_slot in slots.items():
            their_slot = reference.state[tensor][torch_slot].numpy()
            np.testing.assert_allclose(state[k][slot], their_slot, rtol=1e-10, atol=1e-13)


def test_default_options_are_those_of_pytorch_where_they_have_the_same_name(torch):
    own_defaults = {"SGD": 0.01}  # PyTorch's 0.001 is too small to see anything move
    for kind in (optim.SGD, optim.Adagrad, optim.Adadelta, optim.RMSprop, optim.Adam, optim.AdamW, optim.NAdam):
        theirs = getattr(torch.optim, kind.__name__)([torch.zeros(1, requires_grad=True)]).defaults
        ours = kind()
        assert learning_rate(ours) == own_defaults.get(kind.__name__, theirs["lr"])
        assert {k: v for k, v in ours.options.items() if k in theirs} == {
            k: theirs[k] for k in ours.options if k in theirs
        }
        assert (ours.options.get("beta1"), ours.options.get("beta2")) == tuple(theirs.get("betas", (None, None)))


@pytest.mark.parametrize("limit", [0.05, 1.0, 1e3])
def test_clipping_agrees(torch, limit):
    params, gradient = problem()
    grads = gradient(params, 1)

    def clipped_by_torch(clip, names):
        tensors = {n: torch.zeros(grads[n].shape, requires_grad=True) for n in names}
        for n, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[n])
        clip(tensors.values(), limit)
        return {n: tensor.grad.numpy() for n, tensor in tensors.items()}

    utils = torch.nn.utils
    expected = {
        optim.ClipByValue: clipped_by_torch(utils.clip_grad_value_, grads),
        optim.ClipByGlobalNorm: clipped_by_torch(utils.clip_grad_norm_, grads),
        optim.ClipByNorm: {n: clipped_by_torch(utils.clip_grad_norm_, [n])[n] for n in grads},
    }
    for kind, theirs in expected.items():
        ours = kind(limit)(np, grads)
        for n in grads:
            np.testing.assert_allclose(ours[n], theirs[n], rtol=1e-14, atol=0)


def rates(torch, lr, make, count):
    """The rates that a PyTorch scheduler sets, one before each of ``count`` of its steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_step_decay_and_exponential_agree_per_epoch(torch):
    schedulers, per_epoch = torch.optim.lr_scheduler, 4
    cases = [
        (optim.StepDecay(0.3, every=3, factor=0.5), lambda o: schedulers.StepLR(o, 3, 0.5)),
        (optim.Exponential(0.3, factor=0.8), lambda o: schedulers.ExponentialLR(o, 0.8)),
    ]
    for schedule, make in cases:
        ours = [schedule(step, 40, per_epoch) for step in range(1, 41)]
        theirs = np.repeat(rates(torch, 0.3, make, 10), per_epoch)
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # from inside SequentialLR
def test_cosine_and_warmup_agree_per_step(torch):
    schedulers = torch.optim.lr_scheduler

    def warm(o):
        linear = schedulers.LinearLR(o, start_factor=0.25, total_iters=8)
        return schedulers.SequentialLR(o, [linear, schedulers.CosineAnnealingLR(o, 32, eta_min=0.01)], [8])

    cases = [
        (optim.Cosine(0.3, floor=0.01), lambda o: schedulers.CosineAnnealingLR(o, 40, eta_min=0.01)),
        (optim.Warmup(optim.Constant(0.3), 8, 0.25), lambda o: schedulers.LinearLR(o, 0.25, total_iters=8)),
        (optim.Warmup(optim.Cosine(0.3, floor=0.01), 8, 0.25), warm),
    ]
    for schedule, make in cases:
        ours = [schedule(step, 40, 4) for step in range(1, 41)]
        np.testing.assert_allclose(ours, rates(torch, 0.3, make, 40), rtol=1e-12)


@pytest.mark.parametrize("curve", ["cosine", "linear"])
@pytest.mark.parametrize(("total", "rise"), [(40, 0.3), (37, 0.25), (5, 0.9), (3, 0.1)])
def test_one_cycle_agrees(torch, curve, total, rise):
    def make(o):
        strategy = {"cosine": "cos", "linear": "linear"}[curve]
        options = {"pct_start": rise, "anneal_strategy": strategy, "div_factor": 10.0, "final_div_factor": 100.0}
        return torch.optim.lr_scheduler.OneCycleLR(o, 0.5, total_steps=total, cycle_momentum=False, **options)

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler, theirs = make(optimizer), []
    for step in range(total):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    schedule = optim.OneCycle(0.5, rise=rise, start_divisor=10.0, end_divisor=100.0, curve=curve)
    np.testing.assert_allclose([schedule(s, total, 1) for s in range(1, total + 1)], theirs, rtol=1e-12)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (2, 0), (1, 3)])
def test_reduce_on_plateau_agrees(torch, mode, threshold_mode, patience, cooldown):
    shared = {"mode": mode, "factor": 0.5, "patience": patience, "threshold": 0.05, "cooldown": cooldown}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, threshold_mode=threshold_mode, min_lr=0.003, eps=1e-3, **shared
    )
    ours = optim.ReduceOnPlateau(0.4, threshold_mode=threshold_mode, floor=0.003, eps=1e-3, **shared)
    rng, state, seen = np.random.default_rng(3), ours.initial(), set()
    for epoch in range(1, 61):
        trend = 1.0 / epoch if mode == "min" else 3.0 - 1.0 / epoch
        metric = float("nan") if epoch == 20 else trend + 0.05 * rng.normal()
        theirs.step(metric)
        state = ours.observe(state, metric)
        assert ours.rate(state, epoch, 60, 1) == optimizer.param_groups[0]["lr"]
        assert (state["bad"], state["cooldown"], state["best"]) == (
            theirs.num_bad_epochs, theirs.cooldown_counter, theirs.best,
        )  # fmt: skip
        seen.add(state["learning_rate"])
    assert len(seen) > 3
