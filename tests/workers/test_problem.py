from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.plan import LayerBits, Numerics, Plan
from hwmodels.errors import InputError, UnknownNameError
from hwmodels.numerics import NumericsPolicy
from hwmodels.profile import builtin_profiles
from search.space import Candidate
from tests.workers.conftest import digits_network, make_problem
from workers.problem import Problem
from workers.spec import DeviceTarget, JobSpec, KeepSpec, SpaceSpec


def candidate(problem: Problem, **changed: object) -> Candidate:
    """Return the dearest candidate with some variables, by name with ``_`` for the space, at other values."""
    dearest = problem.space.uniform([1.0])[0]
    values = problem.space.values(dearest)
    for name, value in changed.items():
        kind, _, place = name.partition("_")
        values[f"{kind} {place}"] = value  # type: ignore[assignment]
    return problem.space.candidate(values)


def change(problem: Problem, **choices: object) -> Plan:
    return problem.decode(candidate(problem, **choices))


def test_the_dearest_candidate_is_the_uniform_baseline_of_eight_bits(spec: JobSpec) -> None:
    problem = make_problem(spec)

    plan = problem.decode(problem.space.uniform([1.0])[0])

    network, _ = digits_network()
    layers = [node.name for node in network.graph.nodes if node.op in ("conv", "linear")]
    assert plan.layers == dict.fromkeys(layers, LayerBits(weight_bits=8, activation_bits=8))
    assert plan.operators == {}
    assert plan.keep_ratios == {}
    assert problem.baselines()[0].plan.digest() == plan.digest()


def test_there_is_one_variable_per_layer_width_group_and_block(spec: JobSpec) -> None:
    problem = make_problem(spec)
    network, structure = digits_network()
    layers = sum(node.op in ("conv", "linear") for node in network.graph.nodes)

    names = [variable.name for variable in problem.space.variables]

    assert sum(name.startswith("weights ") for name in names) == layers
    assert sum(name.startswith("activations ") for name in names) == layers
    assert sum(name.startswith("channels ") for name in names) == len(structure.groups.groups)
    assert sum(name.startswith("operator ") for name in names) == len(structure.blocks)


def test_choices_within_a_skipped_block_make_no_difference(spec: JobSpec) -> None:
    problem = make_problem(spec)

    plain = change(problem, **{"operator_layer1.1": "skip"})
    other = change(
        problem, **{"operator_layer1.1": "skip", "weights_layer1.1.conv1": 2, "channels_layer1.1.conv1": 0.5}
    )

    assert plain.digest() == other.digest()
    assert not any(layer.startswith("layer1.1.") for layer in plain.layers)


def test_the_layers_of_a_replacement_have_the_bits_of_the_layer_they_stand_for(spec: JobSpec) -> None:
    problem = make_problem(spec)

    plan = change(problem, **{"operator_layer1.1": "low_rank", "weights_layer1.1.conv1": 3})

    widths = {layer: bits.weight_bits for layer, bits in plan.layers.items() if layer.startswith("layer1.1.conv1/")}
    assert len(widths) == 2
    assert set(widths.values()) == {3}


def test_keep_ratios_that_keep_equally_many_channels_are_one_choice(spec: JobSpec) -> None:
    # Of 16 channels 0.5 and 0.51 keep 8, which is 0.5 of them; 0.97 and 1.0 keep all.
    spec = replace(spec, space=SpaceSpec(keep_ratios=(0.5, 0.51, 0.97, 1.0)))

    choices = {variable.name: variable.choices for variable in make_problem(spec).space.variables}

    assert choices["channels conv1"] == (0.5, 1.0)


def test_keep_ratios_go_by_what_suits_all_devices(spec: JobSpec) -> None:
    # By 4 on a Raspberry Pi: of 16 channels 0.6 keeps 8 (9.6 / 4 = 2.4 multiples), 0.8 keeps 12 (12.8 / 4 = 3.2).
    # With AVX2 beside it by 8: 8 (9.6 / 8 = 1.2 multiples) and 16 (12.8 / 8 = 1.6).
    space = SpaceSpec(keep_ratios=(0.6, 0.8, 1.0))

    def choices(*devices: str) -> object:
        targets = tuple(DeviceTarget(name=name) for name in devices)
        problem = make_problem(replace(spec, space=space, devices=targets))
        return {variable.name: variable.choices for variable in problem.space.variables}["channels conv1"]

    assert choices("raspberry-pi-4") == (0.5, 0.75, 1.0)
    assert choices("raspberry-pi-4", "x86-avx2") == (0.5, 1.0)


