"""Which images calibrate, which are searched on, and which nothing may look at before the end."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwmodels.errors import InputError
from workers.spec import JobSpec, SplitSpec

LEAST_CALIBRATION = 16
LEAST_SEARCH = 32
LEAST_TEST = 32
MOST_CALIBRATION = 256  # ranges and channel statistics settle long before; every candidate pays for these images

SATURATED_ERROR = 0.005
"""Share of errors below which the images are taken to be ones that the network was trained on.

The float ResNet-20 of the benchmarks errs on 0.4 % of its training images and on 7.4 % of the others.
"""

ACCURACY = "accuracy"
DIVERGENCE = "divergence"

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Indices of the images of each part, ascending."""

    calibration: Indices
    search: Indices
    test: Indices

    def sizes(self) -> dict[str, int]:
        """Return the number of images per part."""
        return {"calibration": len(self.calibration), "search": len(self.search), "test": len(self.test)}


def split_images(labels: NDArray[np.integer], shares: SplitSpec, *, seed: int) -> Split:
    """Split the images so that every class is spread over the parts as evenly as its number allows.

    A part never gets less than its least size, and calibration never more than ``MOST_CALIBRATION``: what it leaves
    goes to the test split.

    Raises:
        InputError: There are fewer images than the least sizes together, or the shares leave nothing for the test.
    """
    least = LEAST_CALIBRATION + LEAST_SEARCH + LEAST_TEST
    if len(labels) < least:
        rule = (
            f"at least {least} images are needed: {LEAST_CALIBRATION} to calibrate, {LEAST_SEARCH} to search on, "
            f"{LEAST_TEST} to test"
        )
        raise InputError("dataset", rule, len(labels))
    if min(shares.calibration, shares.search) < 0 or shares.calibration + shares.search >= 1:
        raise InputError("split", "shares must be positive and leave images for the test split", shares)
    spare = len(labels) - LEAST_TEST
    calibration = max(LEAST_CALIBRATION, round(shares.calibration * len(labels)))
    calibration = min(calibration, MOST_CALIBRATION, spare - LEAST_SEARCH)
    search = min(max(LEAST_SEARCH, round(shares.search * len(labels))), spare - calibration)
    order = _spread_by_class(labels, seed=seed)
    return Split(
        calibration=np.sort(order[:calibration]),
        search=np.sort(order[calibration : calibration + search]),
        test=np.sort(order[calibration + search :]),
    )


def resolvable_drop(accuracy: float, images: int) -> float:
    """Return the least drop of accuracy that so many images tell from chance, one-sided at 95 %.

    Takes the two networks' errors to be independent. They mostly fall on the same images, so a real comparison on
    the same images resolves somewhat less than this figure. Never below one image.
    """
    spread = math.sqrt(2 * accuracy * (1 - accuracy) / images)
    return max(1 / images, 1.645 * spread)


def least_drop(spec: JobSpec) -> float | None:
    """Return the least drop of accuracy that a job limits, if it limits any."""
    drops = [device.limits.accuracy_drop for device in spec.devices]
    return min((drop for drop in drops if drop is not None), default=None)


def search_signal(
    accuracy: float, images: int, asked_drop: float | None, *, data_free: bool = False
) -> tuple[str, str | None]:
    """Return what candidates are best ranked by, and, if that is not the accuracy, why.

    Args:
        accuracy: The float network's on the search images.
        images: How many there are.
        asked_drop: The least drop of accuracy that the job limits, if it limits any.
        data_free: Whether the images are made from the network, and the labels its answers.
    """
    if data_free:
        return DIVERGENCE, (
            f"The job has no data. Candidates are ranked by their divergence from the float network on {images} images "
            "that were made from it, and the score is how often they agree with it there, which is not accuracy."
        )
    if 1 - accuracy < SATURATED_ERROR:
        return DIVERGENCE, (
            f"The float network gets {accuracy:.2%} of the {images} search images right, as networks do on images that "
            "they were trained on: accuracy on these overstates what is left on others. Candidates are ranked by "
            "their divergence from the float network; judge the results by the test split, or give images that the "
            "network has not seen."
        )
    resolvable = resolvable_drop(accuracy, images)
    if asked_drop is not None and resolvable > asked_drop:
        return DIVERGENCE, (
            f"The {images} search images tell drops of accuracy from {resolvable:.2%} upwards from chance, and the job "
            f"allows {asked_drop:.2%}. Candidates are ranked by their divergence from the float network; more images "
            "would let the accuracy itself decide."
        )
    return ACCURACY, None


def _spread_by_class(labels: NDArray[np.integer], *, seed: int) -> Indices:
    """Order the images so that every stretch has about the same share of each class."""
    rng = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")
