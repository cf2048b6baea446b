"""Random networks to learn kernel times from: chains of the layers that vision networks are made of.

Kernels are timed inside a network, not alone, because a kernel that runs again and again finds its weights in the
cache. Layers, channels and resolutions are drawn; nothing is copied from a published network. Networks come in two
sizes: for photographs, and for thumbnails, whose kernels take little more than their launch; a fit to one size says
nothing of the other.
"""

from typing import NamedTuple

import numpy as np

from hwmodels.measure.graphs import GraphWriter
from hwmodels.workload import Workload

KERNELS = 34
ALIGNED, ANY = 0.85, 0.2  # shares of channel counts that are multiples of eight, by style of network
ACTIVATIONS = ("relu", "relu", "relu", "clip", "silu", "hard_swish", "")


class Size(NamedTuple):
    """How large networks are: what is drawn from, and bounds; larger kernels follow the trend."""

    resolutions: tuple[int, ...]
    stems: tuple[tuple[int, int], ...]  # kernel and stride of the first convolution
    channels: tuple[tuple[int, int, int], ...]  # least height, from, to
    kernel_macs: float  # of one kernel, at most
    tensor_values: float  # of one tensor, at most


LARGE = Size(
    resolutions=(96, 128, 160, 192, 224, 256),
    stems=((3, 2), (3, 2), (7, 2), (5, 2), (11, 4), (3, 1)),
    channels=((96, 8, 64), (44, 16, 256), (22, 24, 512), (11, 40, 1024), (0, 64, 2048)),
    kernel_macs=1.2e8,
    tensor_values=1.2e6,
)
SMALL = Size(
    resolutions=(24, 28, 32, 32, 48, 64),
    stems=((3, 1), (3, 1), (3, 2), (5, 2)),
    channels=((24, 4, 48), (12, 8, 96), (6, 12, 192), (0, 16, 320)),
    kernel_macs=5e6,
    tensor_values=5e4,
)


class RandomNetwork(NamedTuple):
    """A drawn network."""

    name: str
    model: bytes
    workload: Workload


def random_network(seed: int, *, int8: bool, small: bool = False) -> RandomNetwork:
    """Return a network; equal arguments give equal networks. Odd seeds have channel counts as pruning leaves them."""
    draw = _Draw(seed, int8=int8, size=SMALL if small else LARGE)
    output = draw.network()
    name = f"{'int8' if int8 else 'float'}-{'small-' if small else ''}{seed}"
    return RandomNetwork(name, draw.writer.model(output), draw.writer.workload(output))


