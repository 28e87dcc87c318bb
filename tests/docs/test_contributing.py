"""The worked examples of CONTRIBUTING.md do what the page says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


def run(index, module="contributed"):
    scope = {"__name__": module}
    exec(compile(BLOCKS[index], f"{PAGE.name}[{index}]", "exec", dont_inherit=True), scope)
    return scope


@pytest.fixture
def registries():
    """What the examples register is gone afterwards."""
    import backlit as bl
    from backlit.nn.layer import Layer
    from backlit.optim.recipe import RECIPES
    from backlit.rules import REGISTRY

    for name in bl.__all__:  # what is loaded late has entered itself before the tables are kept
        getattr(bl, name)
    tables = [(table, dict(table)) for table in (Layer.KINDS, RECIPES, REGISTRY)]
    yield
    for table, before in tables:
        table.clear()
        table.update(before)


def test_there_are_four_examples():
    assert len(BLOCKS) == 4


def test_the_rule_passes_every_quick_oracle(registries):
    from rules.oracles import ORACLES

    softsign = run(0)["softsign"]
    judged = 0
    for oracle in ORACLES.values():
        for case in softsign.cases(np.random.default_rng(0)):
            if oracle.lane is None and oracle.applies(softsign, case):
                oracle(softsign, case)
                judged += 1
    assert judged > 20


def test_the_layer_trains_and_is_saved(registries, tmp_path):
    import backlit as bl

    Scale = run(2)["Scale"]
    X = np.random.default_rng(0).normal(size=(64, 3))
    model = bl.Sequential(Scale(0.5))
    bl.fit(model, (X, X * [1.0, 2.0, 3.0]), loss="mse", optimizer=bl.SGD(0.5), epochs=40, progress=False)
    assert np.allclose(model.params["scale1.gamma"], [1, 2, 3], atol=1e-3)
    bl.save(model, tmp_path / "scale.safetensors")
    again = bl.load(tmp_path / "scale.safetensors")
    assert np.array_equal(again.predict(X), model.predict(X))


def test_the_optimizer_is_found_by_name_and_trains(registries):
    import backlit as bl

    run(3)
    X = np.random.default_rng(0).normal(size=(64, 2))
    model = bl.Sequential(bl.Dense(1))
    settings = {"loss": "mse", "optimizer": "sign_momentum", "epochs": 60, "progress": False}
    result = bl.fit(model, (X, X @ [[1.0], [-1.0]]), **settings)
    assert result.history["loss"][-1] < 0.01 * result.history["loss"][0]


def test_the_kernel_does_what_the_rule_does(registries, tmp_path, monkeypatch):
    pytest.importorskip("numba")
    import backlit as bl
    from backlit.engines.fast import jit, lowering

    run(0)
    for table in (jit.KERNELS, lowering.TABLE):
        for name in ("softsign", "softsign_grad"):
            monkeypatch.setitem(table, name, None)
            table.pop(name)
    (tmp_path / "contributed_kernels.py").write_text(BLOCKS[1], "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("contributed_kernels")

    class Softsign(bl.Layer):
        def stage(self, scope, x):
            return scope.node("a", "softsign", x)

    def trained(engine):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(64, 5)).astype(np.float32)
        model = bl.Sequential(bl.Dense(8), Softsign(), bl.Dense(1))
        settings = {"loss": "mse", "optimizer": bl.SGD(0.1), "epochs": 3, "engine": engine, "progress": False}
        return bl.fit(model, (X, X[:, :1]), **settings).model

    by_kernel, by_rule = trained("fast"), trained("reference")
    listing = bl.program(by_kernel, 8).show()
    assert "softsign(dense1_z_flat, softsign1_a_flat)" in listing
    assert "softsign_grad(" in listing
    assert np.allclose(by_kernel.params["dense1.W"], by_rule.params["dense1.W"], atol=1e-6)
