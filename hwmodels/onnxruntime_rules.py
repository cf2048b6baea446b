"""What ONNX Runtime's graph optimizer makes of a network on CPUs, kernel by kernel.

Convolutions swallow one activation, and in float a residual addition; other activations are launches of their own.
Float convolutions and poolings work on channels in blocks, integer ones on channels last: where a tensor goes on to an
operator that knows neither layout, it is reordered first. Channels last suit slices and paddings, too. Integer networks
quantize their input. Where a convolution's own channel counts forbid blocks is for the price of that kernel to say
(``predictor``), so that these rules depend on no choice of a search.

Read off optimized graphs of ONNX Runtime 1.23 to 1.32 (``SessionOptions.optimized_model_filepath``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hwmodels.workload import Arithmetic, Kernel, KernelKind, Workload

CONVOLUTIONS = frozenset({KernelKind.CONV, KernelKind.POINTWISE, KernelKind.DEPTHWISE})
FUSED_FLOAT = frozenset({"relu", "clip", "leaky_relu", "sigmoid", "tanh", "hard_sigmoid", "hard_swish"})
FUSED_INTEGER = frozenset({"relu", "clip"})  # the requantization saturates
ANY_LAYOUT = frozenset(
    {"add", "mul", "concat", "batch_norm", "relu", "clip", "leaky_relu", "sigmoid", "tanh", "hard_sigmoid"}
)
ANY_INTEGER_LAYOUT = ANY_LAYOUT | {"slice", "pad"}  # a transposition is pushed through them, a block of channels is not
FLOAT_BITS = 32


def as_onnxruntime_runs(workload: Workload) -> Workload:
    """Return the workload as ONNX Runtime launches it.

    What rewrites one tensor (reordering, an activation that is not fused) names it as input and output, so that sizes
    follow the tensor.
    """
    kernels = _with_sums([part for kernel in workload.kernels for part in _parts(kernel)], workload)
    return replace(workload, kernels=tuple(_with_conversions(kernels, workload)))


def _parts(kernel: Kernel) -> Iterable[Kernel]:
    """Yield a kernel and those of its followers that are launches of their own."""
    followers = list(kernel.followers)
    kept: tuple[str, ...] = ()
    if followers and _takes(kernel, followers[0]):
        kept = (followers.pop(0),)
    yield replace(kernel, followers=kept)
    for place, name in enumerate(followers):
        yield _rewrite(kernel, name, kernel.outputs[0], number=place)


def _takes(kernel: Kernel, follower: str) -> bool:
    if kernel.arithmetic is not Arithmetic.FLOAT:
        return follower in FUSED_INTEGER
    return bool(kernel.macs) and follower in FUSED_FLOAT


def _rewrite(kernel: Kernel, op: str, tensor: str, *, number: int = 0) -> Kernel:
    return Kernel(
        name=f"{kernel.name}/{op}{number or ''}",
        kind=KernelKind.ELEMENTWISE,
        op=op,
        inputs=(tensor,),
        outputs=(tensor,),
        in_channels=kernel.out_channels,
        out_channels=kernel.out_channels,
        weight_bits=kernel.activation_bits,
        activation_bits=kernel.activation_bits,
        arithmetic=kernel.arithmetic,
    )


def _with_sums(kernels: list[Kernel], workload: Workload) -> list[Kernel]:
    """Merge float additions into the convolution that wrote one operand for nobody else, and the activation behind."""
    readers: dict[str, int] = {}
    for name in (*workload.outputs, *(name for kernel in kernels for name in kernel.inputs)):
        readers[name] = readers.get(name, 0) + 1
    result: list[Kernel] = []
    writer: dict[str, int] = {}
    for kernel in kernels:
        if kernel.inputs == kernel.outputs and kernel.op in FUSED_FLOAT and result:
            host = result[-1]
            if host.op.endswith("+add") and host.outputs == kernel.outputs and not host.followers:
                result[-1] = replace(host, followers=(kernel.op,))
                continue
        place = _sum_host(kernel, result, writer, readers, workload)
        if place is None:
            result.append(kernel)
        else:
            host = result[place]
            others = tuple(name for name in kernel.inputs if name not in host.outputs)
            merged = replace(
                host,
                op=f"{host.op}+add",
                inputs=(*host.inputs, *others),
                outputs=kernel.outputs,
                fused=(*host.fused, kernel.name, *kernel.fused),
                followers=kernel.followers,
            )
            del result[place]  # it runs where its last operand is ready
            writer = {name: index - (index > place) for name, index in writer.items()}
            result.append(merged)
        for name in result[-1].outputs:
            writer[name] = len(result) - 1
    return result


def _sum_host(
    kernel: Kernel, result: list[Kernel], writer: Mapping[str, int], readers: Mapping[str, int], workload: Workload
) -> int | None:
    if kernel.op != "add" or kernel.arithmetic is not Arithmetic.FLOAT or len(kernel.inputs) != 2:
        return None
    shapes = {workload.tensors[name].shape for name in kernel.inputs}
    for name in kernel.inputs:
        place = writer.get(name)
        if place is None or readers[name] != 1 or len(shapes) != 1:
            continue
        host = result[place]
        if host.kind in CONVOLUTIONS and host.op == "conv" and not host.followers and host.outputs == (name,):
            return place
    return None


def _with_conversions(kernels: list[Kernel], workload: Workload) -> Iterable[Kernel]:
    """Yield the kernels with those before them that change a tensor's layout or width."""
    native: dict[str, bool] = dict.fromkeys(workload.inputs, False)  # in the convolutions' own layout
    integer: dict[str, bool] = dict.fromkeys(workload.inputs, False)
    both: set[str] = set()  # at hand in either layout
    for kernel in kernels:
        is_integer = kernel.arithmetic is not Arithmetic.FLOAT
        wants = _wants_native(kernel, native, workload)
        for name in dict.fromkeys(kernel.inputs):
            if is_integer and not integer.get(name, False):
                yield replace(_rewrite(kernel, "quantize", name), arithmetic=Arithmetic.FLOAT)
                integer[name] = True
            elif not is_integer and integer.get(name, False):
                yield replace(_rewrite(kernel, "dequantize", name), arithmetic=Arithmetic.INTEGER)
                integer[name] = False
            if wants is None or native.get(name, False) == wants or name in both:
                continue
            if _has_pixels(name, workload) and not _reads_planes(kernel, is_integer):
                yield replace(_rewrite(kernel, "reorder", name), name=f"{kernel.name}/reorder/{name}")
                both.add(name)
        yield kernel
        layout = any(native.get(name, False) for name in kernel.inputs) if wants is None else wants
        for name in kernel.outputs:
            native[name] = layout
            integer[name] = is_integer and not (name in workload.outputs and workload.tensors[name].bits >= FLOAT_BITS)


