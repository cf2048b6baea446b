import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.bitfusion import bitfusion_cycles, parallel_factor
from hwmodels.bitserial import bitserial_cycles
from hwmodels.calibrate import Measurement
from hwmodels.cost_model import COST_MODELS, CostModel, CostModelRegistry
from hwmodels.dataflow import DataflowModel, layer_cycles
from hwmodels.estimate import estimate, pricer
from hwmodels.lookup import LookupMissError
from hwmodels.parameter_cliff import ParameterCliffModel
from hwmodels.predictor import KernelMeasurement, fit_regressors
from hwmodels.profile import Profile, builtin_profiles, load_profile
from hwmodels.systolic import mapping_efficiency, systolic_cycles
from hwmodels.table_fit import fit_table
from hwmodels.traffic import LayerTraffic, dram_bits
from hwmodels.workload import KernelKind, Workload
from tests.hwmodels.networks import conv_chain, float_chain

PROFILES = builtin_profiles()


# SCALE-Sim 2 reports these: array, GEMM (M, N, K), cycles.
@pytest.mark.parametrize(
    ("dataflow", "shape", "gemm", "cycles"),
    [
        ("output_stationary", (8, 8), (20, 13, 30), 263),
        ("output_stationary", (4, 16), (7, 100, 17), 489),
        ("weight_stationary", (16, 4), (196, 24, 144), 12419),
        ("weight_stationary", (32, 32), (3025, 96, 363), 112283),
        ("input_stationary", (8, 8), (196, 24, 144), 20699),
        ("input_stationary", (4, 16), (20, 13, 30), 559),
    ],
)
def test_systolic_cycles_are_the_simulators(
    dataflow: Any, shape: tuple[int, int], gemm: tuple[int, int, int], cycles: int
) -> None:
    assert systolic_cycles(*gemm, rows=shape[0], columns=shape[1], dataflow=dataflow) == cycles


def test_a_partial_fold_wastes_the_rest_of_the_array() -> None:
    # 20×13 outputs on 8×8: 3 × 2 folds of 64 places hold 260 values.
    efficiency = mapping_efficiency(20, 13, 30, rows=8, columns=8, dataflow="output_stationary")

    assert efficiency == pytest.approx(260 / 384)


# The public Bit Fusion simulator: 16 images, 16×32 units.
@pytest.mark.parametrize(
    ("pixels", "inside", "outside", "window", "bits", "im2col", "cycles"),
    [
        (28 * 28, 96, 256, 25, 4, False, 5017600),
        (55 * 55, 3, 96, 121, 8, True, 3339600),
        (1, 8192, 1000, 1, 8, False, 262144),
        (1, 18432, 8192, 1, 4, False, 1179648),
    ],
)
def test_bit_fusion_cycles_are_the_simulators(
    pixels: int, inside: int, outside: int, window: int, bits: int, im2col: bool, cycles: int
) -> None:
    got = bitfusion_cycles(
        pixels=16 * pixels,
        in_channels=inside,
        out_channels=outside,
        window=window,
        weight_bits=bits,
        activation_bits=bits,
        rows=16,
        columns=32,
        im2col=im2col,
    )

    assert got == cycles


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "products"),
    [(2, 2, 16), (1, 1, 16), (3, 4, 4), (4, 8, 2), (8, 8, 1), (16, 8, 0.5), (16, 16, 0.25)],
)
def test_a_fusion_unit_splits_by_the_next_power_of_two(weight_bits: int, activation_bits: int, products: float) -> None:
    assert parallel_factor(weight_bits, activation_bits) == products


def test_bit_serial_cycles_are_linear_in_each_width() -> None:
    def cycles(weight_bits: int, activation_bits: int, serial: Any) -> int:
        return bitserial_cycles(
            64, 64, 512, weight_bits=weight_bits, activation_bits=activation_bits, shape=(8, 8, 256), serial=serial
        )

    # 8 × 8 × 2 passes.
    assert cycles(1, 1, "both") == 128
    assert cycles(3, 5, "both") == 128 * 15
    assert cycles(3, 5, "activations") == 128 * 5


def test_a_dataflow_layer_takes_its_folds() -> None:
    # 30×30 pixels, 27 inputs by 3 lanes, 64 channels by 16 engines: 900 × 9 × 4.
    assert layer_cycles(900, 27, 64, simd=3, pe=16) == 32_400


def test_the_latency_of_a_pipeline_of_equal_fully_connected_layers_is_a_whole_interval_each() -> None:
    profile = PROFILES["finn-zc706"]
    network = conv_chain((256, 256, 256, 256), size=1, kernel=1, weight_bits=1, activation_bits=1)
    network = replace(network, kernels=tuple(replace(k, kind=KernelKind.LINEAR) for k in network.kernels))
    model = pricer(profile).model
    assert isinstance(model, DataflowModel)

    report = estimate(network, profile)

    # 3 × 65,536 products over 6200 per cycle at 0.2 GHz are 0.1585 µs; three layers wait for all of it.
    assert model.interval_us(network.kernels) == pytest.approx(3 * 65_536 / 6200 / 200)
    assert report.latency_ms == pytest.approx(3 * 3 * 65_536 / 6200 / 200 / 1e3)


