"""A network and its plans in the form in which thousands of them are priced at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compress.network.graph import Network
from compress.operators.labels import operator_choice
from compress.placement import LAYER_OPS, PASSING_OPS, operand_ops_of
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
        InputError: Operators span several blocks, or the first plan gives no layer bits.
    """

    def __init__(self, network: Network, structure: Structure, plans: Sequence[PlanData]) -> None:
        self._network = network.to_meta()
        self._structure = structure
        self._plans = plans
        self._sample = Plan.from_json({**plans[0], "operators": {}, "keep_ratios": {}, "layers": {}})
        self._quantizer = _quantizer(plans[0])
        self._blocks = {block.name: block for block in structure.blocks}
        self._groups = {group.name: group.channels for group in structure.groups.groups}
        self._choices = self._found_choices()

    def family(self) -> Family:
        """Return the networks with every alternative, and what joins them.

        Raises:
            InputError: What an operator makes of a block is not told apart by its names.
        """
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
            operands=operand_ops_of(self._sample.numerics.function_inputs),
            passing=PASSING_OPS | {"concat"},
            other_bits=self._sample.numerics.other_bits,
        )

    def plans(self, layers: Sequence[str]) -> Plans:
        """Return the choices of all plans.

        Raises:
            InputError: The plans differ in more than operators, channels and bits.
        """
        count = len(self._plans)
        alternatives = {block: np.zeros(count, dtype=np.int64) for block in self._choices}
        kept = {group: np.full(count, size) for group, size in self._groups.items()}
        weights: dict[str, list[int]] = {layer: [0] * count for layer in layers}  # quicker to fill than arrays
        activations: dict[str, list[int]] = {layer: [0] * count for layer in layers}
        held = self._held()
        numerics, quantizer = self._plans[0]["numerics"], self._quantizer
        for place, plan in enumerate(self._plans):
            if plan["numerics"] != numerics:
                raise InputError("plans", "must share their numerics", plan["numerics"])
            fixed: set[str] = set()
            for block, row in plan["operators"].items():
                number = self._numbers[block][_key(row)]
                alternatives[block][place] = number
                fixed |= held[block, number]
            for group, ratio in plan["keep_ratios"].items():
                if group not in fixed:
                    kept[group][place] = kept_channels(self._groups[group], ratio)
            for layer, bits in plan["layers"].items():
                if bits["quantizer"] != quantizer:
                    raise InputError("plans", "must share their quantizer", bits["quantizer"])
                if layer in weights:
                    weights[layer][place] = bits["weight_bits"]
                    activations[layer][place] = bits["activation_bits"]
        return Plans(
            count=count,
            alternatives=alternatives,
            kept=kept,
            weight_bits={layer: np.array(row) for layer, row in weights.items()},
            activation_bits={layer: np.array(row) for layer, row in activations.items()},
        )

    def _found_choices(self) -> dict[str, list[OperatorChoice]]:
        found: dict[str, dict[str, OperatorChoice]] = {name: {ORIGINAL.operator: ORIGINAL} for name in self._blocks}
        for plan in self._plans:
            for block, row in plan["operators"].items():
                if block not in found:
                    raise InputError("operators", "must not span several blocks", block)
                if _key(row) not in found[block]:
                    choice = OperatorChoice(operator=row["operator"], parameters=row["parameters"])
                    found[block][_key(row)] = choice
        self._numbers = {block: {key: number for number, key in enumerate(rows)} for block, rows in found.items()}
        return {block: list(rows.values()) for block, rows in found.items()}

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


def _quantizer(plan: PlanData) -> str:
    found = next((str(bits["quantizer"]) for bits in plan["layers"].values()), None)
    if found is None:
        raise InputError("plans", "must give layers bits", None)
    return found


def _key(row: Mapping[str, Any]) -> str:
    parameters = row["parameters"]
    return f"{row['operator']} {sorted(parameters.items())}" if parameters else str(row["operator"])
