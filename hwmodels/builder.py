"""Write a network as a workload, layer by layer, without a framework: for tables, references and calibration."""

from dataclasses import replace

from hwmodels.workload import Arithmetic, Kernel, KernelKind, TensorInfo, Workload


class WorkloadBuilder:
    """Collects kernels. A tensor is (channels, height, width); vectors have one pixel.

    Every method that adds a kernel returns the name of the tensor it writes. Weights and activations have the widths
    given here; 32 bits are float.
    """

    def __init__(self, shape: tuple[int, int, int], *, weight_bits: int = 32, activation_bits: int = 32) -> None:
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self._arithmetic = Arithmetic.FLOAT if weight_bits == 32 else Arithmetic.INTEGER
        self._kernels: list[Kernel] = []
        self._tensors: dict[str, TensorInfo] = {}
        self.input = self._tensor("input", shape)

    @property
    def last(self) -> str:
        """Name of the kernel that was added last."""
        return self._kernels[-1].name

    def shape(self, tensor: str) -> tuple[int, int, int]:
        """Return (channels, height, width) of a tensor."""
        channels, height, width = self._tensors[tensor].shape
        return channels, height, width

    def conv(
        self,
        source: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        out_size: tuple[int, int] | None = None,
        name: str | None = None,
        bias: bool = True,
        window: tuple[int, int] | None = None,
    ) -> str:
        """Add a convolution with its activation fused; padding keeps ``size / stride`` unless ``out_size`` is given."""
        inside, height, width = self.shape(source)
        rows, columns = window or (kernel, kernel)
        size = out_size or (-(-height // stride), -(-width // stride))
        kind = KernelKind.CONV
        if groups > 1 and groups == inside:
            kind = KernelKind.DEPTHWISE
        elif groups == 1 and (rows, columns) == (1, 1):
            kind = KernelKind.POINTWISE
        weights = inside // groups * channels * rows * columns
        return self._add(
            name or f"conv{len(self._kernels)}",
            kind,
            "conv",
            (source,),
            (channels, *size),
            kernel=(rows, columns),
            stride=(stride, stride),
            groups=groups,
            macs=weights * size[0] * size[1],
            weights=weights,
            biases=channels if bias else 0,
        )

    def depthwise(self, source: str, kernel: int = 3, stride: int = 1) -> str:
        """Add a depthwise convolution."""
        channels = self.shape(source)[0]
        return self.conv(source, channels, kernel, stride, groups=channels)

    def linear(self, source: str, features: int) -> str:
        """Add a fully connected layer over all values of a tensor."""
        channels, height, width = self.shape(source)
        weights = channels * height * width * features
        return self._add(
            f"linear{len(self._kernels)}",
            KernelKind.LINEAR,
            "linear",
            (source,),
            (features, 1, 1),
            in_channels=channels * height * width,
            macs=weights,
            weights=weights,
            biases=features,
        )

    def pool(self, source: str, kernel: int = 2, stride: int = 2, *, out_size: tuple[int, int] | None = None) -> str:
        """Add a pooling."""
        channels, height, width = self.shape(source)
        size = out_size or (-(-height // stride), -(-width // stride))
        shape = (channels, *size)
        return self._add(
            f"pool{len(self._kernels)}",
            KernelKind.POOL,
            "pool",
            (source,),
            shape,
            kernel=(kernel, kernel),
            stride=(stride, stride),
        )

    def global_pool(self, source: str) -> str:
        """Add a pooling over all pixels."""
        _, height, width = self.shape(source)
        return self.pool(source, max(height, width), max(height, width), out_size=(1, 1))

    def elementwise(self, op: str, *sources: str) -> str:
        """Add an element-wise kernel: the result has the first tensor's shape."""
        shape = self.shape(sources[0])
        return self._add(f"{op}{len(self._kernels)}", KernelKind.ELEMENTWISE, op, sources, shape)

    def normalise(self, source: str) -> str:
        """Add a batch norm that is not folded into a convolution."""
        name, shape = f"batch_norm{len(self._kernels)}", self.shape(source)
        return self._add(name, KernelKind.NORMALISATION, "batch_norm", (source,), shape, weights=4 * shape[0])

    def add(self, *sources: str) -> str:
        """Add tensors."""
        return self.elementwise("add", *sources)

    def move(self, op: str, *sources: str, shape: tuple[int, int, int]) -> str:
        """Add a kernel that only moves data: concat, slice, shuffle."""
        return self._add(f"{op}{len(self._kernels)}", KernelKind.DATA_MOVEMENT, op, sources, shape)

    def concat(self, *sources: str) -> str:
        """Join tensors along their channels."""
        _, height, width = self.shape(sources[0])
        return self.move("concat", *sources, shape=(sum(self.shape(name)[0] for name in sources), height, width))

    def squeeze_excite(self, source: str, reduced: int) -> str:
        """Add pooling, two 1×1 convolutions and the scaling by their result."""
        channels = self.shape(source)[0]
        gate = self.conv(self.conv(self.global_pool(source), reduced, 1), channels, 1)
        return self.elementwise("mul", source, gate)

    def build(self, *outputs: str) -> Workload:
        """Return the workload; without names the last tensor is the output."""
        names = outputs or self._kernels[-1].outputs
        return Workload(
            kernels=tuple(self._kernels), tensors=dict(self._tensors), inputs=(self.input,), outputs=tuple(names)
        )

    def _tensor(self, name: str, shape: tuple[int, int, int]) -> str:
        self._tensors[name] = TensorInfo(shape=shape, bits=self.activation_bits)
        return name

    def _add(
        self,
        name: str,
        kind: KernelKind,
        op: str,
        sources: tuple[str, ...],
        shape: tuple[int, int, int],
        *,
        in_channels: int | None = None,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        groups: int = 1,
        macs: int = 0,
        weights: int = 0,
        biases: int = 0,
    ) -> str:
        output = self._tensor(f"{name}_out", shape)
        self._kernels.append(
            Kernel(
                name=name,
                kind=kind,
                op=op,
                inputs=sources,
                outputs=(output,),
                in_channels=self.shape(sources[0])[0] if in_channels is None else in_channels,
                out_channels=shape[0],
                kernel=kernel,
                stride=stride,
                groups=groups,
                macs=macs,
                weights=weights,
                biases=biases,
                weight_bits=self.weight_bits,
                activation_bits=self.activation_bits,
                arithmetic=self._arithmetic,
            )
        )
        return output


def with_bits(workload: Workload, *, weight_bits: int, activation_bits: int) -> Workload:
    """Return the same network at uniform widths; 32 bits are float."""
    arithmetic = Arithmetic.FLOAT if weight_bits == 32 else Arithmetic.INTEGER
    return replace(
        workload,
        kernels=tuple(
            replace(kernel, weight_bits=weight_bits, activation_bits=activation_bits, arithmetic=arithmetic)
            for kernel in workload.kernels
        ),
        tensors={name: replace(info, bits=activation_bits) for name, info in workload.tensors.items()},
    )
