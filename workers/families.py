"""A network and its plans in the form in which thousands of them are priced at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compress.network.graph import Network
from compress.operators.labels import operator_choice
from compress.placement import LAYER_OPS, OPERAND_OPS, PASSING_OPS
from compress.plan import LayerBits, OperatorChoice, Plan
from compress.structure import Structure, kept_channels, restructure
from compress.workload import workload
from hwmodels.alternatives import BlockEnds, Family, Plans
from hwmodels.errors import InputError
from hwmodels.workload import Workload

HALF = 0.5
SOME_BITS = 8  # of every layer of the networks that a family is made of; the plans' own replace them
ORIGINAL = operator_choice("original")

PlanData = Mapping[str, Any]


class FamilyOfPlans:
    """Turns plans (as JSON) of one network into a ``Family`` and ``Plans``.

    Args:
        network: The float network; values are not looked at.
        structure: Its channel groups and blocks.
        plans: As JSON, complete.

    Raises:
        InputError: The plans differ in more than operators, channels and bits; or operators span several blocks; or
            what an operator makes of a block is not told apart by its names.
    """

    def __init__(self, network: Network, structure: Structure, plans: Sequence[PlanData]) -> None:
        self._network = network.to_meta()
        self._structure = structure
        self._plans = plans
        self._sample = Plan.from_json({**plans[0], "operators": {}, "keep_ratios": {}, "layers": {}})
        self._quantizer = self._common_quantizer()
        self._blocks = {block.name: block for block in structure.blocks}
        self._groups = {group.name: group.channels for group in structure.groups.groups}
        self._choices = self._found_choices()

    def family(self) -> Family:
        """Return the networks with every alternative, and what joins them."""
        count = max([len(choices) for choices in self._choices.values()], default=1)
        networks, channels = [], []
        for number in range(count):
            operators = {
                block: choices[number] for block, choices in self._choices.items() if 0 < number < len(choices)
            }
            networks.append(self._workload(operators, {}))
            channels.append(self._channels(operators, networks[-1]))
        owner = {node: block.name for block in self._blocks.values() for node in block.nodes}
        layers = {kernel.name for load in networks for kernel in load.kernels if kernel.macs and kernel.weights}
        shared = self._structure.prepared(self._network).folded.graph.nodes
        free = {node.name for node in shared}
        for load in networks[1:]:
            for kernel in load.kernels:
                if kernel.name not in free and not any(kernel.name.startswith(f"{name}/") for name in owner):
                    raise InputError("operators", "must name what they add after what they replace", kernel.name)
        return Family(
            networks=tuple(networks),
            blocks={name: BlockEnds(entry=block.entry, exit=block.exit) for name, block in self._blocks.items()},
            owner=owner,
            channels=tuple(channels),
            group_sizes=self._groups,
            layers=frozenset(layers),
            operands=OPERAND_OPS,
            passing=PASSING_OPS | {"concat"},
            other_bits=self._sample.numerics.other_bits,
        )

    def plans(self, layers: Sequence[str]) -> Plans:
        """Return the choices of all plans."""
        count = len(self._plans)
        alternatives = {block: np.zeros(count, dtype=np.int64) for block in self._choices}
        kept = {group: np.full(count, size) for group, size in self._groups.items()}
        weights = {layer: np.zeros(count, dtype=np.int64) for layer in layers}
        activations = {layer: np.zeros(count, dtype=np.int64) for layer in layers}
        numbers = {block: {_key(row): n for n, row in enumerate(rows)} for block, rows in self._choices.items()}
        held = self._held()
        for place, plan in enumerate(self._plans):
            fixed: set[str] = set()
            for block, row in plan["operators"].items():
                number = numbers[block][_key(_choice(row))]
                alternatives[block][place] = number
                fixed |= held[block, number]
            for group, ratio in plan["keep_ratios"].items():
                if group not in fixed:
                    kept[group][place] = kept_channels(self._groups[group], ratio)
            for layer, bits in plan["layers"].items():
                if layer in weights:
                    weights[layer][place] = bits["weight_bits"]
                    activations[layer][place] = bits["activation_bits"]
        return Plans(
            count=count, alternatives=alternatives, kept=kept, weight_bits=weights, activation_bits=activations
        )

    def _found_choices(self) -> dict[str, list[OperatorChoice]]:
        found: dict[str, dict[str, OperatorChoice]] = {name: {_key(ORIGINAL): ORIGINAL} for name in self._blocks}
        for plan in self._plans:
            for block, row in plan["operators"].items():
                if block not in found:
                    raise InputError("operators", "must not span several blocks", block)
                found[block].setdefault(_key(_choice(row)), _choice(row))
        return {block: list(rows.values()) for block, rows in found.items()}

    def _common_quantizer(self) -> str:
        quantizers = {bits["quantizer"] for plan in self._plans for bits in plan["layers"].values()}
        numerics = self._plans[0]["numerics"]
        if len(quantizers) != 1 or any(plan["numerics"] != numerics for plan in self._plans):
            raise InputError("plans", "must share quantizer and numerics", sorted(quantizers))
        return str(quantizers.pop())

    def _workload(self, operators: Mapping[str, OperatorChoice], keep_ratios: Mapping[str, float]) -> Workload:
        plan = replace(self._sample, operators=operators, keep_ratios=keep_ratios)
        shapes = restructure(self._network, plan, structure=self._structure)
        bits = LayerBits(weight_bits=SOME_BITS, activation_bits=SOME_BITS, quantizer=self._quantizer)
        layers = {node.name: bits for node in shapes.graph.nodes if node.op in LAYER_OPS}
        return workload(shapes, replace(plan, layers=layers))

    def _channels(
        self, operators: Mapping[str, OperatorChoice], whole: Workload
    ) -> dict[str, dict[str, tuple[int, int]]]:
        """Return by tensor and group how many of its channels go with how many of the group's, each cut alone."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for group, size in self._groups.items():
            cut = self._workload(operators, {group: HALF})
            gone = size - kept_channels(size, HALF)
            for name, info in whole.tensors.items():
                less = info.shape[0] - cut.tensors[name].shape[0]
                if less:
                    found.setdefault(name, {})[group] = (less, gone)
        return found

    def _held(self) -> dict[tuple[str, int], set[str]]:
        prepared = self._structure.prepared(self._network)
        return {
            (block, number): prepared.held_groups({block: choice}) if number else set()
            for block, choices in self._choices.items()
            for number, choice in enumerate(choices)
        }


def _choice(row: Mapping[str, Any]) -> OperatorChoice:
    return OperatorChoice(operator=row["operator"], parameters=row["parameters"])


def _key(choice: OperatorChoice) -> str:
    return f"{choice.operator} {sorted(choice.parameters.items())}"
