"""The front of a job along any two figures, how it grew, and the same as data for the chart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

from search.pareto import FrontArchive
from service import display
from service.api.schemas import FloatPoint, JobRead
from service.fronts import REFERENCE_MARGIN
from service.pages.views import TrialRow, float_point, least_accuracy, limits_of

_NEAR = 0.03
MAX_DRAWN = 2000  # besides front and baselines; a chart with more is slow and says no more


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """What one device shows of a job along two axes.

    ``growth`` is (trial number, hypervolume after it), ``baseline_volume`` the hypervolume of the baselines alone.
    """

    device: str
    x: str
    y: str
    limits: Mapping[str, float]
    rows: Sequence[TrialRow]
    front: Sequence[TrialRow]
    float_point: FloatPoint | None
    growth: Sequence[tuple[int, float]]
    baseline_volume: float

    @property
    def joint_gain(self) -> float | None:
        """The share by which the search's hypervolume exceeds that of the baselines; ``None`` without these."""
        return self.growth[-1][1] / self.baseline_volume - 1 if self.growth and self.baseline_volume > 0 else None

    @property
    def baselines(self) -> list[TrialRow]:
        """The uniform baselines that were measured."""
        return [row for row in self.rows if row.is_baseline and row.read.accuracy is not None]

    @property
    def feasible_count(self) -> int:
        """Trials that were measured and keep every limit."""
        return sum(row.feasible for row in self.rows)

    @property
    def joint_count(self) -> int:
        """Trials of the front that use bits, channels and operator at once."""
        return sum(len(row.summary.dimensions) == 3 for row in self.front)


def front_view(job: JobRead, rows: Sequence[TrialRow], *, device: str, x: str, y: str) -> FrontView:
    """Return the front of the feasible trials along the figures ``x`` and ``y``.

    Of equal points the first stands for all. The hypervolume is measured as the API does: from an accuracy of 0 and a
    tenth beyond the dearest measured trial.
    """
    measured = [row for row in rows if row.value(x) is not None and row.value(y) is not None]
    measured = [row for row in measured if row.read.accuracy is not None]
    corner = [_corner(measured, figure) for figure in (x, y)]
    archive: FrontArchive[int] = FrontArchive(2)
    growth: list[tuple[int, float]] = []
    seen: set[tuple[float, ...]] = set()
    for index in sorted(range(len(measured)), key=lambda index: measured[index].read.number):
        point = tuple(_minimised(measured[index], x, y))
        if not measured[index].feasible or point in seen:
            continue
        seen.add(point)
        if archive.add(index, point):
            growth.append((measured[index].read.number, archive.hypervolume(corner)))
    if growth:
        growth.append((max(row.read.number for row in measured), growth[-1][1]))
    front = [measured[index] for index in archive]
    baselines: FrontArchive[str] = FrontArchive(2)
    for row in measured:
        if row.feasible and row.is_baseline:
            baselines.add(row.id, _minimised(row, x, y))
    return FrontView(
        device=device,
        x=x,
        y=y,
        limits=limits_of(job, device),
        rows=rows,
        front=sorted(front, key=lambda row: row.value(x) or 0.0),
        float_point=float_point(job, device),
        growth=growth,
        baseline_volume=baselines.hypervolume(corner),
    )


def chart(job: JobRead, view: FrontView) -> dict[str, Any]:
    """Return what ``static/chart.js`` draws."""
    on_front = {row.id for row in view.front}
    others = [row for row in view.rows if row.id not in on_front and not row.is_baseline]
    step = -(-len(others) // MAX_DRAWN) or 1
    drawn = [*others[::step], *(row for row in view.rows if row.is_baseline and row.id not in on_front), *view.front]
    return {
        "device": view.device,
        "x": _axis(job, view, view.x),
        "y": _axis(job, view, view.y),
        "points": [
            _point(row, view, front=row.id in on_front)
            for row in drawn
            if row.value(view.x) is not None and row.value(view.y) is not None
        ],
        "float": _float(view),
        "marks": _marks(view),
        "growth": [[number, value] for number, value in view.growth],
    }


def _minimised(row: TrialRow, *figures: str) -> list[float]:
    return [-(row.value(name) or 0.0) if name == "accuracy" else (row.value(name) or 0.0) for name in figures]


def _corner(rows: Sequence[TrialRow], figure: str) -> float:
    if figure == "accuracy":
        return 0.0
    return max((row.value(figure) or 0.0 for row in rows), default=0.0) * REFERENCE_MARGIN


def _axis(job: JobRead, view: FrontView, name: str) -> dict[str, Any]:
    limit = least_accuracy(job, view.device) if name == "accuracy" else view.limits.get(name)
    sign = "≥" if name == "accuracy" else "≤"
    return {
        "name": name,
        "title": display.TITLES[name],
        "unit": "share" if name == "accuracy" else "bytes" if name.endswith("_bytes") else name.rpartition("_")[2],
        "best": "high" if name == "accuracy" else "low",
        "limit": limit,
        "limit_text": "" if limit is None else f"{sign} {display.quantity(name, limit)}",
    }


def _point(row: TrialRow, view: FrontView, *, front: bool) -> dict[str, Any]:
    return {
        "id": row.id,
        "x": row.value(view.x),
        "y": row.value(view.y),
        "front": front,
        "feasible": row.feasible,
        "baseline": row.is_baseline,
        "label": row.read.label,
        "kind": row.summary.kind,
        "dimensions": list(row.summary.dimensions),
        "text": _hover(row.name, row.read.accuracy, row.costs, row.read.packed_bytes, row.summary.kind),
    }


def _marks(view: FrontView) -> list[dict[str, Any]]:
    """Return the labels of the baselines; those that lie on almost the same spot share one."""
    spots: list[tuple[float, float, list[str]]] = []
    for row in view.baselines:
        x, y = row.value(view.x), row.value(view.y)
        if x is None or y is None:
            continue
        near = [
            names for at_x, at_y, names in spots if isclose(x, at_x, rel_tol=_NEAR) and isclose(y, at_y, rel_tol=_NEAR)
        ]
        if near:
            near[0].append(row.name)
        else:
            spots.append((x, y, [row.name]))
    return [{"x": x, "y": y, "text": _joined(names)} for x, y, names in spots]


def _joined(names: Sequence[str]) -> str:
    """Return one label for several: ``uniform 8/6 bit``."""
    words = [name.split() for name in names]
    if len({len(row) for row in words}) != 1:
        return ", ".join(names)
    return " ".join("/".join(dict.fromkeys(column)) for column in zip(*words, strict=True))


def _float(view: FrontView) -> dict[str, Any] | None:
    if view.float_point is None:
        return None
    figures = {
        **view.float_point.costs.model_dump(),
        **view.float_point.model_dump(include={"accuracy", "packed_bytes"}),
    }
    if figures[view.x] is None or figures[view.y] is None:
        return None
    text = _hover(
        "float network", view.float_point.accuracy, view.float_point.costs, view.float_point.packed_bytes, "32 bit"
    )
    return {"x": figures[view.x], "y": figures[view.y], "text": text}


def _hover(name: str, accuracy: float | None, costs: Any, packed_bytes: int | None, kind: str) -> str:
    return "<br>".join(
        (
            f"<b>{name}</b> · {kind}",
            f"{display.accuracy(accuracy)}, {display.quantity('latency_ms', costs.latency_ms)}, "
            f"{display.quantity('energy_mj', costs.energy_mj)}",
            f"{display.size(costs.model_bytes)} on the device, {display.size(packed_bytes)} packed",
        )
    )
