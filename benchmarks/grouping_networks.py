"""Two small networks with what classifiers do not have: a segmentation network and a detector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OWN = ("segmentation", "detection")


def own_network(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return a network of this module and the shape of its images."""
    return (Segmentation(), (3, 64, 64)) if name == "segmentation" else (Detector(), (3, 64, 64))


def _conv(inner: int, outer: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Module:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
    )


class Segmentation(nn.Module):
    """Encoder and decoder: parallel dilated convolutions, transposed convolutions, long shortcuts by concatenation."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first = _conv(3, 16)
        self.second = _conv(16, 32, stride=2)
        self.third = _conv(32, 48, stride=2)
        self.context = nn.ModuleList(_conv(48, 16, dilation=dilation) for dilation in (1, 2, 4))
        self.overview = _conv(48, 16, kernel=1)
        self.joined = _conv(64, 48, kernel=1)
        self.up1 = nn.ConvTranspose2d(48, 32, 4, stride=2, padding=1)
        self.decode1 = _conv(64, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1)
        self.decode2 = _conv(32, 16)
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores per class and pixel."""
        first = self.first(x)
        second = self.second(first)
        third = self.third(second)
        overview = self.overview(third.mean((2, 3), keepdim=True)).expand(-1, -1, 16, 16)
        third = self.joined(torch.cat([*(branch(third) for branch in self.context), overview], 1))
        second = self.decode1(torch.cat([F.relu(self.up1(third)), second], 1))
        first = self.decode2(torch.cat([F.relu(self.up2(second)), first], 1))
        result: Tensor = self.head(first)
        return result


class ShuffleUnit(nn.Module):
    """A grouped bottleneck with a channel shuffle and a shortcut, as in ShuffleNet."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.reduce = _conv(channels, channels // 2, kernel=1, groups=groups)
        self.depthwise = nn.Sequential(
            nn.Conv2d(channels // 2, channels // 2, 3, padding=1, groups=channels // 2, bias=False),
            nn.BatchNorm2d(channels // 2),
        )
        self.expand = nn.Sequential(
            nn.Conv2d(channels // 2, channels, 1, groups=groups, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels as come in."""
        reduced = self.reduce(x)
        batch, channels, height, width = reduced.shape
        apart = reduced.view(batch, self.groups, channels // self.groups, height, width).transpose(1, 2)
        mixed = apart.reshape(batch, channels, height, width)
        return F.relu(x + self.expand(self.depthwise(mixed)))


class Detector(nn.Module):
    """A backbone with channel shuffle, a feature pyramid, and heads for classes and boxes on two scales."""

    def __init__(self, classes: int = 4, anchors: int = 3) -> None:
        super().__init__()
        self.stem = _conv(3, 24, stride=2)
        self.stage1 = nn.Sequential(_conv(24, 48, stride=2), ShuffleUnit(48, 2))
        self.stage2 = nn.Sequential(_conv(48, 96, stride=2), ShuffleUnit(96, 2))
        self.lateral1 = nn.Conv2d(48, 32, 1)
        self.lateral2 = nn.Conv2d(96, 32, 1)
        self.smooth = _conv(32, 32)
        self.tower = _conv(32, 32)  # shared by both scales
        self.classes = nn.Conv2d(32, anchors * classes, 3, padding=1)
        self.boxes = nn.Conv2d(32, anchors * 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return class scores of both scales, then boxes of both."""
        fine = self.stage1(self.stem(x))
        coarse = self.lateral2(self.stage2(fine))
        fine = self.smooth(self.lateral1(fine) + F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        towers = [self.tower(level) for level in (fine, coarse)]
        scores = [self.classes(level).sigmoid() for level in towers]
        boxes = [self.boxes(level) for level in towers]
        return (*scores, *boxes)
