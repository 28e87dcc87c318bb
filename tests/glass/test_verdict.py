"""Verdicts on ledgers made by hand: which finding, of which layer, for which cause, and in what words."""

from __future__ import annotations

import json
import math

import pytest

from backlit.core.i18n import LANGUAGES, use_language
from backlit.glass.flow import CAUSES, FlowLedger, Gain, Row
from backlit.glass.verdict import DEAD, EXPLODED, SETTLED, VANISHED, Verdict, verdict


def gain(cause, value, where="", **more):
    return Gain(cause, where or f"{cause} node", "rule", value, **more)


def top(norm=1.0, *, error=1.0, scale=0.1, dead=None):
    """The row next to the loss."""
    gains = [gain("scale", scale), gain("error", error)]
    gains += [] if dead is None else [gain("slope", 0.5, "last.a", dead=dead)]
    return Row("last", "last.z", norm, "loss", norm, tuple(gains))


def ledger(*rows, samples=64):
    return FlowLedger(rows, samples)


def chain(*links, above=None):
    """Rows below the top: each link is the list of gains from the row above to this one."""
    rows = [above or top()]
    for i, gains in enumerate(links, start=1):
        ratio = math.prod(g.gain for g in gains)
        before = rows[-1]
        rows.append(Row(f"layer{i}", f"layer{i}.z", before.norm * ratio, before.value, ratio, tuple(gains)))
    return ledger(*rows)


# --- which finding --------------------------------------------------------------------------------------------------


def test_a_layer_that_gets_little_vanishes_for_the_cause_that_takes_most():
    found = verdict(chain([gain("weights", 0.5, "w"), gain("slope", 0.002, "s")]))
    assert (found.kind, found.layer, found.top, found.cause) == ("vanishes", "layer1", "last", "slope")
    assert found.ratio == pytest.approx(1e-3)
    assert (found.factor, found.count, found.gain.where) == (0.002, 1, "s")


def test_many_small_losses_outweigh_a_large_one():
    weights = [gain("weights", w, f"w{w}") for w in (0.3, 0.25, 0.3, 0.3)]
    found = verdict(chain(*([w] for w in weights[:3]), [weights[3], gain("slope", 0.02)]))
    assert (found.cause, found.count) == ("weights", 4)
    assert found.factor == pytest.approx(0.3**3 * 0.25)
    assert found.mean == pytest.approx((0.3**3 * 0.25) ** 0.25)
    assert found.gain.where == "w0.25"


def test_the_mean_of_the_loss_is_no_cause_below_the_top():
    found = verdict(chain([gain("weights", 1e-3)], above=top(scale=1e-6)))
    assert found.cause == "weights"
    assert found.gain.cause == "weights"


def test_the_layer_that_gets_least_is_named():
    found = verdict(chain([gain("weights", 1e-3)], [gain("weights", 1e-2)], [gain("weights", 50.0)]))
    assert (found.layer, found.ratio) == ("layer2", pytest.approx(1e-5))


def test_a_layer_that_gets_much_explodes():
    found = verdict(chain([gain("weights", 30.0, "a"), gain("slope", 0.5)], [gain("weights", 40.0, "b")]))
    assert (found.kind, found.layer, found.cause) == ("explodes", "layer2", "weights")
    assert (found.factor, found.count, found.gain.where) == (1200.0, 2, "b")
    assert found.ratio == pytest.approx(600.0)


@pytest.mark.parametrize(("ratio", "kind"), [(VANISHED, "usual"), (0.99 * VANISHED, "vanishes"), (1.0, "usual")])
def test_where_vanishing_begins(ratio, kind):
    assert verdict(chain([gain("weights", ratio)])).kind == kind


@pytest.mark.parametrize(("ratio", "kind"), [(EXPLODED, "usual"), (1.01 * EXPLODED, "explodes")])
def test_where_exploding_begins(ratio, kind):
    assert verdict(chain([gain("weights", ratio)])).kind == kind


def test_what_arrives_nowhere_has_vanished():
    found = verdict(chain([gain("weights", 2.0), gain("slope", 0.0, "dead.a", dead=1.0)]))
    assert (found.kind, found.ratio, found.cause, found.gain.where) == ("vanishes", 0.0, "slope", "dead.a")
    assert found.dead == {"dead.a": 1.0}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_explodes_before_all_else(broken):
    rows = list(chain([gain("weights", 1e-5)]).rows)
    rows.append(Row("below", "below.z", broken, "layer1.z", broken, (gain("weights", math.inf, "w"),)))
    found = verdict(ledger(*rows))
    assert (found.kind, found.layer, found.cause, found.gain.where) == ("explodes", "below", "weights", "w")


@pytest.mark.parametrize(("dead", "kind"), [(DEAD, "dead"), (DEAD - 0.01, "usual"), (1.0, "dead"), (0.0, "usual")])
def test_many_dead_units_are_said_though_something_passes(dead, kind):
    found = verdict(chain([gain("weights", 1.0), gain("slope", 0.4, "relu", dead=dead)]))
    assert found.kind == kind
    assert found.dead == ({"relu": dead} if kind == "dead" else {})


def test_of_several_dead_layers_the_deadest_is_named_and_all_are_listed():
    links = [[gain("slope", 0.5, f"relu{i}", dead=d)] for i, d in enumerate((0.85, 0.95, 0.2, 0.9))]
    found = verdict(chain(*links))
    assert (found.kind, found.layer, found.gain.where) == ("dead", "layer2", "relu1")
    assert list(found.dead.items()) == [("relu3", 0.9), ("relu1", 0.95), ("relu0", 0.85)]


