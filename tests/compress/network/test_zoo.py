from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from compress.network.build import build_module
from compress.network.describe import parameter_count
from compress.network.zoo import ARCHITECTURES, GraphWriter, from_architecture
from hwmodels.errors import InputError, UnknownNameError


def random_weights(architecture: str, *, seed: int = 0) -> dict[str, Tensor]:
    """Tensors of the right names and shapes, with a variance that is not negative."""
    writer = GraphWriter()
    ARCHITECTURES[architecture].build(writer)
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(shape, generator=generator) + 0.5
        if name.endswith("running_var")
        else 0.2 * torch.randn(shape, generator=generator)
        for name, shape in writer.wanted.items()
    }


def saved(tensors: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(("architecture", "parameters"), [("cifar_resnet20", 269_722), ("cifar_resnet32", 464_154)])
def test_cifar_networks_have_the_published_number_of_parameters(
    architecture: str, parameters: int, tmp_path: Path
) -> None:
    network = from_architecture(architecture, saved(random_weights(architecture), tmp_path))

    assert parameter_count(network) == parameters


def test_the_padded_shortcut_takes_every_second_pixel_and_centres_the_channels(tmp_path: Path) -> None:
    weights = random_weights("cifar_resnet20")
    weights["layer2.0.bn2.weight"].zero_()  # the block's own path adds nothing but this bias
    weights["layer2.0.bn2.bias"].zero_()
    module = build_module(from_architecture("cifar_resnet20", saved(weights, tmp_path)))
    seen = {}
    wanted = ("layer1.2.relu2", "layer2.0.relu2")

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            result = super().run_node(n)
            node = n.meta.get("node")
            if node is not None and node.name in wanted:
                seen[node.name] = result
            return result

    Recorder(module).run(torch.rand(2, 3, 32, 32))

    before, after = (seen[name] for name in wanted)
    torch.testing.assert_close(after, F.pad(before[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))


def test_the_digits_network_is_the_examples(tmp_path: Path) -> None:
    from examples.digits.network import ResNet

    torch.manual_seed(0)
    reference = ResNet().eval()
    weights = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    x = torch.rand(3, 1, 8, 8)

    module = build_module(from_architecture("digits_resnet", saved(weights, tmp_path)))

    torch.testing.assert_close(module(x), reference(x))


def test_an_unknown_architecture_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="cifar_resnet20, cifar_resnet32, digits_resnet"):
        from_architecture("alexnet", tmp_path / "weights.safetensors")


def test_wrong_files_are_refused_by_the_tensor_that_is_wrong(tmp_path: Path) -> None:
    good = random_weights("digits_resnet")
    without = {name: tensor for name, tensor in good.items() if name != "bn1.bias"}
    cases = {
        "bn1.bias": without,
        "layer9": {**good, "layer9.weight": torch.zeros(1)},
        "linear.bias": {**good, "linear.bias": torch.zeros(11)},
        "float32": {**good, "linear.bias": torch.zeros(10, dtype=torch.float16)},
        "finite": {**good, "linear.bias": torch.full((10,), torch.nan)},
    }

    for named, tensors in cases.items():
        with pytest.raises(InputError, match=named):
            from_architecture("digits_resnet", saved(tensors, tmp_path))


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 64, b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)

    with pytest.raises(InputError, match="safetensors"):
        from_architecture("digits_resnet", path)
