"""A job as a search problem: its space, what a candidate means, and what it costs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from compress.network.graph import Graph, Network
from compress.network.stages import STAGE
from compress.numerics import checked_numerics
from compress.operators import OPERATORS
from compress.operators.labels import expanded, operator_choice
from compress.placement import LAYER_OPS, end_layers
from compress.plan import LayerBits, Numerics, OperatorChoice, Plan
from compress.pruners import PRUNERS
from compress.quantizers import QUANTIZERS
from compress.structure import Structure, choice_key, kept_channels
from compress.weights import ACTIVATION_BITS
from hwmodels.alignment import common_alignment
from hwmodels.errors import InputError, UnknownNameError
from hwmodels.numerics import ORDER, common_end_bits, common_numerics
from hwmodels.profile import Profile
from search.space import Candidate, Choice, Space, Variable
from search.strategies import STRATEGIES
from workers.events import DeviceCosts
from workers.pricing import Price, Pricing
from workers.spec import JobSpec, KeepSpec

ORIGINAL = "original"
BASELINE_WEIGHT_BITS = (8, 6, 4)
BASELINE_ACTIVATION_BITS = 8

KEPT_PLANS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A plan that every job tries first; ``candidate`` is ``None`` if the job's space has no such choices."""

    label: str
    plan: Plan
    candidate: Candidate | None


