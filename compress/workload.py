"""What a restructured network with a plan's bits asks of a device: its kernels and the tensors between them.

Followers that runtimes compute while the result is still in registers are part of the kernel before them: an unfolded
batch norm behind a layer, and element-wise functions of one operand. Views (flatten, reshape of contiguous values) cost
nothing and share their input's memory. Slices in a row are one kernel.
"""

from collections.abc import Mapping, Sequence

from compress.network.graph import Graph, Network, Node, image_shape
from compress.network.ops import OPS
from compress.placement import FLOAT_BITS, LAYER_OPS, PASSING_OPS, place
from compress.plan import LayerBits, Plan
from compress.quantizers import QUANTIZERS
from compress.weights import check_other_bits, check_widths
from hwmodels.numerics import ORDER
from hwmodels.workload import Arithmetic, Kernel, KernelKind, TensorInfo, Workload

_VIEWS = frozenset({"flatten", "reshape", "squeeze", "unsqueeze"})
_UNARY = frozenset(name for name, op in OPS.items() if op.kind is KernelKind.ELEMENTWISE and op.inputs == (1, 1))
_NO_FUSION = frozenset({KernelKind.DATA_MOVEMENT})


def workload(network: Network, plan: Plan) -> Workload:
    """Return kernels and tensors of a network, with the bits that the plan gives its layers.

    MACs count once; element-wise work and pooling have none. A layer without bits is float (32). A tensor is as wide
    as the widest of what its readers take: a quantized layer its ``activation_bits``, other readers between quantized
    layers ``other_bits``, everything else 32.

    Args:
        network: Restructured, without ``quantize`` nodes; may be on the ``meta`` device.
        plan: Only bits and numerics are read.

    Raises:
        InputError: A width is not one that the quantizer, or an activation, can have.
    """
    check_other_bits(plan.numerics)
    graph = network.graph
    bits = {node.name: _usable(node, plan) for node in graph.nodes if node.op in LAYER_OPS}
    widths = _widths(graph, {name: chosen.activation_bits for name, chosen in bits.items() if chosen}, plan)
    launches = _Launches(network)
    kernels = tuple([_kernel(launch, launches, bits, widths, network) for launch in launches.all])
    shapes = graph.shapes
    names = dict.fromkeys(name for kernel in kernels for name in (*kernel.inputs, *kernel.outputs))
    inputs = tuple(graph.inputs)
    outputs = tuple(dict.fromkeys(launches.memory_of(value) for value in graph.outputs))
    return Workload(
        kernels=kernels,
        tensors={
            name: TensorInfo(shape=image_shape(shapes[name]), bits=widths[name])
            for name in dict.fromkeys((*inputs, *names, *outputs))
        },
        inputs=inputs,
        outputs=outputs,
        numerics={name: getattr(plan.numerics, name) for name in ORDER},
    )


def _usable(node: Node, plan: Plan) -> LayerBits | None:
    """Return the layer's bits, ``None`` if it stays float."""
    chosen = plan.bits(node.name)
    if chosen is None or chosen.weight_bits >= FLOAT_BITS:
        return None
    check_widths(node.name, chosen)
    if node.op not in QUANTIZERS.get(chosen.quantizer).layer_ops:
        return None
    return chosen


class _Launches:
    """Which nodes make one kernel, and which values share memory."""

    def __init__(self, network: Network) -> None:
        self.all: list[list[Node]] = []
        self._memory: dict[str, str] = {}
        graph = network.graph
        consumers = graph.consumers()
        outputs = set(graph.outputs)
        launch_of: dict[str, list[Node]] = {}  # value → the launch that may still take a follower
        for node in graph.nodes:
            source = node.inputs[0]
            if source not in graph.shapes:
                if node.op == "repeat_batch":
                    continue  # a constant at batch 1
            elif node.op in _VIEWS or node.op == "quantize":
                self._memory[node.outputs[0]] = self.memory_of(source)
                continue
            launch = launch_of.get(source)
            if launch is not None and len(consumers[source]) == 1 and source not in outputs and _follows(launch, node):
                launch.append(node)
            else:
                launch = [node]
                self.all.append(launch)
            if len(node.outputs) == 1:
                launch_of[node.outputs[0]] = launch

    def memory_of(self, value: str) -> str:
        """Return the value in whose memory this one lies."""
        return self._memory.get(value, value)


def _follows(launch: Sequence[Node], node: Node) -> bool:
    """Say whether a node is computed within the kernel whose result it reads."""
    first, last = launch[0], launch[-1]
    if node.op == "batch_norm":
        return last.op in LAYER_OPS
    if node.op == "slice":
        return last.op == "slice"
    return node.op in _UNARY and OPS[first.op].kind not in _NO_FUSION


