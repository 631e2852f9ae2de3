"""Write numbers as people read them: four digits, thousands separated, times in their usual units."""

import math


def format_number(value: float | None) -> str:
    """Return a measured value with four digits; "": there is none."""
    if value is None:
        return ""
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def format_interval(low: float | None, high: float | None) -> str:
    """Return the ends of an interval; "": one is not known."""
    if low is None or high is None:
        return ""
    return f"{low:.3g} to {high:.3g}"


def format_large(value: float) -> str:
    """Return a count with a letter: 5.80 M."""
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:,.0f}"


def format_seconds(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def format_time(text: str) -> str:
    """Return a time stamp of environment.json, 2026-11-27T01:50:39+0000, as 2026-11-27 01:50 +0000."""
    date, _, rest = text.partition("T")
    return f"{date} {rest[:5]} {rest[8:]}".strip()
