from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compress.apply import apply, prepare
from compress.checkpoint import load, packed_bytes, save
from compress.export import export_onnx
from compress.imitation import ImitationSettings, Imitator
from compress.network.build import run_shapes
from compress.network.graph import Network
from compress.network.stages import STAGE
from compress.operators import OPERATORS
from compress.plan import LayerBits, OperatorChoice, Plan
from compress.runner import run
from compress.structure import Structure, analyse, restructure
from tests.compress.networks import Builder, attentive, images, projected, residual


def wide() -> Network:
    """A unit of sixteen channels between convolutions."""
    net = Builder(3, 6, 6)
    entry = net.op("stem.relu", "relu", net.norm("stem.bn", net.conv("stem.conv", "x", (3, 16), bias=False), 16))
    inner = net.op("a.relu1", "relu", net.norm("a.bn1", net.conv("a.conv1", entry, (16, 16), bias=False), 16))
    inner = net.norm("a.bn2", net.conv("a.conv2", inner, (16, 16), bias=False), 16)
    value = net.op("a.relu2", "relu", net.op("a.add", "add", inner, entry))
    return net.network(net.head(net.op("last.relu", "relu", net.conv("last", value, (16, 6), kernel=1)), 6))


def enlarged() -> Network:
    """A transposed convolution with its batch norm between convolutions."""
    net = Builder(3, 5, 5)
    first = net.op("relu1", "relu", net.conv("conv1", "x", (3, 8)))
    up = net.norm("bn", net.conv("up", first, (8, 6), stride=2, transpose=True, bias=False), 6)
    return net.network(net.head(net.op("relu2", "relu", up), 6))


def staged() -> Network:
    """Three units in a row, the first of which doubles the channels."""
    net = Builder(3, 6, 6)
    value = net.op("stem.relu", "relu", net.conv("stem", "x", (3, 8)))
    width = 8
    for unit in "abc":
        inner = net.op(f"{unit}.relu1", "relu", net.conv(f"{unit}.conv1", value, (width, 16)))
        inner = net.conv(f"{unit}.conv2", inner, (16, 16))
        around = value if width == 16 else net.conv(f"{unit}.match", value, (width, 16), kernel=1)
        value, width = net.op(f"{unit}.relu2", "relu", net.op(f"{unit}.add", "add", inner, around)), 16
    return net.network(net.head(value, 16))


_BLOCKY = {
    "staged": staged,
    "residual": residual,
    "projected": projected,
    "wide": wide,
    "attentive": attentive,
    "enlarged": enlarged,
}


def _cases() -> list[tuple[str, str, str]]:
    """Every operator with every block that it fits."""
    cases = []
    for name, build in _BLOCKY.items():
        network = build()
        folded = analyse(network).prepared(network).folded
        structure = analyse(network)
        for block in (*structure.blocks, *structure.stages):
            fitting = [
                op
                for op in OPERATORS.names()
                if OPERATORS.get(op).whole_stages == (block.kind == STAGE)
                and OPERATORS.get(op).fits(block, folded) is None
            ]
            cases += [(operator, name, block.name) for operator in fitting]
    return cases


def _same_shapes(network: Network, meta: Network) -> None:
    assert dict(network.graph.shapes) == dict(meta.graph.shapes) == dict(run_shapes(meta).shapes)
    assert {n: tuple(t.shape) for n, t in network.tensors.items()} == {
        n: tuple(t.shape) for n, t in meta.tensors.items()
    }


def _plan(operator: str, block: str, structure: Structure | None = None, ratio: float = 1.0) -> Plan:
    groups = structure.groups.groups if structure else ()
    return Plan(
        operators={block: OperatorChoice(operator=operator)}, keep_ratios={group.name: ratio for group in groups}
    )


