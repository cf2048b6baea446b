"""The data of a job that has none: images made from its network, and what the network itself says of them.

The labels are the float network's answers, so what is counted as right of a compressed network is its agreement with
the float one. It is measured on images that were made, not taken: on real ones the two may agree more or less often.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.data_free.images import ImageGeneration, generate
from compress.evaluate import logits, top1
from compress.network.build import build_module
from compress.network.describe import macs
from compress.network.graph import Graph, Network
from workers.spec import Preprocessing

FEWEST_IMAGES, MOST_IMAGES = 96, 384
MAKING_MACS = 4e12  # about three minutes of one core; large networks get the fewest images and take longer
BATCH_VALUES = 1 << 27  # of all activations of a batch together: half a GiB, kept for the gradient
PIXELS = (0, 255)


def made_data(
    graph: Graph, tensors: Mapping[str, NDArray[Any]], preprocessing: Preprocessing, *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images in the network's layout, and the float network's most likely class of each.

    Args:
        graph: Of the float network.
        tensors: Its weights.
        preprocessing: Says between which values pixels lie once they have become the network's input.
        seed: Equal ones give equal images.

    Raises:
        InputError: The network has no batch norms left, or does not turn one image into class scores.
    """
    network = Network(graph=graph, tensors={name: torch.from_numpy(values) for name, values in tensors.items()})
    usual = ImageGeneration()
    per_image = 3 * usual.steps * macs(network)  # forwards, and backwards to the pixels
    values = sum(math.prod(shape[1:]) for shape in graph.shapes.values())
    options = replace(
        usual,
        typical=min(MOST_IMAGES, max(FEWEST_IMAGES, int(MAKING_MACS / per_image))),
        extreme=0,
        batch_size=min(usual.batch_size, max(1, BATCH_VALUES // values)),
        bounds=pixel_bounds(preprocessing),
        seed=seed,
    )
    made = generate(network, options)
    answers = top1(logits(build_module(network), made.typical))
    return made.typical.numpy(), answers.numpy().astype(np.int64)


def pixel_bounds(preprocessing: Preprocessing) -> tuple[float, float]:
    """Return the least and the greatest value that a pixel can have as the network takes it, of all channels."""
    ends = [
        (pixel * preprocessing.scale - mean) / std
        for pixel in PIXELS
        for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
    ]
    return min(ends), max(ends)