class Problem:
    """Builds the search space of a job, decodes candidates to plans and prices these.

    Variables: ``operator <block>``, ``channels <group>``, ``weights <layer>``, ``activations <layer>``, and, where the
    job offers several, ``quantizer <layer>`` and ``pruner``. Choices run from the cheapest to the most expensive. What
    has a single choice is no variable.

    Args:
        spec: The job.
        network: The float network; only its shapes are used.
        structure: Its channel groups and blocks.
        profiles: Device profiles by name.
    """

    def __init__(self, spec: JobSpec, network: Network, structure: Structure, profiles: Mapping[str, Profile]) -> None:
        self.spec = spec
        self._network = network.to_meta()
        self._structure = structure
        self.pricing = Pricing(network, structure, spec.devices, profiles)
        self._layers = _weighted(network)
        _check(spec, self._layers)
        self._numerics = numerics_of(spec, profiles)
        self._end_bits = _end_bits(spec, self._network.graph, profiles)
        self._plans: dict[Candidate, Plan] = {}
        self._layers_alone: dict[str, frozenset[str]] = {}  # by the one block replaced and its operator
        self._alignment = common_alignment(profiles[device.name] for device in spec.devices)
        choices = {**self._operator_choices(), **self._channel_choices(), **self._layer_choices()}
        if len(spec.space.pruners) > 1:
            choices["pruner"] = spec.space.pruners
        self.choices: Mapping[str, tuple[Choice, ...]] = choices
        """Everything that a plan decides, variables and what has a single choice, in the order of the variables."""
        self._fixed = {name: offered[0] for name, offered in choices.items() if len(offered) == 1}
        self.space = Space(
            tuple(
                Variable(name=name, choices=offered, ordered=not name.startswith(("quantizer ", "pruner")))
                for name, offered in choices.items()
                if len(offered) > 1
            )
        )

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """Where in the network each variable of the space first changes something: positions of nodes."""
        graph = self._structure.prepared(self._network).folded.graph
        place = {node.name: number for number, node in enumerate(graph.nodes)}
        first = {
            f"operator {block.name}": min(place[name] for name in block.nodes if name in place)
            for block in (*self._structure.blocks, *self._structure.stages)
        }
        first |= {
            f"channels {group.name}": min((place[name] for name in group.layers if name in place), default=0)
            for group in self._structure.groups.groups
        }
        return tuple(
            first.get(variable.name, place.get(variable.name.partition(" ")[2], 0)) for variable in self.space.variables
        )

    def decode(self, candidate: Candidate) -> Plan:
        """Return the plan that a candidate stands for.

        Choices that make no difference (bits of a layer in a block that is skipped) are left out, so candidates that
        lead to the same network have plans with the same digest.
        """
        if candidate not in self._plans:
            if len(self._plans) >= KEPT_PLANS:
                self._plans.clear()
            self._plans[candidate] = self._plan({**self._fixed, **self.space.values(candidate)})
        return self._plans[candidate]

    def price(self, candidate: Candidate) -> Price:
        """Return what a candidate's plan costs."""
        return self.pricing.price(self.decode(candidate))

    def costs(self, candidate: Candidate, device: str) -> DeviceCosts:
        """Return what a candidate's plan costs on one device."""
        return self.pricing.costs(self.decode(candidate), device)

    def baselines(self) -> list[Baseline]:
        """Return the uniform plans: 8, 6 and 4 bit weights, 8 bit activations, nothing else changed."""
        return [self._uniform(bits) for bits in BASELINE_WEIGHT_BITS]

    def corners(self) -> list[Candidate]:
        """Return the candidates in which each kind of variable stands at one same choice everywhere."""
        kinds = list(dict.fromkeys(variable.name.split(" ")[0] for variable in self.space.variables))
        corners: list[dict[str, int]] = [{}]
        for kind in kinds:
            most = max(len(v.choices) for v in self.space.variables if v.name.split(" ")[0] == kind)
            # The middle of a range of bits or ratios is no corner; operators have no order of price for every limit.
            places = range(most) if kind in ("weights", "operator") else sorted({0, most - 1})
            corners = [{**corner, kind: place} for corner in corners for place in places]
        found = (
            Candidate(tuple(min(corner[v.name.split(" ")[0]], len(v.choices) - 1) for v in self.space.variables))
            for corner in corners
        )
        return list(dict.fromkeys(found))

    def operator_choices(self) -> list[tuple[str, OperatorChoice]]:
        """Return everything that the search may put in the place of a block."""
        offered = {variable.name: variable.choices for variable in self.space.variables}
        return [
            (block.name, operator_choice(str(label)))
            for block in (*self._structure.blocks, *self._structure.stages)
            for label in offered.get(f"operator {block.name}", ())
            if label != ORIGINAL
        ]

    def _plan(self, values: Mapping[str, Choice]) -> Plan:
        space = self.spec.space
        operators = self._operators(values)
        layers = self._layers_with(operators)
        held = self._structure.prepared(self._network).held_groups(operators)
        keep_ratios = {
            group.name: float(values[f"channels {group.name}"])
            for group in self._structure.groups.groups
            if values.get(f"channels {group.name}", 1.0) != 1.0
            and group.name not in held
            and _remains(group.layers, layers)
        }
        return Plan(
            operators=operators,
            keep_ratios=keep_ratios,
            layers={layer: self._bits(layer, values) for layer in layers},
            pruner=str(values.get("pruner", space.pruners[0])) if keep_ratios else space.pruners[0],
            numerics=self._numerics,
        )

    def _operators(self, values: Mapping[str, Choice]) -> dict[str, OperatorChoice]:
        """Return what stands in the place of blocks; within a stage that is replaced nothing else is."""
        found: dict[str, OperatorChoice] = {}
        taken: set[str] = set()
        for block in (*self._structure.stages, *self._structure.blocks):
            label = str(values.get(f"operator {block.name}", ORIGINAL))
            if label != ORIGINAL and taken.isdisjoint(block.nodes):
                found[block.name] = operator_choice(label)
                taken.update(block.nodes)
        return found

    def _layers_with(self, operators: Mapping[str, OperatorChoice]) -> list[str]:
        """Return the layers of the network with these operators, sorted. Blocks do not overlap: each counts alone."""
        layers = set(self._layers)
        for block, choice in operators.items():
            key = choice_key(block, choice)
            if key not in self._layers_alone:
                self._layers_alone[key] = _weighted(self.pricing.restructured(Plan(operators={block: choice})))
            alone = self._layers_alone[key]
            layers = (layers - (self._layers - alone)) | (alone - self._layers)
        return sorted(layers)

    def _bits(self, layer: str, values: Mapping[str, Choice]) -> LayerBits:
        if layer in self._layers:
            quantizer = str(values[f"quantizer {layer}"])
            return LayerBits(
                weight_bits=nearest_width(int(values[f"weights {layer}"]), QUANTIZERS.get(quantizer).bit_widths),
                activation_bits=int(values[f"activations {layer}"]),
                quantizer=quantizer,
            )
        # A layer of a replacement is named after the layer in whose place it stands, "<layer>/<role>".
        return self._bits(max((name for name in self._layers if layer.startswith(f"{name}/")), key=len), values)

    def _uniform(self, bits: int) -> Baseline:
        wanted: dict[str, Choice] = {}
        for name in (*(variable.name for variable in self.space.variables), *self._fixed):
            kind, _, layer = name.partition(" ")
            pinned = self._pinned(layer)
            wishes: dict[str, Choice] = {
                "operator": ORIGINAL,
                "channels": 1.0,
                "weights": bits if pinned is None else pinned,
                "activations": self._end_bits.get(layer, BASELINE_ACTIVATION_BITS),
                "quantizer": self.spec.space.quantizers[0],
                "pruner": self.spec.space.pruners[0],
            }
            wanted[name] = wishes[kind]
        in_space = all(wanted[v.name] in v.choices for v in self.space.variables)
        candidate = self.space.candidate({v.name: wanted[v.name] for v in self.space.variables}) if in_space else None
        plan = self._plan(wanted)
        if candidate is not None and self.decode(candidate).digest() != plan.digest():
            candidate = None  # a choice that the job fixed is another one
        return Baseline(label=f"uniform {bits} bit", plan=plan, candidate=candidate)

    def _operator_choices(self) -> dict[str, tuple[Choice, ...]]:
        """Return for each block the operators that fit it, by MACs and then weights of the network with them."""
        found: dict[str, tuple[Choice, ...]] = {}
        folded = self._structure.prepared(self._network).folded
        labels = [label for offered in self.spec.space.operators for label in expanded(offered) if label != ORIGINAL]
        operators = {label: OPERATORS.get(operator_choice(label).operator) for label in labels}
        for block in (*self._structure.blocks, *self._structure.stages):
            fitting = [
                label
                for label, operator in operators.items()
                if operator.whole_stages == (block.kind == STAGE) and operator.fits(block, folded) is None
            ]
            if not fitting and block.kind == STAGE:
                continue
            if any(not self._free(layer) for layer in self._layers.intersection(block.nodes)):
                fitting = []
            found[f"operator {block.name}"] = tuple(
                sorted([*fitting, ORIGINAL], key=lambda name, block=block.name: self._size_with(block, name))  # type: ignore[misc]
            )
        return found

    def _size_with(self, block: str, operator: str) -> tuple[int, int]:
        plan = Plan(operators={block: operator_choice(operator)} if operator != ORIGINAL else {})
        price = self.pricing.price(plan)
        return price.macs, price.packed_bytes

    def _channel_choices(self) -> dict[str, tuple[Choice, ...]]:
        return {
            f"channels {group.name}": self._ratios(group.channels)
            if all(self.spec.keep.get(layer, KeepSpec()).prune for layer in group.layers)
            else (1.0,)
            for group in self._structure.groups.groups
        }

    def _ratios(self, channels: int) -> tuple[float, ...]:
        """Return one keep-ratio for each number of channels that the job's ratios lead to, in steps of the devices'."""
        alignment = self._alignment
        counts = {kept_channels(channels, ratio, alignment=alignment) for ratio in self.spec.space.keep_ratios}
        return tuple(sorted(count / channels for count in counts))

    def _layer_choices(self) -> dict[str, tuple[Choice, ...]]:
        space = self.spec.space
        found: dict[str, tuple[Choice, ...]] = {}
        for layer in sorted(self._layers):
            pinned, end_bits = self._pinned(layer), self._end_bits.get(layer)
            found[f"weights {layer}"] = tuple(sorted(set(space.weight_bits))) if pinned is None else (pinned,)
            found[f"activations {layer}"] = (
                tuple(sorted(set(space.activation_bits))) if end_bits is None else (end_bits,)
            )
            found[f"quantizer {layer}"] = space.quantizers
        return found

    def _pinned(self, layer: str) -> int | None:
        """Return the weight bits that a layer has in every plan: the user's, or those of the network's ends."""
        kept = self.spec.keep.get(layer, KeepSpec()).weight_bits
        return self._end_bits.get(layer) if kept is None else kept

    def _free(self, layer: str) -> bool:
        """Whether a layer may disappear: the user has not asked for anything to be kept of it."""
        return layer not in self.spec.keep


