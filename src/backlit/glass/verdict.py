"""What a δ-flow ledger says: whether δ vanishes, explodes or meets dead units, at which layer and for which cause.

The thresholds are wide: what lies between them is seen in runs that learn well, and nothing is said of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from backlit.core.i18n import say

if TYPE_CHECKING:
    from backlit.glass.flow import FlowLedger, Gain, Row

VANISHED, EXPLODED = 1e-2, 1e2
"""‖δ‖ of a layer over that of the last layer, below or above which it is called so."""

DEAD = 0.8
"""Share of units without slope from which a layer is called dead; about half is usual for a rectifier."""

SETTLED = 1e-6
"""‖m ∂L/∂output‖/√m below which the loss has nothing left to pass down."""


@dataclass(frozen=True)
class Verdict:
    """What was found; as text, one or two sentences with the figures."""

    kind: str
    """``vanishes``, ``explodes``, ``dead``, ``settled``, or ``usual``: nothing unusual."""
    layer: str = ""
    top: str = ""
    """The layer next to the loss that it is compared with."""
    ratio: float = 1.0
    """‖δ‖ of ``layer`` over that of ``top``."""
    cause: str = ""
    """One of the ledger's causes; empty where none is named."""
    factor: float = 1.0
    """The product of all gains of that cause between the two layers."""
    count: int = 0
    """How many gains those are."""
    gain: Gain | None = None
    """The one among them that does most."""
    samples: int = 0
    dead: Mapping[str, float] = field(default_factory=dict)
    """Activations with many dead units -> their share, in the order of computation."""

    @property
    def mean(self) -> float:
        """The factor of the cause for each of its gains."""
        return self.factor ** (1 / self.count) if self.count else 1.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, the sentence included."""
        return asdict(self) | {"text": str(self)}

    def __str__(self) -> str:
        return "".join([self._finding(), *self._remarks()])

    def _finding(self) -> str:
        numbers = {"ratio": f"{self.ratio:.2g}", "factor": f"{self.factor:.2g}", "mean": f"{self.mean:.2g}"}
        word = say(f"flow_cause_{self.cause}") if self.cause else ""
        at = {"where": self.gain.where, "gain": f"{self.gain.gain:.2g}"} if self.gain else {"where": "", "gain": ""}
        named = {"layer": self.layer, "top": self.top, "cause": word, "count": self.count}
        return say(f"flow_{self.kind}", samples=self.samples, **named, **numbers, **at)

    def _remarks(self) -> list[str]:
        found = []
        if self.gain and self.gain.usual is not None:
            usual = {"usual": f"{self.gain.usual:.2g}", "basis": self.gain.basis}
            found.append(say(f"flow_usual_{self.gain.cause}", **usual))
        if self.dead and self.cause == "slope":
            listed = ", ".join(f"{where} {share:.0%}" for where, share in self.dead.items())
            found.append(say("flow_dead_units", listed=listed, first=next(iter(self.dead)), samples=self.samples))
        return found


def verdict(ledger: FlowLedger) -> Verdict:
    """The most telling finding of a ledger; ``usual`` where there is none."""
    chains = [_chain(ledger, row) for row in ledger.rows]
    if not chains:
        return Verdict("usual", samples=ledger.samples)
    finders = (_settled, _not_finite, _vanishes, _explodes, _dead)
    found = next((v for find in finders if (v := find(chains, ledger)) is not None), None)
    return replace(found or _usual(chains, ledger), dead=_dead_units(ledger))


Chain = list["Row"]
"""A layer and those above it, up to the one next to the loss."""


def _chain(ledger: FlowLedger, row: Row) -> Chain:
    by_value = {r.value: r for r in ledger.rows}
    chain = [row]
    while chain[-1].above in by_value:
        chain.append(by_value[chain[-1].above])
    return chain


def _relative(chain: Chain) -> float:
    """‖δ‖ of the layer over that of the top."""
    return chain[0].norm / chain[-1].norm if chain[-1].norm else 1.0


def _settled(chains: list[Chain], ledger: FlowLedger) -> Verdict | None:
    """Where no layer gets more than rounding from the loss."""
    tops = [c[0] for c in chains if len(c) == 1]
    errors = [r.factor("error") * math.sqrt(r.factor("scale")) for r in tops]
    if all(e < SETTLED for e in errors):
        return Verdict("settled", tops[0].layer, tops[0].layer, samples=ledger.samples)
    return None


def _not_finite(chains: list[Chain], ledger: FlowLedger) -> Verdict | None:
    broken = next((c for c in chains if not math.isfinite(c[0].norm)), None)
    return None if broken is None else _found("explodes", broken, ledger, max)


def _vanishes(chains: list[Chain], ledger: FlowLedger) -> Verdict | None:
    worst = min(chains, key=_relative)
    return _found("vanishes", worst, ledger, min) if _relative(worst) < VANISHED else None


def _explodes(chains: list[Chain], ledger: FlowLedger) -> Verdict | None:
    worst = max(chains, key=_relative)
    return _found("explodes", worst, ledger, max) if _relative(worst) > EXPLODED else None


def _found(kind: str, chain: Chain, ledger: FlowLedger, most: Callable[..., Any]) -> Verdict:
    """The finding with the cause that did ``most`` (min or max) of it, and that cause's extreme gain."""
    gains = [g for row in chain[:-1] or chain for g in row.gains]
    causes = {g.cause: [h for h in gains if h.cause == g.cause] for g in gains}
    cause = most(causes, key=lambda c: sum(_log(g.gain) for g in causes[c]))
    factor = math.prod(g.gain for g in causes[cause])
    extreme = most(causes[cause], key=lambda g: _log(g.gain))
    compared = chain[0].layer, chain[-1].layer, _relative(chain)
    return Verdict(kind, *compared, cause, factor, len(causes[cause]), extreme, ledger.samples)


def _log(gain: float) -> float:
    """Log gain; what is no number counts as without bound."""
    return -math.inf if gain == 0 else math.log(gain) if gain < math.inf else math.inf


def _dead_units(ledger: FlowLedger) -> dict[str, float]:
    gains = [g for row in ledger.rows[::-1] for g in row.gains[::-1]]
    return {g.where: g.dead for g in gains if g.dead is not None and g.dead >= DEAD}


def _dead(chains: list[Chain], ledger: FlowLedger) -> Verdict | None:
    gains = [(g.dead, i, g) for i, c in enumerate(chains) for g in c[0].gains if g.dead is not None]
    share, i, gain = max(gains, key=lambda found: found[0], default=(0.0, 0, None))
    if gain is None or share < DEAD:
        return None
    chain = chains[i]
    compared = chain[0].layer, chain[-1].layer, _relative(chain)
    return Verdict("dead", *compared, "slope", gain.gain, 1, gain, ledger.samples)


def _usual(chains: list[Chain], ledger: FlowLedger) -> Verdict:
    """Said of the layer whose ‖δ‖ has changed most."""
    chain = max(chains, key=lambda c: abs(_log(_relative(c))))
    return Verdict("usual", chain[0].layer, chain[-1].layer, _relative(chain), samples=ledger.samples)
