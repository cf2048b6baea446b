import torch

from compress.network.graph import Network
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure
from tests.compress.networks import images, residual

SEPARABLE = {name: OperatorChoice(operator="depthwise_separable") for name in ("a", "b")}


def test_weights_that_are_separable_are_kept_exactly() -> None:
    network = residual()
    generator = torch.Generator().manual_seed(0)
    tensors = dict(network.tensors)
    for name in ("a.conv1.weight", "a.conv2.weight", "b.conv1.weight", "b.conv2.weight"):
        outputs, inputs, *kernel = tensors[name].shape
        mix = torch.randn(outputs, inputs, 1, 1, generator=generator)
        tensors[name] = mix * torch.randn(1, inputs, *kernel, generator=generator)
    separable = Network(graph=network.graph, tensors=tensors)

    changed = restructure(separable, Plan(operators=SEPARABLE), structure=analyse(separable))

    torch.testing.assert_close(
        run(changed, images(network))[0], run(separable, images(network))[0], rtol=1e-3, atol=1e-3
    )


def test_layers_have_the_weights_of_a_kernel_per_channel_and_a_mix() -> None:
    network = residual()

    changed = restructure(network, Plan(operators=SEPARABLE), structure=analyse(network))

    assert changed.tensors["b.conv1/depthwise.weight"].shape == (4, 1, 3, 3)
    assert changed.tensors["b.conv1/pointwise.weight"].shape == (8, 4, 1, 1)
    assert changed.graph.node("b.conv1/depthwise").attributes["stride"] == (2, 2)
    assert changed.graph.node("b.conv1/pointwise").attributes["stride"] == (1, 1)


def test_cut_channels_leave_both_layers() -> None:
    network = residual()
    structure = analyse(network)
    plan = Plan(operators=SEPARABLE, keep_ratios={"a.conv1": 0.5})

    changed = restructure(network, plan, structure=structure)

    # 6 channels between the layers of block a, 3 stay
    assert changed.tensors["a.conv1/pointwise.weight"].shape == (3, 4, 1, 1)
    assert changed.tensors["a.conv2/depthwise.weight"].shape == (3, 1, 3, 3)
    assert changed.tensors["a.conv2/pointwise.weight"].shape == (4, 3, 1, 1)
    assert changed.graph.node("a.conv2/depthwise").attributes["groups"] == 3
