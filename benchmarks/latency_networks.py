"""MobileNetV2 and ResNet-18, as published, with random weights: the time that a network takes does not depend on them.

Sources: Sandler et al. 2018, arXiv:1801.04381, table 2; He et al. 2015, arXiv:1512.03385, table 1.
"""

import torch
from torch import Tensor, nn

INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repetitions and first stride of MobileNetV2's stages."""
CLASSES = 1000


class Residual(nn.Module):
    """A body, and a shortcut that is added to it; then an activation."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        summed: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return summed


def mobilenet_v2() -> nn.Module:
    """Return MobileNetV2 at width 1: 300 million multiply-accumulates at 224 × 224."""
    stages: list[nn.Module] = [_layer(3, 32, 3, stride=2, limit=True)]
    channels = 32
    for expansion, out, repetitions, first_stride in INVERTED:
        for index in range(repetitions):
            stages.append(_inverted(channels, out, expansion, first_stride if index == 0 else 1))
            channels = out
    return _finished(nn.Sequential(*stages, _layer(channels, 1280, 1, limit=True)), 1280)


def resnet18() -> nn.Module:
    """Return ResNet-18: 1.8 billion multiply-accumulates at 224 × 224."""
    stages: list[nn.Module] = [_layer(3, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for out in (64, 128, 256, 512):
        for index in range(2):
            stride = 2 if index == 0 and out != 64 else 1
            same = stride == 1 and channels == out
            shortcut = nn.Identity() if same else _layer(channels, out, 1, stride=stride, active=False)
            body = nn.Sequential(_layer(channels, out, 3, stride=stride), _layer(out, out, 3, active=False))
            stages.append(Residual(body, shortcut, nn.ReLU()))
            channels = out
    return _finished(nn.Sequential(*stages), 512)


def _inverted(channels: int, out: int, expansion: int, stride: int) -> nn.Module:
    inner = channels * expansion
    wide = [] if expansion == 1 else [_layer(channels, inner, 1, limit=True)]
    body = nn.Sequential(
        *wide,
        _layer(inner, inner, 3, stride=stride, groups=inner, limit=True),
        _layer(inner, out, 1, active=False),
    )
    return Residual(body, nn.Identity(), nn.Identity()) if stride == 1 and channels == out else body


def _layer(
    channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, limit: bool = False, active: bool = True
) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    activation = [nn.ReLU6() if limit else nn.ReLU()] if active else []
    return nn.Sequential(conv, nn.BatchNorm2d(out), *activation)


def _finished(stages: nn.Module, channels: int) -> nn.Module:
    """Add the head; give batch norm the statistics of random images, so that values keep their magnitude."""
    network = nn.Sequential(stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(1)))
    return network.eval()
