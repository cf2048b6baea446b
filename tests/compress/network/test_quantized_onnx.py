from pathlib import Path

import numpy as np
import pytest

from compress.network.quantized_onnx import read_any_onnx
from compress.structure import analyse, restructure
from compress.workload import workload
from hwmodels.errors import InputError
from hwmodels.measure.graphs import GraphWriter
from hwmodels.workload import Arithmetic, Workload


def written(path: Path, *, int8: bool) -> Workload:
    writer = GraphWriter((3, 16, 16), int8=int8, generator=np.random.default_rng(0))
    first = writer.pool(writer.conv(writer.input, 16, activation="relu"), 2, 2)
    back = writer.conv(writer.conv(first, 16, activation="relu"), 16)
    last = writer.linear(writer.global_pool(writer.add(back, first)), 10)
    path.write_bytes(writer.model(last))
    return writer.workload(last)


def read(path: Path) -> Workload:
    network, plan = read_any_onnx(path)
    return workload(restructure(network.to_meta(), plan, structure=analyse(network)), plan)


@pytest.mark.parametrize(("int8", "arithmetic"), [(True, Arithmetic.INTEGER), (False, Arithmetic.FLOAT)])
def test_a_file_asks_for_what_it_was_written_with(tmp_path: Path, int8: bool, arithmetic: Arithmetic) -> None:
    expected = written(tmp_path / "network.onnx", int8=int8)

    found = read(tmp_path / "network.onnx")

    assert found.macs == expected.macs
    weighted = [
        (k.kind, k.in_channels, k.out_channels, k.weight_bits, k.activation_bits) for k in found.kernels if k.macs
    ]
    told = [
        (k.kind, k.in_channels, k.out_channels, k.weight_bits, k.activation_bits) for k in expected.kernels if k.macs
    ]
    assert weighted == told
    assert {kernel.arithmetic for kernel in found.kernels if kernel.macs} == {arithmetic}


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")

    with pytest.raises(InputError, match="must be an ONNX file"):
        read_any_onnx(tmp_path / "text.onnx")
