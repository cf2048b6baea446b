"""The loss of relaxed candidates, and its gradient: what a strategy that descends asks evaluators for."""

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor

from compress.apply import Prepared
from compress.operators.labels import operator_choice
from compress.plan import Plan
from compress.quantizers import QUANTIZERS
from compress.relaxed import Alternatives, RelaxedNetwork, Shares
from compress.repair import ChannelStatistics, channel_statistics
from compress.runner import run
from compress.structure import restructured
from compress.weights import WeightFormat
from search.relaxed import RelaxedLoss
from search.space import Choice
from search.table import ChoiceValues
from workers.problem import ORIGINAL, Problem, nearest_width
from workers.sensitivity import dearest

IMAGES = 16
"""Calibration images of one batch; fewer where a network's values take too much memory."""

RELAXED_VALUES = 1 << 26
"""Most values that the relaxed network may write for one batch; about four times as many are held for its gradient."""

BACKWARD = 2
"""Passes forward that a pass backward counts as."""


class Relaxation:
    """The relaxed network of a job, made once; answers for any probabilities of the choices.

    The loss is the divergence of the outputs from the float network's, in nats, averaged over a batch of calibration
    images: labels are not read. The float network's outputs and statistics for a batch are found once;
    that is not among the ``images`` of an answer.

    Args:
        prepared: From ``compress.apply.prepare``; replacements and rankings are those that it has adopted.
        problem: The job's.
        images: Most images of a batch.
    """

    def __init__(self, prepared: Prepared, problem: Problem, *, images: int = IMAGES) -> None:
        self._prepared = prepared
        self._names = [variable.name for variable in problem.space.variables]
        self._choices = dict(problem.choices)
        self._plan = problem.decode(dearest(problem))
        self._pruners = self._choices.get("pruner", (self._plan.pruner,))
        self._kept = self._kept_channels()
        self._network = RelaxedNetwork(prepared, self._plan, self._alternatives())
        values = sum(math.prod(shape) for shape in self._network.graph.shapes.values())
        size = max(1, min(images, RELAXED_VALUES // max(1, values)))
        self._batches = torch.split(prepared.images, size)
        self._references: dict[int, tuple[Tensor, Mapping[str, ChannelStatistics]]] = {}

    def loss(self, probabilities: ChoiceValues, batch: int) -> RelaxedLoss:
        """Return the loss and its derivative by every probability.

        Args:
            probabilities: A row per variable of the space, a value per choice.
            batch: Its number; counted round the calibration images.

        Raises:
            ValueError: The loss or its gradient is not finite.
        """
        images = self._batches[batch % len(self._batches)]
        reference, statistics = self._reference(batch % len(self._batches))
        with torch.enable_grad():
            rows = [torch.tensor(row, dtype=torch.float32, requires_grad=True) for row in probabilities]
            outputs = self._network(images, self._shares(dict(zip(self._names, rows, strict=True))), statistics)
            found = outputs.flatten(1).log_softmax(1)
            loss = (reference.exp() * (reference - found)).sum(1).mean()
            gradients = torch.autograd.grad(loss, rows, allow_unused=True) if rows else ()
        gradient = tuple(
            np.zeros(len(row)) if slope is None else slope.double().numpy()
            for row, slope in zip(probabilities, gradients, strict=True)
        )
        value = float(loss.detach())
        if not (math.isfinite(value) and all(np.isfinite(row).all() for row in gradient)):
            raise ValueError("the loss of the relaxed network, or its gradient, is not finite")
        passes = (1 + BACKWARD) * self._network.effort
        return RelaxedLoss(loss=value, gradient=gradient, images=passes * len(images))

    def _reference(self, number: int) -> tuple[Tensor, Mapping[str, ChannelStatistics]]:
        """Return the float network's log-probabilities for a batch, and its statistics there if plans are repaired."""
        if number not in self._references:
            folded = self._prepared.structure.prepared(self._prepared.network).folded
            images = self._batches[number]
            found = {} if self._plan.repair == "none" else channel_statistics(folded, images)
            if self._plan.repair == "bias_correction":
                found = {name: statistics.means_alone() for name, statistics in found.items()}
            self._references[number] = run(folded, images)[0].flatten(1).log_softmax(1), found
        return self._references[number]

    def _alternatives(self) -> Alternatives:
        layers = self._of("weights")
        return Alternatives(
            operators={
                block: tuple(operator_choice(str(label)) for label in labels)
                for block, labels in self._of("operator").items()
                if labels != (ORIGINAL,)
            },
            groups=tuple(self._kept),
            weights={
                layer: tuple(
                    WeightFormat(
                        quantizer=str(name), bits=nearest_width(int(bits), QUANTIZERS.get(str(name)).bit_widths)
                    )
                    for name, bits in product(self._choices[f"quantizer {layer}"], widths)
                )
                for layer, widths in layers.items()
            },
            activations={
                layer: tuple(int(bits) for bits in widths) for layer, widths in self._of("activations").items()
            },
        )

    def _kept_channels(self) -> dict[str, Tensor]:
        """Return by group which channels stay: ``(pruners, ratios, channels)``, ones and zeros."""
        ratios = {name: row for name, row in self._of("channels").items() if row != (1.0,)}
        prepared, groups = self._prepared, self._prepared.structure.groups
        found = {
            name: torch.zeros(len(self._pruners), len(row), groups.group(name).channels) for name, row in ratios.items()
        }
        for first, pruner in enumerate(self._pruners if ratios else ()):
            for second in range(max(map(len, ratios.values()))):
                chosen = {name: float(row[min(second, len(row) - 1)]) for name, row in ratios.items()}
                plan = Plan(keep_ratios=chosen, pruner=str(pruner))
                scores = prepared.scores(str(pruner))
                kept = restructured(prepared.network, plan, structure=prepared.structure, scores=scores).kept
                for name, row in ratios.items():
                    if second < len(row):
                        found[name][first, second, torch.from_numpy(kept[name])] = 1.0
        return found

    def _shares(self, rows: Mapping[str, Tensor]) -> Shares:
        def share(name: str) -> Tensor:
            return rows[name] if name in rows else torch.ones(1)

        return Shares(
            operators={block: share(f"operator {block}") for block in self._of("operator")},
            channels={
                group: torch.einsum("p,r,prc->c", share("pruner"), share(f"channels {group}"), kept)
                for group, kept in self._kept.items()
            },
            weights={
                layer: torch.outer(share(f"quantizer {layer}"), share(f"weights {layer}")).flatten()
                for layer in self._of("weights")
            },
            activations={layer: share(f"activations {layer}") for layer in self._of("activations")},
        )

    def _of(self, kind: str) -> dict[str, tuple[Choice, ...]]:
        """Return what is offered of a kind, by what it is chosen for."""
        pairs = ((name.partition(" "), row) for name, row in self._choices.items())
        return {subject: row for (found, _, subject), row in pairs if found == kind}
