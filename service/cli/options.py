"""Turning what stands on the command line into the parts of a job."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import typer

from workers.spec import Limits

LIMIT_NAMES = tuple(item.name for item in fields(Limits))

DEVICE_HELP = (
    "Device profile, with its own limits after a colon: stm32h743:latency_ms=90,model_bytes=40000. Repeat for more."
)
LIMIT_HELP = f"Limit on every device, NAME=VALUE; names: {', '.join(LIMIT_NAMES)}. Repeat for more."


def parse_limits(pairs: Iterable[str]) -> dict[str, float | int]:
    """Return ``NAME=VALUE`` pairs as limits.

    Raises:
        typer.BadParameter: A pair has no value, an unknown name or one that was there before.
    """
    limits: dict[str, float | int] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals:
            raise typer.BadParameter(f"a limit is NAME=VALUE, got {pair!r}")
        if name not in LIMIT_NAMES:
            raise typer.BadParameter(f"unknown limit {name!r}; known: {', '.join(LIMIT_NAMES)}")
        if name in limits:
            raise typer.BadParameter(f"limit {name!r} is given twice")
        limits[name] = _number(name, text)
    return limits


def parse_device(text: str) -> dict[str, Any]:
    """Return ``name`` or ``name:limit=value,…`` as an entry of a job's ``devices``."""
    name, colon, rest = text.partition(":")
    name = name.strip()
    if not name:
        raise typer.BadParameter(f"a device is NAME or NAME:LIMIT=VALUE,…, got {text!r}")
    if not colon:
        return {"name": name, "limits": {}}
    return {"name": name, "limits": parse_limits(part for part in rest.split(",") if part.strip())}


def parse_numbers(text: str, *, name: str, kind: type[int] | type[float]) -> list[int] | list[float]:
    """Return a comma-separated list of numbers, ``2,4,8``."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{name} is a list of numbers with commas, got {text!r}") from None


def _number(name: str, text: str) -> float | int:
    try:
        value = float(text)
    except ValueError:
        raise typer.BadParameter(f"{name} must be a number, got {text!r}") from None
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{name} must be finite and not negative, got {text!r}")
    if not name.endswith("_bytes"):
        return value
    if value != int(value):
        raise typer.BadParameter(f"{name} counts whole bytes, got {text!r}")
    return int(value)
