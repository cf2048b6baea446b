"""Whatever the bytes are, the answer is a network or an ``InputError``."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from compress.network.onnx_import import import_onnx
from compress.network.onnx_import.errors import NotOnnxError
from hwmodels.errors import InputError
from tests.compress.network.onnx_import.exporting import export


@cache
def exported() -> bytes:
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    module = nn.Sequential(convolutions, nn.Flatten(), nn.Linear(64, 3))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        export(module, torch.rand(1, 1, 8, 8), path, "legacy-17", keep_initializers_as_inputs=True)
        return path.read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am a text file\n" * 40, b"\x00" * 100, b"\x08\x08", bytes(range(256))]
)
def test_what_is_no_onnx_file_is_refused_as_such(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(NotOnnxError, match="model"):
        import_onnx(path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported()[: int(len(exported()) * share)])

    with pytest.raises(InputError):
        import_onnx(path)


def test_the_whole_file_comes_in_although_its_tensors_are_listed_as_inputs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported())

    network = import_onnx(path)

    assert [len(network.graph.inputs), len(network.graph.outputs)] == [1, 1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_never_raise_anything_else(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(exported())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(content))

    try:
        network = import_onnx(path)
    except InputError:
        return

    assert network.graph.nodes
