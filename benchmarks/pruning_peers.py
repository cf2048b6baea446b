"""torch-pruning on the same network, counted by the same rule: its criteria in one shot, local and global.

Only channels within residual blocks are offered to it. It carries indices through a shortcut that pads channels
unchanged, and so would cut other channels of the sum than of the shortcut; without that, its results are better.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
import torch_pruning
from torch import Tensor, fx, nn

from compress.network.build import build_module, run_shapes
from compress.network.graph import Network
from compress.plan import Plan
from compress.workload import workload

Criterion = Callable[[], object]

CRITERIA: Mapping[str, Criterion] = {
    "L1 norm": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "L2 norm": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "batch-norm scale": torch_pruning.importance.BNScaleImportance,
    "LAMP": torch_pruning.importance.LAMPImportance,
    "geometric median": torch_pruning.importance.FPGMImportance,
    "Taylor": torch_pruning.importance.GroupTaylorImportance,
}
STEPS = 100  # in which all channels would go
MOST = 0.9  # of a layer's channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A network that torch-pruning has cut."""

    criterion: str
    scope: str
    network: Network
    macs: int


def peers(network: Network, images: Tensor, labels: Tensor, *, inner: set[str], budget: int) -> list[Peer]:
    """Return what each criterion, local and global, leaves of ``network`` within ``budget`` multiply-accumulates.

    Args:
        network: The float network, batch norm not folded.
        images: Training images for the criterion that wants gradients.
        labels: Theirs.
        inner: Layers whose output channels may be cut.
        budget: Of convolutions and linear layers.
    """
    found = []
    for criterion in CRITERIA:
        for scope in ("local", "global"):
            cut = _cut(network, criterion, scope, images, labels, inner, budget)
            found.append(Peer(criterion=criterion, scope=scope, network=cut, macs=_macs(cut)))
    return found


def re_estimated(network: Network, images: Tensor, *, batch_size: int = 250) -> Network:
    """Return the network with its batch-norm statistics averaged over batches of ``images``."""
    module = build_module(replace(network, tensors={name: tensor.clone() for name, tensor in network.tensors.items()}))
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    module.train()
    with torch.no_grad():
        for number, batch in enumerate(torch.split(images, batch_size), start=1):
            for norm in norms:
                norm.momentum = 1 / number  # the mean over all batches so far
            module(batch)
    return _network(module.eval(), network)


def _cut(
    network: Network, criterion: str, scope: str, images: Tensor, labels: Tensor, inner: set[str], budget: int
) -> Network:
    """Cut by hundredths until the budget holds; nothing is trained or estimated between the steps."""
    module = deepcopy(build_module(network))
    layers = {module.get_submodule(path): name for name, path in module.meta["layers"].items()}
    ignored = [part for part, name in layers.items() if isinstance(part, nn.Conv2d | nn.Linear) and name not in inner]
    pruner = torch_pruning.pruner.BasePruner(
        module,
        images[:1],
        importance=CRITERIA[criterion](),
        global_pruning=scope == "global",
        pruning_ratio=1.0,
        max_pruning_ratio=MOST,
        iterative_steps=STEPS,
        ignored_layers=ignored,
    )
    if criterion == "Taylor":
        F.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
    cut = network
    while _macs(cut) > budget:
        before = _macs(cut)
        pruner.step()
        cut = _network(module, network)
        if pruner.current_step >= STEPS and _macs(cut) == before:
            raise ValueError(f"{criterion} ({scope}) does not reach {budget} multiply-accumulates")
    return cut


def _network(module: fx.GraphModule, original: Network) -> Network:
    """Return the network that a module of ``build_module`` has become."""
    tensors = dict(original.tensors)
    for node in original.graph.nodes:
        if node.parameters:
            part = module.get_submodule(module.meta["layers"][node.name])
            tensors.update({tensor: getattr(part, role).detach() for role, tensor in node.parameters.items()})
    changed = Network(graph=original.graph, tensors=tensors)
    return Network(graph=run_shapes(changed), tensors=tensors)


def _macs(network: Network) -> int:
    return workload(network.to_meta(), Plan()).macs
