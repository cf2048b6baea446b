"""A few evaluators, each doing one thing at a time: as Ray actors, or in this very thread."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from workers.imports import without_collecting
from workers.ingest.confinement import limit_memory

if TYPE_CHECKING:  # with torch, which each process is to import in its own time
    from workers.job import JobData

EVALUATOR_CPUS = 1

FIRST_NICENESS, NICENESS = 5, 10
"""Of a job's first evaluator once it is prepared, and of the others from the beginning.

Where processors are few, the service, drivers and first evaluators that start after a crash go before those at work. A
first evaluator that works comes before others that still import what they need.
"""

LATER_IMPORTS = ("onnxruntime", "compress.export.onnx_qdq", "scipy.special", "workers.relaxation")
"""What packaging and some trials import; where memory is bounded, before that, as it is no trial's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of a call. ``error`` is the reason if it failed; ``lost`` if the evaluator itself is gone."""

    slot: int
    value: Any = None
    error: str | None = None
    lost: bool = False


class Pool(Protocol):
    """Evaluators by slot. A slot takes one call at a time; a lost evaluator is replaced at once, not yet prepared."""

    size: int

    def submit(self, slot: int, method: str, **arguments: Any) -> None:
        """Start ``Evaluator.<method>(**arguments)`` in a free slot."""

    def wait(self, timeout_s: float) -> list[Finished]:
        """Return the calls that ended, waiting at most so long for the first."""

    def abandon(self, slot: int) -> None:
        """Kill the evaluator of a slot that takes too long, and replace it; its call is forgotten."""

    def close(self) -> None:
        """End all evaluators."""


class RayPool:
    """Evaluators as Ray actors. Network and data are put into the object store once, for all of them.

    Each may take ``memory_bytes`` beyond what it has after its start (0: what there is). A call that asks for more
    fails with the reason and its evaluator goes on; where Ray's own threads are refused memory, the evaluator is lost
    and started anew. Everybody else goes on.
    """

    def __init__(self, job: "JobData", *, size: int, memory_bytes: int = 0) -> None:
        self.size = size
        self._memory_bytes = memory_bytes
        self._job = ray.put(job)
        self._actors: dict[int, Any] = {}  # by slot, from its first call on
        self._calls: dict[ray.ObjectRef[Any], int] = {}

    def submit(self, slot: int, method: str, **arguments: Any) -> None:
        """Start a call in a free slot, and its evaluator if this is the first; returns at once."""
        if slot not in self._actors:
            self._actors[slot] = self._new_actor(slot)
        self._calls[self._actors[slot].call.remote(method, arguments)] = slot

    def wait(self, timeout_s: float) -> list[Finished]:
        """Return the calls that ended."""
        if not self._calls:
            return []
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        if ready and len(self._calls) > 1:
            # Others may have ended at the same time.
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return [self._finished(reference, self._calls.pop(reference)) for reference in ready]

    def abandon(self, slot: int) -> None:
        """Kill and replace one evaluator."""
        self._calls = {reference: other for reference, other in self._calls.items() if other != slot}
        ray.kill(self._actors[slot])
        self._actors[slot] = self._new_actor(slot)

    def close(self) -> None:
        """Kill all evaluators."""
        self._calls.clear()
        for actor in self._actors.values():
            ray.kill(actor)

    def _finished(self, reference: "ray.ObjectRef[Any]", slot: int) -> Finished:
        try:
            return Finished(slot=slot, value=ray.get(reference))
        except RayTaskError as error:
            return Finished(slot=slot, error=_reason(error.cause))
        except RayActorError as error:
            self._actors[slot] = self._new_actor(slot)
            return Finished(slot=slot, error=_reason(error), lost=True)
        except RayError as error:
            self.abandon(slot)
            return Finished(slot=slot, error=_reason(error), lost=True)

    def _new_actor(self, slot: int) -> Any:
        actor = ray.remote(_EvaluatorActor).options(num_cpus=EVALUATOR_CPUS)
        return actor.remote([self._job], self._memory_bytes, slot == 0)


class LocalPool:
    """One evaluator in this thread: a call runs when its end is waited for. For one-off use and for debugging."""

    size = 1

    def __init__(self, job: "JobData") -> None:
        from workers.evaluator import Evaluator

        self._evaluator = Evaluator(job)
        self._call: tuple[str, Mapping[str, Any]] | None = None

    def submit(self, slot: int, method: str, **arguments: Any) -> None:
        """Remember the call."""
        self._call = method, arguments

    def wait(self, timeout_s: float) -> list[Finished]:
        """Run the call, however long it takes."""
        if self._call is None:
            return []
        (method, arguments), self._call = self._call, None
        run: Callable[..., Any] = getattr(self._evaluator, method)
        try:
            return [Finished(slot=0, value=run(**arguments))]
        except Exception as error:  # whatever an evaluation dies of becomes its trial's reason
            return [Finished(slot=0, error=_reason(error))]

    def abandon(self, slot: int) -> None:
        """Forget the call."""
        self._call = None

    def close(self) -> None:
        """Forget the call."""
        self._call = None


class _EvaluatorActor:
    """The thin Ray side of an evaluator. ``job`` is in a list, so that it is unpacked here and not before."""

    def __init__(self, job: "list[ray.ObjectRef[JobData]]", memory_bytes: int, first: bool) -> None:
        if not first:
            os.nice(NICENESS)
        with without_collecting():
            import torch

            from workers.evaluator import Evaluator

        torch.set_num_threads(1)
        self._gives_way = not first
        self._evaluator = Evaluator(ray.get(job[0]))
        if memory_bytes and sys.platform == "linux":
            for name in LATER_IMPORTS:
                import_module(name)
            limit_memory(memory_bytes)

    def call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Run one method of the evaluator; once it is prepared, with less priority."""
        if method != "prepare" and not self._gives_way:
            os.nice(FIRST_NICENESS)
            self._gives_way = True
        return getattr(self._evaluator, method)(**arguments)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
