"""Charts as inline SVG by plain functions: a Vega-Lite runtime costs 0.8 MB a page and a renderer's fixed colours
cannot follow the reader's light or dark scheme; these take theirs from the page's style sheet and some kilobytes.

Every function returns complete ``<svg>`` markup; text that comes from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

BASES = "ACGT"
#: Shades of a heat map: a probability p has shade ``floor(10 p)``.
SHADES = 10
_WIDTH, _LEFT, _RIGHT = 760, 44, 12
_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 20.0, 25.0, 50.0, 100.0)
_MAX_BINS = 48
_CELL_WIDTH, _CELL_HEIGHT, _GUTTER = 13, 16, 20
_EFFECTS_TOP, _EFFECTS_HEIGHT = 8, 56
_PLOT_LEFT, _PLOT_TOP, _PLOT_HEIGHT = 64, 12, 240


@dataclass(frozen=True)
class Outline:
    """Values to compare a panel's own with, drawn as a stepped line; ``values`` occur ``times`` each."""

    label: str
    style: str
    values: NDArray[np.float64]
    times: NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """Values of one panel of a histogram; ``style`` is a class of the style sheet."""

    label: str
    style: str
    values: NDArray[np.float64]
    outlines: tuple[Outline, ...] = ()


@dataclass(frozen=True)
class BaseContext:
    """The model's view of one reference position.

    Attributes:
        position: 1-based.
        reference: the reference base.
        probabilities: of A, C, G, T; NaN where the model gives none.
    """

    position: int
    reference: str
    probabilities: tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """A measured value with its interval; ``label`` stands at its tick, or is empty."""

    x: float
    y: float
    low: float
    high: float
    label: str = ""


