"""A device profile as a flat list of facts, for tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_LIST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One leaf of a profile. ``name`` is its path, unit included; ``confidence`` and ``source`` may be empty."""

    name: str
    value: str
    confidence: str
    source: str


def facts(profile: Mapping[str, Any], *, prefix: str = "", confidence: str = "", source: str = "") -> Iterator[Fact]:
    """Yield a profile's facts in its own order; a part's confidence and source hold for all that it contains."""
    confidence = str(profile.get("confidence", confidence))
    source = str(profile.get("source", source))
    for key, value in profile.items():
        name = f"{prefix}{key}"
        if key in ("confidence", "source") or value in (None, [], {}, ()):
            continue
        if key == "samples":  # of a fitted regressor: too many numbers to read
            yield Fact(name=name, value=f"{len(value)} kernels", confidence=confidence, source=source)
            continue
        if isinstance(value, Sequence) and len(value) > LONGEST_LIST and not isinstance(value[0], Mapping | str):
            yield Fact(name=name, value=f"{len(value)} numbers", confidence=confidence, source=source)
            continue
        if isinstance(value, Mapping) and "value" in value:
            yield Fact(
                name=name,
                value=_text(value["value"]),
                confidence=str(value.get("confidence", confidence)),
                source=str(value.get("source", source)),
            )
        elif isinstance(value, Mapping):
            yield from facts(value, prefix=f"{name}.", confidence=confidence, source=source)
        elif isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value, start=1):
                yield from facts(item, prefix=f"{name} {index}: ", confidence=confidence, source=source)
        else:
            yield Fact(name=name, value=_text(value), confidence=confidence, source=source)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(value)
