"""How a value of a graph is written: ``dense1.z`` and its gradient, the error term, in Unicode and in LaTeX."""

from __future__ import annotations

from collections.abc import Mapping

_LETTERS = {"gamma": r"\gamma", "beta": r"\beta", "mean": r"\mu", "var": r"{\sigma^{2}}", "loss": "L"}


def text(kind: str, name: str) -> str:
    """``dense1.W``; its gradient ``∂L/∂dense1.W``; the gradient of a weighted input ``dense1.δ``."""
    if kind == "grad":
        return f"{name.removesuffix('.z')}.δ" if name.endswith(".z") else f"∂L/∂{name}"
    return f"Δ{name}" if kind == "update" else name


def latex(kind: str, name: str) -> str:
    r"""``W^{\text{dense1}}``, ``\frac{\partial L}{\partial W^{…}}``, ``\delta^{\text{dense1}}``."""
    owner, _, local = name.rpartition(".")
    above = rf"^{{\text{{{owner}}}}}" if owner else ""
    letter = _LETTERS.get(local, local if len(local) == 1 else rf"\mathrm{{{local}}}".replace("_", r"\_"))
    if kind == "grad":
        return rf"\delta{above}" if local == "z" else rf"\frac{{\partial L}}{{\partial {letter}{above}}}"
    return rf"\Delta {letter}{above}" if kind == "update" else letter + above


def texts(names: Mapping[str, str]) -> dict[str, str]:
    """Symbols for a formula's printer: the rule's names and their gradients as the graph's, in Unicode."""
    return {k: text("value", v) for k, v in names.items()} | {f"d{k}": text("grad", v) for k, v in names.items()}


def latexes(names: Mapping[str, str]) -> dict[str, str]:
    """The same in LaTeX; but for δ the printer makes the gradients, whose indices belong below the line."""
    weighted = {f"d{k}": latex("grad", v) for k, v in names.items() if v.rpartition(".")[2] == "z"}
    return {k: latex("value", v) for k, v in names.items()} | weighted
