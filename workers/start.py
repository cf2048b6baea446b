"""What a driver is started with. Plain data: the dispatcher fills it from rows and artefacts without torch or Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.events import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverStart:
    """One job, and what earlier runs of it have found.

    Attributes:
        spec: ``workers.spec.JobSpec`` as JSON.
        preprocessing: ``workers.spec.Preprocessing`` as JSON; how integer arrays become the network's input.
        graph: ``compress.network.graph.Graph`` as JSON.
        weights: The network's tensors, as the bytes of a safetensors file.
        dataset: ``x`` and ``y``, as the bytes of a safetensors file; empty for a job without data.
        profiles: Device profiles as JSON, by name; at least those of the job's devices.
        trials: The trials that are stored, by number. Those that are ``running`` are evaluated again.
        packaged: Numbers of the trials whose checkpoints are stored already.
        sensitivities: What single choices do, as far as it was measured before on the same images: divergence and loss
            by the digest of the plan.
        groundwork: What earlier runs have worked out for all evaluators, as the bytes of safetensors files by key.
        spent_s: Seconds that earlier runs took, for a budget in minutes.
        patience_s: Seconds that one evaluation may take, besides what depends on the network.
    """

    spec: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    graph: Mapping[str, Any]
    weights: bytes
    dataset: bytes
    profiles: Mapping[str, Mapping[str, Any]]
    trials: tuple[Trial, ...] = ()
    packaged: frozenset[int] = frozenset()
    sensitivities: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    groundwork: Mapping[str, bytes] = field(default_factory=dict)
    spent_s: float = 0.0
    patience_s: float = 120.0
