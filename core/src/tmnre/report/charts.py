"""Charts as SVG in the page itself: colours are the page's, light or dark, and every chart says in words what it shows.

Bars that carry no text are stretched to the width of the page (`preserveAspectRatio="none"`); charts with text keep
their shape, small enough to be read on a telephone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from tmnre.report.words import number, percent

WIDE = 1000
"""width of a stretched chart, in its own units"""
Bounds = tuple[float, float]


def _svg(width: float, height: float, label: str, parts: Sequence[str], *, stretch: bool = False) -> Markup:
    ratio = ' preserveAspectRatio="none"' if stretch else ""
    content = "".join(parts)
    return Markup(  # noqa: S704 - numbers of our own; text has been escaped
        f'<svg viewBox="0 0 {width:g} {height:g}"{ratio} role="img" aria-label="{escape(label)}">{content}</svg>'
    )


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers between low and high."""
    raw = (high - low) / count
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * min((m for m in (1, 2, 5, 10) if m * power >= raw), default=10)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [k * step for k in range(first, last + 1)]


def _text(x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "tick") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def density(name: str, grid: np.ndarray, height: np.ndarray, found: Mapping[str, Any], truth: float | None) -> Markup:
    """Posterior density (G,) of one parameter, with its 68% and 90% intervals and median."""
    width, base, top = 300.0, 112.0, 8.0
    low, high = float(grid[0]), float(grid[-1])
    x = 6 + (width - 12) * (grid - low) / (high - low)
    y = base - (base - top) * height / max(height.max(), 1e-300)

    def at(value: float) -> float:
        return 6 + (width - 12) * (value - low) / (high - low)

    parts = []
    for mass in ("90", "68"):
        a, b = found[f"interval_{mass}"]
        inside = (grid >= a) & (grid <= b)
        if inside.sum() > 1:
            xs, ys = x[inside], y[inside]
            outline = f"{xs[0]:.1f},{base:.1f} {_points(xs, ys)} {xs[-1]:.1f},{base:.1f}"
            parts.append(f'<polygon points="{outline}" class="mass{mass}"/>')
    parts.append(f'<polyline points="{_points(x, y)}" class="curve"/>')
    middle = at(found["median"])
    parts.append(f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{top}" y2="{base}" class="median"/>')
    if truth is not None and low <= truth <= high:
        parts.append(f'<line x1="{at(truth):.1f}" x2="{at(truth):.1f}" y1="0" y2="{base}" class="truth"/>')
    parts.append(f'<line x1="6" x2="{width - 6}" y1="{base}" y2="{base}" class="axis"/>')
    ticks = [t for t in _ticks(low, high, 5) if 22 < at(t) < width - 22] or [0.5 * (low + high)]
    for tick in ticks:
        parts.append(f'<line x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{base}" y2="{base + 4}" class="axis"/>')
        parts.append(_text(at(tick), base + 17, _tick_label(tick, ticks)))
    a, b = found["interval_90"]
    said = f"Posterior of {name}: median {number(found['median'])}, 90% between {number(a)} and {number(b)}"
    return _svg(width, base + 22, said + ("" if truth is None else f", truth {number(truth)}"), parts)


def _tick_label(tick: float, ticks: Sequence[float]) -> str:
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(tick) or 1.0
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    if digits > 6 or abs(tick) >= 1e6:
        return number(tick, 4)
    return f"{tick:.{digits}f}".replace("-", "−")


def regions(name: str, bounds: Sequence[Bounds], gaps: Sequence[Sequence[Bounds]]) -> Markup:
    """Where one parameter's prior stood, a bar a round from first (top) to last; bounds within [0, 1]."""
    thick, parts = 7.0, []
    for k, ((low, high), left_out) in enumerate(zip(bounds, gaps, strict=True)):
        shown = max(high - low, 0.004)  # too narrow to be seen otherwise
        start = min(max(0.5 * (low + high - shown), 0), 1 - shown)
        shade = 0.3 + 0.7 * (k + 1) / len(bounds)
        y = f'y="{k * (thick + 1.5):.1f}" height="{thick}"'
        parts.append(f'<rect x="0" width="{WIDE}" {y} class="track"/>')
        parts.append(f'<rect x="{WIDE * start:.1f}" width="{WIDE * shown:.1f}" {y} class="bar" opacity="{shade:.2f}"/>')
        for a, b in left_out:
            parts.append(f'<rect x="{WIDE * a:.1f}" width="{WIDE * (b - a):.1f}" {y} class="gap"/>')
    low, high = bounds[-1]
    said = f"Region of {name} over {len(bounds)} rounds: at last {percent(low)} to {percent(high)} of its first range"
    return _svg(WIDE, len(bounds) * (thick + 1.5) - 1.5, said, parts, stretch=True)


def training(number_of_round: int, curve: Sequence[Mapping[str, float]]) -> Markup:
    """Training and validation loss of one round; the first tenth may lie above."""
    width, high, left, base = 300.0, 150.0, 46.0, 122.0
    right = width - 18
    members = sorted({int(point.get("member", 0)) for point in curve})
    late: list[float] = []
    for member in members:
        own = [p for p in curve if int(p.get("member", 0)) == member]
        late += [p[key] for p in own[len(own) // 10 :] for key in ("train", "validation")]
    finite = np.array([value for value in late if np.isfinite(value)] or [0.0])
    margin = 0.06 * float(np.ptp(finite)) + 1e-3
    bottom, top = float(finite.min()) - margin, float(finite.max()) + margin
    last = max(float(point["step"]) for point in curve)

    def across(step: Any) -> Any:
        return left + (right - left) * np.asarray(step, float) / last

    def down(loss: Any) -> Any:
        share = (np.asarray(loss, float) - bottom) / (top - bottom)
        return base - (base - 8) * np.clip(np.nan_to_num(share, nan=1.0, posinf=1.0), -0.02, 1.02)

    parts = []
    for tick in _ticks(bottom, top, 4):
        y = float(down(tick))
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(_text(left - 6, y + 4, _tick_label(tick, _ticks(bottom, top, 4)), anchor="end"))
    for tick in _ticks(0, last, 4):
        parts.append(_text(float(across(tick)), base + 17, f"{tick:,.0f}"))
    best = []
    for member in members:
        own = [p for p in curve if int(p.get("member", 0)) == member]
        x = across([p["step"] for p in own])
        for key in ("train", "validation"):
            parts.append(f'<polyline points="{_points(x, down([p[key] for p in own]))}" class="{key}"/>')
        kept = min(own, key=lambda p: p["validation"])
        best.append(kept["validation"])
        where = float(across(kept["step"])), float(down(kept["validation"]))
        parts.append(f'<circle cx="{where[0]:.1f}" cy="{where[1]:.1f}" r="4" class="kept"/>')
    parts.append(f'<line x1="{left}" x2="{right}" y1="{base}" y2="{base}" class="axis"/>')
    said = f"Training of round {number_of_round}: {last:,.0f} steps, best validation loss {number(min(best))}"
    return _svg(width, high, said, parts)


def coverage(name: str, levels: Sequence[Mapping[str, float]]) -> Markup:
    """Share of truths inside regions of 50%, 68% and 90%: a mark each, in the band a right posterior stays in."""
    parts, lane = [], 8
    for row, found in enumerate(levels):
        low, high, inside = (WIDE * min(max(found[key], 0.0), 1.0) for key in ("low", "high", "inside"))
        y = f'y="{row * (lane + 2)}" height="{lane}"'
        parts.append(f'<rect x="0" width="{WIDE}" {y} class="track"/>')
        if np.isfinite([low, high]).all():
            parts.append(f'<rect x="{low:.1f}" width="{max(high - low, 4):.1f}" {y} class="band"/>')
        x = min(max(inside, 4.0), WIDE - 4.0)
        kind = "mark off" if found["inside"] < found["low"] or found["inside"] > found["high"] else "mark"
        top = row * (lane + 2)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + lane}" class="{kind}"/>')
    said = "; ".join(f"{percent(f['level'])} regions hold {percent(f['inside'])}" for f in levels)
    return _svg(WIDE, len(levels) * (lane + 2) - 2, f"Coverage of {name}: {said}", parts, stretch=True)


def seconds(what: str, parts_s: Mapping[str, float], longest: float) -> Markup:
    """Time of one round by part of the work, to the scale of the longest round."""
    parts, x = [f'<rect x="0" width="{WIDE}" y="0" height="14" class="track"/>'], 0.0
    for part, value in parts_s.items():
        width = WIDE * max(value, 0.0) / max(longest, 1e-9)
        parts.append(f'<rect x="{x:.1f}" width="{width:.1f}" y="0" height="14" class="stage {escape(part)}"/>')
        x += width
    said = ", ".join(f"{part} {number(float(value), 2)} s" for part, value in parts_s.items())
    return _svg(WIDE, 14, f"{what}: {said}", parts, stretch=True)