def test_what_the_user_keeps_is_no_variable_and_in_every_plan(spec: JobSpec) -> None:
    spec = replace(spec, keep={"layer2.0.conv1": KeepSpec(weight_bits=6, prune=False)})
    problem = make_problem(spec)

    names = {variable.name for variable in problem.space.variables}
    plans = [problem.decode(point) for point in problem.space.uniform([0.0, 0.5, 1.0])]
    plans += [baseline.plan for baseline in problem.baselines()]

    assert names.isdisjoint({"weights layer2.0.conv1", "channels layer2.0.conv1", "operator layer2.0"})
    assert all(plan.layers["layer2.0.conv1"].weight_bits == 6 for plan in plans)
    assert all("layer2.0.conv1" not in plan.keep_ratios for plan in plans)


def test_baselines_outside_the_space_are_tried_all_the_same(spec: JobSpec) -> None:
    spec = replace(spec, space=SpaceSpec(weight_bits=(2, 4)))

    baselines = make_problem(spec).baselines()

    assert [baseline.label for baseline in baselines] == ["uniform 8 bit", "uniform 6 bit", "uniform 4 bit"]
    assert [baseline.candidate is None for baseline in baselines] == [True, True, False]
    assert {bits.weight_bits for bits in baselines[1].plan.layers.values()} == {6}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_candidate_has_a_plan_that_can_be_priced(seed: int) -> None:
    problem = _shared_problem()
    rng = np.random.default_rng(seed)
    point = Candidate(tuple(int(rng.integers(len(variable.choices))) for variable in problem.space.variables))

    price = problem.price(point)

    assert Plan.from_json(problem.decode(point).to_json()).digest() == problem.decode(point).digest()
    assert price.macs > 0
    assert price.packed_bytes > 0
    assert all(costs.latency_ms > 0 for costs in price.costs.values())


def test_fewer_bits_never_make_the_packed_file_larger(spec: JobSpec) -> None:
    problem = make_problem(spec)

    sizes = [problem.pricing.price(baseline.plan).packed_bytes for baseline in problem.baselines()]

    assert sizes == sorted(sizes, reverse=True)


def test_an_unknown_layer_to_keep_is_answered_with_the_known_ones(spec: JobSpec) -> None:
    with pytest.raises(UnknownNameError, match=r"keep\.head: .*linear.* got 'head'"):
        make_problem(replace(spec, keep={"head": KeepSpec()}))


def test_an_unknown_strategy_is_answered_with_the_known_ones(spec: JobSpec) -> None:
    with pytest.raises(UnknownNameError, match=r"strategy: must be one of auto, .*, got 'best'"):
        make_problem(replace(spec, strategy="best"))


def test_a_width_that_no_quantizer_has_is_refused(spec: JobSpec) -> None:
    with pytest.raises(InputError, match=r"space\.weight_bits\[1\]: must be one of .*, got 9"):
        make_problem(replace(spec, space=SpaceSpec(weight_bits=(8, 9))))


_PROBLEMS: list[Problem] = []


def _shared_problem() -> Problem:
    if not _PROBLEMS:
        from workers.spec import DeviceTarget

        _PROBLEMS.append(make_problem(JobSpec(name="digits", devices=(DeviceTarget(name="stm32h743"),))))
    return _PROBLEMS[0]


def on(spec: JobSpec, *names: str, **changes: object) -> JobSpec:
    return replace(spec, devices=tuple(DeviceTarget(name=name) for name in names), **changes)  # type: ignore[arg-type]


def dearest(problem: Problem) -> Plan:
    return problem.decode(problem.space.uniform([1.0])[0])


