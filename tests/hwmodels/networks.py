"""Small workloads whose costs can be worked out by hand."""

from itertools import pairwise

from hwmodels.workload import Arithmetic, Kernel, KernelKind, TensorInfo, Workload


def conv_chain(
    channels: tuple[int, ...] = (3, 8, 16),
    *,
    size: int = 8,
    weight_bits: int = 8,
    activation_bits: int = 8,
    kernel: int = 3,
    arithmetic: Arithmetic = Arithmetic.INTEGER,
) -> Workload:
    """Convolutions of stride 1 one after the other; channels[0] is the input's."""
    tensors = {"t0": TensorInfo(shape=(channels[0], size, size), bits=activation_bits)}
    kernels = []
    for index, (inside, outside) in enumerate(pairwise(channels)):
        tensors[f"t{index + 1}"] = TensorInfo(shape=(outside, size, size), bits=activation_bits)
        weights = inside * outside * kernel * kernel
        kernels.append(
            Kernel(
                name=f"conv{index}",
                kind=KernelKind.POINTWISE if kernel == 1 else KernelKind.CONV,
                op="conv",
                inputs=(f"t{index}",),
                outputs=(f"t{index + 1}",),
                in_channels=inside,
                out_channels=outside,
                kernel=(kernel, kernel),
                macs=weights * size * size,
                weights=weights,
                biases=outside,
                weight_bits=weight_bits,
                activation_bits=activation_bits,
                arithmetic=arithmetic,
            )
        )
    return Workload(kernels=tuple(kernels), tensors=tensors, inputs=("t0",), outputs=(f"t{len(kernels)}",))


def float_chain(channels: tuple[int, ...] = (3, 8, 16), *, size: int = 8) -> Workload:
    """The same chain in float32."""
    return conv_chain(channels, size=size, weight_bits=32, activation_bits=32, arithmetic=Arithmetic.FLOAT)


def residual_block(*, channels: int = 4, size: int = 4, bits: int = 8) -> Workload:
    """One convolution and the addition of its input: the input lives until the addition."""
    chain = conv_chain((channels, channels), size=size, weight_bits=bits, activation_bits=bits)
    addition = Kernel(
        name="add",
        kind=KernelKind.ELEMENTWISE,
        op="add",
        inputs=("t0", "t1"),
        outputs=("t2",),
        in_channels=channels,
        out_channels=channels,
        weight_bits=bits,
        activation_bits=bits,
        arithmetic=Arithmetic.INTEGER,
    )
    tensors = {**chain.tensors, "t2": chain.tensors["t1"]}
    return Workload(kernels=(*chain.kernels, addition), tensors=tensors, inputs=("t0",), outputs=("t2",))
