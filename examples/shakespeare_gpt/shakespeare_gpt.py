"""A network that reads Shakespeare character by character and then writes: a small GPT, a bigger one, or an LSTM."""

from __future__ import annotations

import argparse
import time
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

import backlit as bl


class Setting(NamedTuple):
    """What is trained, and for how long."""

    context: int
    """Characters that it sees."""
    width: int
    blocks: int
    """0 for an LSTM."""
    batch: int
    steps: int
    rate: float
    dropout: float = 0.0


SETTINGS = {
    "small": Setting(context=64, width=128, blocks=4, batch=12, steps=10_000, rate=2e-3),
    "big": Setting(context=128, width=192, blocks=6, batch=16, steps=6_000, rate=1.5e-3, dropout=0.1),
    "lstm": Setting(context=64, width=128, blocks=0, batch=32, steps=10_000, rate=4e-3),
}


def network(symbols: int, s: Setting) -> bl.Sequential:
    """ids[N, T] to logits[N, T, symbols] of the character after each."""
    if not s.blocks:
        return bl.Sequential(bl.Embedding(symbols, s.width // 2), bl.LSTM(s.width), bl.Dense(symbols))
    start = bl.Embedding(symbols, s.width, init=0.02), bl.PositionalEmbedding(s.context)
    blocks = [bl.TransformerBlock(s.width // 32, causal=True, dropout=s.dropout) for _ in range(s.blocks)]
    return bl.Sequential(*start, *blocks, bl.LayerNorm(), bl.Dense(symbols))


def windows(ids: np.ndarray, length: int, every: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids[N, length], the character after each), from every so many characters on."""
    cut = np.lib.stride_tricks.sliding_window_view(ids, length + 1)[::every]
    return cut[:, :-1], cut[:, 1:]


def train(ids: np.ndarray, symbols: int, s: Setting) -> bl.Run:
    """On windows that overlap, so that a character is met at four places; the steps are rounded to whole epochs."""
    X, y = windows(ids, s.context, s.context // 4)
    schedule = bl.Warmup(bl.Cosine(s.rate, s.rate / 20), max(1, min(200, s.steps // 10)))
    return bl.fit(
        network(symbols, s), (X, y), loss="softmax_cross_entropy", epochs=max(1, round(s.steps * s.batch / len(X))),
        optimizer=bl.AdamW(schedule, beta2=0.99, weight_decay=0.05), clip=bl.ClipByGlobalNorm(1.0),
        batch_size=s.batch, metrics=[], engine="fast", seed=0,
    )  # fmt: skip


def surprise(model: bl.Model, ids: np.ndarray, context: int) -> np.ndarray:
    """[N, context]: -log p of each character, in nats; the text is cut into windows, each read from nothing."""
    X, y = windows(ids, context, context)
    p = model.predict_proba(X)
    return -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0])


def picture(lines: list[str], nats: np.ndarray) -> str:
    """An SVG file: each character on a ground that is the redder the less the model expected it."""
    wide, high, cells = 11, 24, []
    for row, (line, surprises) in enumerate(zip(lines, nats, strict=True)):
        for column, (character, s) in enumerate(zip(line, surprises, strict=True)):
            x, y, strength = 8 + column * wide, 8 + row * high, min(s / 5, 1)
            cells.append(f'<path d="M{x} {y}h{wide}v{high - 4}h-{wide}z" fill="#d33" fill-opacity="{strength:.2f}"/>')
            shown = escape({"\n": "↵", " ": "·"}.get(character, character))
            cells.append(f'<text x="{x + wide / 2}" y="{y + 15}">{shown}</text>')
    size = f'viewBox="0 0 {16 + wide * nats.shape[1]} {16 + high * len(lines)}"'
    style = 'font-family="monospace" font-size="14" text-anchor="middle"'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{ground}{"".join(cells)}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--big", action="store_const", const="big", default="small", dest="kind")
    parser.add_argument("--lstm", action="store_const", const="lstm", dest="kind")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    s, text = SETTINGS[options.kind], bl.data.read("tiny_shakespeare/input.txt").decode()
    symbols = sorted(set(text))
    ids = np.array([symbols.index(c) for c in text])
    reading, held = np.split(ids, [len(ids) * 9 // 10])
    start = time.perf_counter()
    run = train(reading, len(symbols), s)
    seconds = time.perf_counter() - start
    nats = surprise(run.model, held, s.context)
    begin = [symbols.index("\n")]
    written = bl.generate(run.model, begin, 600, temperature=0.8)
    sample = "".join(symbols[i] for i in written)
    print(sample)
    shown = [text[len(reading) + 1 + i * s.context :][: s.context] for i in range(12)]
    (options.out / f"{options.kind}.svg").write_text(picture(shown, nats[:12]), "utf-8")
    (options.out / f"{options.kind}.txt").write_text(sample.strip() + "\n", "utf-8")
    print(f"{options.kind}: validation loss {nats.mean():.3f} nats a character, {run.step} steps in {seconds:.0f} s")


if __name__ == "__main__":
    main()