def test_plans_have_the_numbers_that_the_device_runs(spec: JobSpec) -> None:
    found = dearest(make_problem(on(spec, "zcu102-dpu"))).numerics

    assert found == Numerics(activation_type="signed", scale_format="power_of_two", weight_granularity="tensor")


def test_plans_for_several_devices_have_numbers_that_all_of_them_run(spec: JobSpec) -> None:
    problem = make_problem(on(spec, "nvidia-t4", "x86-avx512-vnni", "raspberry-pi-4"))

    assert dearest(problem).numerics == Numerics(activation_type="signed")
    assert all(costs.deployable for costs in problem.pricing.price(dearest(problem)).costs.values())


def test_a_plan_made_for_other_numbers_cannot_be_deployed_and_says_why(spec: JobSpec) -> None:
    plan = dearest(make_problem(on(spec, "x86-avx512-vnni")))

    costs = make_problem(on(spec, "nvidia-t4")).pricing.costs(plan, "nvidia-t4")

    assert not costs.deployable
    assert costs.reason == "numerics.activation_type is unsigned, the runtime takes signed"


def test_a_float_plan_can_be_deployed_whatever_its_numbers(spec: JobSpec) -> None:
    assert make_problem(on(spec, "nvidia-t4")).pricing.costs(Plan(), "nvidia-t4").deployable


def test_what_the_user_chooses_is_in_every_plan(spec: JobSpec) -> None:
    chosen = {"scale_format": "power_of_two", "weight_rounding": "adaround", "other_bits": 6}

    found = dearest(make_problem(on(spec, "x86-avx512-vnni", numerics=chosen))).numerics

    assert found == Numerics(scale_format="power_of_two", weight_rounding="adaround", other_bits=6)


def test_what_a_device_does_not_run_is_refused_by_name(spec: JobSpec) -> None:
    with pytest.raises(InputError, match=r"numerics\.activation_type: must be signed on nvidia-t4, got 'unsigned'"):
        make_problem(on(spec, "x86-avx512-vnni", "nvidia-t4", numerics={"activation_type": "unsigned"}))


def test_first_and_last_layers_have_the_bits_that_the_device_asks_for(spec: JobSpec) -> None:
    spec = on(spec, "zynq-7020", space=SpaceSpec(weight_bits=(2, 4), activation_bits=(4,)))
    problem = make_problem(spec)

    plan = problem.decode(problem.space.uniform([0.0])[0])

    eight = LayerBits(weight_bits=8, activation_bits=8)
    assert {name for name, bits in plan.layers.items() if bits == eight} == {"conv1", "linear"}
    assert problem.baselines()[-1].plan.layers["conv1"] == eight


def test_the_users_bits_go_before_those_that_the_device_asks_for(spec: JobSpec) -> None:
    problem = make_problem(on(spec, "zynq-7020", keep={"linear": KeepSpec(weight_bits=3)}))

    plan = dearest(problem)

    assert plan.layers["linear"].weight_bits == 3
    assert plan.layers["conv1"].weight_bits == 8


def test_a_device_that_cannot_store_what_another_wants_of_the_ends_is_refused(spec: JobSpec) -> None:
    with pytest.raises(InputError, match=r"devices: must be able to store the 8 bits .*, got 'finn-zc706'"):
        make_problem(on(spec, "finn-zc706", "zynq-7020"))


def test_numerics_of_an_own_profile_reach_the_plan(spec: JobSpec) -> None:
    policy = NumericsPolicy(operand_scales="matched", confidence="estimate", source="test")
    profile = builtin_profiles()["raspberry-pi-4"].model_copy(update={"name": "mine", "numerics": policy})
    network, structure = digits_network()

    problem = Problem(on(spec, "mine"), network, structure, {"mine": profile})

    assert dearest(problem).numerics == Numerics(operand_scales="matched")


def test_a_job_survives_the_way_through_json_with_its_numerics(spec: JobSpec) -> None:
    chosen = replace(spec, numerics={"scale_format": "power_of_two"})

    assert JobSpec.from_json(chosen.to_json()) == chosen
    assert JobSpec.from_json({key: row for key, row in spec.to_json().items() if key != "numerics"}) == spec
