from dataclasses import replace

import numpy as np

from compress.plan import OperatorChoice, Plan
from tests.workers.conftest import make_problem, make_start
from tests.workers.test_driver import FaultyPool, run
from workers.evaluator import Evaluator
from workers.events import Progress, StatusChanged
from workers.imitating import Imitating, to_call
from workers.job import JobData, load_job
from workers.pool import Finished
from workers.spec import Budget, JobSpec, SpaceSpec


def separable(spec: JobSpec) -> JobSpec:
    space = SpaceSpec(operators=("original", "depthwise_separable"), weight_bits=(8,), keep_ratios=(1.0,))
    return replace(spec, space=space, budget=Budget(trials=2), imitation_steps=3)


def test_every_replacement_that_the_search_may_choose_is_given_out_once(spec: JobSpec) -> None:
    problem = make_problem(separable(spec))
    work = Imitating(problem, steps=3)

    given = []
    while (row := work.next()) is not None:
        given.append(row)

    blocks = [variable.name.partition(" ")[2] for variable in problem.space.variables if "operator" in variable.name]
    assert given == [(block, OperatorChoice(operator="depthwise_separable")) for block in blocks]
    assert len(blocks) == 6


def test_without_steps_nothing_is_trained(spec: JobSpec) -> None:
    assert Imitating(make_problem(separable(spec)), steps=0).over


def test_progress_counts_replacements(spec: JobSpec) -> None:
    work = Imitating(make_problem(separable(spec)), steps=3)
    assert work.next() is not None

    progress = work.finished({"key": {"weight": np.ones(1, np.float32)}})

    assert (progress.done, progress.total, progress.unit) == (1, 6, "replacements")
    assert progress.seconds_left is not None
    assert not work.over


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
    found = first.imitate(**to_call((block, choice)))

    first.adopt(found)
    second.prepare(imitated=found)
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