class _Draw:
    def __init__(self, seed: int, *, int8: bool, size: Size) -> None:
        self._random = np.random.default_rng([seed, int8])
        self._size = size
        self._aligned = ANY if seed % 2 else ALIGNED
        self._int8 = int8
        side = int(self._random.choice(size.resolutions))
        self.writer = GraphWriter((3, side, side), int8=int8, generator=self._random)
        self._activation = str(self._random.choice(("relu", "clip") if int8 else ACTIVATIONS))
        self._same: list[str] = []  # tensors of the present resolution

    def network(self) -> str:
        """Write a network and return its output."""
        now = self._stem()
        steps = (
            "dense",
            "point",
            "depth",
            "residual",
            "bottleneck",
            "large",
            "grouped",
            "gate",
            "join",
            "norm",
            "pool",
        )
        shares = np.array([0.16, 0.18, 0.13, 0.13, 0.1, 0.06, 0.06, 0.05, 0.06, 0.03, 0.04])
        if self._int8:
            shares[[7, 9]] = 0  # gates and loose batch norms stay float where networks are quantized
        count = 0
        while count < KERNELS:
            step = str(self._random.choice(steps, p=shares / shares.sum()))
            before = self._height(now)
            stride = 2 if before > 7 and self._random.random() < self._hurry(count, before) else 1
            following = getattr(self, f"_{step}")(now, stride)
            count += 2 if step in ("residual", "gate") else 3 if step == "bottleneck" else 1
            if self._height(following) != before:
                self._same = []
            self._same.append(following)
            now = following
        return self._head(now)

    def _hurry(self, count: int, height: int) -> float:
        """Return how likely the next step halves the resolution: so that five levels fill the network."""
        level = np.log2(224 / height) - 1
        return float(0.12 + 0.12 * max(0.0, count / KERNELS * 4 - level))

    def _height(self, tensor: str) -> int:
        return self.writer.shape(tensor)[1]

    def _channels(self, height: int, *, most: float = np.inf) -> int:
        _, low, high = next(row for row in self._size.channels if height >= row[0])
        high = max(low + 1, min(high, int(self._size.tensor_values / height**2), int(most)))
        drawn = float(np.exp(self._random.uniform(np.log(low), np.log(high))))
        unit = int(self._random.choice((16, 8))) if self._random.random() < self._aligned else 1
        return max(unit, round(drawn / unit) * unit)

    def _conv(self, source: str, kernel: int, stride: int, *, channels: int = 0, activation: bool = True) -> str:
        _, height, _ = self.writer.shape(source)
        if self._most(source, kernel, stride) < 8:
            kernel = 1
        most = self._most(source, kernel, stride)
        chosen = channels or self._channels(height // stride, most=most)
        name = self._activation if activation else ""
        return self.writer.conv(source, chosen, kernel, stride, activation=name)

    def _most(self, source: str, kernel: int, stride: int) -> float:
        """Return how many channels a convolution may write."""
        inside, height, _ = self.writer.shape(source)
        return self._size.kernel_macs / ((height // stride) ** 2 * inside * kernel**2)

    def _stem(self) -> str:
        kernel, stride = self._random.choice(self._size.stems)
        now = self._conv(self.writer.input, int(kernel), int(stride))
        return self.writer.pool(now, 3, 2) if self._random.random() < 0.4 else now

    def _dense(self, now: str, stride: int) -> str:
        return self._conv(now, 3, stride)

    def _point(self, now: str, stride: int) -> str:
        return self._conv(now, 1, stride, activation=self._random.random() < 0.6)

    def _large(self, now: str, stride: int) -> str:
        return self._conv(now, int(self._random.choice((5, 7))), stride)

    def _depth(self, now: str, stride: int) -> str:
        channels = self.writer.shape(now)[0]
        kernel = int(self._random.choice((3, 3, 5)))
        return self.writer.conv(now, channels, kernel, stride, groups=channels, activation=self._activation)

    def _grouped(self, now: str, stride: int) -> str:
        inside = self.writer.shape(now)[0]
        width = int(self._random.choice((8, 16, 32)))
        groups = max(1, inside // width)
        if inside % groups:
            now = self._conv(now, 1, 1, channels=max(1, inside // width) * width)
            groups = self.writer.shape(now)[0] // width
        return self.writer.conv(now, self.writer.shape(now)[0], 3, stride, groups=groups, activation=self._activation)

    def _residual(self, now: str, stride: int) -> str:
        """Add a convolution and its operand, as blocks with a shortcut end."""
        channels = self.writer.shape(now)[0]
        inner = self._conv(now, 1 if self._random.random() < 0.5 else 3, 1)
        kernel = 1 if self._random.random() < 0.6 or channels > self._most(inner, 3, 1) else 3
        back = self._conv(inner, kernel, 1, channels=channels, activation=False)
        return self.writer.add(back, now, activation=str(self._random.choice(("relu", ""))))

    def _bottleneck(self, now: str, stride: int) -> str:
        """Widen, work channel by channel, narrow."""
        inside, height, _ = self.writer.shape(now)
        most = min(self._size.tensor_values / height**2, self._most(now, 1, 1), 2048)
        wide = min(inside * int(self._random.choice((3, 4, 6))), int(most))
        middle = self._conv(now, 1, 1, channels=max(wide, 8))
        return self._conv(self._depth(middle, stride), 1, 1, activation=False)

    def _gate(self, now: str, stride: int) -> str:
        """Scale channels by what their means say."""
        channels = self.writer.shape(now)[0]
        narrow = self.writer.conv(self.writer.global_pool(now), max(4, channels // 8), 1, activation="relu")
        return self.writer.scaled(now, self.writer.conv(narrow, channels, 1, activation="sigmoid"))

    def _join(self, now: str, stride: int) -> str:
        """Concatenate with one or two earlier tensors of the same resolution."""
        others = [name for name in self._same if name != now]
        height = self._height(now)
        if not others:
            return self._dense(now, stride)
        chosen = [str(name) for name in self._random.choice(others, min(len(others), 2), replace=False)]
        total = sum(self.writer.shape(name)[0] for name in (now, *chosen))
        return (
            self.writer.concat(now, *chosen)
            if total * height**2 < self._size.tensor_values
            else self._point(now, stride)
        )

    def _norm(self, now: str, stride: int) -> str:
        return self.writer.batch_norm(now, activation="relu")

    def _pool(self, now: str, stride: int) -> str:
        average = bool(self._random.random() < 0.4)
        if stride == 2 or self._height(now) < 8:
            return self.writer.pool(now, 2 if average else 3, 2 if self._height(now) > 7 else 1, average=average)
        return self.writer.pool(now, 3, 1)

    def _head(self, now: str) -> str:
        if self._random.random() < 0.6:
            now = self.writer.global_pool(now)
        elif self._height(now) > 7:
            now = self.writer.pool(now, 2, 2)
        inside = int(np.prod(self.writer.shape(now)))
        if inside > LARGEST_WEIGHTS / 1000:
            now = self.writer.global_pool(now)
            inside = self.writer.shape(now)[0]
        if self._random.random() < 0.5:
            most = max(LARGEST_WEIGHTS / inside, 65)
            now = self.writer.linear(
                now, int(np.exp(self._random.uniform(np.log(64), np.log(min(4096, most))))), activation="relu"
            )
            inside = self.writer.shape(now)[0]
        return self.writer.linear(now, int(self._random.choice((10, 100, 1000))))


LARGEST_WEIGHTS = 4e7  # of one fully connected layer
