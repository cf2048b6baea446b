"""Fine-tuning a compressed network: the loop, its schedule and its checkpoints."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compress.finetune.batches import Blend, batch_indices, batches_per_epoch, blend, varied
from compress.finetune.loss import classification, distillation
from compress.finetune.methods import METHODS
from compress.finetune.methods.base import PARAMETER_RATE
from compress.finetune.network import TrainableNetwork
from compress.finetune.normalisation import normalised_layers, settle
from compress.finetune.origin import origin
from compress.finetune.settings import FineTuning
from compress.finetune.state import State
from compress.network.build import build_module
from compress.network.graph import Network
from compress.plan import Plan
from compress.quantize import Compressed
from compress.rewrites import fold_batch_norm
from hwmodels.errors import InputError

CHECKPOINT_STEPS = 100
SETTLING_IMAGES, SETTLING_BATCH = 2048, 256
"""Images whose statistics the deployed network takes over, and how many go together."""
ROUGH_BITS = 2
"""Weights of so many bits or fewer jump so far that normalisation has to follow."""
LARGEST_GRADIENT = 1.0
"""The norm of all gradients together is cut to this: the first steps of a 2-bit network are rough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands after an epoch; ``loss`` is the epoch's mean."""

    epoch: int
    epochs: int
    loss: float


def finetune(
    compressed: Compressed | Network,
    teacher: Network,
    images: Tensor,
    labels: Tensor | None = None,
    settings: FineTuning | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Progress, TrainableNetwork], None] | None = None,
    stop_after: int | None = None,
) -> Compressed:
    """Return the network after training on ``images``, with codes, ready to be packed.

    Args:
        compressed: The network as quantized, or a float one (pruned, say), whose result has no codes.
        teacher: The float network whose class scores are imitated.
        images: Training images as the network takes them, float32.
        labels: Integer classes; without them all of the loss is imitation.
        settings: How to train.
        start: Float values of quantized weights by tensor name, before rounding (``apply.restructured_float``); a
            weight that is missing starts from its rounded values, which loses what rounding lost.
        checkpoint: Folder in which the state is kept; a run that was cut off goes on from there, to the same result.
            The state of another run (network, images or settings differ) is refused.
        report: Called after each epoch, its state saved, with the network in training, whose ``compressed`` is what
            would be deployed now; may raise to end the run.
        stop_after: Epochs after which the run ends, however many its settings plan; a state that is as far is final.

    Raises:
        InputError: The network has not one output, settings, images and labels do not fit together, or ``checkpoint``
            holds a damaged state or another run's.
    """
    settings = settings or FineTuning()
    if isinstance(compressed, Network):
        compressed = Compressed(network=compressed, coded={}, plan=Plan())
    _check(compressed.network, images, labels, settings)
    run = _Run(compressed, teacher, images, labels, settings, start or {})
    state = None
    if checkpoint is not None:
        state = State(checkpoint, settings, origin(compressed, start or {}, teacher, images, labels))
        run.resume(state)
    run.train(state, report, settings.epochs if stop_after is None else stop_after)
    return run.settled().compressed()


