"""The results as one SVG: bars of ratios for the main works, a line chart for each way in which the work grows.

Written by hand, since a picture of some lines and texts is worth no library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.results import HOME, Line, Session

_COLOURS = {"raftkv": "#1a6fb5", "etcd": "#d9822b", "pysyncobj": "#7a7a7a", "redis": "#b23a48"}
_WIDTH, _LEFT, _CHART_HEIGHT, _BAR = 860, 400, 260, 22


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def advantage(line: Line, peer: str) -> float:
    """Return how many times better we are: over 1 is ahead, for times and memory, too."""
    value = line.ratios.get(peer, float("nan"))
    return value if line.measure.better == "higher" else (1 / value if value else float("nan"))


def bars(lines: Sequence[Line], top: float) -> tuple[list[str], float]:
    """Draw how far ahead of etcd we are in each work, on a logarithmic scale.

    :return: the drawing, and where it ends.
    """
    shown = [(line, advantage(line, "etcd")) for line in lines]
    shown = [(line, value) for line, value in shown if value == value and value > 0]
    if not shown:
        return [], top
    low = min(0.5, *(value for _, value in shown))
    high = max(2.0, *(value for _, value in shown))

    def x(value: float) -> float:
        return _LEFT + (math.log(value / low) / math.log(high / low)) * (_WIDTH - _LEFT - 60)

    parts = [_text(10, top + 16, "times better than etcd (logarithmic)", size=14)]
    y = top + 30
    for line, value in shown:
        begin, end = sorted((x(1.0), x(value)))
        colour = _COLOURS[HOME] if value >= 1 else "#b23a48"
        name = line.work.title if not line.lane.door else f"{line.work.title} ({line.lane.door})"
        what = f" [{line.measure.figure}]" if len(line.work.measures) > 1 else ""
        parts.append(_text(_LEFT - 8, y + 14, (name + what)[:66], "end", 11))
        parts.append(f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 1):.1f}" height="14" fill="{colour}"/>')
        parts.append(_text(end + 4, y + 12, f"{value:.2g}", size=11))
        y += _BAR
    parts.append(f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{top + 26}" y2="{y}" stroke="black"/>')
    return parts, y + 20


def curve(axis: str, series: Mapping[str, Sequence[tuple[int, float]]], top: float) -> list[str]:
    """Draw writes a second of each contestant as the work grows, both scales logarithmic."""
    points = [point for each in series.values() for point in each if point[1] > 0]
    if not points:
        return []
    xs = sorted({x for x, _ in points})
    high = max(y for _, y in points)
    low = min(y for _, y in points)
    bottom, left, right = top + _CHART_HEIGHT - 40, 90, _WIDTH - 130

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / xs[0]) / math.log(xs[-1] / xs[0]) if len(xs) > 1 else 0.5
        up = math.log(y / low) / math.log(high / low) if high > low else 0.5
        return left + across * (right - left), bottom - up * (bottom - top - 40)

    parts = [_text(10, top + 16, f"native puts a second by {axis} (both scales logarithmic)", size=14)]
    parts.append(f'<path d="M{left},{top + 30}V{bottom + 6}H{right}" fill="none" stroke="#888"/>')
    parts += [_text(place(x, low)[0], bottom + 22, f"{x:,}", "middle", 11) for x in xs]
    parts += [_text(left - 6, place(xs[0], y)[1] + 4, f"{y:,.0f}", "end", 11) for y in (low, high)]
    for name, found in series.items():
        colour = _COLOURS.get(name, "black")
        places = [place(x, y) for x, y in sorted(found) if y > 0]
        if not places:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(places[-1][0] + 8, places[-1][1] + 4, name, size=11))
    return parts


def draw(session: Session) -> str:
    """Return the picture."""
    lines = session.lines()
    parts, y = bars([line for line in lines if line.work.chart is None and line.lane.peer == HOME], 10)
    grown: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        if line.work.chart is not None:
            axis, place = line.work.chart
            grown.setdefault(axis, {}).setdefault(line.lane.peer, []).append((place, line.value))
    for axis, series in grown.items():
        known = {name: [point for point in found if point[1] == point[1]] for name, found in series.items()}
        drawn = curve(axis, known, y)
        parts += drawn
        y += _CHART_HEIGHT if drawn else 0
    if session.is_quick or session.busiest > 0.7:
        warning = f"not a quiet machine (load average {session.busiest:.1f}), or a quick run: no figures to quote"
        parts.append(_text(10, y + 16, warning))
        y += 26
    inner = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 10:.0f}" '
        f'viewBox="0 0 {_WIDTH} {y + 10:.0f}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{inner}\n</svg>\n'
    )
