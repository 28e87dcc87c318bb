"""An LSTM that has read 26,000 first names, letter by letter, and then makes up new ones."""

from __future__ import annotations

import argparse
import time
import zlib
from pathlib import Path

import numpy as np

import backlit as bl

LETTERS = ".abcdefghijklmnopqrstuvwxyz"
"""The point, 0, stands before and behind every name."""
LONGEST = 16
NOTHING = -1
"""The label behind a name's end, which does not count."""


def names() -> dict[str, list[str]]:
    """Distinct names in three parts by their checksum, so that no name is in two of them."""
    parts = {"train": [], "validation": [], "test": []}
    for name in sorted(set(bl.data.read("names/names.txt").decode().split())):
        parts[{0: "test", 1: "validation"}.get(zlib.crc32(name.encode()) % 20, "train")].append(name)
    return parts


def arrays(known: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """ids[N, LONGEST] that begin with the point, and the letter after each, the point after the last."""
    ids = [np.array([LETTERS.index(c) for c in name]) for name in known]
    X = bl.data.pad([np.append(0, i) for i in ids], labels=[np.append(i, 0) for i in ids], length=LONGEST)
    return X.X, X.y


def network(width: int) -> bl.Sequential:
    return bl.Sequential(
        bl.Embedding(len(LETTERS), 32), bl.LSTM(width), bl.Dropout(0.3), bl.LSTM(width), bl.Dropout(0.3),
        bl.Dense(len(LETTERS)),
    )  # fmt: skip


def train(known: list[str], held: list[str], *, epochs: int = 30, width: int = 128) -> bl.Run:
    return bl.fit(
        network(width), arrays(known), validation=arrays(held), loss=bl.SoftmaxCrossEntropy(ignore=NOTHING),
        optimizer=bl.AdamW(bl.Warmup(bl.Cosine(3e-3, 1e-4), 100), weight_decay=0.01), clip=bl.ClipByGlobalNorm(1.0),
        epochs=epochs, batch_size=64, metrics=[], engine="fast", seed=0,
    )  # fmt: skip


def surprise(model: bl.Model, known: list[str]) -> np.ndarray:
    """[N, LONGEST]: -log p of each letter and of the end, in nats; NaN behind it."""
    X, y = arrays(known)
    p = np.take_along_axis(model.predict_proba(X), np.maximum(y, 0)[..., None], -1)[..., 0]
    return np.where(y == NOTHING, np.nan, -np.log(p))


def written(model: bl.Model, count: int) -> list[str]:
    """Names that the network makes up."""
    ids = bl.generate(model, np.zeros((count, 1), int), LONGEST - 1, stop=0, seed=1)
    return ["".join(LETTERS[i] for i in row[1:] if i) for row in ids]


def picture(made: list[str], nats: np.ndarray, real: set[str], columns: int = 5) -> str:
    """An SVG file: letters on a ground that is the redder the less they were expected; real names underlined."""
    wide, high, parts = 11, 28, []
    for number, (name, surprises) in enumerate(zip(made, nats, strict=True)):
        left, y = 12 + number % columns * wide * 12, 8 + number // columns * high
        for k, (letter, s) in enumerate(zip(name, surprises, strict=False)):
            x, strength = left + k * wide, min(s / 5, 1)
            parts.append(f'<path d="M{x} {y}h{wide}v20h-{wide}z" fill="#d33" fill-opacity="{strength:.2f}"/>')
            parts.append(f'<text x="{x + wide / 2}" y="{y + 15}">{letter}</text>')
        if name in real:
            parts.append(f'<path d="M{left} {y + 22}h{wide * len(name)}" stroke="#06c" stroke-width="2"/>')
    size = f'viewBox="0 0 {12 + columns * 12 * wide} {16 + high * -(-len(made) // columns)}"'
    style = 'font-family="monospace" font-size="14" text-anchor="middle"'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{ground}{"".join(parts)}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    parts, start = names(), time.perf_counter()
    run = train(parts["train"], parts["validation"], epochs=options.epochs)
    seconds = time.perf_counter() - start
    loss = {part: np.nanmean(surprise(run.model, known)) for part, known in parts.items()}
    unread = {*parts["validation"], *parts["test"]}
    made = written(run.model, 1000)
    new = [name for name in dict.fromkeys(made) if name and name not in set(parts["train"])]
    print(*new[:40])
    (options.out / "names.svg").write_text(picture(new[:40], surprise(run.model, new[:40]), unread), "utf-8")
    print(f"of 1000 names {len(new)} are new, {len(unread.intersection(new))} of them real names it has not read")
    figures = ", ".join(f"{part} {value:.3f}" for part, value in loss.items())
    print(f"nats a letter: {figures}; {run.step} steps in {seconds:.0f} s")


if __name__ == "__main__":
    main()
