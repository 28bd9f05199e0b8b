"""Numbers as a reader likes them."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """To so many significant digits, with a true minus sign; text stays text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if value and not 1e-4 <= abs(value) < 1e6:
        return _scientific(f"{value:.{digits}g}")
    places = 0 if not value else max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def with_errors(median: float, low: float, high: float) -> dict[str, str]:
    """Median and the distances to the ends of an interval, all to two digits of the smaller distance."""
    error = max(min(high - median, median - low), 1e-12 * max(abs(median), 1e-300))
    place = 1 - math.floor(math.log10(error))
    if place > 7 or place < -4:
        return {"median": number(median, 5), "plus": number(high - median, 2), "minus": number(median - low, 2)}
    middle, up, down = (f"{round(v, place):,.{max(place, 0)}f}" for v in (median, high - median, median - low))
    return {"median": middle.replace("-", "−"), "plus": up, "minus": down}


def _scientific(text: str) -> str:
    mantissa, e, power = text.partition("e")
    mantissa = mantissa.replace("-", "−")
    if not e:
        return mantissa
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}×10{raised}"


def p_value(value: Any) -> str:
    """A probability as a reader likes it."""
    return "" if not isinstance(value, int | float) else number(float(value), 2)


def percent(share: float, digits: int = 2) -> str:
    """A share in percent."""
    return f"{number(100 * share, digits)}%"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{number(float(seconds), 2)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
