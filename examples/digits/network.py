"""The example's network: a small residual CNN, written as anybody would write it in PyTorch."""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut around them.

    The shortcut is the identity where the shape stays, so that the block could be left out altogether, and a strided
    1×1 convolution with batch norm where it does not.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in, h, w)`` to ``(batch, out, h / stride, w / stride)``."""
        y = self.relu(self.bn1(self.conv1(x)))
        merged: Tensor = self.relu(self.bn2(self.conv2(y)) + self.downsample(x))
        return merged


class ResNet(nn.Module):
    """A stem, three stages of two residual blocks each, global average pooling, and a linear classifier.

    Every stage but the first halves the image. Parameter names follow the usual CIFAR ResNets (``layer2.0.conv1``).

    Args:
        in_channels: Channels of the image.
        widths: Channels of the three stages.
        classes: Length of the output.
    """

    def __init__(self, *, in_channels: int = 1, widths: tuple[int, int, int] = (16, 24, 40), classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = _stage(widths[0], widths[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(widths[2], classes)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(batch, channels, h, w)`` to logits ``(batch, classes)``."""
        features = self.relu(self.bn1(self.conv1(image)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.linear(self.flatten(self.pool(features)))
        return logits


def _stage(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(in_channels, out_channels, stride=stride),
        ResidualBlock(out_channels, out_channels, stride=1),
    )
