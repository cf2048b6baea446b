"""From a float network and a plan to the compressed network: operators, channels, folding, bits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor

from compress.calibration import Histogram
from compress.calibration_pass import CalibrationCache
from compress.equalisation import EQUALISATIONS, equalised, scaled_statistics
from compress.network.graph import Network, Node
from compress.plan import Plan
from compress.pruners import PRUNERS, Scores
from compress.quantize import Compressed, quantize
from compress.reconstruction import LayerSamples, layer_samples, reconstructed
from compress.repair import ChannelStatistics, channel_statistics, targets
from compress.runner import run
from compress.structure import Structure, restructured
from hwmodels.errors import UnknownNameError

__all__ = ["Compressed", "Prepared", "apply", "float_weights", "prepare"]

REPAIRS = ("none", "bias_correction", "channel_statistics", "least_squares")
"""``bias_correction`` gives every layer's output the float network's mean per channel, ``channel_statistics`` the
standard deviation, too; ``least_squares`` re-fits layers (``compress.reconstruction``) before that."""

CALIBRATION_VALUES = 1 << 26
"""Most values that one activation may have over all calibration images (256 MiB of float32)."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What all plans of one network share; made by ``prepare``.

    ``statistics`` are the float network's, per channel of every layer's output. The ranking of channels is found when
    a plan first asks for a pruner, and kept. ``range_images`` are those whose values set the ranges of plans that take
    them from the float network (``None``: ``images``).
    """

    network: Network
    images: Tensor
    structure: Structure
    statistics: Mapping[str, ChannelStatistics]
    range_images: Tensor | None = None
    _scores: dict[str, Scores] = field(default_factory=dict, init=False, repr=False, compare=False)
    _histograms: dict[str, Histogram] = field(default_factory=dict, init=False, repr=False, compare=False)
    _samples: dict[str, LayerSamples] = field(default_factory=dict, init=False, repr=False, compare=False)
    cache: CalibrationCache = field(default_factory=CalibrationCache, init=False, repr=False, compare=False)

    def scores(self, pruner: str) -> Scores:
        """Return the score of every channel by group."""
        if pruner not in self._scores:
            self._scores[pruner] = PRUNERS.get(pruner).scores(self.network, self.structure.groups, self.images)
        return self._scores[pruner]

    def adopt(self, scores: Mapping[str, Scores]) -> None:
        """Use rankings that ``scores`` has found elsewhere for the same network and images, by pruner."""
        self._scores.update(scores)

    def samples(self) -> Mapping[str, LayerSamples]:
        """Return samples of what the float network's layers write."""
        if not self._samples:
            self._samples.update(layer_samples(self.structure.prepared(self.network).folded, self.images))
        return self._samples

    def histograms(self) -> Mapping[str, Histogram]:
        """Return histograms of the float network's values: one pass, from which the range of any width is solved."""
        if not self._histograms:
            images = self.images if self.range_images is None else self.range_images
            run(self.structure.prepared(self.network).folded, images, self._observe)
        return self._histograms

    def _observe(self, name: str, node: Node | None, value: Tensor) -> Tensor:
        if value.is_floating_point():
            self._histograms[name] = Histogram()
            self._histograms[name].observe(value)
        return value


def prepare(network: Network, calibration: Tensor, *, structure: Structure) -> Prepared:
    """Return what every plan of ``network`` needs.

    Args:
        network: The ingested float network.
        calibration: Images as the network takes them; of large networks only so many are used that no activation of
            all of them together takes more than ``CALIBRATION_VALUES``.
        structure: The network's, from ``analyse``.
    """
    largest = max(prod(shape) for shape in network.graph.shapes.values())
    images = calibration[: max(1, CALIBRATION_VALUES // largest)]
    folded = structure.prepared(network).folded
    return Prepared(network=network, images=images, structure=structure, statistics=channel_statistics(folded, images))


def apply(prepared: Prepared, plan: Plan) -> Compressed:
    """Return the network that ``plan`` leads to. Equal plans give equal networks, bit for bit.

    Raises:
        InputError: The plan names what the network does not have, or asks for what a method does not offer.
    """
    network, wanted, factors = _restructured(prepared, plan)
    stored = prepared.histograms() if plan.numerics.activation_source == "float" else {}
    histograms = {name: histogram for name, histogram in stored.items() if name not in factors}
    return quantize(network, plan, prepared.images, wanted, cache=prepared.cache, histograms=histograms)


def float_weights(prepared: Prepared, plan: Plan) -> Mapping[str, Tensor]:
    """Return the tensors that ``plan``'s bits are made of: what fine-tuning starts from instead of rounded values."""
    return _restructured(prepared, plan)[0].tensors


def _restructured(
    prepared: Prepared, plan: Plan
) -> tuple[Network, Mapping[str, ChannelStatistics], Mapping[str, Tensor]]:
    """Return the float network after operators, channels, folding and equalisation.

    Then what its layers' outputs should be like, and what equalisation has divided values by.
    """
    if plan.repair not in REPAIRS:
        raise UnknownNameError("repair", f"must be one of {', '.join(REPAIRS)}", plan.repair)
    if plan.numerics.equalisation not in EQUALISATIONS:
        raise UnknownNameError(
            "numerics.equalisation", f"must be one of {', '.join(EQUALISATIONS)}", plan.numerics.equalisation
        )
    scores = prepared.scores(plan.pruner) if plan.keep_ratios else None
    result = restructured(prepared.network, plan, structure=prepared.structure, scores=scores)
    wanted = targets(prepared.statistics, prepared.network, prepared.structure, result) if plan.repair != "none" else {}
    if plan.repair == "bias_correction":
        wanted = {name: known.means_alone() for name, known in wanted.items()}
    network = result.network
    if plan.repair == "least_squares" and (plan.keep_ratios or plan.operators):
        network = reconstructed(prepared.samples(), prepared.network, prepared.structure, result, prepared.images)
    if plan.numerics.equalisation == "none" or not plan.layers:
        return network, wanted, {}
    network, factors = equalised(network)
    return network, scaled_statistics(wanted, factors), factors