def _kernel(
    launch: Sequence[Node],
    launches: _Launches,
    bits: Mapping[str, LayerBits | None],
    widths: Mapping[str, int],
    network: Network,
) -> Kernel:
    node, shapes, tensors = launch[0], network.graph.shapes, network.tensors
    op = OPS[node.op]
    activations = [value for value in node.inputs if value in shapes]
    inputs = [shapes[value] for value in activations]
    outputs = [shapes[value] for value in node.outputs]
    weight_name = node.parameters.get("weight")
    weight = None if weight_name is None else tuple(tensors[weight_name].shape)
    chosen = bits.get(node.name)
    operands = _operands(chosen, [widths[value] for value in activations] if node.op not in LAYER_OPS else [])
    channels_in, channels_out = _channels(node, inputs, outputs, weight)
    kernel, stride = _window(node, inputs, weight)
    groups = node.attributes.get("groups", 1)
    constants = [name for name in node.inputs if name in tensors and name not in shapes]
    values = sum([tensors[name].numel() for part in launch for name in part.parameters.values()])
    biases = tensors[node.parameters["bias"]].numel() if op.weighted and "bias" in node.parameters else 0
    return Kernel(
        name=node.name,
        kind=op.kind_of(node, weight),
        op=node.op,
        inputs=tuple(dict.fromkeys([launches.memory_of(value) for value in activations])),
        outputs=launch[-1].outputs,
        in_channels=channels_in,
        out_channels=channels_out,
        kernel=kernel,
        stride=stride,
        groups=groups if isinstance(groups, int) else 1,
        macs=op.macs(node, inputs, outputs, weight),
        weights=values - biases + sum([tensors[name].numel() for name in constants]),
        biases=biases,
        weight_bits=operands[0],
        activation_bits=operands[1],
        arithmetic=operands[2],
        fused=tuple([part.name for part in launch[1:]]),
        followers=tuple([part.op for part in launch[1:] if part.op in _UNARY]),
    )


def _operands(chosen: LayerBits | None, read: Sequence[int]) -> tuple[int, int, Arithmetic]:
    """Return weight bits, activation bits and arithmetic; ``read`` are the widths that a node without weights reads.

    Weights alone on a grid are multiplied as float.
    """
    if chosen is not None:
        is_float = chosen.activation_bits >= FLOAT_BITS
        arithmetic = Arithmetic.FLOAT if is_float else QUANTIZERS.get(chosen.quantizer).arithmetic
        return chosen.weight_bits, chosen.activation_bits, arithmetic
    width = max(read, default=FLOAT_BITS)
    return width, width, Arithmetic.FLOAT if width >= FLOAT_BITS else Arithmetic.INTEGER


def _channels(
    node: Node,
    inputs: Sequence[tuple[int, ...]],
    outputs: Sequence[tuple[int, ...]],
    weight: tuple[int, ...] | None,
) -> tuple[int, int]:
    if node.op == "linear" and weight is not None:
        return weight[1], weight[0]
    if node.op == "matmul":
        return (inputs[0][-1] if inputs else 0), outputs[0][-1]
    first = inputs[0] if inputs else outputs[0]
    return (first[1] if len(first) > 1 else 1), (outputs[0][1] if len(outputs[0]) > 1 else 1)


def _window(
    node: Node, inputs: Sequence[tuple[int, ...]], weight: tuple[int, ...] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return kernel and stride as (height, width); one-dimensional ones have height 1."""
    if node.op in ("conv", "conv_transpose") and weight is not None:
        return _pair(weight[2:]), _pair(_integers(node, "stride"))
    if "kernel" in node.attributes:
        return _pair(_integers(node, "kernel")), _pair(_integers(node, "stride"))
    if node.op in ("global_avg_pool", "global_max_pool"):
        image = _pair(inputs[0][2:])
        return image, image
    return (1, 1), (1, 1)


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _integers(node: Node, key: str) -> tuple[int, ...]:
    value = node.attributes[key]
    if not isinstance(value, tuple):
        raise TypeError(f"{node.name}: {key} must be integers, got {value!r}")
    return tuple(int(item) for item in value)


def _widths(graph: Graph, activation_bits: Mapping[str, int], plan: Plan) -> dict[str, int]:
    """Return the bits in which every value is stored."""
    if not activation_bits:
        return dict.fromkeys(graph.shapes, FLOAT_BITS)
    read: dict[tuple[str, str, int], int] = {}  # value, reader, position → width
    for point in place(graph, activation_bits, plan.numerics.other_bits, plan.numerics.function_inputs):
        for reader, index in point.readers:
            read[point.value, reader, index] = point.bits
    widths = dict.fromkeys(graph.outputs, FLOAT_BITS)
    passed: dict[str, int] = {}
    for node in graph.nodes:  # what is quantized before it is moved stays so
        if node.op in PASSING_OPS:
            width = read.get((node.inputs[0], node.name, 0), passed.get(node.inputs[0]))
            if width is not None:
                passed.update(dict.fromkeys(node.outputs, width))
    for node in reversed(graph.nodes):
        moves = node.op in PASSING_OPS or node.op == "concat"
        below = max([passed.get(value, widths.get(value, 0)) for value in node.outputs])
        for value in node.outputs:
            widths[value] = passed.get(value, widths.get(value, FLOAT_BITS))
        for index, value in enumerate(node.inputs):
            width = read.get((value, node.name, index))
            if width is None:
                width = below if moves else FLOAT_BITS
            widths[value] = max(widths.get(value, 0), width)
    return {value: widths.get(value, FLOAT_BITS) for value in graph.shapes}
