"""The committed example: what its card says is what its files do."""

import gzip
import hashlib
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file

from examples.digits import train as training
from examples.digits.data import DataMissingError, Preprocessing, digits, fashion_mnist, read_idx
from examples.digits.heldout import write_heldout
from examples.digits.network import ResNet

FOLDER = Path(training.__file__).parent
CARD = json.loads((FOLDER / "digits_resnet.json").read_text())


def committed_network() -> ResNet:
    network = ResNet()
    missing = network.load_state_dict(load_file(FOLDER / "digits_resnet.safetensors"), strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network.eval()


def onnx_logits(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(FOLDER / "digits_resnet.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(logits)


def test_the_card_gives_the_accuracy_that_the_safetensors_file_has() -> None:
    correct = training.count_correct(committed_network(), digits())

    assert (correct, 797) == (CARD["correct"], CARD["heldout_images"])
    assert correct / 797 >= 0.97


def test_the_onnx_file_computes_what_the_safetensors_file_computes() -> None:
    images = digits()
    x = images.preprocessing.apply(images.heldout_x)

    with torch.inference_mode():
        expected = committed_network()(x)

    torch.testing.assert_close(torch.from_numpy(onnx_logits(x.numpy())), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_the_card_names_the_bytes_beside_it(suffix: str) -> None:
    name = f"digits_resnet{suffix}"

    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == CARD["sha256"][name]


def test_the_onnx_file_names_no_folder_of_the_machine_that_trained() -> None:
    assert b"site-packages" not in (FOLDER / "digits_resnet.onnx").read_bytes()


def test_the_card_counts_the_parameters() -> None:
    # stem 9·16 + 32; stage of widths a→b: first block 9ab + 9bb + 4b, shortcut ab + 2b unless a = b, second 18bb + 4b
    stem = 144 + 32
    stage1 = 2 * (18 * 16 * 16 + 4 * 16)
    stage2 = (9 * 16 * 24 + 9 * 24 * 24 + 4 * 24) + (16 * 24 + 2 * 24) + (18 * 24 * 24 + 4 * 24)
    stage3 = (9 * 24 * 40 + 9 * 40 * 40 + 4 * 40) + (24 * 40 + 2 * 40) + (18 * 40 * 40 + 4 * 40)
    linear = 40 * 10 + 10

    assert CARD["parameters"] == stem + stage1 + stage2 + stage3 + linear == 82_762


def test_the_same_seed_trains_the_same_network_and_another_seed_another() -> None:
    images = digits()
    few = replace(images, train_x=images.train_x[:100], train_y=images.train_y[:100])
    recipe = replace(training.RECIPES["digits"], epochs=1)

    first, again, other = (training.train(few, recipe, seed=seed, log=False).state_dict() for seed in (0, 0, 1))

    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["linear.weight"], other["linear.weight"])


def test_a_moved_image_is_a_window_of_the_image_with_its_edges_repeated() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    windows = [padded[:, :, top : top + 4, left : left + 4] for top in range(3) for left in range(3)]

    moved = training.augmented(
        image.expand(50, 1, 4, 4), shift=1, flip=False, generator=torch.Generator().manual_seed(0)
    )

    found = [[torch.equal(one, window[0]) for window in windows].index(True) for one in moved]
    assert set(found) == set(range(9))


def test_a_mirrored_image_is_the_image_or_its_mirror_image() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)

    turned = training.augmented(image.expand(20, 1, 3, 3), shift=0, flip=True, generator=torch.Generator())

    kinds = {torch.equal(one, image[0]) for one in turned}
    assert kinds == {True, False}
    assert all(torch.equal(one, image[0]) or torch.equal(one, image[0].flip(2)) for one in turned)


def test_preprocessing_scales_then_centres_each_channel() -> None:
    pixels = np.array([[[[8, 16]]]], dtype=np.uint8)  # one pixel, two channels

    x = Preprocessing(scale=1 / 16, mean=(0.5, 0.0), std=(1.0, 0.5)).apply(pixels)

    assert x.flatten().tolist() == [0.0, 2.0]  # (8/16 - 0.5) / 1 and (16/16 - 0) / 0.5


def test_the_file_to_upload_holds_the_797_images_that_training_never_saw(tmp_path: Path) -> None:
    count = write_heldout(tmp_path / "heldout.npz")

    with np.load(tmp_path / "heldout.npz", allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    assert (count, x.shape, x.dtype, y.shape) == (797, (797, 8, 8, 1), np.uint8, (797,))
    assert x.max() == 16
    assert len(digits().train_x) + count == 1797


@given(arrays.arrays(np.uint8, st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)))
def test_an_idx_file_gives_back_the_array_that_was_written(
    tmp_path_factory: pytest.TempPathFactory, array: npt.NDArray[np.uint8]
) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    path.write_bytes(gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()))

    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize("content", [struct.pack(">HBBI", 0, 8, 1, 3) + b"ab", struct.pack(">HBBI", 0, 13, 1, 0)])
def test_an_idx_file_that_is_short_or_of_another_type_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(content))

    with pytest.raises(ValueError, match=r"a\.gz"):
        read_idx(path)


def test_missing_data_is_said_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="train20k-images"):
        fashion_mnist(tmp_path)

    command = [sys.executable, "-m", "examples.digits.train", "--dataset", "cifar10", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parents[1])

    assert run.returncode == training.EXIT_DATA_MISSING
    assert "--data" in run.stderr
    assert not (tmp_path / "out").exists()
