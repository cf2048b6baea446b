import torch
from torch import Tensor

from compress.network.build import build_module
from compress.network.graph import Node
from compress.runner import run
from tests.compress.networks import images, residual, shuffled


def test_a_run_without_hooks_is_the_module() -> None:
    network = shuffled()

    (found,) = run(network, images(network))

    torch.testing.assert_close(found, build_module(network)(images(network)))


def test_hooks_see_every_value_once_in_order() -> None:
    network = residual()
    seen: list[str] = []

    def remember(name: str, node: Node | None, value: Tensor) -> Tensor:
        seen.append(name)
        return value

    run(network, images(network), remember)

    assert seen == ["x", *(value for node in network.graph.nodes for value in node.outputs)]


def test_later_nodes_and_hooks_read_what_a_hook_returns() -> None:
    network = residual()
    means: list[float] = []

    def silence(name: str, node: Node | None, value: Tensor) -> Tensor:
        return torch.zeros_like(value) if name == "flatten" else value

    def measure(name: str, node: Node | None, value: Tensor) -> Tensor:
        if name == "flatten":
            means.append(float(value.abs().mean()))
        return value

    (output,) = run(network, images(network), silence, measure)

    assert means == [0.0]
    torch.testing.assert_close(output, network.tensors["head.bias"].expand(2, -1))