def test_every_operator_fits_some_block_here() -> None:
    assert {operator for operator, _, _ in _cases()} == set(OPERATORS.names())


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
def test_a_replaced_block_keeps_the_networks_interface(operator: str, name: str, block: str) -> None:
    network = _BLOCKY[name]()
    structure = analyse(network)

    changed = restructure(network, _plan(operator, block), structure=structure)

    (output,) = run(changed, images(network))
    assert output.shape == (2, 3)
    assert bool(torch.isfinite(output).all())
    assert changed.graph.inputs == network.graph.inputs
    assert set(changed.tensors) == {
        tensor for node in changed.graph.nodes for tensor in (*node.parameters.values(), *node.inputs)
    } & set(changed.tensors)


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_shapes_on_meta_are_those_of_the_real_network(operator: str, name: str, block: str, ratio: float) -> None:
    network = _BLOCKY[name]()
    structure = analyse(network)
    plan = _plan(operator, block, structure, ratio)
    scores = {group.name: torch.arange(group.channels).flip(0) for group in structure.groups.groups}

    changed = restructure(network, plan, structure=structure, scores=scores)

    _same_shapes(changed, restructure(network.to_meta(), plan, structure=structure))
    assert run(changed, images(network))[0].shape == (2, 3)


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
def test_building_again_gives_the_same_weights(operator: str, name: str, block: str) -> None:
    network = _BLOCKY[name]()

    first, second = (restructure(network, _plan(operator, block), structure=analyse(network)) for _ in range(2))

    assert first.graph == second.graph
    assert all(torch.equal(tensor, second.tensors[key]) for key, tensor in first.tensors.items())


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
def test_new_layers_are_named_after_the_layer_in_whose_place_they_stand(operator: str, name: str, block: str) -> None:
    network = _BLOCKY[name]()
    layers = {node.name for node in network.graph.nodes}

    changed = restructure(network, _plan(operator, block), structure=analyse(network))

    names = [node.name for node in changed.graph.nodes]
    assert len(names) == len(set(names))
    assert all(node in layers or node.rpartition("/")[0] in layers for node in names)


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
@pytest.mark.parametrize("position", [0, -1])
def test_every_offered_parameter_builds(operator: str, name: str, block: str, position: int) -> None:
    network = _BLOCKY[name]()
    offered = OPERATORS.get(operator).parameters
    assert all(len(set(values)) == len(values) > 0 for values in offered.values())
    choice = OperatorChoice(operator=operator, parameters={key: values[position] for key, values in offered.items()})

    changed = restructure(network, Plan(operators={block: choice}), structure=analyse(network))

    assert np.isfinite(run(changed, images(network))[0].numpy()).all()


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
def test_a_replacement_with_cut_channels_and_bits_survives_packing_and_export(
    operator: str, name: str, block: str, tmp_path: Path
) -> None:
    network = _BLOCKY[name]()
    structure = analyse(network)
    shape_plan = _plan(operator, block, structure, 0.5)
    layers = [node.name for node in restructure(network.to_meta(), shape_plan, structure=structure).graph.nodes]
    bits = LayerBits(weight_bits=8, activation_bits=8)
    plan = replace(shape_plan, layers=dict.fromkeys(layers, bits))
    compressed = apply(prepare(network, images(network, 16), structure=structure), plan)
    shown = images(network, 8, seed=5)
    expected = run(compressed.network, shown)[0]

    save(compressed, tmp_path / "checkpoint", {})
    export_onnx(compressed, tmp_path / "model.onnx")

    torch.testing.assert_close(load(tmp_path / "checkpoint")(shown), expected, rtol=1e-4, atol=1e-4)
    size = (tmp_path / "checkpoint" / "model.safetensors").stat().st_size
    assert size == packed_bytes(restructure(network.to_meta(), plan, structure=structure), plan)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: shown.numpy()})
    # a value on the border between two codes may fall either way
    assert float((torch.from_numpy(found) - expected).abs().mean()) < 0.05 * float(expected.abs().mean())


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
def test_training_a_replacement_never_makes_it_worse(operator: str, name: str, block: str) -> None:
    network = _BLOCKY[name]()
    settings = ImitationSettings(steps=8, batch=16)

    found = Imitator(network, analyse(network), images(network, 24), settings).imitate(
        block, OperatorChoice(operator=operator)
    )

    assert not found.error_after > found.error_before
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.tensors.values())
