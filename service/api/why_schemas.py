"""Answers about why a trial costs and loses what it does."""

from service.api.schemas import Answer


class LayerReasonRead(Answer):
    """What a layer's choices save (negative: cost more), and what they are predicted to lose, in nats.

    ``choices`` and ``instead_of`` hold what differs, by kind; a kind that is missing is as the float network has it.
    ``predicted_loss`` is null where a choice was not measured.
    """

    layer: str
    choices: dict[str, str]
    instead_of: dict[str, str]
    saved_latency_ms: float
    saved_energy_mj: float
    saved_bytes: int
    predicted_loss: float | None


class WhyRead(Answer):
    """A trial layer by layer, against ``other`` or, if that is null, the float network."""

    id: str
    other: str | None
    device: str
    layers: list[LayerReasonRead]
