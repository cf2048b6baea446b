from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from tests.compress.network.onnx_import.exporting import export
from workers.ingest.models import WEIGHTS_FILE, ingest_model


def test_channels_that_are_the_same_for_every_image_are_taken_out_at_the_door(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight[2], norm.bias[2] = 0.0, 0.25  # 0.25 behind the ReLU, whatever the image
    beside = export(module, torch.rand(1, 1, 8, 8), tmp_path / "m.onnx", "legacy-17")

    description = ingest_model({"path": tmp_path / "m.onnx", "data": beside, "architecture": None}, tmp_path)

    assert [layer["weight_shape"] for layer in description["layers"]] == [[3, 1, 3, 3], [2, 3]]
    head = module[5]
    assert isinstance(head, nn.Linear)
    biases = [t for name, t in load_file(tmp_path / WEIGHTS_FILE).items() if t.shape == (2,)]
    torch.testing.assert_close(biases, [(head.bias + 0.25 * head.weight[:, 2]).detach()])