def _wants_native(kernel: Kernel, native: Mapping[str, bool], workload: Workload) -> bool | None:
    """Say whether a kernel reads tensors in the convolutions' layout; ``None`` if it takes what it gets."""
    if kernel.kind in CONVOLUTIONS or kernel.kind is KernelKind.POOL:
        return True
    if kernel.op in (ANY_LAYOUT if kernel.arithmetic is Arithmetic.FLOAT else ANY_INTEGER_LAYOUT):
        shapes = {workload.tensors[name].shape[1:] for name in kernel.inputs}
        layouts = {native.get(name, False) for name in kernel.inputs}
        return False if len(shapes) > 1 or len(layouts) > 1 else layouts.pop()
    return None if kernel.inputs == kernel.outputs and kernel.kind is KernelKind.ELEMENTWISE else False


def _has_pixels(name: str, workload: Workload) -> bool:
    shape = workload.tensors[name].shape
    return len(shape) == 3 and shape[1] * shape[2] > 1


def _reads_planes(kernel: Kernel, is_integer: bool) -> bool:
    """Say whether a convolution reads channel by channel: float ones with few input channels do."""
    return not is_integer and kernel.kind in CONVOLUTIONS and kernel.groups == 1 and kernel.in_channels <= FEW_CHANNELS


FEW_CHANNELS = 4  # of images; more occur too, but then which layout is read depends on the processor
