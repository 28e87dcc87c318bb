"""Photographs of ten things by a small residual network, from 10,000 images: trains, tests, and draws what it saw."""

from __future__ import annotations

import base64
import struct
import time
import zlib
from pathlib import Path

import numpy as np

import backlit as bl

EPOCHS = 30
MEAN, DEVIATION = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.2470, 0.2435, 0.2616])


def convolved(filters: int) -> list[bl.Layer]:
    """A 3 × 3 convolution with batch normalisation."""
    return [bl.Conv2D(filters, 3, bias=False), bl.BatchNorm()]


def block(filters: int) -> list[bl.Layer]:
    """relu(x + F(x)), F two convolutions."""
    return [bl.Residual(*convolved(filters), bl.ReLU(), *convolved(filters)), bl.ReLU()]


def network() -> bl.Sequential:
    """Convolutions between which the image is halved three times, a residual block at 8 × 8 and one at 4 × 4."""
    return bl.Sequential(
        *convolved(32), bl.ReLU(), bl.MaxPool2D(2),
        *convolved(64), bl.ReLU(), bl.MaxPool2D(2),
        *block(64), *convolved(128), bl.ReLU(), bl.MaxPool2D(2),
        *block(128), bl.GlobalAvgPool2D(), bl.Dense(10),
    )  # fmt: skip


def train(images: np.ndarray, labels: np.ndarray, epochs: int = EPOCHS) -> bl.Run:
    """Train on images[N, 32, 32, 3], standardised: moved, flipped, and a square cut out, anew every time."""
    return bl.fit(
        network(),
        (images, labels),
        loss=bl.SoftmaxCrossEntropy(label_smoothing=0.1),
        optimizer=bl.AdamW(bl.OneCycle(6e-3), weight_decay=0.05),
        epochs=epochs,
        batch_size=64,
        augment=[bl.augment.Crop(4), bl.augment.Flip(), bl.augment.CutOut(8)],
        engine="fast",
        record=False,
        seed=0,
    )


def standardised(images: np.ndarray) -> np.ndarray:
    """Images of colours in 0 … 1, each colour with mean 0 and deviation 1 over all photographs."""
    return (images - MEAN) / DEVIATION


def png(image: np.ndarray) -> bytes:
    """A PNG file of image[H, W, 3], uint8 colours."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def picture(images: np.ndarray, found: list[str], true: list[str], columns: int = 8) -> str:
    """An SVG file of images[N, 32, 32, 3] in rows, what was found under each, and what it is where that is else."""
    size, step, parts = 64, 100, []
    for i, (image, read, is_) in enumerate(zip(images, found, true, strict=True)):
        x, y = 16 + i % columns * (size + 28), 10 + i // columns * step
        data = base64.b64encode(png((255 * image).astype(np.uint8))).decode()
        middle, note = x + size / 2, "" if read == is_ else f"({is_})"
        parts.append(
            f'<image x="{x}" y="{y}" width="{size}" height="{size}" href="data:image/png;base64,{data}"/>'
            f'<text x="{middle}" y="{y + size + 13}" fill="{"#b00" if note else "#060"}">{read}</text>'
            f'<text x="{middle}" y="{y + size + 26}">{note}</text>'
        )
    width, height = 4 + columns * (size + 28), 6 + -(-len(images) // columns) * step
    style = "image{image-rendering:pixelated} text{font:12px sans-serif;text-anchor:middle}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    data = bl.data.load("cifar10", validation=0)
    assert data.test is not None
    assert data.classes is not None
    images, labels = data.train
    start = time.perf_counter()
    run = train(standardised(images), labels)
    seconds = time.perf_counter() - start
    images, labels = data.test
    found = np.argmax(run.model.predict(standardised(images)), axis=1)
    names = [[data.classes[i] for i in some[:32]] for some in (found, labels)]
    Path(__file__).with_suffix(".svg").write_text(picture(images[:32], *names), encoding="utf-8")
    print(f"test accuracy {np.mean(found == labels):.1%} after {EPOCHS} epochs in {seconds:.0f} seconds")


if __name__ == "__main__":
    main()
