"""What a job works out once, before its search, for all its evaluators: rankings of channels, trained replacements.

Each piece is also handed out as the bytes of a safetensors file, under a key made of everything that the piece depends
on: network, calibration images, criterion or replacement, how it was trained, and the versions of the programs. A later
run of the job that is given these bytes works out nothing again, and can use nothing stale.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from compress.imitation import ImitationSettings
from compress.plan import OperatorChoice
from compress.structure import full_key
from workers.events import GroundworkDone, Progress
from workers.spec import JobSpec

if TYPE_CHECKING:  # with the strategies, which evaluators have no need of
    from workers.problem import Problem

PROGRAMS = ("tightfit", "torch", "numpy")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The channels of all groups, to be ranked by a criterion."""

    criterion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A block by name, and what shall be trained to stand in its place."""

    block: str
    choice: OperatorChoice


Work = Ranking | Replacement


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is known: scores by group, by criterion; tensors by name, by ``structure.full_key``."""

    rankings: dict[str, Arrays] = field(default_factory=dict)
    imitated: dict[str, Arrays] = field(default_factory=dict)

    def add(self, work: Work, arrays: Arrays) -> None:
        """Take in what came of a piece of work."""
        if isinstance(work, Ranking):
            self.rankings[work.criterion] = arrays
        elif arrays:
            self.imitated[full_key(work.block, work.choice)] = arrays

    def __bool__(self) -> bool:
        """Whether there is anything to use."""
        return bool(self.rankings or self.imitated)


class Groundwork:
    """Gives out the work piece by piece, and collects what was found.

    Args:
        problem: Its space says by what channels are ranked and which replacements the search may choose.
        foundation: Names network and calibration images by their content.
        stored: What earlier runs have found, as bytes by key.
    """

    def __init__(self, problem: "Problem", *, foundation: str, stored: Mapping[str, bytes]) -> None:
        self.found = Findings()
        self._foundation = foundation
        self._settings = imitation_settings(problem.spec)
        self._waiting: deque[Work] = deque()
        self._given = 0  # and not come back
        work = _work(problem)
        self._total = sum(isinstance(piece, Replacement) for piece in work)
        for piece in work:
            arrays = _loaded(stored.get(self.key(piece)))
            if arrays is None:
                self._waiting.append(piece)
            else:
                self.found.add(piece, arrays)
        self._done = self._total - sum(isinstance(piece, Replacement) for piece in self._waiting)
        self._trained = 0
        self._start = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether everything has come back."""
        return not self._waiting and not self._given

    def next(self) -> Work | None:
        """Return what the next free evaluator shall do."""
        if not self._waiting:
            return None
        self._given += 1
        return self._waiting.popleft()

    def again(self, work: Work) -> None:
        """Take back what a lost evaluator had."""
        self._given -= 1
        self._waiting.appendleft(work)

    def finished(self, work: Work, arrays: Arrays) -> list[GroundworkDone | Progress]:
        """Take what came back; return what is to be told of it."""
        self._given -= 1
        self.found.add(work, arrays)
        content = safetensors.numpy.save({name: values.copy() for name, values in arrays.items()})
        told: list[GroundworkDone | Progress] = [GroundworkDone(key=self.key(work), content=content)]
        if isinstance(work, Replacement):
            self._done += 1
            self._trained += 1
            pace = (time.monotonic() - self._start) / self._trained
            left_s = pace * (self._total - self._done)
            told.append(Progress(done=self._done, total=self._total, seconds_left=left_s, unit="replacements"))
        return told

    def key(self, work: Work) -> str:
        """Return the name of a piece: equal for equal results."""
        if isinstance(work, Ranking):
            what: list[Any] = ["ranking", work.criterion]
        else:
            what = ["replacement", full_key(work.block, work.choice), asdict(self._settings)]
        document = json.dumps([self._foundation, _versions(), *what], sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PROGRAMS}


def imitation_settings(spec: JobSpec) -> ImitationSettings:
    """Return how a job trains replacements."""
    return ImitationSettings(steps=spec.imitation_steps, seed=spec.seed)


def to_call(work: Work) -> tuple[str, dict[str, Any]]:
    """Return a piece as the name and plain arguments of a method of ``Evaluator``."""
    if isinstance(work, Ranking):
        return "rank", {"criterion": work.criterion}
    choice = work.choice
    return "imitate", {"block": work.block, "operator": choice.operator, "parameters": dict(choice.parameters)}


def _work(problem: "Problem") -> list[Work]:
    space, steps = problem.spec.space, problem.spec.imitation_steps
    cuts = any(ratio < 1 for ratio in space.keep_ratios)
    replacements = problem.operator_choices() if steps else []
    return [
        *(Ranking(criterion=name) for name in (space.pruners if cuts else ())),
        *(Replacement(block=block, choice=choice) for block, choice in replacements),
    ]


def _loaded(content: bytes | None) -> Arrays | None:
    """Return stored arrays; ``None`` where there are none, or none that can be read."""
    if content is None:
        return None
    try:
        arrays: Arrays = safetensors.numpy.load(content)
    except SafetensorError:
        return None
    return arrays
