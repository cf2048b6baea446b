"""The pass over the calibration images, of which candidates that have layers in common share the results.

What the pass finds at a node (the range of a quantizer, a layer's gain, shift and rounded bias, and the values that
it hands on) depends on the node, on the weights before rounding, their format and numerics, on the statistics wanted of
its output, and on the same things of all nodes above it. All of that goes into the node's key. So two candidates share
their layers up to the first difference, results are equal to the bit with and without the cache, and there is nothing
to invalidate. That holds for compensated rounding, too: the inputs it depends on are what the nodes above hand on.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from compress.cache import ByteCache, TensorDigests
from compress.network.graph import Network, Node
from compress.plan import Numerics
from compress.repair import ChannelStatistics
from compress.runner import NodeRule, ValueHook, run
from compress.weights import CodedWeight, WeightFormat, encode

CODE_BYTES = 64 * 2**20
FINDING_BYTES = 64 * 2**20
VALUE_BYTES = 192 * 2**20
REMEMBERED_KEYS = 1 << 17

State = Sequence[MutableMapping[str, Any]]
"""What hooks of the pass write down, by name of a node, of its parameters or of its outputs."""

_Finding = tuple[tuple[int, str, Any], ...]  # place of the mapping in the state, name, what stands there


class CalibrationCache:
    """Codes of weights, and results of calibration passes; for one set of calibration images.

    ``seconds`` is how long the last pass took; ``ran`` counts the nodes that all passes have run.

    Args:
        enabled: ``False`` computes everything anew.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.seconds = 0.0
        self.ran = 0
        self.digests = TensorDigests()
        self._codes: ByteCache[CodedWeight] = ByteCache(CODE_BYTES)
        self._findings: ByteCache[_Finding] = ByteCache(FINDING_BYTES)
        self._values: ByteCache[tuple[Tensor, ...]] = ByteCache(VALUE_BYTES)
        self._seen: set[bytes] = set()

    def encode(self, weight: Tensor, format: WeightFormat, numerics: Numerics) -> CodedWeight:
        """Return the codes of ``weight``, of whatever layer it is."""
        if not self.enabled:
            return encode(weight, format, numerics)
        key = (self.digests.of(weight), format, numerics)
        found = self._codes.get(key)
        if found is None:
            found = encode(weight, format, numerics)
            self._codes.put(key, found, _bytes(found))
        return found

    def run(
        self,
        network: Network,
        images: Tensor,
        *hooks: ValueHook,
        rewrite: NodeRule,
        keys: Mapping[str, bytes],
        replayed: State,
        state: State,
    ) -> tuple[Tensor, ...]:
        """Run the network as ``runner.run`` does, but for the nodes whose results are known.

        Args:
            network: Before its quantizers have a range.
            images: The calibration images; always the same.
            hooks: See ``runner.run``; they write what they find into ``state``.
            rewrite: See ``runner.run``.
            keys: By node, from ``node_keys``.
            replayed: Filled as if every node had run, before any does: hooks do not look for what stands there already.
            state: Filled as if every node had run.
        """
        start = time.perf_counter()
        try:
            if not self.enabled:
                return run(network, images, *hooks, rewrite=rewrite)
            return self._run(network, images, hooks, rewrite, keys, (*replayed, *state), len(replayed))
        finally:
            self.seconds = time.perf_counter() - start

    def _run(
        self,
        network: Network,
        images: Tensor,
        hooks: tuple[ValueHook, ...],
        rewrite: NodeRule,
        keys: Mapping[str, bytes],
        state: State,
        replayed: int,
    ) -> tuple[Tensor, ...]:
        before = [dict(mapping) for mapping in state]
        findings = {node.name: self._findings.get(keys[node.name]) for node in network.graph.nodes}
        running, known = self._split(network, keys, {name for name, found in findings.items() if found is None})
        _write(state, [found for name, found in findings.items() if name not in running])
        _write(state[:replayed], findings.values())
        written: dict[str, list[Tensor]] = {}

        def remember(name: str, node: Node | None, value: Tensor) -> Tensor:
            if node is not None:
                values = written.setdefault(node.name, [])
                values.append(value)
                if len(values) == len(node.outputs):
                    findings[node.name] = found = _found(node, before, state)
                    self._remember(keys[node.name], found, tuple(written.pop(node.name)))
            return value

        self.ran += len(running)
        left = network.graph.with_nodes(node for node in network.graph.nodes if node.name in running)
        outputs = run(replace(network, graph=left), images, *hooks, remember, rewrite=rewrite, known=known)
        _write(state, findings.values())  # in order: of layers that share a tensor the last one has the word
        return outputs

    def _split(
        self, network: Network, keys: Mapping[str, bytes], unknown: Collection[str]
    ) -> tuple[set[str], dict[str, Tensor]]:
        """Return the nodes that have to run, and the values of others that these, or the caller, read."""
        wanted = set(network.graph.outputs)
        running: set[str] = set()
        known: dict[str, Tensor] = {}
        for node in reversed(network.graph.nodes):
            values = None
            if node.name not in unknown:
                if not wanted.intersection(node.outputs):
                    continue
                values = self._values.get(keys[node.name])
            if values is None:
                running.add(node.name)
                wanted.update(node.inputs)
            else:
                known.update(zip(node.outputs, values, strict=True))
        return running, known

    def _remember(self, key: bytes, found: _Finding, values: tuple[Tensor, ...]) -> None:
        self._findings.put(key, found, sum(_bytes(entry) for _, _, entry in found))
        # Values are large: only those that a second candidate has asked for are kept.
        if key in self._seen:
            self._values.put(key, values, sum(value.nbytes for value in values))
        else:
            if len(self._seen) >= REMEMBERED_KEYS:
                self._seen.clear()
            self._seen.add(key)


