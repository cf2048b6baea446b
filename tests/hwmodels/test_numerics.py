import pytest

from hwmodels.errors import InputError
from hwmodels.numerics import ORDER, NumericsPolicy, common_end_bits, common_numerics

USUAL = {
    "activation_type": "unsigned",
    "scale_format": "float32",
    "weight_granularity": "channel",
    "operand_scales": "separate",
    "function_inputs": "fused",
}


def policy(**fields: object) -> NumericsPolicy:
    return NumericsPolicy.model_validate({"confidence": "estimate", "source": "test", **fields})


def test_a_policy_that_demands_nothing_refuses_nothing() -> None:
    assert policy().refusal(USUAL) is None


@pytest.mark.parametrize("field", ORDER)
def test_a_runtime_takes_what_it_states_and_what_is_stricter(field: str) -> None:
    values = ORDER[field]

    for place, stated in enumerate(values):
        taken = [value for value in values if policy(**{field: stated}).refusal({field: value}) is None]

        assert taken == list(values[place:])


def test_a_refusal_says_what_the_plan_has_and_what_the_runtime_takes() -> None:
    reason = policy(weight_granularity="channel").refusal({"weight_granularity": "group"})

    assert reason == "numerics.weight_granularity is group, the runtime takes channel or tensor"


def test_several_devices_get_the_strictest_that_one_of_them_demands() -> None:
    policies = {
        "cpu": policy(activation_type="unsigned", weight_granularity="channel"),
        "gpu": policy(activation_type="signed"),
        "fpga": policy(scale_format="power_of_two", weight_granularity="tensor"),
        "open": None,
    }

    found = common_numerics(policies, {})

    assert found == {"activation_type": "signed", "scale_format": "power_of_two", "weight_granularity": "tensor"}
    assert all(demanding is None or demanding.refusal({**USUAL, **found}) is None for demanding in policies.values())


def test_what_the_user_wants_stands_where_every_device_runs_it() -> None:
    assert common_numerics({"cpu": policy(scale_format="float32")}, {"scale_format": "power_of_two"}) == {}


def test_what_the_user_wants_is_refused_with_the_device_that_does_not_run_it() -> None:
    policies = {"cpu": None, "dpu": policy(scale_format="power_of_two")}

    with pytest.raises(InputError, match=r"numerics\.scale_format: must be power_of_two on dpu, got 'float32'"):
        common_numerics(policies, {"scale_format": "float32"})


def test_the_widest_of_the_ends_widths_is_common() -> None:
    assert common_end_bits([None, policy(end_bits=4), policy(end_bits=8), policy()]) == 8
    assert common_end_bits([None, policy()]) is None
