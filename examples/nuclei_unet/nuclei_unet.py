"""Nuclei of cells told from the background, pixel by pixel, by a small U-Net: trains, tests, and draws its masks."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import backlit as bl

EPOCHS, SIDE = 7, 128


def twice(x: Any, filters: int) -> Any:
    """Two 3 × 3 convolutions, each with batch normalisation and relu."""
    for _ in range(2):
        x = bl.ReLU()(bl.BatchNorm()(bl.Conv2D(filters, 3, bias=False)(x)))
    return x


def unet(x: Any) -> Any:
    """Down to an eighth of the size and up again; on the way up, what was seen at each size on the way down joins."""
    seen = []
    for filters in (8, 16, 32):
        seen.append(twice(x, filters))
        x = bl.MaxPool2D(2)(seen[-1])
    x = twice(x, 64)
    for filters, same_size in zip((32, 16, 8), reversed(seen), strict=True):
        x = bl.ReLU()(bl.BatchNorm()(bl.Conv2D(filters, 1, bias=False)(x)))
        x = twice(bl.Concatenate()(bl.UpSample2D(2)(x), same_size), filters)
    return bl.Conv2D(2, 1)(x)


def standardised(images: np.ndarray) -> np.ndarray:
    """Logarithms of images of 0 … 1, with mean 0 and deviation 1 each: the microscopes' exposures differ."""
    x = np.log1p(np.round(255 * images))
    return (x - x.mean(axis=(1, 2, 3), keepdims=True)) / (x.std(axis=(1, 2, 3), keepdims=True) + 0.1)


def windows(images: np.ndarray) -> np.ndarray:
    """All images in windows of SIDE pixels."""
    starts = range(0, images.shape[1], SIDE)
    return np.concatenate([images[:, i : i + SIDE, j : j + SIDE] for i in starts for j in starts])


def train(images: np.ndarray, masks: np.ndarray, epochs: int = EPOCHS) -> bl.Run:
    """Train on images[N, H, W, 1] and masks[N, H, W] of 0 and 1, mirrored or not at random."""
    return bl.fit(
        bl.Model(unet),
        (windows(images), windows(masks)),
        loss="softmax_cross_entropy",
        optimizer=bl.AdamW(bl.OneCycle(5e-3), weight_decay=0.01),
        epochs=epochs,
        batch_size=16,
        augment=bl.augment.Flip(target=True),
        engine="fast",
        record=False,
        seed=0,
    )


def predicted(model: bl.Model, images: np.ndarray) -> np.ndarray:
    """Masks[N, H, W] of whole images: the same parameters in a network for images of another size."""
    whole = bl.Model(unet).build(images.shape[1:])
    whole.params, whole.state = model.params, model.state
    return np.argmax(whole.predict(images, batch_size=4), axis=-1)


def intersection_over_union(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """|both| / |either| of all pixels together, and the mean over images."""
    both, either = (np.sum(m, axis=(1, 2)) for m in ((found & true), (found | true)))
    return both.sum() / either.sum(), np.mean(both / either)


def png(image: np.ndarray) -> bytes:
    """A PNG file of image[H, W, 3], uint8 colours."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def picture(images: np.ndarray, true: np.ndarray, found: np.ndarray) -> bytes:
    """Columns of image, mask, and what was found: white right, red missed, blue too much."""
    bright = images[..., 0] - images.min(axis=(1, 2, 3))[:, None, None]
    grey = (255 * bright / bright.max(axis=(1, 2), keepdims=True)).astype(np.uint8)
    rows = [grey, 255 * true.astype(np.uint8)]
    colours = np.uint8([[0, 0, 0], [255, 70, 60], [70, 120, 255], [255, 255, 255]])[true + 2 * found]
    tiles = [*(np.repeat(r[..., None], 3, axis=-1) for r in rows), colours]
    framed = [np.pad(t, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=128) for t in tiles]
    return png(np.ascontiguousarray(np.concatenate([np.concatenate(list(t), axis=1) for t in framed])))


def main() -> None:
    data = bl.data.load("dsb2018_nuclei", validation=0)
    (images, masks), (held, true) = ((standardised(X), y) for X, y in (data.train, data.test))
    start = time.perf_counter()
    run = train(images, masks)
    seconds = time.perf_counter() - start
    found = predicted(run.model, held)
    shown = [a[:6, :SIDE, :SIDE] for a in (held, true, found)]
    Path(__file__).with_suffix(".png").write_bytes(picture(*shown))
    pooled, mean = intersection_over_union(found, true)
    print(f"mean of the {len(held)} images' own IoU {mean:.3f}")
    print(f"test IoU {pooled:.3f} after {EPOCHS} epochs in {seconds:.0f} seconds")


if __name__ == "__main__":
    main()
