"""Figures as people read them, for the command line and the pages alike; JSON keeps the plain numbers.

Bytes are decimal (1 kB = 1000 bytes), as device limits are mostly given.
"""

from datetime import UTC, datetime

ABSENT = "–"


def accuracy(value: float | None) -> str:
    """Return a fraction in 0..1 as a percentage with two digits, enough to tell one image in 10,000."""
    return ABSENT if value is None else f"{value * 100:.2f} %"


def points(difference: float | None) -> str:
    """Return a difference of two accuracies in percentage points, with its sign."""
    return ABSENT if difference is None else f"{difference * 100:+.2f} points"


def amount(value: float | None) -> str:
    """Return a number with three significant digits and no exponent: 1234, 12.3, 0.0123."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    digits = 2
    threshold = 1.0
    while size < threshold and digits < 8:
        digits += 1
        threshold /= 10
    if size >= 10:
        digits = 1
    return f"{value:.{digits}f}"


def size(value: float | None) -> str:
    """Return bytes with a decimal unit."""
    if value is None:
        return ABSENT
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{amount(value / factor)} {unit}"
    return f"{value:.0f} B"


def count(value: float | None) -> str:
    """Return a count with a decimal prefix: 1.23 M."""
    if value is None:
        return ABSENT
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{amount(value / factor)} {unit}"
    return f"{value:.0f}"


def quantity(name: str, value: float | None) -> str:
    """Return the figure called ``name`` (``latency_ms``, ``model_bytes``, …) with its unit."""
    if value is None:
        return ABSENT
    if name == "accuracy":
        return accuracy(value)
    if name == "accuracy_drop":
        return f"{value * 100:g} points"
    if name.endswith("_bytes"):
        return size(value)
    if name.endswith("_ms"):
        return f"{amount(value)} ms"
    if name.endswith("_mj"):
        return f"{amount(value)} mJ"
    return amount(value)


def limit_words(name: str, value: float) -> str:
    """Return a limit as people say it: ``latency ≤ 4.00 ms``."""
    return f"{TITLES[name].partition(' (')[0]} ≤ {quantity(name, value)}"


def duration(seconds: float | None) -> str:
    """Return a span of time, two units at most: 45 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None:
        return ABSENT
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(when: datetime | str | None) -> str:
    """Return a time in UTC to the second."""
    if when is None:
        return ABSENT
    parsed = datetime.fromisoformat(when) if isinstance(when, str) else when
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


TITLES = {
    "accuracy": "accuracy",
    "accuracy_drop": "accuracy drop",
    "latency_ms": "latency (ms)",
    "energy_mj": "energy (mJ)",
    "model_bytes": "model size (bytes)",
    "peak_memory_bytes": "peak memory (bytes)",
    "packed_bytes": "packed file (bytes)",
}
"""What an axis or a column of each figure is called."""