def histogram(series: Sequence[Series], axis: str) -> Markup:
    """Panels above one another on one axis, share of alleles upwards, a line at each median.

    An outline stands for other values than the bars and shows the shares of its own.

    The range holds the central 99.8 % of all values; the outermost bars take in what lies beyond.
    """
    filled = [replace(one, values=values) for one in series if len(values := one.values[np.isfinite(one.values)])]
    if not filled:
        return Markup("")
    edges = _edges(np.concatenate([one.values for one in filled]))
    height, gap, top = 92, 34, 24
    total = top + len(filled) * (height + gap) + 10
    x = _scale(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    parts = []
    for number, one in enumerate(filled):
        base = top + number * (height + gap) + height
        parts += _panel(one, edges, x, base, height)
        parts += _axis(edges, x, base, labelled=number == len(filled) - 1)
    parts.append(_label(_WIDTH / 2, total - 6, axis, "axis-title"))
    label = "; ".join(f"{one.label}: {len(one.values):,}, median {_minus(f'{np.median(one.values):.2f}')}" for one in filled)
    compared = list(dict.fromkeys(outline.label for one in filled for outline in one.outlines))
    beside = f". Outlined: {', '.join(compared)}" if compared else ""
    return _svg(_WIDTH, total, f"Histogram of scores. {label}{beside}", parts)


def ranges(rows: Sequence[tuple[str, Sequence[float]]], axis: str) -> Markup:
    """One line per row: 5 % to 95 % thin, quartiles thick, median as a point. Quantiles come as (5, 25, 50, 75, 95 %)."""
    if not rows:
        return Markup("")
    left, row_height, top = 150, 22, 6
    low, high = min(quantiles[0] for _, quantiles in rows), max(quantiles[4] for _, quantiles in rows)
    edges = _edges(np.array([low, high]))
    x = _scale(edges[0], edges[-1], left, _WIDTH - _RIGHT)
    bottom = top + len(rows) * row_height + 4
    parts = _axis(edges, x, bottom, labelled=True, grid=bottom - top)
    for number, (name, (q5, q25, q50, q75, q95)) in enumerate(rows):
        y = top + number * row_height + row_height / 2
        shown = name if len(name) <= 20 else name[:19] + "…"
        parts += [
            f'<text class="row-label" x="{left - 10}" y="{_n(y + 4)}" text-anchor="end">{escape(shown)}</text>',
            f'<path class="whisker" d="M{_n(x(q5))} {_n(y)}H{_n(x(q95))}"/>',
            f'<path class="box" d="M{_n(x(q25))} {_n(y)}H{_n(x(q75))}"/>',
            f'<circle class="point" cx="{_n(x(q50))}" cy="{_n(y)}" r="4"/>',
        ]
    parts.append(_label((left + _WIDTH) / 2, bottom + 36, axis, "axis-title"))
    medians = "; ".join(f"{name}: median {_minus(f'{quantiles[2]:.2f}')}" for name, quantiles in rows[:20])
    return _svg(_WIDTH, bottom + 40, f"Spread of scores per sample. {medians}", parts)


def intervals(rows: Sequence[tuple[str, float, float, float]], axis: str, title: str) -> Markup:
    """One line per row: (name, value, low, high), the value as a point on its interval."""
    if not rows:
        return Markup("")
    left, row_height, top = 290, 22, 6
    edges = _edges(np.array([min(low for _, _, low, _ in rows), max(high for _, _, _, high in rows)]))
    x = _scale(edges[0], edges[-1], left, _WIDTH - _RIGHT)
    bottom = top + len(rows) * row_height + 4
    parts = _axis(edges, x, bottom, labelled=True, grid=bottom - top)
    for number, (name, value, low, high) in enumerate(rows):
        y = top + number * row_height + row_height / 2
        parts += [
            _label(left - 10, y + 4, name, "row-label", "end"),
            f'<path class="whisker" d="M{_n(x(low))} {_n(y)}H{_n(x(high))}"/>',
            f'<circle class="point" cx="{_n(x(value))}" cy="{_n(y)}" r="4"/>',
        ]
    parts.append(_label((left + _WIDTH) / 2, bottom + 36, axis, "axis-title"))
    told = "; ".join(f"{name}: {_minus(f'{value:.3f}')}" for name, value, _, _ in rows)
    return _svg(_WIDTH, bottom + 40, f"{title}. {told}", parts)


def curve(
    points: Sequence[Point], x_axis: str, y_axis: str, title: str, *, identity: bool = False, linear: bool = False
) -> Markup:
    """Points from left to right, joined by a line, each on its interval; labelled points have ticks of their own.

    Args:
        identity: both axes run from 0 to 1 and the line y = x is drawn.
        linear: x is linear and has ticks at round values; else, without ``identity``, it is logarithmic and above 0.
    """
    if not points:
        return Markup("")
    base = _PLOT_TOP + _PLOT_HEIGHT
    place = (lambda value: value) if identity or linear else math.log
    near, far = (0.0, 1.0) if identity else (place(points[0].x), place(points[-1].x))
    pad = 0.0 if identity else max(0.04 * (far - near), 0.1)  # points alike in x would have no width
    x = _scale(near - pad, far + pad, _PLOT_LEFT, _WIDTH - _RIGHT)
    edges = np.array([0.0, 1.0]) if identity else _edges(np.array([[p.low, p.high] for p in points]).reshape(-1))
    y = _scale(edges[0], edges[-1], base, _PLOT_TOP)
    parts = []
    for tick in _ticks(float(edges[0]), float(edges[-1])):
        parts.append(f'<path class="grid" d="M{_PLOT_LEFT} {_n(y(tick))}H{_WIDTH - _RIGHT}"/>')
        parts.append(_label(_PLOT_LEFT - 6, y(tick) + 4, _minus(f"{tick:g}"), "tick", "end"))
    parts.append(f'<path class="axis" d="M{_PLOT_LEFT} {base}H{_WIDTH - _RIGHT}"/>')
    if identity or linear:
        marks = [(tick, _minus(f"{tick:g}")) for tick in _ticks(near, far)]
    else:
        marks = [(p.x, p.label) for p in points if p.label]
    parts += [_label(x(place(at)), base + 18, text, "tick") for at, text in marks]
    if identity:
        parts.append(f'<path class="zero" d="M{_n(x(0))} {_n(y(0))}L{_n(x(1))} {_n(y(1))}"/>')
    line = "L".join(f"{_n(x(place(p.x)))} {_n(y(p.y))}" for p in points)
    parts.append(f'<path class="line" d="M{line}"/>')
    for p in points:
        across = _n(x(place(p.x)))
        parts.append(f'<path class="whisker" d="M{across} {_n(y(p.low))}V{_n(y(p.high))}"/>')
        parts.append(f'<circle class="point" cx="{across}" cy="{_n(y(p.y))}" r="4"/>')
    parts.append(_label((_PLOT_LEFT + _WIDTH) / 2, base + 40, x_axis, "axis-title"))
    middle = _PLOT_TOP + _PLOT_HEIGHT / 2
    parts.append(
        f'<text class="axis-title" x="14" y="{_n(middle)}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_n(middle)})">{escape(y_axis)}</text>'
    )
    told = "; ".join(f"{p.label or f'{p.x:.2f}'}: {_minus(f'{p.y:.3f}')}" for p in points)
    return _svg(_WIDTH, base + 48, f"{title}. {told}", parts)


def context_map(context: Sequence[BaseContext], start: int, ref: str, alt: str, title: str) -> Markup:
    """Heat map of base probabilities, rows A C G T, columns positions; effects of substitutions above, reference below.

    ``start`` (0-based), ``ref`` and ``alt`` are the changed bases without any shared ones; either may be empty. Reference
    cells are outlined, the changed columns framed (an insertion point is a line), the ALT base of an SNV has a dot.
    """
    first = context[0].position
    columns = context[-1].position - first + 1
    width, bottom = _GUTTER + columns * _CELL_WIDTH + 8, 4 * _CELL_HEIGHT + 6
    shades: list[list[str]] = [[] for _ in range(SHADES)]
    outlines = []
    for site in context:
        x = _GUTTER + (site.position - first) * _CELL_WIDTH
        for row, probability in enumerate(site.probabilities):
            if math.isfinite(probability):
                cell = f"M{x} {6 + row * _CELL_HEIGHT}h{_CELL_WIDTH}v{_CELL_HEIGHT}h-{_CELL_WIDTH}z"
                shades[min(SHADES - 1, int(probability * SHADES))].append(cell)
        if site.reference in BASES:
            y = 6 + BASES.index(site.reference) * _CELL_HEIGHT
            outlines.append(f"M{x + 1.5} {y + 1.5}h{_CELL_WIDTH - 3}v{_CELL_HEIGHT - 3}h-{_CELL_WIDTH - 3}z")
    parts = [f'<path class="shade s{shade}" d="{"".join(cells)}"/>' for shade, cells in enumerate(shades) if cells]
    parts.append(f'<path class="outline" d="{"".join(outlines)}"/>')
    parts += [_label(8, 6 + row * _CELL_HEIGHT + 12, base, "base") for row, base in enumerate(BASES)]
    centres = " ".join(_n(_GUTTER + (site.position - first + 0.5) * _CELL_WIDTH) for site in context)
    letters = escape("".join(site.reference for site in context))
    parts.append(f'<text class="base sequence" y="{bottom + 16}" x="{centres}">{letters}</text>')
    parts += _variant_mark(start + 1 - first, ref, alt, columns, bottom)
    for offset in range(-50, 51, 10):
        column = start + 1 - first + offset
        if 0 <= column < columns:
            text = "0" if not offset else _minus(f"{offset:+d}")
            parts.append(_label(_GUTTER + (column + 0.5) * _CELL_WIDTH, bottom + 33, text, "tick"))
    effects = _effects(context, first, width)
    above = _EFFECTS_TOP + _EFFECTS_HEIGHT if effects else 0
    return _svg(width, above + bottom + 38, title, [*effects, f'<g transform="translate(0 {above})">', *parts, "</g>"])


def _effects(context: Sequence[BaseContext], first: int, width: float) -> list[str]:
    """Bars of log P(other) - log P(reference base): mean of the three substitutions, the line runs over all three."""
    found = []
    for site in context:
        if site.reference in BASES and all(value > 0 for value in site.probabilities):
            logs = [math.log(probability) for probability in site.probabilities]
            reference = logs.pop(BASES.index(site.reference))
            found.append((site.position - first, [log - reference for log in logs]))
    if not found:
        return []
    low = min(0, math.floor(min(min(values) for _, values in found)))
    high = max(0, math.ceil(max(max(values) for _, values in found)))
    y = _scale(low, max(high, low + 1), _EFFECTS_TOP + _EFFECTS_HEIGHT - 4, _EFFECTS_TOP)
    bars, lines = [], []
    for column, values in found:
        x = _GUTTER + column * _CELL_WIDTH
        bars.append(f"M{x + 2} {_n(y(0))}V{_n(y(sum(values) / 3))}h{_CELL_WIDTH - 4}V{_n(y(0))}z")
        lines.append(f"M{_n(x + _CELL_WIDTH / 2)} {_n(y(min(values)))}V{_n(y(max(values)))}")
    ticks = [_label(_GUTTER - 1, y(value) + 4, _minus(f"{value}"), "tick", "end") for value in sorted({low, high})]
    return [
        f'<path class="bars other" d="{"".join(bars)}"/>',
        f'<path class="whisker" d="{"".join(lines)}"/>',
        f'<path class="zero" d="M{_GUTTER} {_n(y(0))}H{_n(width - 8)}"/>',
        *ticks,
    ]


def shade_key() -> Markup:
    """The shades of :func:`context_map` from probability 0 to 1."""
    parts = [f'<path class="shade s{shade}" d="M{shade * 14} 0h14v12h-14z"/>' for shade in range(SHADES)]
    return _svg(SHADES * 14, 12, "Shades from probability 0 (pale) to 1 (dark)", parts, fixed=True)


def _variant_mark(column: int, ref: str, alt: str, columns: int, bottom: int) -> list[str]:
    """Frame around the changed columns, or a line where bases are inserted; a dot on the ALT base of an SNV."""
    x = _GUTTER + max(0, column) * _CELL_WIDTH
    if not ref:
        return [f'<path class="variant" d="M{x} 2V{bottom + 21}"/>']
    wide = (min(columns, column + len(ref)) - max(0, column)) * _CELL_WIDTH
    marks = [f'<path class="variant" d="M{x} 3h{wide}V{bottom + 21}h-{wide}z"/>']
    if len(ref) == 1 == len(alt) and alt in BASES:
        y = 6 + (BASES.index(alt) + 0.5) * _CELL_HEIGHT
        marks.append(f'<circle class="alt" cx="{_n(x + _CELL_WIDTH / 2)}" cy="{_n(y)}" r="3.4"/>')
    return marks


def _panel(one: Series, edges: NDArray[np.float64], x: _Scale, base: int, height: int) -> list[str]:
    counts, _ = np.histogram(np.clip(one.values, edges[0], edges[-1]), edges)
    shares = counts / len(one.values)
    outlined = [(outline.style, _shares(outline, edges)) for outline in one.outlines if len(outline.values)]
    ceiling = max(float(part.max()) for part in (shares, *(part for _, part in outlined)))
    bars = []
    for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
        if share:
            tall = max(1.0, height * share / ceiling)
            bars.append(f"M{_n(x(left) + 0.5)} {base}v{_n(-tall)}H{_n(x(right) - 0.5)}V{base}z")
    median = float(np.median(one.values))
    where = x(min(max(median, edges[0]), edges[-1]))
    title = f"{one.label} · {len(one.values):,} · median {_minus(f'{median:.2f}')}"
    peak = f"{ceiling:.0%}" if ceiling >= 0.095 else f"{ceiling:.1%}"
    return [
        f'<path class="grid" d="M{_LEFT} {base - height}H{_WIDTH - _RIGHT}"/>',
        _label(_LEFT - 6, base - height + 4, peak.replace("%", " %"), "tick", "end"),
        _label(_LEFT - 6, base, "0", "tick", "end"),
        f'<path class="bars {one.style}" d="{"".join(bars)}"/>',
        *(
            f'<path class="outlined {style}" d="{_steps(part, edges, x, base, height / ceiling)}"/>'
            for style, part in outlined
        ),
        f'<path class="median" d="M{_n(where)} {base}V{base - height - 4}"/>',
        _label(_LEFT, base - height - 10, title, "panel-title", "start"),
    ]


def _shares(outline: Outline, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the values in each bin; the outermost bins take in what lies beyond."""
    counts, _ = np.histogram(np.clip(outline.values, edges[0], edges[-1]), edges, weights=outline.times)
    return np.asarray(counts / outline.times.sum(), dtype=np.float64)


def _steps(shares: NDArray[np.float64], edges: NDArray[np.float64], x: _Scale, base: int, tall: float) -> str:
    """A stepped line over the bins, from the axis back to the axis."""
    tops = "".join(f"V{_n(base - tall * share)}H{_n(x(right))}" for share, right in zip(shares, edges[1:], strict=True))
    return f"M{_n(x(edges[0]))} {base}{tops}V{base}"


def _axis(edges: NDArray[np.float64], x: _Scale, base: float, *, labelled: bool, grid: float = 0) -> list[str]:
    low, high = float(edges[0]), float(edges[-1])
    ticks = _ticks(low, high)
    marks = "".join(f"M{_n(x(tick))} {_n(base - grid)}V{_n(base + 4)}" for tick in ticks)
    zero = [f'<path class="zero" d="M{_n(x(0))} {_n(base - grid)}V{_n(base)}"/>'] if grid and low < 0 < high else []
    parts = [f'<path class="{"grid" if grid else "axis"}" d="{marks}"/>', *zero]
    parts.append(f'<path class="axis" d="M{_n(x(low))} {_n(base)}H{_n(x(high))}"/>')
    if labelled:
        parts += [_label(x(tick), base + 18, _minus(f"{tick:g}"), "tick") for tick in ticks]
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Round values from ``low`` to ``high``, ten at most."""
    step = next((s for s in _STEPS if (high - low) / s <= 9), high - low)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins of a round width over the central 99.8 % of the values."""
    low, high = (float(v) for v in np.quantile(values, [0.001, 0.999]))
    step = next((s for s in _STEPS if (high - low) / s <= _MAX_BINS - 2), (high - low) / (_MAX_BINS - 2))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.arange(first, max(last, first + 1) + 1, dtype=np.float64) * step


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)


def _scale(low: float, high: float, left: float, right: float) -> _Scale:
    return _Scale(float(low), float(high), left, right)


def _svg(width: float, height: float, title: str, parts: Iterable[str], *, fixed: bool = False) -> Markup:
    size = f' width="{_n(width)}" height="{_n(height)}"' if fixed else ""
    head = f'<svg viewBox="0 0 {_n(width)} {_n(height)}"{size} role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704  (built from numbers and escaped text)


def _label(x: float, y: float, text: str, style: str, anchor: str = "middle") -> str:
    return f'<text class="{style}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
