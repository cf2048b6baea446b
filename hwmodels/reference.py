"""Published networks as workloads, from their papers: what measurements of devices are usually given for."""

from collections.abc import Callable

from hwmodels.builder import WorkloadBuilder
from hwmodels.errors import UnknownNameError
from hwmodels.workload import Workload

# Inverted residuals of MobileNetV2 (Sandler et al. 2018, table 2): expansion, channels, repeats, stride.
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Depthwise-separable layers of MobileNetV1 (Howard et al. 2017, table 1): channels, stride.
_MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
# Fast-downsampling MobileNet (Qin et al. 2018): 1/32 of the side after five of these layers.
_FD_MOBILENET = ((64, 2), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 4, (1024, 1))


def divisible(channels: float, by: int = 8) -> int:
    """Return channels rounded to a multiple, never below nine tenths, as the mobile networks do."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def mobilenet_v1(width: float = 1.0, size: int = 224, channels: int = 3, classes: int = 1000) -> Workload:
    """Return MobileNetV1 at a width and resolution."""
    return _separable(_MOBILENET_V1, 32, width, size, channels, classes)


def fd_mobilenet(width: float = 0.25, size: int = 224, channels: int = 3, classes: int = 1000) -> Workload:
    """Return FD-MobileNet at a width and resolution."""
    return _separable(_FD_MOBILENET, 32, width, size, channels, classes)


def _separable(
    layers: tuple[tuple[int, int], ...], stem: int, width: float, size: int, channels: int, classes: int
) -> Workload:
    build = WorkloadBuilder((channels, size, size))
    x = build.conv(build.input, int(stem * width), 3, 2)
    for outside, stride in layers:
        x = build.conv(build.depthwise(x, 3, stride), int(outside * width), 1)
    return build.build(build.linear(build.global_pool(x), classes))


def mobilenet_v2(width: float = 1.0, size: int = 224, channels: int = 3, classes: int = 1000) -> Workload:
    """Return MobileNetV2 at a width and resolution."""
    build = WorkloadBuilder((channels, size, size))
    x = build.conv(build.input, divisible(32 * width), 3, 2)
    for expansion, outside, repeats, first_stride in _MOBILENET_V2:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            inside = build.shape(x)[0]
            y = build.conv(x, inside * expansion, 1) if expansion > 1 else x
            y = build.conv(build.depthwise(y, 3, stride), divisible(outside * width), 1)
            x = build.add(x, y) if stride == 1 and build.shape(y)[0] == inside else y
    x = build.conv(x, divisible(1280 * max(width, 1.0)), 1)
    return build.build(build.linear(build.global_pool(x), classes))


def cifar_resnet(depth: int, *, size: int = 32, classes: int = 10) -> Workload:
    """Return the ResNet for 32×32 images with ``depth = 6n + 2`` layers (He et al. 2016, section 4.2).

    Depth 8 with 1×1 shortcuts is the image-classification network of MLPerf Tiny.
    """
    build = WorkloadBuilder((3, size, size))
    x = build.conv(build.input, 16, 3)
    for stage in range(3):
        for repeat in range((depth - 2) // 6):
            stride = 2 if stage and repeat == 0 else 1
            y = build.conv(build.conv(x, 16 << stage, 3, stride), 16 << stage, 3)
            x = build.add(build.conv(x, 16 << stage, 1, 2) if stride == 2 else x, y)
    return build.build(build.linear(build.global_pool(x), classes))


def ds_cnn() -> Workload:
    """Return the keyword-spotting network of MLPerf Tiny: 49×10 features, 64 channels, four separable layers."""
    build = WorkloadBuilder((1, 49, 10))
    x = build.conv(build.input, 64, stride=2, window=(10, 4), out_size=(25, 5))
    for _ in range(4):
        x = build.conv(build.depthwise(x, 3), 64, 1)
    return build.build(build.linear(build.global_pool(x), 12))


def autoencoder() -> Workload:
    """Return the anomaly-detection network of MLPerf Tiny: fully connected, 640 in and out, a waist of 8."""
    build = WorkloadBuilder((640, 1, 1))
    x = build.input
    for features in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        x = build.linear(x, features)
    return build.build(x)


def squeezenet(version: str = "1.1", size: int = 224, classes: int = 1000) -> Workload:
    """Return SqueezeNet 1.0 or 1.1 (Iandola et al. 2016)."""
    build = WorkloadBuilder((3, size, size))
    if version == "1.0":
        x, pools = build.conv(build.input, 96, 7, 2), (0, 3, 7)
    else:
        x, pools = build.conv(build.input, 64, 3, 2), (0, 2, 4)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if index in pools:
            x = build.pool(x, 3, 2)
        narrow = build.conv(x, squeeze, 1)
        x = build.concat(build.conv(narrow, squeeze * 4, 1), build.conv(narrow, squeeze * 4, 3))
    return build.build(build.global_pool(build.conv(x, classes, 1)))


def resnet(depth: int = 50, size: int = 224, *, stride_in_3x3: bool = True, classes: int = 1000) -> Workload:
    """Return ResNet-18, -34, -50, -101 or -152 (He et al. 2016)."""
    repeats = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    build = WorkloadBuilder((3, size, size))
    x = build.pool(build.conv(build.input, 64, 7, 2), 3, 2)
    for stage, count in enumerate(repeats):
        width = 64 << stage
        outside = width if depth < 50 else width * 4
        for repeat in range(count):
            stride = 2 if stage and repeat == 0 else 1
            if depth < 50:
                y = build.conv(build.conv(x, width, 3, stride), width, 3)
            else:
                first, second = (1, stride) if stride_in_3x3 else (stride, 1)
                y = build.conv(build.conv(build.conv(x, width, 1, first), width, 3, second), outside, 1)
            same = stride == 1 and build.shape(x)[0] == outside
            x = build.add(x if same else build.conv(x, outside, 1, stride), y)
    return build.build(build.linear(build.global_pool(x), classes))


def vgg(depth: int = 16, size: int = 224, classes: int = 1000) -> Workload:
    """Return VGG-11, -13, -16 or -19 (Simonyan and Zisserman 2015)."""
    repeats = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    build = WorkloadBuilder((3, size, size))
    x = build.input
    for stage, count in enumerate(repeats):
        for _ in range(count):
            x = build.conv(x, min(64 << stage, 512), 3)
        x = build.pool(x)
    for features in (4096, 4096):
        x = build.linear(x, features)
    return build.build(build.linear(x, classes))


NETWORKS: dict[str, Callable[[], Workload]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": lambda: resnet(18),
    "resnet50": lambda: resnet(50),
    "vgg16": vgg,
    "squeezenet_v1.1": squeezenet,
    "cifar_resnet20": lambda: cifar_resnet(20),
    "ds_cnn": ds_cnn,
    "autoencoder": autoencoder,
    "mlperf_tiny_resnet8": lambda: cifar_resnet(8),
}


def reference_network(name: str) -> Workload:
    """Return a published network by name, in float."""
    if name not in NETWORKS:
        raise UnknownNameError("network", f"unknown network; known: {', '.join(sorted(NETWORKS))}", name)
    return NETWORKS[name]()