def test_weights_beyond_the_on_chip_memory_cross_the_link() -> None:
    profile = PROFILES["edge-tpu-usb"]
    small, large = (conv_chain((2048, channels), size=1, kernel=1) for channels in (2048, 8192))
    model = pricer(profile).model
    assert isinstance(model, ParameterCliffModel)

    streamed = [model.streamed_bytes(float(estimate(workload, profile).model_bytes)) for workload in (small, large)]

    # 2048 × 8192 bytes, and a bias and a scale of 4 bytes for each channel, are 16 MiB + 64 KiB: 8 MiB stay.
    assert streamed == [0, 8 * 2**20 + 65_536]
    assert estimate(large, profile).overhead_ms > estimate(small, profile).overhead_ms + 8 * 2**20 / 0.32e6 * 0.99


def traffic(**changes: int) -> LayerTraffic:
    base = {
        "weight_bits": 8 * 64 * 64,
        "input_bits": 8 * 64 * 1024,
        "output_bits": 8 * 64 * 1024,
        "out_channels": 64,
        "pixels": 1024,
        "window_rows": 1,
        "input_row_bits": 8 * 64 * 32,
        "row_pixels": 32,
    }
    return LayerTraffic(**{**base, **changes})


def test_data_that_fit_cross_the_border_once() -> None:
    layer = traffic()

    assert dram_bits(layer, 1e9) == layer.weight_bits + layer.input_bits + layer.output_bits


def test_weights_that_do_not_fit_are_read_again_or_the_inputs_are() -> None:
    layer = traffic()
    least = layer.weight_bits + layer.input_bits + layer.output_bits

    assert least < dram_bits(layer, 24 * 1024) < 4 * least


@given(st.integers(12, 26), st.integers(0, 4))
def test_a_larger_memory_never_needs_more_traffic(power: int, more: int) -> None:
    assert dram_bits(traffic(), 2 ** (power + more)) <= dram_bits(traffic(), 2**power)


def lookup_profile(workload: Workload, *, latency_us: float = 7.0) -> Profile:
    data = copy.deepcopy(PROFILES["raspberry-pi-4"].to_json())
    fitted = fit_table(
        load_profile(data),
        [Measurement(network=str(i), workload=workload, latency_ms=latency_us * 2 / 1e3) for i in range(3)],
        source="test",
    )
    return fitted


def test_a_table_fitted_to_networks_gives_their_latency_back() -> None:
    chain = float_chain((8, 8, 8))

    report = estimate(chain, lookup_profile(chain))

    assert report.latency_ms == pytest.approx(14e-3, rel=0.01)


def test_a_kernel_that_is_not_in_the_table_is_an_error_that_names_it() -> None:
    with pytest.raises(LookupMissError, match=r"conv0: is not in the table of raspberry-pi-4"):
        estimate(float_chain((8, 9)), lookup_profile(float_chain((8, 8, 8))))


def predictor_profile() -> Profile:
    """A predictor of kernels that take 1 ns per MAC plus 5 µs, sampled over channels and sizes."""
    base = pricer(PROFILES["raspberry-pi-4"])
    measurements = []
    for channels in (4, 8, 16, 24, 32, 48, 64, 96):
        for size in (4, 8, 12, 16, 24, 32):
            workload = float_chain((channels, channels), size=size)
            elements, sizes = base.tensors(workload)
            kernel = workload.kernels[0]
            demand = base.demand(kernel, elements, sizes)
            measurements.append(KernelMeasurement(kernel=kernel, demand=demand, latency_us=kernel.macs * 1e-3 + 5.0))
    data = PROFILES["raspberry-pi-4"].to_json()
    data["family"] = "kernel_predictor"
    data["model"] = {
        "classes": {name: fitted.model_dump() for name, fitted in fit_regressors(measurements).items()},
        "fixed_us": {"value": 0, "confidence": "fitted", "source": "test"},
        "confidence": "fitted",
        "source": "test",
    }
    return load_profile(data)


def test_a_predictor_is_right_between_its_samples() -> None:
    profile = predictor_profile()

    errors = []
    for channels, size in ((6, 10), (12, 14), (20, 20), (40, 10), (56, 28), (80, 14)):
        workload = float_chain((channels, channels), size=size)
        truth = workload.macs * 1e-3 + 5.0
        errors.append(abs(estimate(workload, profile).latency_ms * 1e3 / truth - 1))

    assert np.mean(errors) < 0.05


def test_a_predictor_refuses_a_class_that_nobody_measured() -> None:
    report = estimate(conv_chain(), predictor_profile())

    assert not report.deployable
    assert report.reason is not None
    assert "no kernel of class 'conv_int8' was measured" in report.reason


def test_a_family_cannot_be_registered_twice() -> None:
    with pytest.raises(ValueError, match="'roofline' is registered twice"):
        COST_MODELS.register("roofline")(CostModel)


def test_an_installed_package_cannot_take_a_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "third_party_family-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-family\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tightfit.cost_models]\ntaken = hwmodels.roofline:RooflineModel\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = CostModelRegistry()
    registry.register("taken")(CostModel)

    with pytest.raises(ValueError, match="'taken' is registered twice"):
        registry.names()


@pytest.mark.parametrize("name", COST_MODELS.names())
def test_every_family_says_which_way_it_errs(name: str) -> None:
    text = COST_MODELS.get(name).__doc__ or ""

    assert any(word in text for word in ("too fast", "too slow", "too low", "cheaper"))


@pytest.mark.parametrize("name", ["edge-tpu-usb", "eyeriss-v1", "bitfusion-45nm", "zynq-7020", "finn-zc706", "hailo-8"])
def test_a_float_network_is_not_deployable_on_an_integer_accelerator(name: str) -> None:
    report = estimate(float_chain(), PROFILES[name])

    assert not report.deployable
    assert report.reason is not None
    assert "float" in report.reason
