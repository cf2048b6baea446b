"""What of a network can be changed, found once; and changing it: operators → channels → fold.

Batch norm folding changes no output and commutes with cutting channels, so it is done once, ahead of the candidates,
and its place in the order is the same to every observer; operators factor and copy folded weights.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.network.blocks import Block, blocks
from compress.network.build import run_shapes
from compress.network.cutting import Cutter, Follows, Kept
from compress.network.graph import Network
from compress.network.groups import ChannelGroup, ChannelGroups, candidate_groups
from compress.network.stages import stages
from compress.network.ties import Ties, Units, ties
from compress.operators import OPERATORS, Operator, Replacement, apply_operators
from compress.plan import OperatorChoice, Parameter, Plan
from compress.pruners import Scores
from compress.rewrites import fold_batch_norm
from hwmodels.errors import InputError, UnknownNameError

Imitated = Mapping[str, Mapping[str, Tensor]]
"""Tensors of replacements by name, by ``full_key``."""

KEPT_REPLACEMENTS = 256
"""Built replacements of blocks that a structure remembers per network."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Channel groups, blocks and stages (blocks in a row) of a network: what a plan's names refer to.

    Plain data for JSON. Beside that it remembers what every candidate shares: the folded network and the built
    replacements of the networks (with values or on the ``meta`` device) that it was last used with, and the tensors
    that imitation (``compress.imitation``) has found for replacements.
    """

    groups: ChannelGroups
    blocks: tuple[Block, ...]
    stages: tuple[Block, ...] = ()
    imitated: Imitated = field(default_factory=dict, init=False, repr=False, compare=False)
    _prepared: list["_Prepared"] = field(default_factory=list, init=False, repr=False, compare=False)

    def adopt(self, imitated: Imitated) -> None:
        """Let replacements have the tensors that imitation has found for them, from now on."""
        object.__setattr__(self, "imitated", {**self.imitated, **imitated})
        for prepared in self._prepared:
            prepared.forget_replacements()

    def block(self, name: str) -> Block:
        """Return the block or stage called ``name``.

        Raises:
            UnknownNameError: There is none.
        """
        for block in (*self.blocks, *self.stages):
            if block.name == name:
                return block
        known = ", ".join(block.name for block in (*self.blocks, *self.stages)) or "(none)"
        raise UnknownNameError("operators", f"must name one of the blocks {known}", name)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``from_json`` is the inverse."""
        return {
            "groups": self.groups.to_json(),
            "blocks": [block.to_json() for block in self.blocks],
            "stages": [stage.to_json() for stage in self.stages],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Structure":
        """Rebuild a structure from ``to_json``'s data."""
        return cls(
            groups=ChannelGroups.from_json(data["groups"]),
            blocks=tuple(Block.from_json(row) for row in data["blocks"]),
            stages=tuple(Block.from_json(row) for row in data.get("stages", ())),  # older data has none
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is remembered behind: a structure travels as the plain data that it is."""
        return {"groups": self.groups, "blocks": self.blocks, "stages": self.stages, "imitated": {}, "_prepared": []}

    def prepared(self, network: Network) -> "_Prepared":
        """Return what candidates of ``network`` share."""
        for known in self._prepared:
            if known.network is network:
                return known
        self._prepared.append(_Prepared(network, self))
        del self._prepared[:-2]
        return self._prepared[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restructured:
    """A network after operators, channels and folding; ``kept`` has the channels that each cut group still has."""

    network: Network
    kept: Mapping[str, Kept]


def analyse(network: Network) -> Structure:
    """Return the channel groups and blocks of an ingested network."""
    found = blocks(network)
    return Structure(groups=channel_groups(network), blocks=found, stages=stages(network, found))


def channel_groups(network: Network) -> ChannelGroups:
    """Return the groups that can be cut, each tried out: half of its channels gone, the network still runs.

    A group whose cut network does not run, or has other shapes than foreseen, is listed as unprunable with the reason.
    """
    groups = candidate_groups(network)
    meta = network.to_meta()
    cutter = Cutter(groups.groups)
    if _failure(meta, cutter, groups.groups) is None:
        return groups
    failures = {group.name: _failure(meta, cutter, (group,)) for group in groups.groups}
    unprunable = dict(groups.unprunable)
    for group in groups.groups:
        reason = failures[group.name]
        if reason is not None:
            unprunable.update(dict.fromkeys(group.layers, reason))
    good = tuple(group for group in groups.groups if failures[group.name] is None)
    return ChannelGroups(groups=good, unprunable=unprunable)


def _failure(meta: Network, cutter: Cutter, groups: tuple[ChannelGroup, ...]) -> str | None:
    """Return why the network cannot run with half of the channels of ``groups``."""
    try:
        cut = cutter.cut(meta, {group.name: np.arange((group.channels + 1) // 2) for group in groups})
        found = run_shapes(cut)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"the network does not run when it is cut: {str(error).splitlines()[0]}"
    wrong = next((name for name, shape in cut.graph.shapes.items() if found.shapes[name] != shape), None)
    return None if wrong is None else f"cutting it changes {wrong!r} to {list(found.shapes[wrong])}"


def kept_channels(channels: int, ratio: float, *, alignment: int = 1) -> int:
    """Return how many of a group's channels a keep-ratio means.

    ``ratio * channels``, rounded half up to a multiple of ``alignment``; at least one multiple, at most ``channels``. A
    group with fewer channels than two multiples goes by half the alignment, and so on: there is something to choose.
    """
    while alignment > 1 and channels < 2 * alignment:
        alignment //= 2
    wanted = int(ratio * channels / alignment + 0.5) * alignment
    return min(channels, max(alignment, wanted))


def restructure(network: Network, plan: Plan, *, structure: Structure, scores: Scores | None = None) -> Network:
    """Return the network with a plan's operators and channels, batch norm folded; see ``restructured``."""
    return restructured(network, plan, structure=structure, scores=scores).network


def restructured(network: Network, plan: Plan, *, structure: Structure, scores: Scores | None = None) -> Restructured:
    """Return the network with a plan's operators and channels, batch norm folded, and the channels that stay.

    Args:
        network: The ingested network. On the ``meta`` device only shapes are worked out.
        plan: Operators by block and keep-ratios by group; the rest of it does not matter here.
        structure: The network's, from ``analyse``.
        scores: Of the plan's pruner; the highest stay, ties to the first. ``None`` keeps the first channels, which is
            enough for shapes and costs.

    Raises:
        InputError: The plan names an unknown block, group, operator or parameter, or an operator does not fit.
    """
    prepared = structure.prepared(network)
    base, follows = prepared.with_operators(plan.operators)
    held, units = prepared.held_groups(plan.operators), prepared.units(plan.operators)
    kept: dict[str, Kept] = {}
    for name, ratio in plan.keep_ratios.items():
        group = prepared.cutter.groups.get(name)
        if group is None:
            known = ", ".join(prepared.cutter.groups) or "(none)"
            raise UnknownNameError("keep_ratios", f"must name one of the channel groups {known}", name)
        if not 0 < ratio <= 1:
            raise InputError(f"keep_ratios.{name}", "must be above 0 and at most 1", ratio)
        if name in held:
            continue
        count = kept_channels(group.channels, ratio)
        kept[name] = _chosen(group, count, None if scores is None else scores[name], units.get(name))
    return Restructured(network=prepared.cutter.cut(base, kept, follows), kept=kept)


def _chosen(group: ChannelGroup, count: int, scores: Tensor | None, units: Units | None) -> Kept:
    """Return the best channels; of channels that go in units those of the best units, about as many."""
    if units is not None:
        size = group.channels // (int(units.max()) + 1)
        if scores is not None:
            scores = torch.zeros(group.channels // size, dtype=scores.dtype).index_add(
                0, torch.from_numpy(units), scores
            )
        best = _best(scores, max(1, int(count / size + 0.5)))
        return np.flatnonzero(np.isin(units, best))
    return _best(scores, count)


def _best(scores: Tensor | None, count: int) -> Kept:
    if scores is None:
        return np.arange(count)
    return np.sort(torch.argsort(scores, descending=True, stable=True)[:count].numpy())


class _Prepared:
    """What all candidates of one network share."""

    def __init__(self, network: Network, structure: Structure) -> None:
        self.network = network
        self.folded = fold_batch_norm(network)
        self.cutter = Cutter(structure.groups.groups)
        self._structure = structure
        self._replacements: OrderedDict[str, Replacement] = OrderedDict()
        self._known_ties: dict[str, Ties] = {}
        self._on_meta = any(tensor.is_meta for tensor in network.tensors.values())

    def forget_replacements(self) -> None:
        """Build replacements anew when they are asked for."""
        self._replacements.clear()

    def with_operators(self, operators: Mapping[str, OperatorChoice]) -> tuple[Network, Follows]:
        """Return the folded network with blocks replaced."""
        chosen = [
            (self._structure.block(name), self.replacement(name, choice))
            for name, choice in operators.items()
            if choice.operator != "original"
        ]
        _refuse_overlaps([block for block, _ in chosen])
        return apply_operators(self.folded, chosen)

    def held_groups(self, operators: Mapping[str, OperatorChoice]) -> set[str]:
        """Return the channel groups that are not cut with these operators (``Replacement.holds``)."""
        return {group for found in self._ties(operators) for group in found.held}

    def units(self, operators: Mapping[str, OperatorChoice]) -> dict[str, Units]:
        """Return the unit of every channel of groups that these operators let be cut by units only."""
        return {group: units for found in self._ties(operators) for group, units in found.units.items()}

    def _ties(self, operators: Mapping[str, OperatorChoice]) -> list[Ties]:
        """Return what each of the operators makes of channel groups."""
        found = []
        for name, choice in operators.items():
            key = choice_key(name, choice)
            if key not in self._known_ties:
                replacement = self.replacement(name, choice)
                groups = tuple(self.cutter.groups.values())
                held = {
                    group.name
                    for group in groups
                    if any((m.name, m.axis) in replacement.holds for m in (*group.tensors, *group.values))
                }
                tied = ties(groups, replacement.ties, self._structure.block(name).nodes)
                units = {group: units for group, units in tied.units.items() if group not in held}
                self._known_ties[key] = Ties(units=units, held=tied.held | held)
            found.append(self._known_ties[key])
        return found

    def replacement(self, name: str, choice: OperatorChoice) -> Replacement:
        """Return what stands in a block's place, with the tensors that imitation has found, if it has."""
        key = choice_key(name, choice)
        if key not in self._replacements:
            block, operator = self._structure.block(name), OPERATORS.get(choice.operator)
            reason = operator.fits(block, self.folded)
            if reason is not None:
                raise InputError(f"operators.{name}", f"{choice.operator} does not fit: {reason}")
            parameters = complete_parameters(operator, choice, field=f"operators.{name}.parameters")
            built = operator.build(block, self.folded, parameters)
            found = {} if self._on_meta else self._structure.imitated.get(full_key(name, choice), {})
            self._replacements[key] = replace(built, tensors={**built.tensors, **found})
            if len(self._replacements) > KEPT_REPLACEMENTS:
                self._replacements.popitem(last=False)
        self._replacements.move_to_end(key)
        return self._replacements[key]


def _refuse_overlaps(chosen: list[Block]) -> None:
    """Refuse to replace a stage and a block within it.

    Raises:
        InputError: Two of the blocks share nodes.
    """
    owner: dict[str, str] = {}
    for block in chosen:
        for node in block.nodes:
            if node in owner:
                raise InputError(f"operators.{block.name}", f"must not overlap {owner[node]}, which is replaced, too")
            owner[node] = block.name


def choice_key(block: str, choice: OperatorChoice) -> str:
    """Return a name for an operator with its parameters in a block's place."""
    return json.dumps([block, choice.operator, dict(choice.parameters)], sort_keys=True)


def full_key(block: str, choice: OperatorChoice) -> str:
    """Return ``choice_key`` with all parameters spelled out."""
    parameters = complete_parameters(OPERATORS.get(choice.operator), choice, field=f"operators.{block}.parameters")
    return choice_key(block, OperatorChoice(operator=choice.operator, parameters=parameters))


def complete_parameters(operator: Operator, choice: OperatorChoice, *, field: str) -> dict[str, Parameter]:
    """Return a value for every parameter of the operator: the choice's or the default.

    Raises:
        InputError: The choice has a parameter that the operator does not have, or a value that it does not offer.
    """
    for name, value in choice.parameters.items():
        if name not in operator.parameters:
            known = ", ".join(operator.parameters) or "(none)"
            raise UnknownNameError(field, f"must be among {known}", name)
        if value not in operator.parameters[name]:
            raise InputError(
                f"{field}.{name}", f"must be one of {', '.join(map(str, operator.parameters[name]))}", value
            )
    return {name: choice.parameters.get(name, offered[-1]) for name, offered in operator.parameters.items()}
