"""The search space: named variables with finitely many choices, and the candidates in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1

Choice = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One decision. ``choices`` run from the cheapest to the most expensive if ``ordered``."""

    name: str
    choices: tuple[Choice, ...]
    ordered: bool = True

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError(f"variable {self.name!r} needs at least one choice")
        if len(set(self.choices)) != len(self.choices):
            raise ValueError(f"variable {self.name!r} has a choice twice: {self.choices}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice for every variable of a space, as indices in the space's order."""

    indices: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return {"schema_version": SCHEMA_VERSION, "indices": list(self.indices)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Candidate":
        """Rebuild a candidate from ``to_json``'s data."""
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"candidate schema_version must be {SCHEMA_VERSION}, got {data['schema_version']}")
        return cls(tuple(data["indices"]))


@dataclass(frozen=True, slots=True)
class Space:
    """The variables of one job, in a fixed order."""

    variables: tuple[Variable, ...]

    def __post_init__(self) -> None:
        names = [variable.name for variable in self.variables]
        if len(set(names)) != len(names):
            raise ValueError("variable names must be unique")

    @property
    def size(self) -> int:
        """Number of different candidates."""
        return math.prod(len(variable.choices) for variable in self.variables)

    def values(self, candidate: Candidate) -> dict[str, Choice]:
        """Return the chosen value of every variable by name."""
        return {
            variable.name: variable.choices[index]
            for variable, index in zip(self.variables, candidate.indices, strict=True)
        }

    def candidate(self, values: Mapping[str, Choice]) -> Candidate:
        """Return the candidate with these values; the inverse of ``values``."""
        return Candidate(tuple(variable.choices.index(values[variable.name]) for variable in self.variables))

    def uniform(self, positions: Sequence[float]) -> list[Candidate]:
        """Return one candidate per position in 0..1, each variable at that share of its choices."""
        return [
            Candidate(tuple(round(position * (len(variable.choices) - 1)) for variable in self.variables))
            for position in positions
        ]
