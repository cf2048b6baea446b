"""What an operator of the closed list declares about itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from compress.network.graph import Attribute, Node
from hwmodels.workload import KernelKind

MAX_INTEGER = 2**31 - 1

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Type and bounds of one attribute. ``default`` stands where a node is written without it; ``...`` is none."""

    kind: str  # "bool" | "int" | "float" | "choice" | "ints"
    low: float = -MAX_INTEGER
    high: float = MAX_INTEGER
    choices: tuple[str, ...] = ()
    optional: bool = False  # ``None`` is allowed
    default: Any = ...

    def broken_by(self, value: object) -> str | None:
        """Return which rule ``value`` breaks, or ``None`` if it breaks none."""
        if value is None:
            return None if self.optional else "must not be null"
        if self.kind == "bool":
            return None if isinstance(value, bool) else "must be true or false"
        if self.kind == "choice":
            return None if value in self.choices else f"must be one of {', '.join(self.choices)}"
        if self.kind == "ints":
            if not isinstance(value, tuple) or len(value) > 8:
                return "must be a list of at most 8 integers"
            broken = [rule for item in value if (rule := self._broken_by_number(item, whole=True))]
            return broken[0] if broken else None
        return self._broken_by_number(value, whole=self.kind == "int")

    def _broken_by_number(self, value: object, *, whole: bool) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            return "must be an integer" if whole else "must be a number"
        if not self.low <= value <= self.high:  # also what is not a number; compares integers beyond any float
            return f"must be in {self.low:g}..{self.high:g}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A parameter that an operator takes: how many dimensions its tensor may have, and whether it must be there."""

    ranks: tuple[int, ...]
    required: bool = True


class MacCount(Protocol):
    """Counts multiply-accumulates of one image from shapes."""

    def __call__(self, node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], weight: Shape | None) -> int:
        """Return the count; shapes are those of one image."""
        ...


class ShapeRule(Protocol):
    """Finds the shapes of a node's outputs, or refuses (``shapes.ShapeError``)."""

    def __call__(self, node: Node, inputs: Sequence[Shape], weight: Shape | None) -> tuple[Shape, ...]:
        """Return one shape per output."""
        ...


def no_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape], weight: Shape | None) -> int:
    """Return 0: element-wise work and data movement are not multiply-accumulates."""
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator: how it runs, what a node of it must look like, and what it costs.

    ``run(*inputs, **parameters, **attributes)`` computes it. Operators with parameters also have ``module``, which
    builds the plain ``torch.nn`` module that torch tools (torch-pruning's dependency graph) recognise; both give the
    same values.
    """

    name: str
    run: Callable[..., Any]
    shape: ShapeRule
    kind: KernelKind | Callable[[Node, Shape | None], KernelKind]
    attributes: Mapping[str, Rule] = field(default_factory=dict)
    parameters: Mapping[str, Role] = field(default_factory=dict)
    module: Callable[[Node, Mapping[str, Tensor]], nn.Module] | None = None
    inputs: tuple[int, int] = (1, 1)  # least, most
    outputs: tuple[int, int] = (1, 1)
    macs: MacCount = no_macs

    @property
    def weighted(self) -> bool:
        """Whether a node of it is a layer: it has a weight that can be quantized or factored."""
        return "weight" in self.parameters and self.macs is not no_macs

    def complete(self, given: Mapping[str, Attribute]) -> dict[str, Attribute]:
        """Return ``given`` with the defaults filled in."""
        unknown = sorted(set(given) - set(self.attributes))
        if unknown:
            raise TypeError(f"{self.name} has no attribute {unknown[0]!r}; known: {', '.join(self.attributes)}")
        missing = sorted(key for key, rule in self.attributes.items() if rule.default is ... and key not in given)
        if missing:
            raise TypeError(f"{self.name} needs the attribute {missing[0]!r}")
        defaults = {key: rule.default for key, rule in self.attributes.items() if rule.default is not ...}
        return {key: {**defaults, **given}[key] for key in self.attributes}

    def kind_of(self, node: Node, weight: Shape | None) -> KernelKind:
        """Return the class of kernel that ``node`` is, given its weight's shape (``None`` if it has none)."""
        return self.kind if isinstance(self.kind, KernelKind) else self.kind(node, weight)
