"""Garments by a convolutional network: trains, tests, and draws how often each is taken for another."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

import backlit as bl

EPOCHS = 18


def convolved(filters: int) -> list[bl.Layer]:
    """A 3 × 3 convolution with batch normalisation and relu."""
    return [bl.Conv2D(filters, 3, bias=False), bl.BatchNorm(), bl.ReLU()]


def network() -> bl.Sequential:
    """Convolutions at three sizes of the image, then two dense layers."""
    return bl.Sequential(
        *convolved(32), bl.MaxPool2D(2),
        *convolved(64), *convolved(64), bl.MaxPool2D(2),
        *convolved(128), bl.MaxPool2D(2),
        bl.Flatten(), bl.Dropout(0.3), bl.Dense(128, "relu"), bl.Dropout(0.3), bl.Dense(10),
    )  # fmt: skip


def train(images: np.ndarray, labels: np.ndarray, epochs: int = EPOCHS) -> bl.Run:
    """Train on images[N, 28, 28, 1], mirrored or not and moved by up to two pixels, anew every time."""
    return bl.fit(
        network(),
        (images, labels),
        loss="softmax_cross_entropy",
        optimizer=bl.AdamW(bl.OneCycle(4e-3), weight_decay=0.02),
        epochs=epochs,
        batch_size=128,
        augment=[bl.augment.Flip(), bl.augment.Crop(2)],
        engine="fast",
        record=False,
        seed=0,
    )


def confusion(found: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """counts[true, found]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (true, found), 1)
    return counts


def picture(counts: np.ndarray, names: tuple[str, ...]) -> str:
    """An SVG file of counts[true, found] as a table, the mistakes in red, more of them darker."""
    side, left, top, parts = 46, 96, 76, []
    for i, name in enumerate(names):
        y, x = top + i * side, left + i * side
        parts += [
            f'<text x="{left - 6}" y="{y + side / 2 + 4}" text-anchor="end">{name}</text>',
            f'<text transform="translate({x + side / 2},{top - 6}) rotate(-40)">{name}</text>',
        ]
    for (i, j), count in np.ndenumerate(counts):
        x, y = left + j * side, top + i * side
        strength = float(np.sqrt(count / counts.sum(axis=1).max()))
        colour = f"rgba(30,110,50,{strength:.2f})" if i == j else f"rgba(190,20,20,{min(1.0, 2 * strength):.2f})"
        parts.append(f'<rect x="{x}" y="{y}" width="{side - 1}" height="{side - 1}" fill="{colour}"/>')
        if count:
            parts.append(f'<text x="{x + side / 2}" y="{y + side / 2 + 4}" text-anchor="middle">{count}</text>')
    width, height = left + len(names) * side + 60, top + len(names) * side + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    data = bl.data.load("fashion_mnist", validation=0)
    assert data.test is not None
    assert data.classes is not None
    start = time.perf_counter()
    run = train(*data.train)
    seconds = time.perf_counter() - start
    images, labels = data.test
    found = np.argmax(run.model.predict(images), axis=1)
    counts = confusion(found, labels, len(data.classes))
    Path(__file__).with_suffix(".svg").write_text(picture(counts, data.classes), encoding="utf-8")
    print(f"test accuracy {np.mean(found == labels):.2%} after {EPOCHS} epochs in {seconds:.0f} seconds")


if __name__ == "__main__":
    main()