def node_keys(
    network: Network,
    digests: TensorDigests,
    *,
    exact: Mapping[str, Tensor],
    formats: Mapping[str, WeightFormat],
    wanted: Mapping[str, ChannelStatistics],
    stored: Collection[str],
    numerics: Numerics,
) -> dict[str, bytes]:
    """Return for every node a key that is equal only where everything that the pass finds at it is equal.

    Args:
        network: Before its quantizers have a range.
        digests: Names tensors.
        exact: Tensors by name, before rounding.
        formats: Of weights, by tensor name.
        wanted: Statistics that outputs are to have, by value.
        stored: Values whose range does not come from the pass.
        numerics: The plan's.
    """
    uses = Counter(name for node in network.graph.nodes for name in (*node.parameters.values(), *node.inputs))
    above: dict[str, bytes] = {}
    keys: dict[str, bytes] = {}
    common = repr(numerics)
    for node in network.graph.nodes:
        own = [
            common,
            node.name,
            node.op,
            sorted(node.attributes.items()),
            [(role, digests.of(exact[name]), formats.get(name), uses[name]) for role, name in node.parameters.items()],
            [name in stored for name in node.inputs],
            [above.get(name) or (digests.of(exact[name]) if name in exact else name) for name in node.inputs],
            [(digests.of(wanted[name].mean), digests.of(wanted[name].std)) for name in node.outputs if name in wanted],
        ]
        keys[node.name] = hashlib.blake2b(repr(own).encode(), digest_size=16).digest()
        above.update({name: keys[node.name] + name.encode() for name in node.outputs})
    return keys


def _found(node: Node, before: Sequence[Mapping[str, Any]], state: State) -> _Finding:
    """Return what the hooks have written down at a node."""
    names = (node.name, *node.parameters.values(), *node.outputs)
    return tuple(
        (place, name, mapping[name])
        for place, (mapping, old) in enumerate(zip(state, before, strict=True))
        for name in names
        if name in mapping and mapping[name] is not old.get(name)
    )


def _write(state: State, findings: Iterable[_Finding | None]) -> None:
    for found in findings:
        for place, name, entry in found or ():
            if place < len(state):
                state[place][name] = entry


def _bytes(entry: object) -> int:
    """Return about how much memory something takes that the pass has found."""
    if isinstance(entry, Tensor):
        return entry.nbytes
    if isinstance(entry, CodedWeight):
        return entry.codes.values.nbytes + sum(value.nbytes for value in entry.codes.parameters.values())
    return 512