def numerics_of(spec: JobSpec, profiles: Mapping[str, Profile]) -> Numerics:
    """Return the numerics of all plans of a job: what the user has chosen, then what its devices demand.

    Where devices demand different things all of them run the strictest (``hwmodels.numerics``).

    Raises:
        InputError: The user has chosen what there is not, or what a device does not run.
    """
    checked_numerics(spec.numerics)
    policies = {device.name: profiles[device.name].numerics for device in spec.devices}
    wanted = {name: str(spec.numerics[name]) for name in ORDER if name in spec.numerics}
    return checked_numerics({**common_numerics(policies, wanted), **spec.numerics})


def _end_bits(spec: JobSpec, graph: Graph, profiles: Mapping[str, Profile]) -> dict[str, int]:
    """Return the bits of first and last layers, where a device asks for them and the user has not said other ones.

    Raises:
        InputError: Another device of the job, or no quantizer of it, has that width.
    """
    chosen = [profiles[device.name] for device in spec.devices]
    bits = common_end_bits(profile.numerics for profile in chosen)
    if bits is None:
        return {}
    for profile in chosen:
        widest = min(profile.formats.weight_bits[-1], profile.formats.activation_bits[-1])
        if widest < bits:
            rule = f"must be able to store the {bits} bits that another device wants of first and last layers"
            raise InputError("devices", rule, profile.name)
    if not any(bits in QUANTIZERS.get(name).bit_widths for name in spec.space.quantizers):
        rule = f"one must have the {bits} bits that a device wants of first and last layers"
        raise InputError("space.quantizers", rule, spec.space.quantizers)
    free = [layer for layer in end_layers(graph) if spec.keep.get(layer, KeepSpec()).weight_bits is None]
    return dict.fromkeys(free, bits)


