"""The parts of the page that are drawn: curves, bars, histograms, heat maps and the graph, read back from the SVG."""

from __future__ import annotations

import base64
import re
import struct
import zlib

import numpy as np
import pytest

import backlit as bl
from backlit.report import heat
from backlit.report.charts import HEIGHT, LEFT, WIDTH, Line, bars, histogram, line_chart, span
from backlit.report.drawing import MOST, drawing
from report.runs import branched


def numbers(path):
    return [float(v) for v in re.findall(r"-?\d+(?:\.\d+)?", path)]


def curve(svg, which=0):
    points = numbers(re.findall(r'class="curve"[^>]* d="([^"]*)"', svg)[which])
    return np.array(points).reshape(-1, 2)


# --- curves ---------------------------------------------------------------------------------------------------------


def test_a_curve_goes_through_its_points_in_proportion():
    x, y = np.array([1.0, 2.0, 3.0, 5.0]), np.array([0.0, 1.0, 4.0, 2.0])
    points = curve(line_chart([Line("a", x, y)], x_label="epoch"))
    assert np.ptp(points[:, 0]) > 0.8 * (WIDTH - LEFT)
    for drawn, told, sign in ((points[:, 0], x, 1), (points[:, 1], y, -1)):
        slope, _ = np.polyfit(told, drawn, 1)
        assert sign * slope > 0
        assert np.allclose(drawn, np.polyval(np.polyfit(told, drawn, 1), told), atol=0.1)
    assert points[:, 1].min() >= 0
    assert points[:, 1].max() <= HEIGHT


def test_a_logarithmic_axis_spaces_decades_evenly():
    y = np.array([1e-6, 1e-4, 1e-2, 1.0])
    drawn = curve(line_chart([Line("a", np.arange(4.0), y)], x_label="step", log=True))[:, 1]
    assert np.allclose(np.diff(drawn), np.diff(drawn)[0], atol=0.15)


def test_a_curve_has_a_gap_where_there_is_no_number():
    y = np.array([1.0, 2.0, np.nan, 3.0, np.inf, 5.0])
    path = re.search(r'class="curve"[^>]* d="([^"]*)"', line_chart([Line("a", np.arange(6.0), y)], x_label="")).group(1)
    assert path.count("M") == 3
    assert "nan" not in path


@pytest.mark.parametrize("y", [[3.0], [0.0], [2.0, 2.0], [np.nan, np.nan], [0.0, 0.0], [-1e-12, 1e12]])
@pytest.mark.parametrize("log", [False, True])
def test_curves_of_any_numbers_can_be_drawn(y, log):
    svg = line_chart([Line("a", np.arange(float(len(y))), np.array(y))], x_label="epoch", log=log)
    assert not re.search("nan|inf", svg)


def test_long_curves_are_thinned():
    y = np.sin(np.arange(20_000) / 300)
    assert len(curve(line_chart([Line("a", np.arange(20_000.0), y)], x_label=""))) <= 500


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 7.0), (1e-9, 2e-9), (0.97, 0.99), (1e6, 5e6)])
def test_ticks_are_few_and_round_and_inside(low, high):
    svg = line_chart([Line("a", np.array([0.0, 1.0]), np.array([low, high]))], x_label="")
    ticks = re.findall(r'class="end" x="\d+" y="([\d.]+)" dy=".32em">([^<]+)<', svg)
    assert 2 <= len(ticks) <= 7
    values = [float(t.replace("−", "-").replace(",", "")) for _, t in ticks]
    steps = np.diff(values)
    assert np.allclose(steps, steps[0], rtol=0.05)
    first, last = span(np.array([low, high]))
    assert first <= min(values) <= max(values) <= last + 1e-12


# --- bars and histograms --------------------------------------------------------------------------------------------


def test_bars_have_the_lengths_of_their_values():
    found = bars([("a", 4.0, ""), ("b", 1.0, ""), ("c", 0.0, "")])
    assert re.findall(r"width:([\d.]+)%", found) == ["100.0", "25.0", "0.0"]


def test_logarithmic_bars_shrink_by_the_decade():
    found = bars([("a", 1.0, ""), ("b", 1e-1, ""), ("c", 1e-2, ""), ("d", 0.0, "")], log=True)
    lengths = [float(w) for w in re.findall(r"width:([\d.]+)%", found)]
    assert lengths[0] == 100
    assert lengths[0] - lengths[1] == pytest.approx(lengths[1] - lengths[2], abs=0.11)
    assert lengths[3] == 0


def test_the_heights_of_a_histogram_are_roots_of_its_counts():
    values = np.repeat([0.0, 1.0, 2.0, 3.0], [1, 4, 9, 16])
    svg = histogram(values, 0, bins=4)
    foot = numbers(re.search(r'class="axis" d="([^"]*)"', svg).group(1))[1]
    tops = [float(v) for v in re.findall(r"V([\d.]+)H", re.search(r'class="area"[^>]* d="([^"]*)"', svg).group(1))]
    heights = foot - np.array(tops)
    assert np.allclose(heights / heights[-1], [0.25, 0.5, 0.75, 1.0], atol=0.01)


