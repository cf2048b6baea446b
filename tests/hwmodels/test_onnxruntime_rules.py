from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hwmodels.builder import WorkloadBuilder
from hwmodels.measure.graphs import GraphWriter
from hwmodels.measure.sampling import random_network
from hwmodels.measure.session import launches
from hwmodels.measure.traces import kernel_measurements
from hwmodels.onnxruntime_rules import as_onnxruntime_runs
from hwmodels.workload import Workload

CONVOLUTIONS = {"Conv", "FusedConv", "QLinearConv", "NhwcFusedConv"}


def optimized(model: bytes, folder: Path) -> Counter[str]:
    """Return how many nodes of each operator ONNX Runtime itself leaves."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def residual(*, int8: bool) -> tuple[bytes, Workload]:
    writer = GraphWriter((3, 16, 16), int8=int8, generator=np.random.default_rng(0))
    first = writer.conv(writer.input, 32, activation="relu")
    back = writer.conv(writer.conv(first, 32, activation="relu"), 32)
    last = writer.linear(writer.global_pool(writer.add(back, first, activation="relu")), 10)
    return writer.model(last), writer.workload(last)


def test_a_float_residual_block_is_as_many_launches_as_the_runtime_makes(tmp_path: Path) -> None:
    model, workload = residual(int8=False)
    theirs = optimized(model, tmp_path)

    ours = Counter(kernel.op for kernel in as_onnxruntime_runs(workload).kernels)

    # The addition and the activation behind it are part of the third convolution.
    assert ours == {"conv": 2, "conv+add": 1, "global_avg_pool": 1, "linear": 1}
    assert sum(theirs[name] for name in CONVOLUTIONS) == 3
    assert theirs["Add"] == theirs["Relu"] == 0


def test_an_integer_residual_block_keeps_its_addition_and_quantizes_its_input(tmp_path: Path) -> None:
    model, workload = residual(int8=True)
    theirs = optimized(model, tmp_path)

    ours = Counter(kernel.op for kernel in as_onnxruntime_runs(workload).kernels)

    assert ours == {"quantize": 1, "reorder": 1, "conv": 3, "add": 1, "global_avg_pool": 1, "linear": 1}
    assert (theirs["QuantizeLinear"], theirs["QLinearConv"], theirs["QLinearAdd"], theirs["QGemm"]) == (1, 3, 1, 1)


def test_a_gate_is_multiplied_in_planes_and_blocks_are_made_again_behind_it() -> None:
    build = WorkloadBuilder((3, 32, 32))
    scaled = build.squeeze_excite(build.conv(build.input, 32), 8)
    workload = build.build(build.conv(scaled, 32))

    kernels = as_onnxruntime_runs(workload).kernels

    # The large operand leaves the blocks; the gate has one pixel; the product goes back into blocks.
    assert [k.inputs[0] for k in kernels if k.op == "reorder"] == ["conv0_out", "mul4_out"]
    assert all(k.inputs == k.outputs for k in kernels if k.op == "reorder")


@pytest.mark.parametrize(("bits", "reordered"), [(8, ["input"]), (32, ["conv0_out", "pad3_out"])])
def test_a_sliced_and_padded_shortcut_leaves_channels_last_but_no_blocks(bits: int, reordered: list[str]) -> None:
    build = WorkloadBuilder((3, 32, 32), weight_bits=bits, activation_bits=bits)
    trunk = build.conv(build.input, 32)
    back = build.conv(trunk, 64, stride=2)
    shortcut = build.move("pad", build.move("slice", trunk, shape=(32, 16, 16)), shape=(64, 16, 16))
    workload = build.build(build.conv(build.add(back, shortcut), 64))

    kernels = as_onnxruntime_runs(workload).kernels

    # In float the trunk leaves the blocks for the slice, and the padded shortcut goes into them for the sum.
    assert [kernel.inputs[0] for kernel in kernels if kernel.op == "reorder"] == reordered


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("int8", [False, True])
def test_every_launch_of_a_random_network_is_traced_to_a_kernel(int8: bool, small: bool) -> None:
    name, model, workload = random_network(0, int8=int8, small=small)

    found = list(kernel_measurements(workload, launches(model, runs=1)))

    weighted = [kernel for kernel in workload.kernels if kernel.macs]
    assert len([row for row in found if row.kernel.macs]) == len(weighted), name
    assert all(row.latency_us > 0 for row in found)
