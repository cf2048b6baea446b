"""Measures plans: holds one job's network and data, and runs what the plans make of the network."""

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.apply import Compressed, apply, float_weights, prepare
from compress.evaluate import logits, top1
from compress.imitation import Imitator
from compress.network.build import build_module
from compress.network.graph import Network
from compress.plan import OperatorChoice, Parameter, Plan
from search.relaxed import RelaxedLoss
from search.table import ChoiceValues
from workers.drop import drop_bound
from workers.early_stopping import Right, hopeless, looks, pack, unpack
from workers.groundwork import Arrays, Findings, imitation_settings
from workers.job import JobData
from workers.packaging import Package, joined, package
from workers.pricing import Price, Pricing

if TYPE_CHECKING:
    from workers.relaxation import Relaxation

logger = logging.getLogger(__name__)

_SEARCH_ORDER = 1  # keeps this randomness apart from the split's

HELD_OUT = 0.2
"""Share of the search images that fine-tuning does not train on: they choose among its runs."""

WORST_DIVERGENCE = 1e3
"""In the place of an infinite one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a network got right of the search images, in the evaluator's order; ``seconds`` by part.

    ``images`` were measured, fewer than there are if the candidate was ``stopped``. ``right`` has one bit for each.
    ``divergence`` is from the float network's outputs, in nats, averaged over the images; ``drop_bound`` is what of
    accuracy may have been lost, see ``workers.drop``.
    """

    correct: int
    images: int
    divergence: float
    drop_bound: float
    right: bytes
    stopped: bool
    seconds: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """Share of the images that were right."""
        return self.correct / self.images


