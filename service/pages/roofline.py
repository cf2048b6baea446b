"""A device's roofs as the points of an SVG drawing; both axes are logarithmic."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, log10

from hwmodels.device_view import Roof

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 16, 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on an axis."""

    place: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A roof; its label stands at its right end."""

    label: str
    points: str
    end_y: float
    dashed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What the template draws."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def drawing(roofs: Sequence[Roof]) -> Drawing | None:
    """Return the drawing of a device's roofs, ``None`` where it has none."""
    if not roofs:
        return None
    if not all(0 < rate < inf for roof in roofs for rate in roof.gmac_per_s):
        return None  # a profile with numbers beyond any device
    low_x, high_x = log10(roofs[0].macs_per_byte[0]), log10(roofs[0].macs_per_byte[-1])
    rates = [rate for roof in roofs for rate in roof.gmac_per_s]
    low_y, high_y = floor(log10(min(rates))), ceil(log10(max(rates)) + 0.05)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + (log10(value) - low_x) / (high_x - low_x) * (right - LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - (log10(value) - low_y) / (high_y - low_y) * (bottom - TOP), 1)

    lines: list[Line] = []
    taken: list[float] = []
    for index, roof in enumerate(sorted(roofs, key=lambda roof: -roof.peak_gmac_per_s)):
        points = " ".join(f"{x(a)},{y(b)}" for a, b in zip(roof.macs_per_byte, roof.gmac_per_s, strict=True))
        end_y = y(roof.gmac_per_s[-1])
        end_y = max(end_y, taken[-1] + 14) if taken else end_y  # labels must not cover each other
        taken.append(end_y)
        lines.append(Line(label=roof.label, points=points, end_y=end_y, dashed=bool(index % 2)))
    return Drawing(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        lines=tuple(lines),
        x_ticks=tuple(
            Tick(place=x(10**power), text=f"{10**power:g}") for power in range(ceil(low_x), floor(high_x) + 1)
        ),
        y_ticks=tuple(Tick(place=y(10**power), text=f"{10**power:g}") for power in range(low_y, high_y + 1)),
    )
