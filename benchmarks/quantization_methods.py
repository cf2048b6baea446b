"""Which methods ``benchmarks.quantization`` measures at which widths."""

from collections.abc import Iterator
from dataclasses import replace

from compress.network.graph import Network
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan

WIDTHS = ("8/8", "6/8", "4/8", "4/4", "4/4, ends 8", "3/8", "2/8")
"""Bits of weights and activations of every layer; ``ends``: of the first and the last layer."""
OPTION_WIDTH = "4/8"

METHODS = {
    "min-max, nearest": Plan(repair="none", numerics=Numerics(weight_range="max", activation_range="min_max")),
    "least squares, nearest, repair": Plan(),
    "AdaRound, repair": Plan(numerics=Numerics(weight_rounding="adaround")),
}
"""Measured at every width. The first one is what other tools do by default."""

OPTIONS = {
    "least squares, nearest": Plan(repair="none"),
    "… bias correction": Plan(repair="bias_correction"),
    "… compensated, repair": Plan(numerics=Numerics(weight_rounding="compensated")),
    "… equalised, repair": Plan(numerics=Numerics(equalisation="cross_layer")),
    "… equalised, AdaRound, repair": Plan(numerics=Numerics(equalisation="cross_layer", weight_rounding="adaround")),
    "… asymmetric weights, repair": Plan(numerics=Numerics(weight_symmetry="asymmetric")),
    "… scales per 32 weights, repair": Plan(numerics=Numerics(weight_granularity="group")),
    "… one scale per tensor, repair": Plan(numerics=Numerics(weight_granularity="tensor")),
    "… power-of-two scales, repair": Plan(numerics=Numerics(scale_format="power_of_two")),
    "… KL ranges, repair": Plan(numerics=Numerics(activation_range="kl")),
    "… percentile ranges, repair": Plan(numerics=Numerics(activation_range="percentile")),
    "… ranges from the float network, repair": Plan(numerics=Numerics(activation_source="float")),
    "… signed activations, repair": Plan(numerics=Numerics(activation_type="signed")),
}
"""Options of a plan one by one, at one width; ``…`` is least squares ranges and rounding to nearest."""


Recipe = tuple[str, str, Plan]
"""Width, name of the method, plan."""


def plans(network: Network) -> Iterator[Recipe]:
    """Yield every method at every width, the best method first."""
    for method, base in reversed(METHODS.items()):
        for width in WIDTHS:
            yield width, method, replace(base, layers=layers(network, width))


def single_options(network: Network) -> Iterator[Recipe]:
    """Yield ``OPTIONS``, with what they are measured against."""
    for method, base in {**METHODS, **OPTIONS}.items():
        yield OPTION_WIDTH, method, replace(base, layers=layers(network, OPTION_WIDTH))


def layers(network: Network, width: str) -> dict[str, LayerBits]:
    """Return the bits of every layer."""
    names = [node.name for node in network.graph.nodes if node.op in LAYER_OPS]
    widths, _, ends = width.partition(", ends ")
    weight_bits, activation_bits = map(int, widths.split("/"))
    found = dict.fromkeys(names, LayerBits(weight_bits=weight_bits, activation_bits=activation_bits))
    if ends:
        found.update(dict.fromkeys((names[0], names[-1]), LayerBits(weight_bits=int(ends), activation_bits=int(ends))))
    return found
