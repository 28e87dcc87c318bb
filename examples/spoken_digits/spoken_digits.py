"""Spoken digits from their spectrograms: a small CNN, on known speakers and on one that it has never heard."""

from __future__ import annotations

import argparse
import base64
import struct
import time
import zlib
from pathlib import Path

import numpy as np

import backlit as bl

FRAMES, BANDS, WINDOW, HOP, RATE = 64, 40, 256, 96, 8000


def filters() -> np.ndarray:
    """[BANDS, WINDOW // 2 + 1]: triangles of equal width on the mel scale, m = 2595 log10(1 + f / 700)."""
    edges = 700 * (10 ** np.linspace(0, np.log10(1 + RATE / 2 / 700), BANDS + 2) - 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    f = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    return np.maximum(0, np.minimum((f - low) / (centre - low), (high - f) / (high - centre)))


def spectrogram(sound: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """[FRAMES, BANDS, 1]: log power over time, the recording in the middle, of mean 0 and deviation 1."""
    length = (FRAMES - 1) * HOP + WINDOW
    sound = sound[max(0, len(sound) - length) // 2 :][:length].astype(np.float64)
    sound = np.pad(sound, ((length - len(sound)) // 2, -(-(length - len(sound)) // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ bands.T
    level = np.log(power + 1e-5 * power.max())
    return ((level - level.mean()) / level.std())[..., None].astype(np.float32)


def network() -> bl.Sequential:
    blocks = [(bl.Conv2D(f, 3, bias=False), bl.BatchNorm(), bl.ReLU(), bl.MaxPool2D(2)) for f in (16, 32, 64, 64)]
    return bl.Sequential(*sum(blocks, ()), bl.Flatten(), bl.Dropout(0.5), bl.Dense(10))


def heard(X: np.ndarray, y: np.ndarray, test: np.ndarray, epochs: int) -> np.ndarray:
    """What a network trained on the other recordings hears in those of ``test``."""
    changes = [bl.augment.Crop(4, fill=float(X.min())), bl.augment.CutOut(12)]
    run = bl.fit(
        network(), (X[~test], y[~test]), loss="softmax_cross_entropy", epochs=epochs, batch_size=32, augment=changes,
        optimizer=bl.AdamW(bl.OneCycle(4e-3), weight_decay=0.02), engine="fast", record=False, seed=0, progress=False,
    )  # fmt: skip
    return run.model.predict(X[test]).argmax(1)


def png(image: np.ndarray) -> str:
    """image[H, W] of 0 ... 255 as the address of a PNG file."""
    rows = b"".join(b"\0" + row.tobytes() for row in image.astype(np.uint8))
    head = struct.pack(">IIBBBBB", *image.shape[::-1], 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def picture(X: np.ndarray, captions: list[str]) -> str:
    """An SVG file: spectrograms x[N, FRAMES, BANDS, 1], time to the right, high tones above."""
    parts = []
    for i, (x, caption) in enumerate(zip(X[..., 0], captions, strict=True)):
        left, top = 10 + i % 5 * 170, 10 + i // 5 * 130
        grey = 255 - 255 * np.clip((x.T[::-1] + 1) / 4, 0, 1)
        parts.append(f'<image x="{left}" y="{top}" width="160" height="100" href="{png(grey)}"/>')
        parts.append(f'<text x="{left}" y="{top + 116}">{caption}</text>')
    size = f'viewBox="0 0 860 {10 + 130 * -(-len(X) // 5)}" font-family="sans-serif" font-size="13"'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{ground}{"".join(parts)}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options, bands = parser.parse_args(), filters()
    data = bl.data.load("fsdd", validation=0)
    sounds, y = (np.concatenate(arrays) for arrays in zip(data.train, data.test, strict=True))
    speakers = np.concatenate([data.groups["train"], data.groups["test"]])
    X = np.stack([spectrogram(sound[:, 0], bands) for sound in sounds])
    start, official = time.perf_counter(), np.arange(len(y)) >= len(data.train[1])
    said = heard(X, y, official, options.epochs)
    seconds, right = time.perf_counter() - start, said == y[official]
    shown = np.argsort(right, kind="stable")[:10]
    told = zip(y[official][shown], speakers[official][shown], said[shown], strict=True)
    captions = [f"{digit} by {who}, heard: {answer}" for digit, who, answer in told]
    (options.out / "spoken_digits.svg").write_text(picture(X[official][shown], captions), "utf-8")
    print(f"official split: {right.mean():.2%} of {len(right)}, trained in {seconds:.0f} s", flush=True)
    left = {}
    for who in np.unique(speakers):
        left[who] = (heard(X, y, speakers == who, options.epochs) == y[speakers == who]).mean()
        print(f"without {who}: {left[who]:.1%}", flush=True)
    print(f"one speaker left out: {np.mean(list(left.values())):.1%}, all in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