@pytest.mark.parametrize("values", [[], [np.nan], [2.0], [3.0, 3.0], [np.inf, 1.0, 2.0], [1e-300, 1e300]])
def test_histograms_of_any_numbers_can_be_drawn(values):
    assert not re.search("nan|inf", histogram(np.array(values), 0))


# --- heat maps ------------------------------------------------------------------------------------------------------


def pixels(data):
    """The RGBA of a PNG whose lines are not filtered, read by its own definition."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 4 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 4)


def image_of(svg):
    return pixels(base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", svg).group(1)))


def test_larger_numbers_are_lighter_and_none_is_clear():
    svg = heat.heat_map(
        [("a", np.array([1e-6, 1e-3, 1.0])), ("b", np.array([0.0, np.nan, np.inf]))], np.array([1, 2, 3])
    )
    found = image_of(svg)
    light = found[0, :, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 30).all()
    assert found[..., 3].tolist() == [[255] * 3, [0] * 3]
    assert "nan" not in svg


def test_equal_ratios_are_equal_steps_of_colour():
    """By the logarithm: the middle of 1e-4 and 1 is 1e-2."""
    ends = image_of(heat.heat_map([("a", np.array([1e-4, 1e-2, 1.0]))], np.arange(1, 4)))[0]
    assert ends[1, :3].tolist() == heat.RAMP[3].tolist()
    assert ends[0, :3].tolist() == heat.RAMP[0].tolist()


def test_many_steps_are_averaged_and_many_rows_left_out():
    rows = [(f"layer{i}", np.full(1000, 10.0**i)) for i in range(200)]
    found = image_of(heat.heat_map(rows, np.arange(1, 1001)))
    assert found.shape == (heat.MOST_ROWS, heat.COLUMNS, 4)


def test_names_are_escaped_and_cut():
    svg = heat.heat_map([("<i>" + "x" * 40, np.array([1.0]))], np.array([1]))
    assert "<i>" not in svg
    assert "…" in svg
    assert f"&lt;i&gt;{'x' * 40}" in svg


# --- the graph ------------------------------------------------------------------------------------------------------


def graph_of(model, width=6):
    model.build((width,), seed=0)
    shapes = (((16, width), "float32"),)
    return model.graph(shapes, training=True, loss=bl.SoftmaxCrossEntropy(), target=((16,), "int64"))


def boxes(svg):
    """Name -> (x, y, width, height)."""
    found = re.findall(r'<title>(\S+)[^<]*</title><rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', svg)
    return {name: tuple(map(float, place)) for name, *place in found}


def arrows(svg):
    return [numbers(d) for d in re.findall(r'class="arrow" d="([^"]*)"', svg)]


def test_every_node_on_the_way_to_the_loss_is_a_box():
    graph = graph_of(branched())
    left_out = {n.name for n in graph.nodes if n.rule == "running_average"}
    assert set(boxes(drawing(graph))) == {n.name for n in graph.nodes} - left_out | {"x", "y"}


def test_no_boxes_overlap_and_all_arrows_lead_down():
    svg = drawing(graph_of(branched()))
    placed = list(boxes(svg).values())
    for i, (x, y, w, h) in enumerate(placed):
        assert all(x + w <= x2 or x2 + w <= x or y + h <= y2 or y2 + h <= y for x2, y2, _, _ in placed[:i])
    assert all(a[-1] > a[1] for a in arrows(svg))


def test_there_is_an_arrow_for_every_use():
    graph = graph_of(branched())
    made = {o for n in graph.nodes for o in n.outputs} | {"x", "y"}
    uses = sum(len({i for i in n.operands if i in made}) for n in graph.nodes if n.rule != "running_average")
    assert len(arrows(drawing(graph))) == uses


def test_no_arrow_runs_through_a_box():
    svg = drawing(graph_of(branched()))
    for x1, y1, *rest in arrows(svg):
        handles = np.array([x1, y1, *rest]).reshape(4, 2)
        t = np.linspace(0, 1, 200)[:, None]
        way = sum(c * (1 - t) ** (3 - k) * t**k * p for k, (c, p) in enumerate(zip((1, 3, 3, 1), handles, strict=True)))
        for x, y, w, h in boxes(svg).values():
            inside = (way[:, 0] > x + 1) & (way[:, 0] < x + w - 1) & (way[:, 1] > y + 1) & (way[:, 1] < y + h - 1)
            assert inside.mean() < 0.03


def test_a_large_graph_is_drawn_by_layers():
    model = bl.Sequential(*(bl.Dense(4, "relu") for _ in range(MOST)), bl.Dense(3))
    found = boxes(drawing(graph_of(model)))
    assert "dense1" in found
    assert len(found) == MOST + 4


def test_names_of_boxes_are_escaped(monkeypatch):
    graph = graph_of(bl.Sequential(bl.Dense(3)))
    svg = drawing(graph)
    assert "<script" not in svg
    assert "dense1.z" in svg
