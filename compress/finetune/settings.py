"""How a network is fine-tuned, as plain data."""

from dataclasses import asdict, dataclass
from typing import Any

from compress.finetune.methods import METHODS
from hwmodels.errors import InputError

SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """One fine-tuning run; equal settings, network and images give equal results on one machine.

    ``learning_rate`` is Adam's, for weights in units of their channel's root mean square. ``schedule`` brings it to
    zero at the end (``constant``: does not) after a linear rise over the first ``warmup`` of all steps.
    ``distillation`` is the share of the loss that comes from the float network's class scores, softened by
    ``temperature``; labels give the rest, and without labels it is all of it. ``augment`` shifts every image by up to
    ``shift`` pixels and mirrors every second one: right for photographs, wrong for digits. ``blend`` is the largest
    share of another image that is laid over each (Zhang et al. 2018, arXiv:1710.09412; with the float network's scores
    of the blend itself: Beyer et al. 2022, arXiv:2106.05237): of the images that it was trained on, a float network is
    too sure for its scores to say much. ``normalise`` puts batch norm back for the time of training
    (``compress.finetune.normalisation``). ``batch_statistics`` lets its statistics follow the batches, which are then
    not blended, because blends have other statistics than images; by default they do so where a weight has at most two
    bits.
    """

    method: str = "lsq"
    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 0.002
    schedule: str = "cosine"
    warmup: float = 0.02
    distillation: float = 1.0
    temperature: float = 2.0
    augment: bool = False
    shift: int = 4
    blend: float = 0.5
    normalise: bool = True
    batch_statistics: bool | None = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            InputError: Names the field, the rule and the value.
        """
        METHODS.get(self.method)
        rules = (
            ("epochs", self.epochs >= 1, "must be at least 1"),
            ("batch_size", self.batch_size >= 1, "must be at least 1"),
            ("learning_rate", 0 < self.learning_rate <= 1, "must be above 0 and at most 1"),
            ("schedule", self.schedule in SCHEDULES, f"must be one of {', '.join(SCHEDULES)}"),
            ("warmup", 0 <= self.warmup < 1, "must be at least 0 and below 1"),
            ("distillation", 0 <= self.distillation <= 1, "must be in 0..1"),
            ("temperature", self.temperature > 0, "must be above 0"),
            ("shift", self.shift >= 0, "must be at least 0"),
            ("blend", 0 <= self.blend <= 1, "must be in 0..1"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise InputError(f"finetune.{name}", rule, getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)
