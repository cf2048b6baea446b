"""How much a choice loses where only others of the same variable were measured."""

from collections.abc import Mapping

from search.space import Choice

ERROR_PER_BIT = 0.25
"""Share of the squared rounding error that is left with each further bit: half the step, a quarter of its square."""

LEAST_RATIO = 1e-6


def all_losses(
    kind: str, choices: tuple[Choice, ...], measured: Mapping[int, float], *, ordered: bool = True
) -> tuple[float, ...]:
    """Return a loss for every choice; between and beyond what was measured by the law of the variable's kind.

    Bits lose a quarter with each further bit, channels the square of the share that is cut.

    Args:
        kind: ``channels``, or else bits of something.
        choices: From the cheapest to the dearest, which loses nothing.
        measured: Loss by position among the choices; the cheapest must be there.
        ordered: A dearer choice then never counts as losing more: what says so is noise.
    """
    last = len(choices) - 1
    known = {**measured, last: 0.0}
    values = []
    for place in range(last + 1):
        if place in known:
            values.append(known[place])
        else:
            nearest = max(other for other in known if other < place)
            values.append(known[nearest] * _left(kind, float(choices[nearest]), float(choices[place])))
    return tuple(max(values[place:]) for place in range(last + 1)) if ordered else tuple(values)


def _left(kind: str, cheaper: float, dearer: float) -> float:
    """Return the share of the loss of one choice that is left at a dearer one."""
    if kind == "channels":
        return ((1 - dearer) / max(LEAST_RATIO, 1 - cheaper)) ** 2
    return float(ERROR_PER_BIT ** (dearer - cheaper))
