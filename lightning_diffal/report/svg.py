"""Charts as inline SVG: sharp at any size, read by screen readers, and legible on a phone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from lightning_diffal.utils.figures import COLOURS

__all__ = ["Line", "bars", "line_chart", "ticks"]

_WIDTH, _HEIGHT = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 34, 40
_INK, _GRID = "#1f2328", "#d9dde2"


class Line(NamedTuple):
    """One curve.

    Args:
        name: of the curve.
        x: `R` numbers, rising.
        y: `R` numbers.
        low: lower edge of the interval, or nothing.
        high: its upper edge, or nothing.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[float]:
    """Round numbers that cover a range.

    Args:
        low: the least number.
        high: the largest.
        most: how many at most.
        whole: whole numbers only.

    Example:
        >>> ticks(0.42, 0.97)
        [0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if span <= 0 or not math.isfinite(span):
        span = abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if span / (step * factor) + 2 <= most + 1 or factor == 20)
    step = max(1.0, step) if whole else step
    first = math.floor(low / step + 1e-9)
    count = math.ceil((high - first * step) / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(max(1, count) + 1)]


def line_chart(
    title: str, lines: Sequence[Line], *, xlabel: str = "labels", rule: float | None = None, share: bool | None = None
) -> Markup:
    """Curves against the number of labels, named at their ends.

    Args:
        title: what is drawn.
        lines: the curves, the most important first.
        xlabel: of the axis below.
        rule: a level to mark.
        share: whether numbers are shares, shown in per cent. Default: where all lie between 0 and 1.

    Returns:
        An `<svg>`, whose description names the first and last value of each curve.

    Example:
        >>> chart = line_chart("accuracy", [Line("run", [10, 20], [0.5, 0.75])])
        >>> str(chart)[:4], "run from 50.0% at 10 to 75.0% at 20" in chart
        ('<svg', True)
    """
    drawn = [line for line in map(_finite, lines) if len(line.x)]
    values = [v for line in drawn for part in (line.y, line.low, line.high) for v in part]
    counts = [v for line in drawn for v in line.x]
    if not values:
        return Markup("")
    if share is None:
        share = min(values) >= 0 and max(values) <= 1 and "loss" not in title.lower()
    levels = ticks(
        min([*values, *([rule] if rule is not None else [])]), max([*values, *([rule] if rule is not None else [])])
    )
    steps = ticks(min(counts), max(counts), 5, whole=True)
    left, right, low, high = min(counts), max(counts), levels[0], levels[-1]

    def px(x: float) -> float:
        return _LEFT + (x - left) / ((right - left) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - low) / ((high - low) or 1.0) * (_HEIGHT - _TOP - _BOTTOM)

    def words(value: float) -> str:
        return f"{value:.1%}" if share else f"{value:.4g}"

    told = [
        f"{line.name} from {words(line.y[0])} at {line.x[0]:g} to {words(line.y[-1])} at {line.x[-1]:g}"
        for line in drawn
    ]
    parts = [_open(f"{title}: {'; '.join(told)}"), _text(6, 18, title, size=14, weight=600)]
    for level in levels:
        name = f"{level:.0%}" if share else f"{level:g}"
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{py(level):.1f}" y2="{py(level):.1f}" stroke="{_GRID}"/>'
        )
        parts.append(_text(_LEFT - 6, py(level) + 4, name, anchor="end", muted=True))
    below = _HEIGHT - _BOTTOM + 18
    parts += [_text(px(s), below, f"{s:g}", anchor="middle", muted=True) for s in steps if left <= s <= right]
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 5, xlabel, anchor="middle", muted=True))
    if rule is not None:
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{py(rule):.1f}" y2="{py(rule):.1f}" '
            'stroke="#5c636b" stroke-dasharray="3 3"/>'
        )
    for number, line in reversed(list(enumerate(drawn))):
        colour = COLOURS[number % len(COLOURS)]
        if len(line.low) == len(line.x) and len(line.x):
            edge = [*zip(line.x, line.high, strict=True), *reversed(list(zip(line.x, line.low, strict=True)))]
            outline = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in edge)
            parts.append(f'<polygon points="{outline}" fill="{colour}" opacity="0.16"/>')
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2"/>')
        for x, y in zip(line.x, line.y, strict=True):
            hint = escape(f"{line.name}: {words(y)} at {x:g} {xlabel}")
            parts.append(
                f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"><title>{hint}</title></circle>'
            )
    parts.append("</svg>")
    if len(drawn) > 1:
        entries = "".join(
            f'<li><i style="background:{COLOURS[n % len(COLOURS)]}"></i>{escape(line.name)}</li>'
            for n, line in enumerate(drawn)
        )
        parts.append(f'<ul class="legend">{entries}</ul>')
    return Markup("".join(parts))  # noqa: S704  # every word in it went through `escape`


def bars(title: str, names: Sequence[str], parts: Mapping[str, Sequence[float]], unit: str = "") -> Markup:
    """Horizontal bars, one per name, of several parts set end to end.

    Args:
        title: what is drawn.
        names: of the bars.
        parts: by name of the part, one number per bar.
        unit: behind the totals.

    Example:
        >>> str(bars("labels", ["cat", "dog"], {"labels": [3, 5]}))[:4]
        '<svg'
    """
    totals = [sum(values) for values in zip(*parts.values(), strict=True)]
    if not totals or max(totals) <= 0:
        return Markup("")
    longest = min(18, max(map(len, names)))
    left, row = 14 + 7.2 * longest, 22
    height = _TOP + row * len(names) + 6
    room = _WIDTH - left - 64
    told = ", ".join(f"{name} {total:.4g}{unit}" for name, total in zip(names[:30], totals, strict=False))
    drawn = [_open(f"{title}: {told}", height), _text(6, 18, title, size=14, weight=600)]
    for number, (name, total) in enumerate(zip(names, totals, strict=True)):
        y, x = _TOP + row * number, left
        shown = name if len(name) <= 18 else f"{name[:17]}…"
        drawn.append(_text(left - 6, y + 14, shown, anchor="end"))
        for part, (kind, values) in enumerate(parts.items()):
            width = room * values[number] / max(totals)
            hint = escape(f"{name}, {kind}: {values[number]:.4g}{unit}")
            drawn.append(
                f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="15" fill="{COLOURS[part % len(COLOURS)]}">'
                f"<title>{hint}</title></rect>"
            )
            x += width
        drawn.append(_text(x + 5, y + 14, f"{total:,.4g}{unit}" if total < 1e4 else f"{total:,.0f}{unit}", muted=True))
    drawn.append("</svg>")
    if len(parts) > 1:
        entries = "".join(
            f'<li><i style="background:{COLOURS[n % len(COLOURS)]}"></i>{escape(kind)}</li>'
            for n, kind in enumerate(parts)
        )
        drawn.append(f'<ul class="legend">{entries}</ul>')
    return Markup("".join(drawn))  # noqa: S704  # as above


def _finite(line: Line) -> Line:
    kept = [i for i, y in enumerate(line.y) if math.isfinite(y)]
    sure = len(line.low) == len(line.y) and all(math.isfinite(v) for v in (*line.low, *line.high))
    low, high = ([part[i] for i in kept] if sure else [] for part in (line.low, line.high))
    return Line(line.name, [line.x[i] for i in kept], [line.y[i] for i in kept], low, high)


def _open(words: str, height: float = _HEIGHT) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(words)}" font-size="13">'


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, weight: int = 400, muted: bool = False
) -> str:
    css = ' class="muted"' if muted else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"{css}>'
        f"{escape(words)}</text>"
    )
