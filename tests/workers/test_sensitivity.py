from dataclasses import replace

import pytest

from search.space import Candidate
from tests.workers.conftest import DEVICES, make_problem
from workers.sensitivity import BASE, Probe, choice_tables, dearest, plan_of, probes
from workers.spec import DeviceTarget, JobSpec, Limits

MCU = "stm32h743"


def place(spec: JobSpec, name: str) -> int:
    return [variable.name for variable in make_problem(spec).space.variables].index(name)


def test_each_probe_changes_one_thing_of_the_dearest_plan(spec: JobSpec) -> None:
    problem = make_problem(spec)
    whole = problem.decode(dearest(problem))

    assert plan_of(problem, BASE) == whole
    for probe in probes(problem)[1:]:
        plan = plan_of(problem, probe)
        changed = {layer for layer, bits in plan.layers.items() if whole.layers.get(layer) != bits}
        kind, _, name = problem.space.variables[probe.place].name.partition(" ")
        if kind in ("weights", "activations"):
            assert (changed, plan.operators, plan.keep_ratios) == ({name}, {}, {})
        elif kind == "channels":
            assert (changed, plan.operators, set(plan.keep_ratios)) == (set(), {}, {name})
        else:
            assert (set(plan.operators), plan.keep_ratios) == ({name}, {})


def test_what_was_not_measured_follows_from_the_law_of_its_kind(spec: JobSpec) -> None:
    problem = make_problem(spec)
    weights, channels = place(spec, "weights conv1"), place(spec, "channels conv1")
    divergences = dict.fromkeys(probes(problem), 0.5)
    divergences |= {Probe(weights, 0): 8.5, Probe(weights, 2): 0.9, Probe(channels, 0): 1.5}

    loss = choice_tables(problem, divergences)[MCU].loss

    # Less 0.5 of the base. Widths 2, 3, 4, 6, 8: a quarter of the squared error is left with each bit; 8 is the base.
    assert loss[weights] == pytest.approx((8.0, 2.0, 0.4, 0.025, 0.0))
    # Of 16 channels 8, 12 or 16 suit vectors of four lanes and of two: by the square of what is cut off.
    assert loss[channels] == pytest.approx((1.0, 0.25, 0.0))


def test_a_dearer_choice_never_counts_as_losing_more(spec: JobSpec) -> None:
    problem = make_problem(spec)
    weights = place(spec, "weights conv1")
    divergences = {**dict.fromkeys(probes(problem), 0.0), Probe(weights, 0): 1.0, Probe(weights, 2): 3.0}

    row = choice_tables(problem, divergences)[MCU].loss[weights]

    assert row == tuple(sorted(row, reverse=True))


def test_the_table_of_a_single_change_is_its_exact_price(spec: JobSpec) -> None:
    problem = make_problem(spec)
    tables = choice_tables(problem, dict.fromkeys(probes(problem), 0.0))
    number = place(spec, "operator layer2.1")
    changed = Candidate(tuple(0 if at == number else index for at, index in enumerate(dearest(problem).indices)))

    for device in DEVICES:
        table = tables[device]
        assert table.base_costs[0] + table.costs[0][number][0] == problem.costs(changed, device).latency_ms


def test_limits_on_costs_that_are_no_objectives_are_in_the_table(spec: JobSpec) -> None:
    limits = Limits(latency_ms=2.0, peak_memory_bytes=9000)
    problem = make_problem(replace(spec, devices=(DeviceTarget(name=MCU, limits=limits),)))

    table = choice_tables(problem, dict.fromkeys(probes(problem), 0.0))[MCU]

    assert table.objectives == 2
    assert table.limits == (2.0, float("inf"), 9000.0)


def test_a_skipped_block_hides_the_choices_within_it(spec: JobSpec) -> None:
    problem = make_problem(spec)
    names = [variable.name for variable in problem.space.variables]

    table = choice_tables(problem, dict.fromkeys(probes(problem), 0.0))[MCU]

    hidden = {(names[row.place], row.choice): {names[other] for other in row.hidden} for row in table.eclipses}
    assert hidden[("operator layer1.1", 0)] == {
        "channels layer1.1.conv1",
        *(f"{kind} layer1.1.{layer}" for kind in ("weights", "activations") for layer in ("conv1", "conv2")),
    }
