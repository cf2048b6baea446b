from dataclasses import replace

import numpy as np
import pytest

from compress.plan import OperatorChoice, Plan
from tests.workers.conftest import make_problem, make_start
from tests.workers.test_driver import FaultyPool, ended, outcome, run
from workers.evaluator import Evaluator
from workers.events import GroundworkDone, Progress, StatusChanged
from workers.groundwork import Findings, Groundwork, Ranking, Replacement, to_call
from workers.job import JobData, load_job
from workers.pool import Finished
from workers.spec import Budget, JobSpec, SpaceSpec


def separable(spec: JobSpec) -> JobSpec:
    space = SpaceSpec(operators=("original", "depthwise_separable"), weight_bits=(8,), keep_ratios=(1.0,))
    return replace(spec, space=space, budget=Budget(trials=2), imitation_steps=3)


def cut(spec: JobSpec) -> JobSpec:
    space = SpaceSpec(operators=("original",), weight_bits=(8,), keep_ratios=(0.5, 1.0), pruners=("l1", "taylor"))
    return replace(spec, space=space, budget=Budget(trials=2))


def groundwork(spec: JobSpec, *, foundation: str = "network and images") -> Groundwork:
    return Groundwork(make_problem(spec), foundation=foundation, stored={})


def test_every_replacement_that_the_search_may_choose_is_given_out_once(spec: JobSpec) -> None:
    problem = make_problem(separable(spec))
    work = Groundwork(problem, foundation="", stored={})

    given = []
    while (row := work.next()) is not None:
        given.append(row)

    blocks = [variable.name.partition(" ")[2] for variable in problem.space.variables if "operator" in variable.name]
    choice = OperatorChoice(operator="depthwise_separable")
    assert given == [Replacement(block=block, choice=choice) for block in blocks]
    assert len(blocks) == 6


def test_without_steps_nothing_is_trained_and_without_cuts_nothing_ranked(spec: JobSpec) -> None:
    assert groundwork(replace(separable(spec), imitation_steps=0)).over


def test_channels_are_ranked_once_by_each_criterion_of_the_job(spec: JobSpec) -> None:
    work = groundwork(cut(spec))

    assert [work.next() for _ in range(3)] == [Ranking(criterion="l1"), Ranking(criterion="taylor"), None]
    assert not work.over


def test_progress_counts_replacements(spec: JobSpec) -> None:
    work = groundwork(separable(spec))
    piece = work.next()
    assert piece is not None

    done, progress = work.finished(piece, {"weight": np.ones(1, np.float32)})

    assert isinstance(done, GroundworkDone)
    assert isinstance(progress, Progress)
    assert (progress.done, progress.total, progress.unit) == (1, 6, "replacements")
    assert progress.seconds_left is not None
    assert not work.over


@pytest.mark.parametrize(
    "other",
    [
        {"foundation": "other images"},
        {"spec": {"imitation_steps": 4}},
        {"spec": {"seed": 6}},
    ],
)
def test_what_a_replacement_depends_on_is_in_its_key(spec: JobSpec, other: dict[str, object]) -> None:
    spec = separable(spec)
    changed = groundwork(
        replace(spec, **other.get("spec", {})),  # type: ignore[arg-type]
        foundation=str(other.get("foundation", "network and images")),
    )
    choices = [OperatorChoice(operator="low_rank", parameters={"rank_ratio": ratio}) for ratio in (0.25, 0.5)]
    pieces = [Replacement(block=block, choice=choice) for block in ("a", "b") for choice in choices]

    keys = {work.key(piece) for work in (groundwork(spec), changed) for piece in pieces}

    assert len(keys) == 2 * 4
    assert {groundwork(spec).key(piece) for piece in pieces} < keys


