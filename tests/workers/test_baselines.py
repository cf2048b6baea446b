from dataclasses import replace

from search.space import Candidate
from tests.workers.conftest import make_problem
from workers.baselines import BITS_ONLY, PRUNE_THEN_QUANTIZE, PRUNING_ONLY, single_dimension_baselines
from workers.problem import Problem
from workers.sensitivity import assumed_divergences, choice_tables, dearest
from workers.spec import DeviceTarget, JobSpec, Limits

MCU = "stm32h743"


def limited(spec: JobSpec, limits: Limits) -> Problem:
    return make_problem(replace(spec, devices=(DeviceTarget(name=MCU, limits=limits),)))


def changed_kinds(problem: Problem, candidate: Candidate) -> set[str]:
    pairs = zip(problem.space.variables, candidate.indices, dearest(problem).indices, strict=True)
    return {variable.name.split(" ")[0] for variable, index, start in pairs if index != start}


def test_each_baseline_changes_what_it_is_named_after_and_meets_the_limit(spec: JobSpec) -> None:
    problem = limited(spec, Limits(model_bytes=60_000))
    table = choice_tables(problem, assumed_divergences(problem))[MCU]

    found = {row.label: row for row in single_dimension_baselines(problem, table)}

    assert set(found) == {BITS_ONLY, PRUNING_ONLY, PRUNE_THEN_QUANTIZE}
    kinds = {label: changed_kinds(problem, row.candidate) for label, row in found.items() if row.candidate is not None}
    assert kinds[BITS_ONLY] <= {"weights", "activations"}
    assert kinds[PRUNING_ONLY] == {"channels"}
    assert {"channels", "weights"} <= kinds[PRUNE_THEN_QUANTIZE] <= {"channels", "weights", "activations"}
    for row in found.values():
        assert problem.pricing.costs(row.plan, MCU).model_bytes <= 60_000


def test_a_dimension_that_cannot_keep_the_limit_goes_as_low_as_it_can(spec: JobSpec) -> None:
    problem = limited(spec, Limits(model_bytes=1))
    table = choice_tables(problem, assumed_divergences(problem))[MCU]

    pruned = next(row for row in single_dimension_baselines(problem, table) if row.label == PRUNING_ONLY)

    assert set(pruned.plan.keep_ratios.values()) == {0.5}


def test_without_a_dimension_its_baseline_is_left_out(spec: JobSpec) -> None:
    spec = replace(spec, space=replace(spec.space, keep_ratios=(1.0,)))
    problem = make_problem(replace(spec, devices=(DeviceTarget(name=MCU),)))
    table = choice_tables(problem, assumed_divergences(problem))[MCU]

    labels = [row.label for row in single_dimension_baselines(problem, table)]

    # Pruning nothing is the uniform 8 bit baseline, and quantizing that is bits only.
    assert labels == [BITS_ONLY]


def test_a_dimension_that_saves_nothing_of_a_cost_gives_nothing_up_for_it(spec: JobSpec) -> None:
    # The Raspberry Pi computes all integer widths alike: fewer bits make nothing faster there.
    device = DeviceTarget(name="raspberry-pi-4", limits=Limits(latency_ms=0.2))
    problem = make_problem(replace(spec, devices=(device,)))
    table = choice_tables(problem, assumed_divergences(problem))[device.name]

    found = {row.label: row.plan for row in single_dimension_baselines(problem, table)}

    assert set(found) == {PRUNING_ONLY, PRUNE_THEN_QUANTIZE}  # bits only is 8 bits everywhere, a baseline anyway
    assert {bits.weight_bits for bits in found[PRUNE_THEN_QUANTIZE].layers.values()} == {8}
