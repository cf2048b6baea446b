"""torch-pruning's dependency graph as a second opinion on which layers hang together.

Left out are networks in which it loses couplings: channel shuffles, and depthwise convolutions with several outputs
per channel. Indices are not compared: it carries them through slices and paddings unchanged.
"""

import pytest
import torch
import torch_pruning
from torch import nn

from compress.network.build import build_module
from compress.network.graph import Network
from compress.structure import channel_groups
from tests.compress.networks import NETWORKS

_CUTS = {nn.Conv2d: "prune_conv_out_channels", nn.ConvTranspose2d: "prune_conv_out_channels"}


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"shuffled", "inverted"}))
def test_layers_are_coupled_as_torch_pruning_couples_them(name: str) -> None:
    network = NETWORKS[name]()
    ours: dict[str, set[str]] = {}
    for group in channel_groups(network).groups:
        together = set(group.layers).union(*(ours.get(layer, ()) for layer in group.layers))
        ours.update(dict.fromkeys(together, together))

    theirs = _coupled(network)

    assert {layer: theirs[layer] for layer in ours} == ours


def _coupled(network: Network) -> dict[str, set[str]]:
    """Return for every layer the layers whose output channels go with its first one."""
    module = build_module(network.to_meta())
    image = torch.empty(network.graph.shapes["x"], device="meta")
    graph = torch_pruning.DependencyGraph().build_dependency(module, image, verbose=False)
    weighted = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    names = {module.get_submodule(path): name for name, path in module.meta["layers"].items()}
    layers = {part: name for part, name in names.items() if isinstance(part, weighted)}
    found = {}
    for part, name in layers.items():
        cut = getattr(torch_pruning, _CUTS.get(type(part), "prune_linear_out_channels"))
        items = graph.get_pruning_group(part, cut, idxs=[0])
        found[name] = {
            layers[item.dep.target.module]
            for item in items
            if item.dep.target.module in layers and "out_channels" in item.dep.handler.__name__
        }
    return found
