"""One scale for the operands of an addition, for runtimes that add integers as they are."""

from collections.abc import Iterable, Mapping, Sequence

from compress.calibration import ActivationGrid
from compress.network.graph import Graph, Node
from compress.placement import quantizers
from compress.plan import Numerics

OPERAND_SCALES = ("separate", "matched")

_MATCHED_OPS = frozenset({"add", "sub", "maximum", "minimum"})


def matched_quantizers(graph: Graph) -> list[tuple[str, ...]]:
    """Return the names of the ``quantize`` nodes that need one scale between them, two or more each.

    Those are what the operands of one addition, subtraction, maximum or minimum are read through. A value that several
    of these read ties all of its fellows together.
    """
    of_value = quantizers(graph)
    order = {node.name: place for place, node in enumerate(graph.nodes)}
    groups: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.op in _MATCHED_OPS and all(value in of_value for value in node.inputs):
            joined: set[str] = set()
            for value in node.inputs:
                name = of_value[value].name
                joined |= groups.get(name, {name})
            groups.update(dict.fromkeys(joined, joined))
    found = {id(members): tuple(sorted(members, key=order.__getitem__)) for members in groups.values()}
    return [members for members in found.values() if len(members) > 1]


def matched_grids(
    groups: Iterable[Sequence[str]], alone: Mapping[str, Node], numerics: Numerics
) -> dict[str, ActivationGrid]:
    """Return a common grid for the members of every group: it reaches as far as each one's own does.

    Args:
        groups: From ``matched_quantizers``.
        alone: ``quantize`` nodes by name, with the grid that each would have for itself.
        numerics: The plan's.
    """
    found: dict[str, ActivationGrid] = {}
    for members in groups:
        own = [_grid(alone[name]) for name in members]
        least = min((grid.low - grid.zero_point) * grid.scale for grid in own)
        most = max((grid.high - grid.zero_point) * grid.scale for grid in own)
        bits = (own[0].high - own[0].low).bit_length()
        grid = ActivationGrid.spanning(least, most, bits, numerics.activation_type)
        if numerics.scale_format == "power_of_two":
            grid = grid.in_power_of_two()
        found.update(dict.fromkeys(members, grid))
    return found


def _grid(quantizer: Node) -> ActivationGrid:
    scale, zero_point, low, high = (quantizer.attributes[key] for key in ("scale", "zero_point", "low", "high"))
    assert isinstance(scale, float)
    assert isinstance(zero_point, int)
    assert isinstance(low, int)
    assert isinstance(high, int)
    return ActivationGrid(scale=scale, zero_point=zero_point, low=low, high=high)