class _Run:
    """One run: student, teacher, optimizer and the step that comes next."""

    def __init__(
        self,
        compressed: Compressed,
        teacher: Network,
        images: Tensor,
        labels: Tensor | None,
        settings: FineTuning,
        start: Mapping[str, Tensor],
    ) -> None:
        self._settings, self._images, self._labels = settings, images, labels
        first = torch.split(images[:SETTLING_IMAGES], SETTLING_BATCH)
        self._norms = normalised_layers(compressed, first) if settings.normalise else {}
        student = TrainableNetwork(compressed, start, METHODS.get(settings.method)(), self._norms)
        self._follows = _follows_batches(compressed, settings)
        student.norms.train(self._follows)
        self.student = student.to_device(settings.device)
        grids = self.student.grid_parameters()
        known = {id(parameter) for parameter in grids}
        weights = [p for p in self.student.parameters() if p.requires_grad and id(p) not in known]
        groups = [{"params": weights, "share": 1.0}, {"params": grids, "share": PARAMETER_RATE}]
        self._optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=1.0, fused=True)
        self._teacher = build_module(fold_batch_norm(teacher)).requires_grad_(False).to(settings.device)
        self._per_epoch = batches_per_epoch(len(images), settings.batch_size)
        self._steps = self._per_epoch * settings.epochs
        self._step, self._losses = 0, 0.0
        # Black, where pixels were scaled: what photographs are padded with.
        self._fill = images.amin((0, 2, 3)) if settings.augment else images.new_empty(0)

    def resume(self, state: State) -> None:
        """Take up the state of an equal run, if there is one."""
        found = state.load(self.student, self._optimizer)
        if found is not None:
            self._step, self._losses = found

    def train(
        self, state: State | None, report: Callable[[Progress, TrainableNetwork], None] | None, epochs: int
    ) -> None:
        """Train from the next step to the end of this many epochs."""
        settings = self._settings
        last = min(self._steps, epochs * self._per_epoch)
        batches = batch_indices(
            len(self._images), settings.batch_size, seed=settings.seed, first_step=self._step, steps=last
        )
        for indices in batches:
            self._losses += self._trained(indices)
            self._step += 1
            ended = self._step % self._per_epoch == 0
            if ended:
                progress = Progress(
                    epoch=self._step // self._per_epoch, epochs=settings.epochs, loss=self._losses / self._per_epoch
                )
                self._losses = 0.0
            if state is not None and (ended or self._step % CHECKPOINT_STEPS == 0):
                state.save(self.student, self._optimizer, self._step, self._losses)
            if ended and report is not None:
                report(progress, self.settled())

    @torch.no_grad()
    def settled(self) -> TrainableNetwork:
        """Return the student; statistics that followed batches become those of plain images with its final weights."""
        if self._follows:
            for number, batch in enumerate(torch.split(self._images[:SETTLING_IMAGES], SETTLING_BATCH)):
                settle(self._norms, number)
                self.student(self._placed(batch))
        return self.student

    def _placed(self, batch: Tensor) -> Tensor:
        batch = batch.to(self._settings.device)
        return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch

    def _trained(self, indices: Tensor) -> float:
        settings = self._settings
        batch = self._images[indices]
        if settings.augment:
            batch = varied(batch, self._fill, shift=settings.shift, seed=settings.seed, step=self._step)
        blended = None
        if settings.blend > 0 and not self._follows:
            blended = blend(len(batch), most=settings.blend, seed=settings.seed, step=self._step)
            batch = blended.of(batch)
        batch = self._placed(batch)
        labels = None if self._labels is None else self._labels[indices].to(settings.device)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["share"] * factor(settings, self._step, self._steps)
        self._optimizer.zero_grad()
        loss = self._loss(batch, labels, blended)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), LARGEST_GRADIENT)
        self._optimizer.step()
        return float(loss.detach())

    def _loss(self, batch: Tensor, labels: Tensor | None, blended: Blend | None) -> Tensor:
        share = 1.0 if labels is None else self._settings.distillation
        scores: Tensor = self.student(batch)
        loss = scores.new_zeros(())
        if share > 0:
            with torch.inference_mode():
                wanted = self._teacher(batch)
            loss = loss + share * distillation(scores, wanted.clone(), self._settings.temperature)
        if share < 1 and labels is not None:
            loss = loss + (1 - share) * classification(scores, labels, blended)
        penalty = self.student.penalty()
        return loss if penalty is None else loss + penalty


def _follows_batches(compressed: Compressed, settings: FineTuning) -> bool:
    if settings.batch_statistics is not None:
        return settings.batch_statistics
    return any(coded.format.bits <= ROUGH_BITS for coded in compressed.coded.values())


def factor(settings: FineTuning, step: int, steps: int) -> float:
    """Return the share of the learning rate that a step is made with."""
    warmup = math.ceil(settings.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    passed = (step - warmup) / max(1, steps - warmup)
    if settings.schedule == "cosine":
        return (1 + math.cos(math.pi * passed)) / 2
    return 1 - passed if settings.schedule == "linear" else 1.0


def _check(network: Network, images: Tensor, labels: Tensor | None, settings: FineTuning) -> None:
    if len(network.graph.outputs) != 1 or len(network.graph.inputs) != 1:
        raise InputError("network", "must have one input and one output to be fine-tuned", network.graph.outputs)
    if len(images) == 0:
        raise InputError("images", "must not be empty")
    if labels is not None and len(labels) != len(images):
        raise InputError("labels", f"must be as many as images ({len(images)})", len(labels))
    if labels is None and settings.distillation == 0:
        raise InputError("finetune.distillation", "must be above 0 without labels", settings.distillation)
    if settings.augment and (images.ndim != 4 or min(images.shape[2:]) <= settings.shift):
        raise InputError("finetune.augment", "needs images with height and width above the shift", images.shape)
