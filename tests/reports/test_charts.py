"""Charts: the drawn numbers are the given ones, and nothing from outside gets in as markup."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dnagrinder.reports.charts import (
    BaseContext,
    Point,
    Series,
    context_map,
    curve,
    histogram,
    intervals,
    ranges,
    shade_key,
)

SVG = "{http://www.w3.org/2000/svg}"


def parse(markup: str) -> ET.Element:
    """The SVG as XML, which proves it well-formed."""
    return ET.fromstring(str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))  # noqa: S314


def paths(svg: ET.Element, style: str) -> list[str]:
    """Outlines of the paths of one class."""
    return [p.get("d", "") for p in svg.iter(f"{SVG}path") if style in p.get("class", "").split()]


def test_bars_have_the_heights_of_the_counts() -> None:
    values = np.array([-0.9] * 4 + [0.1] * 8 + [0.6] * 2)
    svg = parse(histogram([Series("SNVs", "snv", values)], "Score"))
    heights = [float(h) for h in re.findall(r"v-([\d.]+)", paths(svg, "bars")[0])]
    assert heights == pytest.approx([46, 92, 23], abs=0.01)
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert "SNVs · 14 · median 0.10" in texts
    assert "57 %" in texts
    assert "Score" in texts


def test_values_beyond_the_range_fall_into_the_outermost_bars() -> None:
    values = np.concatenate([np.linspace(-1, 1, 5000), [-1e6]])
    svg = parse(histogram([Series("SNVs", "snv", values)], "Score"))
    ticks = [text.text for text in svg.iter(f"{SVG}text") if text.get("class") == "tick"]
    assert "−1" in ticks
    assert "−1000000" not in ticks
    assert "SNVs: 5,001" in svg.get("aria-label", "")


def test_panels_without_finite_values_are_left_out() -> None:
    assert histogram([Series("SNVs", "snv", np.array([]))], "Score") == ""
    svg = parse(histogram([Series("a", "snv", np.array([1.0])), Series("b", "other", np.array([math.nan]))], "Score"))
    assert len(paths(svg, "snv")) == 1
    assert paths(svg, "other") == []


def test_all_equal_values_are_one_bar() -> None:
    svg = parse(histogram([Series("SNVs", "snv", np.zeros(5))], "Score"))
    assert paths(svg, "bars")[0].count("M") == 1


def test_rows_of_ranges_lie_on_one_scale() -> None:
    rows = [("a", (-2.0, -1.0, 0.0, 1.0, 2.0)), ("<b>", (-1.0, -0.5, 0.0, 0.5, 1.0))]
    svg = parse(ranges(rows, "Score"))
    spans = [tuple(map(float, re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", d)[0])) for d in paths(svg, "whisker")]
    assert spans[0][1] - spans[0][0] == pytest.approx(2 * (spans[1][1] - spans[1][0]), abs=0.05)
    medians = [float(c.get("cx", "")) for c in svg.iter(f"{SVG}circle")]
    assert medians[0] == medians[1] == pytest.approx(sum(spans[0]) / 2, abs=0.05)
    assert "<b>" in [text.text for text in svg.iter(f"{SVG}text")]
    assert ranges([], "Score") == ""


def test_intervals_lie_on_one_scale() -> None:
    svg = parse(intervals([("model", 1.2, 1.1, 1.3), ("<b>", 1.4, 1.35, 1.45)], "Nats", "Loss"))
    spans = [tuple(map(float, re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", d)[0])) for d in paths(svg, "whisker")]
    points = [float(c.get("cx", "")) for c in svg.iter(f"{SVG}circle")]
    a_nat = (points[1] - points[0]) / 0.2
    assert spans[0] == pytest.approx((points[0] - 0.1 * a_nat, points[0] + 0.1 * a_nat), abs=0.05)
    assert spans[1] == pytest.approx((points[1] - 0.05 * a_nat, points[1] + 0.05 * a_nat), abs=0.05)
    assert svg.get("aria-label") == "Loss. model: 1.200; <b>: 1.400"
    assert intervals([], "Nats", "Loss") == ""


def test_a_curve_is_logarithmic_in_x_and_rising_values_rise() -> None:
    points = [Point(10, 1.0, 0.9, 1.1, "10"), Point(100, 2.0, 1.9, 2.1, "100"), Point(1000, 3.0, 2.9, 3.1, "<1k>")]
    svg = parse(curve(points, "Length", "Nats", "Loss"))
    circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in svg.iter(f"{SVG}circle")]
    assert circles[1][0] - circles[0][0] == pytest.approx(circles[2][0] - circles[1][0], abs=0.05)
    assert circles[0][1] - circles[1][1] == pytest.approx(circles[1][1] - circles[2][1], abs=0.05)
    assert circles[0][1] > circles[1][1], "larger values stand higher"
    assert paths(svg, "line") == ["M" + "L".join(f"{x:g} {y:g}" for x, y in circles)]
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"10", "100", "<1k>", "Length", "Nats"} <= set(texts)
    assert curve([], "x", "y", "t") == ""
    assert len(list(parse(curve(points[:1], "x", "y", "t")).iter(f"{SVG}circle"))) == 1


def test_a_perfect_reliability_lies_on_the_dashed_line() -> None:
    svg = parse(curve([Point(p, p, p, p) for p in (0.1, 0.5, 0.9)], "said", "seen", "t", identity=True))
    (x0, y0, x1, y1) = map(float, re.findall(r"[\d.]+", paths(svg, "zero")[0]))
    for c, share in zip(svg.iter(f"{SVG}circle"), (0.1, 0.5, 0.9), strict=True):
        assert float(c.get("cx", "")) == pytest.approx(x0 + share * (x1 - x0), abs=0.02)
        assert float(c.get("cy", "")) == pytest.approx(y0 + share * (y1 - y0), abs=0.02)


def context(first: int, bases: str, probabilities: tuple[float, float, float, float]) -> list[BaseContext]:
    """A context whose positions all have the same probabilities."""
    return [BaseContext(first + n, base, probabilities) for n, base in enumerate(bases)]


def test_cells_are_shaded_by_probability() -> None:
    svg = parse(context_map(context(101, "ACGT", (0.05, 0.999, 1.0, math.nan)), 102, "G", "T", "around"))
    assert [paths(svg, f"s{shade}")[0].count("M") for shade in (0, 9)] == [4, 8]
    assert paths(svg, "outline")[0].count("M") == 4
    assert svg.get("aria-label") == "around"
    sequence = next(text for text in svg.iter(f"{SVG}text") if "sequence" in text.get("class", ""))
    assert sequence.text == "ACGT"
    assert len(sequence.get("x", "").split()) == 4


def test_substitutions_are_drawn_above_as_mean_and_range() -> None:
    """REF A at e^0, others at e^-1, e^-2 and e^-3 of it: mean -2, from -1 to -3; no bar where the model gives nothing."""
    weights = np.exp([0.0, -1.0, -2.0, -3.0])
    a, c, g, t = (weights / weights.sum()).tolist()
    known = BaseContext(101, "A", (a, c, g, t))
    unknown = [BaseContext(102, "N", (0.25,) * 4), BaseContext(103, "C", (math.nan,) * 4)]
    svg = parse(context_map([known, *unknown], 100, "A", "C", ""))
    (bar,), (line,), (zero,) = (paths(svg, style) for style in ("bars", "whisker", "zero"))
    assert bar.count("M") == line.count("M") == 1
    top, mean = (float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", bar)[0])
    lowest, highest = (float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", line)[0])
    nat = (mean - top) / 2
    assert (highest - top, lowest - top) == pytest.approx((nat, 3 * nat), abs=0.03)
    assert float(re.findall(r"M[\d.]+ ([\d.]+)H", zero)[0]) == top
    assert [text.text for text in svg.iter(f"{SVG}text") if text.get("text-anchor") == "end"] == ["−3", "0"]
    assert not paths(parse(context_map(unknown, 101, "N", "C", "")), "bars")


def test_variant_is_marked_at_its_columns() -> None:
    cells = context(101, "ACGTACGT", (0.25,) * 4)
    # Column n begins at 20 + 13 n. Start 102 is position 103, column 2.
    assert paths(parse(context_map(cells, 102, "G", "T", "")), "variant")[0].startswith("M46 3h13V")
    assert paths(parse(context_map(cells, 102, "GTA", "", "")), "variant")[0].startswith("M46 3h39V")
    assert paths(parse(context_map(cells, 102, "", "GG", "")), "variant")[0].startswith("M46 2V")
    assert paths(parse(context_map(cells, 106, "GTACGT", "", "")), "variant")[0].startswith("M98 3h26V"), "cut at the end"
    dots = list(parse(context_map(cells, 102, "G", "T", "")).iter(f"{SVG}circle"))
    assert [(dot.get("cx"), dot.get("cy")) for dot in dots] == [("52.5", "62")], "ALT T is the fourth row"
    assert not list(parse(context_map(cells, 102, "GT", "CC", "")).iter(f"{SVG}circle"))


def test_text_is_escaped() -> None:
    title = '"><script>alert(1)</script>'
    markup = context_map(context(1, "AC", (0.25,) * 4), 0, "A", "C", title)
    assert "<script" not in markup
    assert parse(markup).get("aria-label") == title


def test_key_shows_every_shade() -> None:
    assert len(list(parse(shade_key()).iter(f"{SVG}path"))) == 10


def test_a_linear_curve_has_round_ticks_on_both_sides_of_nought() -> None:
    points = [Point(-4.0, 1.0, 0.5, 1.5), Point(0.0, 0.0, -0.5, 0.5), Point(4.0, -1.0, -1.5, -0.5)]
    svg = parse(curve(points, "Score", "Points", "Title", linear=True))
    across = [float(circle.get("cx", "nan")) for circle in svg.iter(f"{SVG}circle")]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.02)
    ticks = [text.text for text in svg.iter(f"{SVG}text") if text.get("class") == "tick"]
    assert {"−4", "−2", "0", "2", "4"} <= set(ticks)
