"""A line chart as SVG text, from the figures alone."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 40, 50
COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#7b5ea7", "#b8860b", "#444444", "#2a9d8f", "#9d4edd")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "12 4", "1 3", "4 4", "10 2")
TICKS = 5

Points = Sequence[tuple[float, float]]


def line_chart(series: Mapping[str, Points], *, title: str, x: str, y: str, rule: float | None = None) -> str:
    """Return a chart with one line per series, named at its end; lines differ in colour and in dashes.

    Args:
        series: Points by name, from left to right; each has at least one.
        title: Stands above, and is the picture's name for those who hear it.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        rule: Where to draw a horizontal line across.
    """
    every = [point for points in series.values() for point in points]
    left, right = min(point[0] for point in every), max(point[0] for point in every)
    low, high = min(point[1] for point in every), max(point[1] for point in every)

    def across(value: float) -> float:
        return LEFT + (value - left) / max(right - left, 1e-12) * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / max(high - low, 1e-12) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x)}</text>',
        f'<text transform="translate(16 {HEIGHT / 2:.1f}) rotate(-90)" text-anchor="middle">{escape(y)}</text>',
    ]
    for tick in range(TICKS + 1):
        value, height = left + (right - left) * tick / TICKS, low + (high - low) * tick / TICKS
        parts.append(
            f'<text x="{across(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:.0f}</text>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{down(height) + 4:.1f}" text-anchor="end">{height:.3f}</text>')
        parts.append(f'<path d="M{LEFT} {down(height):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
    if rule is not None:
        parts.append(f'<path d="M{LEFT} {down(rule):.1f}H{WIDTH - RIGHT}" stroke="#888" stroke-width="1.5"/>')
    ends = _apart({name: down(points[-1][1]) for name, points in series.items()})
    for number, (name, points) in enumerate(series.items()):
        colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        path = "L".join(f"{across(at):.1f} {down(value):.1f}" for at, value in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{ends[name] + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _apart(heights: Mapping[str, float], gap: float = 15.0) -> dict[str, float]:
    """Return the heights, those that lie closer than ``gap`` moved down."""
    placed: dict[str, float] = {}
    last = float("-inf")
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        last = max(height, last + gap)
        placed[name] = last
    return placed
