"""Rented bikes of the next 24 hours, from the last three days, the calendar and the weather: an LSTM."""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import backlit as bl

PAST, AHEAD, TEST, VALIDATION = 72, 24, 504, 28 * 24
"""Hours that are read, hours that are forecast, rows of the test, hours before them that validate."""
SCALE = 200.0
"""Rentals that count as 1."""


class Hours(NamedTuple):
    """Every hour of two years; the 165 that the file leaves out are there with no rental and the weather before."""

    count: np.ndarray
    known: np.ndarray
    """Whether the hour is in the file."""
    about: np.ndarray
    """[hours, 38]: weather and calendar."""


def hours() -> Hours:
    rows = list(csv.DictReader(bl.data.read("bike_sharing/hour.csv.gz").decode().splitlines()))
    when = np.array([np.datetime64(r["dteday"], "h") + int(r["hr"]) for r in rows])
    at = (when - when[0]).astype(int)
    last = np.searchsorted(at, np.arange(at[-1] + 1), side="right") - 1
    known = at[last] == np.arange(len(last))
    count = np.where(known, np.array([float(r["cnt"]) for r in rows])[last], 0)
    names = ["temp", "atemp", "hum", "windspeed", "weathersit", "holiday", "workingday"]
    about = np.array([[float(r[name]) for name in names] for r in rows])[last]
    hour, day = np.arange(len(last)) % 24, (np.arange(len(last)) // 24 + 6) % 7  # the first day is a Saturday
    return Hours(count, known, np.hstack([about, np.eye(24)[hour], np.eye(7)[day]]))


def windows(data: Hours, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x[N, PAST + AHEAD, 39], rentals of the hours ahead hidden, and these rentals y[N, AHEAD, 1]."""
    at = starts[:, None] + np.arange(-PAST, AHEAD)
    count = data.count[at] / SCALE
    seen = np.where(np.arange(PAST + AHEAD) < PAST, count, 0)
    X = np.concatenate([seen[..., None], data.about[at]], axis=-1)
    return X.astype(np.float32), count[:, PAST:, None].astype(np.float32)


def network(width: int) -> bl.Model:
    def forecast(x):  # noqa: ANN001, ANN202  x[N, T, C] as a symbolic value
        h = bl.Dropout(0.2)(bl.LSTM(width)(x))
        yesterday = x[:, PAST - AHEAD : PAST, :1]
        return yesterday + bl.Dense(1, init=0.01)(bl.Dense(width, "relu")(h[:, PAST:]))

    return bl.Model(forecast)


def train(data: Hours, *, epochs: int = 40, every: int = 5, width: int = 64) -> bl.Run:
    """On windows whose forecast ends before the test; the parameters are those of the best epoch in validation."""
    end = len(data.count) - test_hours(data)
    starts = np.arange(PAST, end - AHEAD + 1, every)
    held = starts > end - VALIDATION - AHEAD
    return bl.fit(
        network(width), windows(data, starts[~held]), validation=windows(data, starts[held]), loss="mse",
        optimizer=bl.AdamW(bl.OneCycle(4e-3), weight_decay=0.02), clip=bl.ClipByGlobalNorm(1.0), epochs=epochs,
        batch_size=32, metrics=["rmse"], early_stopping=bl.EarlyStopping(patience=epochs), engine="fast", seed=0,
    )  # fmt: skip


def test_hours(data: Hours) -> int:
    """How many hours the last 504 rows span."""
    return len(data.count) - int(np.flatnonzero(data.known)[-TEST])


def forecasts(model: bl.Model, data: Hours) -> np.ndarray:
    """Rentals of the test's hours: day after day the next 24, when the day before is known."""
    days = -(-test_hours(data) // AHEAD)
    starts = len(data.count) - AHEAD * np.arange(days, 0, -1)
    found = np.maximum(model.predict(windows(data, starts)[0])[..., 0].ravel() * SCALE, 0)
    return found[-test_hours(data) :]


def picture(lines: dict[str, np.ndarray]) -> str:
    """An SVG file: the hours of the test from left to right."""
    width, height, most = 1000, 260, max(v.max() for v in lines.values())
    parts = [f'<path d="M{x * width / 21:.0f} 20v{height}" stroke="#ddd"/>' for x in range(22)]
    for k, (name, values) in enumerate(lines.items()):
        points = "L".join(
            f"{i * width / len(values):.1f} {20 + height * (1 - v / most):.1f}" for i, v in enumerate(values)
        )
        colour = ("#999", "#06c", "#d33")[k]
        parts.append(f'<path d="M{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{10 + 160 * k}" y="14" fill="{colour}">{name}</text>')
    size = f'viewBox="0 0 {width} {height + 24}" font-family="sans-serif" font-size="13"'
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{ground}{"".join(parts)}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out, data, start = parser.parse_args().out, hours(), time.perf_counter()
    run = train(data)
    seconds = time.perf_counter() - start
    ahead = test_hours(data)
    lines = {"rented": data.count[-ahead:], "forecast": forecasts(run.model, data)}
    naive = {"yesterday": data.count[-ahead - 24 : -24], "a week ago": data.count[-ahead - 168 : -168]}
    for name, said in (naive | {"LSTM": lines["forecast"]}).items():
        error = (said - lines["rented"])[data.known[-ahead:]]
        print(f"{name}: RMSE {np.sqrt(np.mean(error**2)):.1f}, MAE {np.abs(error).mean():.1f} rentals an hour")
    (out / "forecast.svg").write_text(picture(lines), "utf-8")
    print(f"best validation RMSE {SCALE * min(run.history['val_rmse']):.1f}, {run.step} steps in {seconds:.0f} s")


if __name__ == "__main__":
    main()
