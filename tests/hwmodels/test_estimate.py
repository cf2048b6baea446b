import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwmodels.cost_model import COST_MODELS
from hwmodels.estimate import CostReport, estimate, pricer
from hwmodels.profile import Profile, builtin_profiles, load_profile
from hwmodels.workload import Arithmetic
from tests.hwmodels.networks import conv_chain, float_chain, residual_block

PROFILES = builtin_profiles()
ANALYTIC = sorted(name for name, profile in PROFILES.items() if COST_MODELS.get(profile.family).analytic)


def costs(report: CostReport) -> tuple[float, ...]:
    return (report.latency_ms, report.energy_mj, report.model_bytes, report.peak_memory_bytes)


def assert_never_cheaper(bigger: CostReport, smaller: CostReport) -> None:
    for more, less in zip(costs(bigger), costs(smaller), strict=True):
        assert more >= less * (1 - 1e-12)


def without_caches_and_overheads() -> Profile:
    data = copy.deepcopy(PROFILES["raspberry-pi-4"].to_json())
    for name in ("caches", "winograd_tile", "ramp_channels", "element_ns", "activation_gb_per_s"):
        data["model"].pop(name, None)
    data["model"]["launch_us"]["value"] = 0
    data["model"]["fixed_us"]["value"] = 0
    data["model"]["threads"]["value"] = 1
    data["model"]["dram_gb_per_s"]["value"] = 1e6
    data["clock_ghz"]["value"] = 1.0
    for rate in data["model"]["rates"]:
        rate.pop("efficiency", None)
    for quantity in data["model"]["efficiency"].values():
        quantity["value"] = 0.5
    return load_profile(data)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_parts_of_a_report_add_up(name: str) -> None:
    report = estimate(residual_block(), PROFILES[name])

    assert report.latency_ms == pytest.approx(sum(row.latency_ms for row in report.kernels) + report.overhead_ms)
    assert report.model_bytes == sum(row.weight_bytes for row in report.kernels)
    assert json.loads(json.dumps(report.to_json()))["device"] == name


def test_compute_time_is_macs_over_the_reached_rate() -> None:
    # 8×8×9×64 = 36,864 MACs; int8 runs 8 per cycle at 1 GHz and half efficiency: 4000 per µs.
    report = estimate(conv_chain((8, 8)), without_caches_and_overheads())

    assert report.latency_ms == pytest.approx(36_864 / 4000 / 1e3)
    assert report.kernels[0].bound == "compute"


def test_channels_are_rounded_up_to_the_vector() -> None:
    # Five output channels fill two vectors of four, as eight do.
    five, eight = (estimate(conv_chain((8, channels)), without_caches_and_overheads()) for channels in (5, 8))

    assert five.latency_ms == pytest.approx(eight.latency_ms)


def test_memory_time_is_bytes_over_bandwidth() -> None:
    data = copy.deepcopy(without_caches_and_overheads().to_json())
    data["model"]["dram_gb_per_s"]["value"] = 0.001  # 1 byte per µs

    report = estimate(conv_chain((8, 8)), load_profile(data))

    # 512 input + 512 output values; 576 weights + 8 biases and 8 scales of 4 bytes.
    assert report.latency_ms == pytest.approx((512 + 512 + 576 + 64) / 1e3)
    assert report.kernels[0].bound == "memory"