def _weighted(network: Network) -> frozenset[str]:
    return frozenset(node.name for node in network.graph.nodes if node.op in LAYER_OPS)


def _remains(old: Collection[str], layers: Collection[str]) -> bool:
    """Tell whether one of the old layers is still there, or something in its place."""
    return any(name in layers or any(layer.startswith(f"{name}/") for layer in layers) for name in old)


def nearest_width(bits: int, widths: Collection[int]) -> int:
    """Return the width that a quantizer has for a choice that only another one offers."""
    return min(widths, key=lambda width: (abs(width - bits), width))


def _check(spec: JobSpec, layers: Collection[str]) -> None:
    """Refuse names that nobody knows and widths that no quantizer of the job has.

    Raises:
        InputError: Names the field, the rule and the value.
    """
    for name in spec.keep:
        if name not in layers:
            raise UnknownNameError(f"keep.{name}", f"must be a layer of the network: {', '.join(sorted(layers))}", name)
    for device in spec.devices:
        if spec.data_free and device.limits.accuracy_drop is not None:
            rule = "needs labelled data: without it no accuracy is known, only agreement with the float network"
            raise InputError("limits.accuracy_drop", rule, device.limits.accuracy_drop)
    for name in spec.space.pruners:
        PRUNERS.get(name)
    if spec.strategy not in STRATEGIES.names():
        raise UnknownNameError("strategy", f"must be one of {', '.join(STRATEGIES.names())}", spec.strategy)
    widths = {bits for name in spec.space.quantizers for bits in QUANTIZERS.get(name).bit_widths}
    pinned = {f"keep.{name}.weight_bits": row.weight_bits for name, row in spec.keep.items()}
    wanted = {**{f"space.weight_bits[{place}]": bits for place, bits in enumerate(spec.space.weight_bits)}, **pinned}
    for field, bits in wanted.items():
        if bits is not None and bits not in widths:
            raise InputError(field, f"must be one of {', '.join(map(str, sorted(widths)))}", bits)
    for place, bits in enumerate(spec.space.activation_bits):
        if bits not in ACTIVATION_BITS:
            raise InputError(f"space.activation_bits[{place}]", "must be in 2..8", bits)
    for place, ratio in enumerate(spec.space.keep_ratios):
        if not 0 < ratio <= 1:
            raise InputError(f"space.keep_ratios[{place}]", "must be above 0 and at most 1", ratio)
