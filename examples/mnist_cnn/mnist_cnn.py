"""Handwritten digits by a small convolutional network: trains, tests, and draws the digits it still gets wrong."""

from __future__ import annotations

import base64
import struct
import time
import zlib
from pathlib import Path

import numpy as np

import backlit as bl

EPOCHS = 8


def network() -> bl.Sequential:
    """Two convolutions, each followed by batch normalisation and pooling, then two dense layers."""
    return bl.Sequential(
        bl.Conv2D(16, 5, bias=False), bl.BatchNorm(), bl.ReLU(), bl.MaxPool2D(2),
        bl.Conv2D(32, 5, bias=False), bl.BatchNorm(), bl.ReLU(), bl.MaxPool2D(2),
        bl.Flatten(), bl.Dense(128, "relu"), bl.Dropout(0.3), bl.Dense(10),
    )  # fmt: skip


def train(images: np.ndarray, labels: np.ndarray, epochs: int = EPOCHS) -> bl.Run:
    """Train on images[N, 28, 28, 1], each moved by up to two pixels every time it is seen."""
    return bl.fit(
        network(),
        (images, labels),
        loss="softmax_cross_entropy",
        optimizer=bl.AdamW(bl.OneCycle(4e-3), weight_decay=0.01),
        epochs=epochs,
        batch_size=64,
        augment=bl.augment.Crop(2),
        engine="fast",
        record=False,
        seed=0,
    )


def png(image: np.ndarray) -> bytes:
    """A PNG file of image[H, W], uint8 greys."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def picture(images: np.ndarray, captions: list[str], columns: int = 10) -> str:
    """An SVG file of images[N, 28, 28, 1] in rows, a caption under each."""
    size, step, parts = 56, 76, []
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = 10 + i % columns * (size + 14), 10 + i // columns * step
        data = base64.b64encode(png((255 * image[..., 0]).astype(np.uint8))).decode()
        parts.append(
            f'<image x="{x}" y="{y}" width="{size}" height="{size}" href="data:image/png;base64,{data}"/>'
            f'<text x="{x + size / 2}" y="{y + size + 13}">{caption}</text>'
        )
    width, height = 6 + columns * (size + 14), 10 + -(-len(images) // columns) * step
    style = "image{image-rendering:pixelated} text{font:12px sans-serif;text-anchor:middle}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    data = bl.data.load("mnist", validation=0)
    assert data.test is not None
    start = time.perf_counter()
    run = train(*data.train)
    seconds = time.perf_counter() - start
    images, labels = data.test
    found = np.argmax(run.model.predict(images), axis=1)
    wrong = np.flatnonzero(found != labels)
    captions = [f"{labels[i]} read as {found[i]}" for i in wrong]
    Path(__file__).with_suffix(".svg").write_text(picture(images[wrong], captions), encoding="utf-8")
    print(f"{len(wrong)} of {len(labels):,} test digits are wrong")
    print(f"test accuracy {np.mean(found == labels):.2%} after {EPOCHS} epochs in {seconds:.0f} seconds")


if __name__ == "__main__":
    main()