class Evaluator:
    """Evaluates the plans of one job; ``prepare`` first, then anything, any number of times."""

    def __init__(self, job: JobData) -> None:
        self._job = job
        self._network = Network(graph=job.graph, tensors=_tensors(job.tensors))
        # In random order, so that every beginning is a sample of the whole.
        self._search = self._part(np.random.default_rng([job.spec.seed, _SEARCH_ORDER]).permutation(job.split.search))
        self._test = self._part(job.split.test)
        self._imitator: Imitator | None = None
        self._relaxation: Relaxation | None = None

    def prepare(self, found: Findings | None = None) -> Measurement:
        """Compute what all plans share, and measure the float network; ``found`` as for ``adopt``."""
        start = time.perf_counter()
        self._calibration, labels = self._part(self._job.split.calibration)
        self._prepared = prepare(self._network, self._calibration, structure=self._job.structure)
        self.adopt(found or Findings())
        self._calibration_labels = labels[: len(self._prepared.images)]
        module = build_module(self._network)
        self._float_calibration = _log_probabilities(logits(module, self._prepared.images))
        self._float_test = top1(logits(module, self._test[0])) == self._test[1]
        prepared = time.perf_counter()
        scores = logits(module, self._search[0])
        self._float_search = _log_probabilities(scores)
        seconds = {"prepare": prepared - start, "forward": time.perf_counter() - prepared}
        self._float_right = (top1(scores) == self._search[1]).numpy()
        return self._measurement(self._float_right, 0.0, stopped=False, seconds=seconds)

    def rank(self, criterion: str) -> Arrays:
        """Rank the channels of all groups; return their scores by group."""
        return _arrays(self._prepared.scores(criterion))

    def imitate(self, block: str, operator: str, parameters: Mapping[str, Parameter]) -> Arrays:
        """Train what may stand in a block's place on the calibration images; return the tensors that changed."""
        if self._imitator is None:
            settings = imitation_settings(self._job.spec)
            self._imitator = Imitator(self._network, self._job.structure, self._calibration, settings)
        choice = OperatorChoice(operator=operator, parameters=parameters)
        return _arrays(self._imitator.imitate(block, choice).tensors)

    def adopt(self, found: Findings) -> None:
        """Use what ``rank`` and ``imitate`` have returned, here or elsewhere; call it before any plan is measured."""
        self._imitator = None  # and what it has recorded
        self._relaxation = None
        self._job.structure.adopt({key: _tensors(row) for key, row in found.imitated.items()})
        self._prepared.adopt({criterion: _tensors(row) for criterion, row in found.rankings.items()})

    def evaluate(self, plan: Mapping[str, Any], rivals: Sequence[bytes] = ()) -> Measurement:
        """Measure the network that a plan (as JSON) leads to on the search images.

        Args:
            plan: Of the candidate.
            rivals: What those trials got right that it must beat, see ``early_stopping``; none measures all images.
        """
        start = time.perf_counter()
        module = build_module(apply(self._prepared, Plan.from_json(plan)).network)
        applied = time.perf_counter()
        images, labels = self._search
        beaten = [unpack(rival, len(images)) for rival in rivals]
        stops = looks(len(images)) if rivals else ()
        right = np.zeros(0, dtype=bool)
        divergence = 0.0  # summed
        for begin, end in zip((0, *stops), (*stops, len(images)), strict=True):
            scores = logits(module, images[begin:end])
            right = np.concatenate([right, (top1(scores) == labels[begin:end]).numpy()])
            divergence += _divergence(self._float_search[begin:end], _log_probabilities(scores)) * (end - begin)
            if end < len(images) and hopeless(right, beaten, looks=len(stops)):
                break
        seconds = {
            "apply": applied - start,
            "calibrate": self._prepared.cache.seconds,
            "forward": time.perf_counter() - applied,
        }
        return self._measurement(right, divergence / len(right), stopped=len(right) < len(images), seconds=seconds)

    def sensitivities(self, plans: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
        """Return for each plan how far its outputs are from the float network's, and the loss, on calibration images.

        Both in nats, averaged over the images: the Kullback-Leibler divergence of the class probabilities, which reads
        no label, and the cross-entropy of the labels. Costs one pass over these images, or the part of it that no plan
        before has run.
        """
        return [self._sensitivity(Plan.from_json(plan)) for plan in plans]

    def _sensitivity(self, plan: Plan) -> tuple[float, float]:
        found = _log_probabilities(apply(self._prepared, plan).outputs[0])
        losses = -found.flatten(1)[torch.arange(len(found)), self._calibration_labels]
        return _divergence(self._float_calibration, found), _finite(float(losses.double().mean()))

    def relax(self, probabilities: ChoiceValues, batch: int) -> RelaxedLoss:
        """Return the loss of a relaxed candidate and its gradient; see ``relaxation.Relaxation.loss``."""
        if self._relaxation is None:
            from workers.problem import Problem  # with all strategies, and few jobs need it here
            from workers.relaxation import Relaxation

            job = self._job
            problem = Problem(job.spec, job.shapes, job.structure, job.profiles)
            self._relaxation = Relaxation(self._prepared, problem)
        return self._relaxation.loss(probabilities, batch)

    def package(self, plan: Mapping[str, Any], *, number: int, measured_correct: int, price: Price) -> Package:
        """Pack, export, reload and measure again what a plan leads to; see ``packaging.package``.

        If the job asks for it, the network is then fine-tuned and packed once more; see ``packaging.joined``. If that
        does not work, the reason is a failure of the fine-tuned network alone.
        """
        compressed = apply(self._prepared, Plan.from_json(plan))
        packed = self._packed(compressed, number, measured_correct, price, self._search)
        if self._job.spec.finetune is None:
            return packed
        try:
            return self._fine_tuned(compressed, packed, number, price)
        except Exception as error:  # whatever a user's network does to training must not cost them the checkpoint
            logger.exception("trial %d could not be fine-tuned", number)
            return joined(packed, Package(files={}, verification={"failures": [str(error)]}), settings={}, runs=())

    def _fine_tuned(self, compressed: Compressed, packed: Package, number: int, price: Price) -> Package:
        assert self._job.spec.finetune is not None
        # Ray Tune takes seconds to import, and most jobs never need it.
        from workers.finetuning import Material, tune_finalist

        images, labels = self._search
        kept = max(1, round(len(images) * HELD_OUT))
        held_out = images[-kept:], labels[-kept:]
        tuned = tune_finalist(
            Material(
                compressed=compressed,
                start=float_weights(self._prepared, compressed.plan),
                teacher=self._network,
                images=torch.cat([self._calibration, images[:-kept]]),
                held_out=held_out[0],
                spec=self._job.spec.finetune,
                seed=self._job.spec.seed,
            )
        )
        right = top1(logits(build_module(tuned.compressed.network), held_out[0])) == held_out[1]
        again = self._packed(tuned.compressed, number, int(right.sum()), price, held_out)
        return joined(packed, again, settings=tuned.settings.to_json(), runs=tuned.runs)

    def _packed(
        self, compressed: Compressed, number: int, correct: int, price: Price, measured_on: tuple[Tensor, Tensor]
    ) -> Package:
        job = self._job
        return package(
            compressed,
            number=number,
            spec=job.spec,
            measured_correct=correct,
            price=price,
            pricing=Pricing(job.shapes, job.structure, job.spec.devices, job.profiles),
            search=measured_on,
            test=self._test,
            float_right_on_test=self._float_test,
        )

    def _measurement(
        self, right: Right, divergence: float, *, stopped: bool, seconds: Mapping[str, float]
    ) -> Measurement:
        return Measurement(
            correct=int(right.sum()),
            images=len(right),
            divergence=divergence,
            drop_bound=drop_bound(self._float_right[: len(right)], right),
            right=pack(right),
            stopped=stopped,
            seconds=seconds,
        )

    def _part(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self._job.images[indices]), torch.from_numpy(self._job.labels[indices])


def _log_probabilities(scores: Tensor) -> Tensor:
    return scores.flatten(1).log_softmax(1)


def _divergence(reference: Tensor, found: Tensor) -> float:
    return _finite(float((reference.exp() * (reference - found)).sum(1).double().mean()))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else WORST_DIVERGENCE


def _arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: _tensor(values) for name, values in arrays.items()}


def _tensor(values: NDArray[Any]) -> Tensor:
    """Share an array with torch; nothing ever writes to it, so it may lie in Ray's read-only object store."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(values)
