"""What plans of a network need, without data: ranges from extreme images, statistics from typical ones.

Adaptive batch norm moves the statistics of a quantized network's batch norms to what its layers now hand them. Once
batch norm is folded this is the channel repair (``compress.repair``), front to back over the typical images, each layer
behind layers that are adapted already. Its targets are the float network's moments on the same images, not those that
the batch norms have stored: generated images never match these entirely, and the difference would be taken for an
effect of quantization. With images whose statistics equal the stored ones the two are the same.
"""

from dataclasses import replace

import torch

from compress.apply import Prepared, prepare
from compress.data_free.images import GeneratedImages, ImageGeneration, check, generate
from compress.network.graph import Network
from compress.plan import Numerics
from compress.structure import Structure

PEAK_RANGES = Numerics(activation_source="float", activation_range="min_max")
"""Ranges are the peaks of the float network on the extreme images."""


def prepare_data_free(
    network: Network,
    *,
    structure: Structure,
    options: ImageGeneration | None = None,
    images: GeneratedImages | None = None,
) -> Prepared:
    """Return what every plan of ``network`` needs, from images made of the network itself.

    Plans whose numerics say ``activation_source="float"`` take their ranges from the extreme images (and the typical
    ones, which hardly ever reach as far), others from the typical ones.

    Args:
        network: The ingested float network, batch norms not folded.
        structure: The network's, from ``analyse``.
        options: How images are made.
        images: Made before; ``None``: makes them.

    Raises:
        InputError: The network has no batch norms left, or not one image as input and class scores as output.
    """
    check(network.graph)
    made = images or generate(network, options)
    prepared = prepare(network, made.typical, structure=structure)
    return replace(prepared, range_images=torch.cat([made.extreme, prepared.images]))