@pytest.mark.parametrize(("bits", "stored"), [(1, 1), (2, 4), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_a_microcontroller_stores_weights_at_the_next_width_it_has(bits: int, stored: int) -> None:
    report = estimate(conv_chain((8, 8), weight_bits=bits), PROFILES["stm32h743"])

    # 576 weights; 8 biases and 8 scales of 4 bytes each.
    assert report.model_bytes == 576 * stored // 8 + 64
    assert report.kernels[0].stored_bits == stored


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_bits_that_a_cpu_cannot_store_save_nothing(bits: int) -> None:
    narrow = estimate(conv_chain(weight_bits=bits, activation_bits=bits), PROFILES["raspberry-pi-4"])
    eight = estimate(conv_chain(), PROFILES["raspberry-pi-4"])

    assert costs(narrow) == costs(eight)


def test_four_bit_weights_save_a_microcontroller_no_mac_cycles() -> None:
    model = pricer(PROFILES["stm32h743"])
    eight, four = (conv_chain((8, 8), weight_bits=bits) for bits in (8, 4))

    prices = []
    for workload in (eight, four):
        elements, sizes = model.tensors(workload)
        demand = model.demand(workload.kernels[0], elements, sizes)
        prices.append(model.model.price(workload.kernels[0], demand._replace(weight_bytes=0)))

    assert prices[0].latency_us == prices[1].latency_us


def test_a_float_network_is_not_deployable_on_a_device_without_float_arithmetic() -> None:
    data = copy.deepcopy(PROFILES["stm32h743"].to_json())
    data["formats"].pop("float_bits")

    report = estimate(float_chain(), load_profile(data))

    assert not report.deployable
    assert report.reason == "conv0: is float, and this device runs integers only"


def test_weights_beyond_flash_are_not_deployable() -> None:
    # 2048 × 2048 weights of one byte are 4 MiB; flash has 2.
    report = estimate(conv_chain((2048, 2048), size=1, kernel=1), PROFILES["stm32h743"])

    assert not report.deployable
    assert report.reason is not None
    assert report.reason.startswith("weights and code take")


def test_activations_beyond_ram_are_not_deployable() -> None:
    # Two tensors of 4 × 512 × 512 bytes are 2 MiB; RAM has 1.
    report = estimate(conv_chain((4, 4), size=512), PROFILES["stm32h743"])

    assert not report.deployable
    assert report.reason is not None
    assert report.reason.startswith("activations and runtime take")


@pytest.mark.parametrize("name", ANALYTIC)
@settings(deadline=None, max_examples=12)
@given(
    st.lists(st.integers(1, 96), min_size=2, max_size=4),
    st.integers(1, 40),
    st.integers(0, 3),
    st.sampled_from([1, 2, 3, 4, 6, 8]),
)
def test_more_channels_are_never_cheaper(name: str, channels: list[int], more: int, where: int, bits: int) -> None:
    wider = list(channels)
    wider[where % len(wider)] += more

    narrow, wide = (estimate(conv_chain(tuple(c), weight_bits=bits), PROFILES[name]) for c in (channels, wider))

    assert_never_cheaper(wide, narrow)


@pytest.mark.parametrize("name", ANALYTIC)
@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(1, 64), min_size=2, max_size=4), st.integers(1, 48), st.integers(1, 16))
def test_more_pixels_are_never_cheaper(name: str, channels: list[int], size: int, more: int) -> None:
    small, large = (estimate(conv_chain(tuple(channels), size=side), PROFILES[name]) for side in (size, size + more))

    assert_never_cheaper(large, small)


@pytest.mark.parametrize("name", ANALYTIC)
@settings(deadline=None, max_examples=12)
@given(
    st.lists(st.integers(1, 64), min_size=2, max_size=4),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.tuples(st.integers(0, 8), st.integers(0, 8)),
)
def test_more_bits_are_never_cheaper(
    name: str, channels: list[int], bits: tuple[int, int], more: tuple[int, int]
) -> None:
    few, many = (
        estimate(conv_chain(tuple(channels), weight_bits=w, activation_bits=a), PROFILES[name])
        for w, a in (bits, (min(bits[0] + more[0], 8), min(bits[1] + more[1], 8)))
    )

    assert_never_cheaper(many, few)


def test_integer_arithmetic_falls_back_to_float_where_there_is_no_integer_rate() -> None:
    data = copy.deepcopy(PROFILES["raspberry-pi-4"].to_json())
    data["model"]["rates"] = [rate for rate in data["model"]["rates"] if rate["arithmetic"] == "float"]
    profile = load_profile(data)
    binary = conv_chain((8, 8), weight_bits=1, activation_bits=1)
    xnor = replace(binary, kernels=tuple(replace(k, arithmetic=Arithmetic.BINARY) for k in binary.kernels))

    assert estimate(xnor, profile).deployable
    assert estimate(xnor, profile).latency_ms == pytest.approx(estimate(conv_chain((8, 8)), profile).latency_ms)


def test_an_expected_error_is_that_of_the_networks_it_was_found_on() -> None:
    profile = PROFILES["x86-avx512-vnni"]

    assert "leave one network out" in estimate(float_chain(), profile).expected_error
    assert estimate(conv_chain(), profile).expected_error == "not validated by measurement"


@pytest.mark.parametrize(
    "name", ["stm32h743", "nvidia-h100", "nvidia-h200", "bitfusion-45nm", "bitfusion-16nm", "eyeriss-v1", "finn-zc706"]
)
def test_a_device_without_measurements_of_its_own_says_so(name: str) -> None:
    assert estimate(conv_chain(), PROFILES[name]).expected_error == "not validated by measurement"


def test_a_network_that_a_device_refuses_is_not_priced_as_if_it_were_free() -> None:
    integer, refused = (estimate(load, PROFILES["stm32f746"]) for load in (conv_chain((16, 16)), float_chain((16, 16))))

    assert not refused.deployable
    assert refused.latency_ms >= integer.latency_ms


def test_weights_on_a_grid_bring_their_scales_even_where_the_arithmetic_is_float() -> None:
    # 8×8×9 = 576 weights in int8, 8 biases and 8 scales of four bytes each; as float32 4 × 576 and the biases.
    alone = conv_chain((8, 8), weight_bits=8, activation_bits=32, arithmetic=Arithmetic.FLOAT)

    assert estimate(alone, PROFILES["raspberry-pi-4"]).model_bytes == 576 + 32 + 32
    assert estimate(float_chain((8, 8)), PROFILES["raspberry-pi-4"]).model_bytes == 4 * 576 + 32
