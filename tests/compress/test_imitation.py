from dataclasses import replace

import pytest
import torch

from compress.imitation import BlockFeatures, ImitationSettings, Imitator, normalised_error, trainable
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, full_key, restructure
from tests.compress.networks import images, projected, residual

QUICK = ImitationSettings(steps=30, batch=16, feature_bytes=1 << 20)
SEPARABLE = OperatorChoice(operator="depthwise_separable")


def test_an_imitating_replacement_is_nearer_to_its_block_than_before() -> None:
    network = residual()
    imitator = Imitator(network, analyse(network), images(network, 64), QUICK)

    found = imitator.imitate("b", SEPARABLE)

    assert 0 < found.error_after < 0.8 * found.error_before
    assert "b.conv1/depthwise.weight" in found.tensors


def test_errors_are_those_of_images_that_were_not_trained_on() -> None:
    network = residual()
    structure = analyse(network)
    features = BlockFeatures(structure.prepared(network).folded, structure.blocks, images(network, 64), QUICK)

    assert features.training("a.relu2").shape == (56, 4, 8, 8)
    assert features.held_out("a.relu2").shape == (8, 4, 8, 8)


def test_features_are_what_the_float_network_computes() -> None:
    network = residual()
    structure = analyse(network)
    shown = images(network, 20)
    features = BlockFeatures(structure.prepared(network).folded, structure.blocks[1:], shown, QUICK)
    seen: dict[str, torch.Tensor] = {}

    run(network, shown, lambda name, node, value: seen.setdefault(name, value))

    kept = torch.cat([features.training("b.relu2"), features.held_out("b.relu2")])
    torch.testing.assert_close(kept, seen["b.relu2"], rtol=1e-4, atol=1e-4)


def test_the_byte_limit_decides_how_many_images_are_recorded() -> None:
    network = residual()
    structure = analyse(network)
    # block b reads 4 channels of 8×8 and writes 8 of 4×4: 384 float32 values an image
    settings = replace(QUICK, feature_bytes=384 * 4 * 10)

    features = BlockFeatures(structure.prepared(network).folded, structure.blocks[1:], images(network, 64), settings)

    assert features.images == 10


def test_the_same_seed_gives_the_same_tensors_and_another_one_others() -> None:
    network = residual()
    structure, shown = analyse(network), images(network, 64)

    first, second, other = (
        Imitator(network, structure, shown, replace(QUICK, steps=4, seed=seed)).imitate("a", SEPARABLE).tensors
        for seed in (0, 0, 1)
    )

    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_plans_pick_what_imitation_has_found() -> None:
    network = residual()
    structure, shown = analyse(network), images(network, 64)
    plan = Plan(operators={"b": SEPARABLE})
    before = restructure(network, plan, structure=structure)
    found = Imitator(network, structure, shown, QUICK).imitate("b", SEPARABLE)

    structure.adopt({full_key("b", SEPARABLE): found.tensors})
    after = restructure(network, plan, structure=structure)

    assert torch.equal(after.tensors["b.conv1/depthwise.weight"], found.tensors["b.conv1/depthwise.weight"])
    assert not torch.equal(after.tensors["b.conv1/depthwise.weight"], before.tensors["b.conv1/depthwise.weight"])
    assert torch.equal(
        restructure(network, Plan(), structure=structure).tensors["a.conv1.weight"], before.tensors["a.conv1.weight"]
    )
    restructure(network.to_meta(), plan, structure=structure)


def test_a_choice_with_its_defaults_spelled_out_is_the_same_choice() -> None:
    default, spelled = (
        OperatorChoice(operator="c_ghost"),
        OperatorChoice(operator="c_ghost", parameters={"ratio": 2}),
    )

    assert full_key("a", default) == full_key("a", spelled)


def test_a_tensor_that_other_blocks_use_too_is_not_trained() -> None:
    network = residual()
    structure = analyse(network)
    block = structure.block("a")
    folded = structure.prepared(network).folded
    original = structure.prepared(network).replacement("a", OperatorChoice())
    shared = replace(
        folded,
        graph=folded.graph.with_nodes(
            [
                replace(node, parameters={**node.parameters, "weight": "a.conv1.weight"})
                if node.name == "stem.conv"
                else node
                for node in folded.graph.nodes
            ]
        ),
    )

    assert "a.conv1.weight" in trainable(block, folded, original)
    assert "a.conv1.weight" not in trainable(block, shared, original)


def test_a_projection_that_stays_in_a_skipped_block_learns_to_do_without_the_main_path() -> None:
    network = projected()
    skip = OperatorChoice(operator="skip")

    found = Imitator(network, analyse(network), images(network, 64), QUICK).imitate("b", skip)

    assert set(found.tensors) == {"b.conv3.weight", "b.bn3.bias"}
    assert found.error_after < found.error_before


def test_nothing_is_trained_where_nothing_is_left() -> None:
    network = residual()

    found = Imitator(network, analyse(network), images(network, 8), QUICK).imitate("a", OperatorChoice(operator="skip"))

    assert found.tensors == {}


def test_predicting_each_channels_mean_has_error_one() -> None:
    values = torch.tensor([[[0.0, 2.0]], [[4.0, 6.0]]])  # one channel: mean 3, variance (9 + 1 + 1 + 9) / 4 = 5

    error = normalised_error(torch.full_like(values, 3.0), values, torch.tensor(5.0).sqrt())

    assert float(error) == pytest.approx(1.0)


def test_an_exact_replacement_is_left_alone() -> None:
    network = residual()
    original = OperatorChoice()

    found = Imitator(network, analyse(network), images(network, 16), QUICK).imitate("a", original)

    assert found.tensors == {}
    assert found.error_after == found.error_before < 1e-9