def test_a_later_run_ranks_and_trains_nothing_again_and_measures_the_same(spec: JobSpec) -> None:
    space = replace(cut(spec).space, operators=("original", "depthwise_separable"))
    spec = replace(cut(spec), space=space, imitation_steps=3, budget=Budget(trials=8))
    first = run(make_start(spec))
    pieces = {event.key: event.content for event in first if isinstance(event, GroundworkDone)}
    pools: list[FaultyPool] = []

    def refusing(job: JobData) -> FaultyPool:
        pools.append(FaultyPool(job, {}, always=Finished(slot=0, error="asked again"), method="imitate"))
        return pools[0]

    again = run(replace(make_start(spec), groundwork=pieces), refusing)

    assert len(pieces) == 2 + 6  # two criteria, six blocks
    assert pools[0].calls == 0
    assert not any(isinstance(event, GroundworkDone) for event in again)
    assert [outcome(trial) for trial in ended(again)] == [outcome(trial) for trial in ended(first)]


def test_a_piece_that_cannot_be_read_is_worked_out_again(spec: JobSpec) -> None:
    spec = cut(spec)
    key = groundwork(spec).key(Ranking(criterion="l1"))

    work = Groundwork(make_problem(spec), foundation="network and images", stored={key: b"half a fi"})

    assert work.next() == Ranking(criterion="l1")


def test_rankings_come_from_another_evaluator(spec: JobSpec) -> None:
    job = load_job(make_start(cut(spec)))
    evaluator = Evaluator(job)
    evaluator.prepare()
    found = Findings()
    found.add(Ranking(criterion="l1"), {name: -scores for name, scores in evaluator.rank("l1").items()})
    group = job.structure.groups.groups[0].name
    plan = Plan(keep_ratios={group: 0.5}, pruner="l1").to_json()
    before = evaluator.sensitivities([plan])

    evaluator.adopt(found)

    assert evaluator.sensitivities([plan]) != before  # the other half of the channels is gone now


def test_variants_of_an_operator_are_choices_of_their_own(spec: JobSpec) -> None:
    space = replace(spec.space, operators=("original", "low_rank(rank_ratio=0.25)", "low_rank(form=spatial)"))

    problem = make_problem(replace(spec, space=space))

    variable = next(variable for variable in problem.space.variables if variable.name.startswith("operator "))
    assert set(variable.choices) == {"original", "low_rank(rank_ratio=0.25)", "low_rank(form=spatial)"}
    parameters = {tuple(choice.parameters.items()) for _, choice in problem.operator_choices()}
    assert parameters == {(("rank_ratio", 0.25),), (("form", "spatial"),)}


def test_an_evaluator_measures_with_the_tensors_that_another_one_has_trained(spec: JobSpec) -> None:
    spec = replace(separable(spec), imitation_steps=40)
    problem = make_problem(spec)
    first, second, third = (Evaluator(load_job(make_start(spec))) for _ in range(3))
    first.prepare()
    block, choice = problem.operator_choices()[0]
    plan = Plan(operators={block: choice}).to_json()
    piece = Replacement(block=block, choice=choice)
    found = Findings()
    found.add(piece, first.imitate(**to_call(piece)[1]))

    first.adopt(found)
    second.prepare(found=found)
    third.prepare()

    one, other, untrained = (evaluator.sensitivities([plan])[0][0] for evaluator in (first, second, third))
    assert one == other < untrained


def test_a_job_trains_replacements_before_it_searches_and_again_what_a_lost_evaluator_had(spec: JobSpec) -> None:
    pools: list[FaultyPool] = []

    def make_pool(job: JobData) -> FaultyPool:
        pools.append(FaultyPool(job, {1: Finished(slot=0, error="gone", lost=True)}, method="imitate"))
        return pools[0]

    events = run(make_start(separable(spec)), make_pool)

    before = events[: events.index(StatusChanged(status="searching"))]
    progress = [(event.done, event.total) for event in before if isinstance(event, Progress)]
    assert progress == [(count, 6) for count in range(1, 7)]
    assert pools[0].calls == 7
