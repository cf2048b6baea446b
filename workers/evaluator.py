"""Measures plans: holds one job's network and data, and runs what the plans make of the network."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.apply import apply, prepare
from compress.evaluate import correct, logits, top1
from compress.network.build import build_module
from compress.network.graph import Network
from compress.plan import Plan
from workers.job import JobData
from workers.packaging import Package, package
from workers.pricing import Price, Pricing

WORST_DIVERGENCE = 1e3
"""In the place of an infinite one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a network got right of the search images; ``seconds`` by part."""

    correct: int
    images: int
    seconds: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """Share of the images that were right."""
        return self.correct / self.images


class Evaluator:
    """Evaluates the plans of one job; ``prepare`` first, then anything, any number of times."""

    def __init__(self, job: JobData) -> None:
        self._job = job
        self._network = Network(
            graph=job.graph, tensors={name: _tensor(values) for name, values in job.tensors.items()}
        )
        self._search = self._part(job.split.search)
        self._test = self._part(job.split.test)

    def prepare(self) -> Measurement:
        """Compute what all plans share, and measure the float network."""
        start = time.perf_counter()
        images, labels = self._search
        self._calibration = self._part(self._job.split.calibration)[0]
        self._prepared = prepare(self._network, self._calibration, structure=self._job.structure)
        self._float_log_probabilities = self._log_probabilities(build_module(self._network))
        self._float_test = top1(logits(build_module(self._network), self._test[0])) == self._test[1]
        module = build_module(self._network)
        prepared = time.perf_counter()
        right = correct(module, images, labels)
        return Measurement(
            correct=right,
            images=len(images),
            seconds={"prepare": prepared - start, "forward": time.perf_counter() - prepared},
        )

    def evaluate(self, plan: Mapping[str, Any]) -> Measurement:
        """Measure the network that a plan (as JSON) leads to on the search images."""
        start = time.perf_counter()
        images, labels = self._search
        module = build_module(apply(self._prepared, Plan.from_json(plan)).network)
        applied = time.perf_counter()
        right = correct(module, images, labels)
        return Measurement(
            correct=right,
            images=len(images),
            seconds={"apply": applied - start, "forward": time.perf_counter() - applied},
        )

    def divergences(self, plans: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return for each plan how far its outputs are from the float network's on the calibration images.

        The Kullback-Leibler divergence of the class probabilities, in nats, averaged over the images. No label is read.
        """
        return [self._divergence(Plan.from_json(plan)) for plan in plans]

    def _divergence(self, plan: Plan) -> float:
        found = self._log_probabilities(build_module(apply(self._prepared, plan).network))
        reference = self._float_log_probabilities
        divergence = float((reference.exp() * (reference - found)).sum(1).mean())
        return divergence if math.isfinite(divergence) else WORST_DIVERGENCE

    def _log_probabilities(self, module: Callable[[Tensor], Tensor]) -> Tensor:
        scores = logits(module, self._calibration)
        return scores.flatten(1).double().log_softmax(1)

    def package(self, plan: Mapping[str, Any], *, number: int, measured_correct: int, price: Price) -> Package:
        """Pack, export, reload and measure again what a plan leads to; see ``packaging.package``."""
        job = self._job
        return package(
            apply(self._prepared, Plan.from_json(plan)),
            number=number,
            spec=job.spec,
            measured_correct=measured_correct,
            price=price,
            pricing=Pricing(job.shapes, job.structure, job.spec.devices, job.profiles),
            search=self._search,
            test=self._test,
            float_right_on_test=self._float_test,
        )

    def _part(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self._job.images[indices]), torch.from_numpy(self._job.labels[indices])


def _tensor(values: NDArray[Any]) -> Tensor:
    """Share an array with torch; nothing ever writes to it, so it may lie in Ray's read-only object store."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(values)