def test_vanishing_comes_before_dead_units():
    found = verdict(chain([gain("weights", 1e-4)], [gain("slope", 0.9, "relu", dead=0.9)]))
    assert (found.kind, found.cause) == ("vanishes", "weights")
    assert found.dead == {"relu": 0.9}


@pytest.mark.parametrize(("error", "kind"), [(SETTLED, "vanishes"), (1e-9, "settled"), (1.0, "vanishes")])
def test_a_loss_that_is_met_is_no_fault_of_the_layers(error, kind):
    found = verdict(chain([gain("weights", 1e-5)], above=top(error=error, scale=1.0)))
    assert found.kind == kind


def test_the_error_is_that_of_one_sample():
    """‖m ∂L/∂output‖ / √m: with 1/m for the scale, a batch a million times as large may err a thousand times more."""
    small, large = 0.5e-6, 0.5e-3
    assert verdict(ledger(top(error=small, scale=1.0))).kind == "settled"
    assert verdict(ledger(top(error=large, scale=1e-6))).kind == "settled"
    assert verdict(ledger(top(error=large, scale=1.0))).kind == "usual"
    assert verdict(ledger(top(error=4 * large, scale=1e-6))).kind == "usual"


def test_one_output_that_is_not_met_is_enough_to_go_on():
    other = Row("second", "second.z", 1.0, "loss", 1.0, (gain("scale", 1.0), gain("error", 1.0)))
    assert verdict(ledger(top(error=0.0), other)).kind == "usual"
    assert verdict(ledger(top(error=0.0), top(error=0.0))).kind == "settled"


def test_a_layer_is_compared_with_the_top_of_its_own_way():
    """Two outputs: the small one's layers are small for its own reasons."""
    small = Row("small", "small.z", 1e-6, "loss", 1e-6, (gain("scale", 1.0), gain("error", 1e-4)))
    below = Row("below", "below.z", 5e-7, "small.z", 0.5, (gain("weights", 0.5),))
    found = verdict(ledger(top(), small, below))
    assert (found.kind, found.layer, found.top, found.ratio) == ("usual", "below", "small", 0.5)


def test_nothing_unusual_is_said_of_the_layer_that_changed_most():
    found = verdict(chain([gain("weights", 0.5)], [gain("weights", 8.0)], [gain("weights", 0.5)]))
    assert (found.kind, found.layer, found.top) == ("usual", "layer2", "last")
    assert found.ratio == pytest.approx(4.0)
    assert (found.cause, found.gain) == ("", None)


def test_a_net_without_layers_is_usual():
    found = verdict(ledger(samples=3))
    assert (found.kind, found.samples, found.layer) == ("usual", 3, "")


def test_a_top_without_delta_is_compared_with_nothing():
    rows = (top(0.0, error=1.0), Row("layer1", "layer1.z", 0.0, "last.z", 1.0, (gain("weights", 1.0),)))
    found = verdict(ledger(*rows))
    assert (found.kind, found.ratio) == ("usual", 1.0)


def test_the_mean_of_no_gains_is_one():
    assert Verdict("usual").mean == 1.0


# --- in words -------------------------------------------------------------------------------------------------------

KINDS = ("vanishes", "explodes", "dead", "settled", "usual")


def example(kind, cause=""):
    return Verdict(kind, "dense1", "dense9", 0.0123, cause, 0.25, 2, gain(cause or "weights", 0.125, "dense3.a"), 64)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_finding_for_every_cause_is_a_sentence(kind, lang):
    with use_language(lang):
        for cause in (*CAUSES, *([""] if kind in ("settled", "usual") else [])):
            text = str(example(kind, cause))
            assert text
            assert not set("{}") & set(text), text
            assert "flow_" not in text
            assert any("\u4e00" <= c <= "\u9fff" for c in text) == (lang == "zh")


def test_the_figures_stand_in_the_sentence():
    text = str(example("vanishes", "slope"))
    for figure in ("dense1", "dense9", "0.012", "0.25", "0.5", "dense3.a", "0.12"):
        assert figure in text, (figure, text)


@pytest.mark.parametrize(("cause", "basis"), [("weights", "he_normal"), ("slope", "sigmoid"), ("dropout", "0.5")])
def test_what_would_be_usual_is_said_with_its_reason(cause, basis):
    extreme = gain(cause, 0.125, "node", usual=0.7071, basis=basis)
    plain, told = (
        str(Verdict("vanishes", "a", "b", 1e-3, cause, 0.1, 1, g)) for g in (gain(cause, 0.125, "node"), extreme)
    )
    assert told.startswith(plain)
    assert "0.71" in told[len(plain) :]


def test_dead_units_are_listed_where_the_slope_is_the_cause():
    dead = {"dense2.a": 0.9, "dense1.a": 0.875}
    text = str(Verdict("vanishes", "a", "b", 1e-3, "slope", 0.1, 1, gain("slope", 0.1), 64, dead))
    assert "dense2.a 90%" in text
    assert "dense1.a 88%" in text
    other = str(Verdict("vanishes", "a", "b", 1e-3, "weights", 0.1, 1, gain("weights", 0.1), 64, dead))
    assert "90%" not in other


def test_as_dict_has_the_sentence_and_is_json():
    found = verdict(chain([gain("weights", 0.5, "w"), gain("slope", 0.002, "s", usual=0.7, basis="relu")]))
    data = json.loads(json.dumps(found.as_dict()))
    assert data["text"] == str(found)
    assert (data["kind"], data["cause"], data["gain"]["where"]) == ("vanishes", "slope", "s")
    assert data["ratio"] == pytest.approx(1e-3)
