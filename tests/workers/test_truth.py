import pytest

from compress.apply import apply, prepare
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.quantize import Compressed
from compress.structure import analyse
from hwmodels.profile import builtin_profiles
from tests.compress.networks import images, residual
from workers.truth import Truth, accuracy_truth, truths


def compressed(weight_bits: int, activation_bits: int, **numerics: object) -> Compressed:
    network = residual()
    bits = LayerBits(weight_bits=weight_bits, activation_bits=activation_bits)
    layers = {node.name: bits for node in network.graph.nodes if node.op in LAYER_OPS}
    prepared = prepare(network, images(network, 8), structure=analyse(network))
    return apply(prepared, Plan(layers=layers, numerics=Numerics(**numerics)))  # type: ignore[arg-type]


def row(found: list[Truth], figure: str, device: str) -> Truth:
    (only,) = (truth for truth in found if (truth.figure, truth.device) == (figure, device))
    return only


def test_the_accuracy_of_eight_bits_is_deployed() -> None:
    assert accuracy_truth(compressed(8, 8)).kind == "deployed"


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "reason"),
    [
        (3, 8, "in ONNX Runtime 3-bit weights are int8: the same values in wider numbers"),
        (8, 4, "in ONNX Runtime 4-bit activations are uint8: the same values in wider numbers"),
        (2, 5, "in ONNX Runtime 2-bit weights are int8; 5-bit activations are uint8: the same values in wider numbers"),
    ],
)
def test_the_accuracy_of_narrower_ones_is_simulated(weight_bits: int, activation_bits: int, reason: str) -> None:
    found = accuracy_truth(compressed(weight_bits, activation_bits))

    assert (found.kind, found.reason) == ("simulated", reason)


def test_a_scale_per_group_is_simulated_in_float() -> None:
    found = accuracy_truth(compressed(8, 8, weight_granularity="group"))

    assert found.kind == "simulated"
    # 27 weights in a channel of the stem and 8 in one of the head make one group each: integers
    assert "4 layers run in float with rounded weights" in found.reason


def test_costs_on_devices_are_predicted_with_their_error_and_with_what_is_rounded_up() -> None:
    profiles = {name: builtin_profiles()[name] for name in ("raspberry-pi-4", "stm32h743")}

    found = truths(compressed(3, 4), profiles)

    pi, board = (row(found, "latency_ms", name) for name in profiles)
    assert pi.kind == board.kind == "predicted"
    assert profiles["raspberry-pi-4"].expected_error("latency_ms") in pi.reason
    assert row(found, "model_bytes", "raspberry-pi-4").reason.endswith("; 3-bit weights take 8")
    assert row(found, "model_bytes", "stm32h743").reason.endswith("; 3-bit weights take 4")
    assert "4-bit activations take 8" in row(found, "peak_memory_bytes", "stm32h743").reason


def test_sizes_are_those_of_the_files() -> None:
    kinds = {truth.figure: truth.kind for truth in truths(compressed(3, 4), {})}

    assert kinds == {"accuracy": "simulated", "packed_bytes": "deployed", "onnx_bytes": "deployed"}
