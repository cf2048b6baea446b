"""What PyTorch exports comes in and computes what ONNX Runtime computes on the original file."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.network.build import build_module
from compress.network.graph import Network
from compress.network.onnx_import import import_onnx
from tests.compress.network.onnx_import.exporting import CURRENT, export, randomise, runtime_logits


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + x)


class PreActivation(nn.Module):
    """Batch norm that no convolution can take in, then concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depthwise(x))
        gate = F.hardsigmoid(self.up(F.silu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return F.relu6(x * gate)


class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, self.conv(right)], dim=1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Attention(nn.Module):
    """Patches, a class token, positions, self-attention, layer norm, GELU: a vision transformer of one block."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(8, 12, 4, stride=4)
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, 12)), nn.Parameter(torch.zeros(1, 10, 12))
        self.norm1, self.attention = nn.LayerNorm(12), nn.MultiheadAttention(12, 3, batch_first=True)
        self.norm2, self.mlp = nn.LayerNorm(12), nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return x[:, 0]


class SeparateHeads(nn.Module):
    """Attention as it is written by hand, in operators that every operator set has."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.norm = nn.Linear(16, 3 * 16), nn.LayerNorm(16)
        self.out, self.gelu = nn.Linear(16, 16), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.flatten(2))
        n, length, width = x.shape
        q, k, v = self.queries(x).reshape(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * 0.25).softmax(-1)
        mixed: Tensor = self.gelu(self.out((weights @ v).transpose(1, 2).reshape(n, length, width)))
        return mixed


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.norm, self.prelu = nn.GroupNorm(3, 6), nn.PReLU(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.norm(self.up(x)))
        return F.interpolate(x, scale_factor=2, mode="nearest") + F.interpolate(x, scale_factor=2, mode="bilinear")


class Pooling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        down = F.max_pool2d(F.pad(x, (1, 0, 2, 1)), 3, stride=2, ceil_mode=True)
        mean = F.avg_pool2d(down, 2, stride=1, padding=1, count_include_pad=False)
        return (
            mean.mean((2, 3), keepdim=True)
            + down.amax((2, 3), keepdim=True)
            - x[:, :, ::3, 1:5].sum((2, 3))[..., None, None]
        )


class Activations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(x, 0.2) + F.elu(x) + F.softplus(x) + torch.tanh(x) * torch.sigmoid(x)
        x = self.slope(x) + torch.exp(-x.abs()) + torch.clamp(x, min=-0.5) + (x * x + 1).sqrt() + F.mish(x)
        return torch.maximum(x, F.log_softmax(x, 1)) / 2 + F.selu(x) - x**2


HEAD = (1, 8, 12, 12)


class Everything(nn.Module):
    """One of each, because the current exporter takes seconds per network."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(Residual(), ChannelShuffle(), SqueezeExcite(), Activations())
        self.second = nn.Sequential(PreActivation(), nn.Conv2d(12, 8, 1), Decoder(), Pooling())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y


BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, HEAD),
    "pre_activation": (PreActivation, HEAD),
    "squeeze_excite": (SqueezeExcite, HEAD),
    "channel_shuffle": (lambda: nn.Sequential(ChannelShuffle(), ChannelShuffle()), (1, 8, 6, 6)),
    "attention": (Attention, HEAD),
    "separate_heads": (SeparateHeads, (1, 5, 4, 4)),
    "decoder": (Decoder, (1, 8, 5, 6)),
    "pooling": (Pooling, HEAD),
    "activations": (Activations, (1, 8, 3, 3)),
    "everything": (Everything, HEAD),
}


class Classifier(nn.Module):
    """A block with a linear layer behind it: every block so ends in logits."""

    def __init__(self, block: nn.Module, image: tuple[int, ...]) -> None:
        super().__init__()
        self.block = block
        self.pool = nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            features = block.eval()(torch.zeros(image))
        self.pooled = features.ndim == 4
        width = features.shape[1] if self.pooled else features[0].numel()
        self.fc = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        logits: Tensor = self.fc(torch.flatten(self.pool(x) if self.pooled else x, 1))
        return logits


def classifier(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    build, image = BLOCKS[name]
    return randomise(Classifier(build(), image)), image


def imported(name: str, exporter: str, folder: Path) -> tuple[Network, float]:
    """Return the network, and how far its logits for three images together are from ONNX Runtime's, one by one."""
    module, image = classifier(name)
    path = folder / f"{name}.onnx"
    beside = export(module, torch.rand(image), path, exporter)
    images = torch.randn((3, *image[1:]), generator=torch.Generator().manual_seed(1))
    expected = runtime_logits(path, images)

    network = import_onnx(path, beside)

    with torch.inference_mode():
        logits = build_module(network)(images).numpy()
    return network, float(np.abs(logits - expected).max() / np.abs(expected).max())


LEGACY = [
    (name, f"legacy-{opset}")
    for name in BLOCKS
    for opset in (11, 13, 17)
    if name != "everything" and (name != "attention" or opset == 17)  # the exporter wants operator set 14 for that
]


@pytest.mark.parametrize(("name", "exporter"), LEGACY)
def test_a_legacy_export_computes_what_onnx_runtime_does(name: str, exporter: str, tmp_path: Path) -> None:
    _, difference = imported(name, exporter, tmp_path)

    assert difference < 1e-4


@pytest.mark.slow  # that exporter takes seconds for every network
@pytest.mark.parametrize("name", ["everything", "attention", "separate_heads"])
def test_a_current_export_computes_what_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    _, difference = imported(name, CURRENT, tmp_path)

    assert difference < 1e-4


@pytest.mark.parametrize("exporter", ["legacy-11", "legacy-17"])
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("squeeze_excite", {"hard_swish": 1, "silu": 1, "global_avg_pool": 2}),
        ("separate_heads", {"layer_norm": 1, "gelu": 1, "linear": 3, "erf": 0, "mean": 0}),
        ("decoder", {"group_norm": 1, "instance_norm": 0}),
    ],
)
def test_what_exporters_take_apart_is_one_operator_again(
    name: str, exporter: str, wanted: dict[str, int], tmp_path: Path
) -> None:
    network, _ = imported(name, exporter, tmp_path)

    counts = Counter(node.op for node in network.graph.nodes)
    assert {op: counts[op] for op in wanted} == wanted


def test_layers_keep_the_names_of_their_nodes(tmp_path: Path) -> None:
    network, _ = imported("residual", "legacy-17", tmp_path)

    assert [node.name for node in network.graph.nodes if node.op in ("conv", "linear")] == [
        "/block/conv1/Conv",
        "/block/conv2/Conv",
        "/fc/Gemm",
    ]


def test_a_named_batch_comes_in_as_a_fixed_one_does(tmp_path: Path) -> None:
    module, image = classifier("channel_shuffle")
    path = tmp_path / "named.onnx"
    axes = {"image": {0: "batch"}}
    export(module, torch.rand(image), path, "legacy-17", input_names=["image"], dynamic_axes=axes)
    images = torch.rand((4, *image[1:]))

    network = import_onnx(path)

    assert network.graph.shapes["image"] == image
    torch.testing.assert_close(build_module(network)(images), module(images), rtol=1e-4, atol=1e-5)
