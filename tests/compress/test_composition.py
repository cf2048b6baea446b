"""Operators, channels and bits of one plan together: in one order, and through packing, export and reloading."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compress.apply import Prepared, apply, prepare
from compress.checkpoint import load, packed_bytes, save
from compress.export import onnx_bytes
from compress.network.build import build_module
from compress.network.graph import Network
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, OperatorChoice, Plan
from compress.structure import analyse, restructure, restructured
from compress.workload import workload
from tests.compress.networks import Builder, images


def _network() -> Network:
    """Two residual units, a transposed convolution, and a head: each operator below has a block of its own."""
    net = Builder(3, 8, 8)
    value = net.op("stem.relu", "relu", net.norm("stem.bn", net.conv("stem.conv", "x", (3, 12), bias=False), 12))
    for unit in ("a", "b"):
        inner = net.op(
            f"{unit}.relu1",
            "relu",
            net.norm(f"{unit}.bn1", net.conv(f"{unit}.conv1", value, (12, 16), bias=False), 16),
        )
        inner = net.norm(f"{unit}.bn2", net.conv(f"{unit}.conv2", inner, (16, 12), bias=False), 12)
        value = net.op(f"{unit}.relu2", "relu", net.op(f"{unit}.add", "add", inner, value))
    up = net.norm("up.bn", net.conv("up.conv", value, (12, 8), stride=2, transpose=True, bias=False), 8)
    return net.network(net.head(net.op("up.relu", "relu", up), 8))


OPERATORS = {
    "a": OperatorChoice(operator="low_rank"),
    "b": OperatorChoice(operator="skip"),
    "up": OperatorChoice(operator="segregated"),
}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    network = _network()
    return prepare(network, images(network, 16), structure=analyse(network))


def _plan(prepared: Prepared, *, weight_bits: int, repair: str) -> Plan:
    layers = [node.name for node in prepared.network.graph.nodes if node.op in LAYER_OPS]
    return Plan(
        operators=OPERATORS,
        keep_ratios={group.name: 0.75 for group in prepared.structure.groups.groups},
        layers=dict.fromkeys(layers, LayerBits(weight_bits=weight_bits, activation_bits=8)),
        pruner="nisp",
        repair=repair,
    )


@pytest.mark.parametrize("repair", ["none", "channel_statistics", "least_squares"])
@pytest.mark.parametrize("weight_bits", [8, 4, 2])
def test_a_plan_of_everything_survives_packing_export_and_reloading(
    prepared: Prepared, weight_bits: int, repair: str, tmp_path: Path
) -> None:
    plan = _plan(prepared, weight_bits=weight_bits, repair=repair)
    meta = restructure(prepared.network.to_meta(), plan, structure=prepared.structure)

    compressed = apply(prepared, plan)
    save(compressed, tmp_path, {})

    x = images(prepared.network, 8, seed=4)
    with torch.no_grad():
        wanted = build_module(compressed.network)(x)
        assert torch.equal(load(tmp_path)(x), wanted)
    assert (tmp_path / "model.safetensors").stat().st_size == packed_bytes(meta, plan)
    assert workload(meta, plan).macs == sum(
        kernel.macs
        for kernel in workload(restructure(prepared.network, plan, structure=prepared.structure), plan).kernels
    )
    session = onnxruntime.InferenceSession(onnx_bytes(compressed), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    assert np.abs(found - wanted.numpy()).mean() < 0.03 * np.abs(wanted.numpy()).mean()


def test_every_operator_is_there_with_its_channels_cut_and_its_bits(prepared: Prepared) -> None:
    compressed = apply(prepared, _plan(prepared, weight_bits=4, repair="none"))

    coded = {name: tuple(compressed.network.tensors[name].shape) for name in compressed.coded}
    # 0.75 of the stem's 12 channels are 9, of up's 8 are 6, of a.conv1's 16 are 12 and of its 12 (rank 6) inputs 9.
    assert coded["stem.conv.weight"] == (9, 3, 3, 3)
    assert coded["a.conv1/reduce.weight"][1:] == (9, 3, 3)
    assert coded["a.conv1/expand.weight"][0] == 12
    assert {coded[f"up.conv/phase_{row}_{column}.weight"][:2] for row in (0, 1) for column in (0, 1)} == {(6, 9)}
    assert not any(name.startswith("b.conv") for name in compressed.network.tensors)


def test_operators_come_before_channels_and_folding_before_bits(prepared: Prepared) -> None:
    whole = restructure(prepared.network, Plan(operators=OPERATORS), structure=prepared.structure)
    plan = Plan(operators=OPERATORS, keep_ratios={"a.conv1": 0.5})
    result = restructured(prepared.network, plan, structure=prepared.structure, scores=prepared.scores("l2"))

    # The factors are those of the whole layer: cutting takes rows of them, and does not factor what is left anew.
    stays = torch.from_numpy(result.kept["a.conv1"])
    name = "a.conv1/expand.weight"
    assert torch.equal(result.network.tensors[name], whole.tensors[name][stays])
    compressed = apply(prepared, _plan(prepared, weight_bits=8, repair="none"))
    assert "batch_norm" not in {node.op for node in compressed.network.graph.nodes}
    folded = prepared.structure.prepared(prepared.network).folded.tensors["stem.conv.weight"]
    kept = torch.from_numpy(
        restructured(
            prepared.network, compressed.plan, structure=prepared.structure, scores=prepared.scores("nisp")
        ).kept["stem.conv"]
    )
    step = folded[kept].abs().amax((1, 2, 3), keepdim=True) / 127
    assert bool(((compressed.network.tensors["stem.conv.weight"] - folded[kept]).abs() <= step).all())
