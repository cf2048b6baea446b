import numpy as np
import pytest
import torch

from compress.network.build import run_shapes
from compress.network.graph import Network
from compress.operators import OPERATORS
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import Structure, analyse, restructure
from tests.compress.networks import NETWORKS, attentive, images, projected, residual

_BLOCKY = {"residual": residual, "projected": projected, "attentive": attentive}


def _cases() -> list[tuple[str, str, str]]:
    """Every operator with every block that it fits."""
    cases = []
    for name, build in _BLOCKY.items():
        network = build()
        folded = analyse(network).prepared(network).folded
        for block in analyse(network).blocks:
            fitting = [op for op in OPERATORS.names() if OPERATORS.get(op).fits(block, folded) is None]
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
    network = NETWORKS[name]()
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
    network = NETWORKS[name]()
    structure = analyse(network)
    plan = _plan(operator, block, structure, ratio)
    scores = {group.name: torch.arange(group.channels).flip(0) for group in structure.groups.groups}

    changed = restructure(network, plan, structure=structure, scores=scores)

    _same_shapes(changed, restructure(network.to_meta(), plan, structure=structure))
    assert run(changed, images(network))[0].shape == (2, 3)


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
def test_building_again_gives_the_same_weights(operator: str, name: str, block: str) -> None:
    network = NETWORKS[name]()

    first, second = (restructure(network, _plan(operator, block), structure=analyse(network)) for _ in range(2))

    assert first.graph == second.graph
    assert all(torch.equal(tensor, second.tensors[key]) for key, tensor in first.tensors.items())


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
def test_new_layers_are_named_after_the_layer_in_whose_place_they_stand(operator: str, name: str, block: str) -> None:
    network = NETWORKS[name]()
    layers = {node.name for node in network.graph.nodes}

    changed = restructure(network, _plan(operator, block), structure=analyse(network))

    names = [node.name for node in changed.graph.nodes]
    assert len(names) == len(set(names))
    assert all(node in layers or node.rpartition("/")[0] in layers for node in names)


@pytest.mark.parametrize(("operator", "name", "block"), _cases())
@pytest.mark.parametrize("position", [0, -1])
def test_every_offered_parameter_builds(operator: str, name: str, block: str, position: int) -> None:
    network = NETWORKS[name]()
    offered = OPERATORS.get(operator).parameters
    assert all(len(set(values)) == len(values) > 0 for values in offered.values())
    choice = OperatorChoice(operator=operator, parameters={key: values[position] for key, values in offered.items()})

    changed = restructure(network, Plan(operators={block: choice}), structure=analyse(network))

    assert np.isfinite(run(changed, images(network))[0].numpy()).all()
