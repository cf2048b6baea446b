import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from compress.apply import Compressed, Prepared, apply, prepare
from compress.checkpoint import CheckpointError, archive, load, load_compressed, packed_bytes, save
from compress.checkpoint import files as files_module
from compress.network.build import build_module
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Numerics, Plan
from compress.structure import analyse, restructure
from hwmodels.errors import InputError
from tests.compress.networks import NETWORKS, images, residual

PREPARED: dict[str, Prepared] = {}


def prepared(name: str) -> Prepared:
    if name not in PREPARED:
        network = NETWORKS[name]()
        PREPARED[name] = prepare(network, images(network, 4), structure=analyse(network))
    return PREPARED[name]


def layer_names(name: str) -> list[str]:
    return [node.name for node in prepared(name).network.graph.nodes if node.op in LAYER_OPS]


@st.composite
def plans(draw: st.DrawFn) -> tuple[str, Plan]:
    name = draw(st.sampled_from(["residual", "dense", "inverted", "grouped", "attentive"]))
    bits = st.builds(LayerBits, weight_bits=st.integers(1, 8), activation_bits=st.integers(2, 8))
    layers = draw(st.dictionaries(st.sampled_from(layer_names(name)), bits))
    groups = [group.name for group in prepared(name).structure.groups.groups]
    ratios = draw(st.dictionaries(st.sampled_from(groups), st.sampled_from([1.0, 0.5, 0.3]))) if groups else {}
    granularity = draw(st.sampled_from(["channel", "tensor"]))
    return name, Plan(layers=layers, keep_ratios=ratios, numerics=Numerics(weight_granularity=granularity))


def some_checkpoint(directory: Path) -> Compressed:
    base = prepared("residual")
    layers = {name: LayerBits(weight_bits=3, activation_bits=5) for name in layer_names("residual")[:-1]}
    compressed = apply(base, Plan(layers=layers))
    save(compressed, directory, {"seed": 7})
    return compressed


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=plans())
def test_the_predicted_size_is_the_files_length(
    case: tuple[str, Plan], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, plan = case
    base = prepared(name)
    meta = restructure(base.network.to_meta(), plan, structure=base.structure)
    directory = tmp_path_factory.mktemp("checkpoint")

    predicted = packed_bytes(meta, plan)
    save(apply(base, plan), directory, {})

    assert (directory / "model.safetensors").stat().st_size == predicted


@pytest.mark.parametrize("name", NETWORKS)
def test_a_reloaded_network_gives_the_same_values(name: str, tmp_path: Path) -> None:
    base = prepared(name)
    bits = {
        layer: LayerBits(weight_bits=1 + index % 8, activation_bits=4) for index, layer in enumerate(layer_names(name))
    }
    compressed = apply(base, Plan(layers=bits))
    save(compressed, tmp_path, {})

    module = load(tmp_path)

    x = images(base.network, 3, seed=5)
    assert torch.equal(module(x), build_module(compressed.network)(x))


def test_a_zip_loads_as_its_directory_does_and_is_reproducible(tmp_path: Path) -> None:
    some_checkpoint(tmp_path / "a")
    first, second = io.BytesIO(), io.BytesIO()

    archive(tmp_path / "a", first)
    archive(tmp_path / "a", second)

    assert first.getvalue() == second.getvalue()
    (tmp_path / "a.zip").write_bytes(first.getvalue())
    x = images(residual())
    assert torch.equal(load(tmp_path / "a.zip")(x), load(tmp_path / "a")(x))


def test_the_weights_file_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    compressed = some_checkpoint(tmp_path)

    tensors = load_file(tmp_path / "model.safetensors")

    assert set(tensors) == {"codes", "parameters", "float32"}
    weights = [coded.codes.values.numel() for coded in compressed.coded.values()]
    assert tensors["codes"].numel() == sum(-(-count * 3 // 8) for count in weights)
    assert tensors["codes"].dtype == torch.uint8


def test_the_manifest_vouches_for_every_file(tmp_path: Path) -> None:
    compressed = apply(prepared("residual"), Plan())

    written = save(compressed, tmp_path, {"seed": 7, "metrics": {"accuracy": 0.5}}, onnx=b"stand-in")

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [path.name for path in written] == ["model.safetensors", "model.onnx", "manifest.json"]
    assert manifest["seed"] == 7
    assert Plan.from_json(manifest["plan"]) == compressed.plan
    for name, stated in manifest["files"].items():
        content = (tmp_path / name).read_bytes()
        assert stated == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_extras_cannot_replace_the_manifests_own_keys(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="graph"):
        save(apply(prepared("residual"), Plan()), tmp_path, {"graph": {}})


def test_codes_come_back_as_they_were(tmp_path: Path) -> None:
    compressed = some_checkpoint(tmp_path)

    reloaded, manifest = load_compressed(tmp_path)

    assert manifest["seed"] == 7
    assert reloaded.plan == compressed.plan
    assert reloaded.network.graph == compressed.network.graph
    for name, coded in compressed.coded.items():
        assert torch.equal(reloaded.coded[name].codes.values, coded.codes.values)
        assert torch.equal(reloaded.coded[name].codes.parameters["scale"], coded.codes.parameters["scale"])


def spoil_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(directory: Path) -> None:
        manifest = json.loads((directory / "manifest.json").read_text())
        change(manifest)
        (directory / "manifest.json").write_text(json.dumps(manifest))

    return spoil


def truncate(directory: Path) -> None:
    content = (directory / "model.safetensors").read_bytes()[:-1]
    (directory / "model.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    spoil_manifest(lambda manifest: manifest["files"]["model.safetensors"].update(sha256=digest))(directory)


def replace_value(directory: Path, tensor: str, value: float) -> None:
    """Write ``value`` over the first one of a float tensor, and the digest that fits."""
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    data = 8 + int.from_bytes(content[:8], "little")
    start = data + json.loads(content[8:data])[tensor]["data_offsets"][0]
    content[start : start + 4] = struct.pack("<f", value)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    spoil_manifest(lambda manifest: manifest["files"]["model.safetensors"].update(sha256=digest))(directory)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda directory: (directory / "manifest.json").unlink(),
    "no weights": lambda directory: (directory / "model.safetensors").unlink(),
    "manifest is not JSON": lambda directory: (directory / "manifest.json").write_text("{"),
    "manifest is deeply nested": lambda directory: (directory / "manifest.json").write_text("[" * 100_000),
    "manifest of another version": spoil_manifest(lambda manifest: manifest.update(schema_version=99)),
    "no graph": spoil_manifest(lambda manifest: manifest.pop("graph")),
    "weights changed": lambda directory: (directory / "model.safetensors").write_bytes(b"\0" * 500),
    "weights too short, digest right": truncate,
    "a larger weight": spoil_manifest(lambda manifest: manifest["layout"]["coded"][0].update(shape=[2**30, 2**30])),
    "a negative size": spoil_manifest(lambda manifest: manifest["layout"]["coded"][0].update(shape=[-1, 3, 3, 3])),
    "an unknown quantizer": spoil_manifest(
        lambda manifest: manifest["layout"]["coded"][0]["format"].update(quantizer="pickle")
    ),
    "bits are text": spoil_manifest(lambda manifest: manifest["layout"]["coded"][0]["format"].update(bits="3")),
    "a tensor twice": spoil_manifest(
        lambda manifest: manifest["layout"]["plain"].append(manifest["layout"]["plain"][0])
    ),
    "an unknown type": spoil_manifest(lambda manifest: manifest["layout"]["plain"][0].update(dtype="object")),
    "an unknown operator": spoil_manifest(lambda manifest: manifest["graph"]["nodes"][0].update(op="eval")),
    "a plan without numerics": spoil_manifest(lambda manifest: manifest["plan"].pop("numerics")),
    "files are a list": spoil_manifest(lambda manifest: manifest.update(files=[])),
    "an axis is no integer": spoil_manifest(lambda manifest: manifest["layout"]["coded"][0]["format"].update(axis=0.0)),
    "a name is a list": spoil_manifest(lambda manifest: manifest["layout"]["coded"][0].update(name=[])),
    "a type is an object": spoil_manifest(lambda manifest: manifest["layout"]["plain"][0].update(dtype={})),
    "numerics of another type": spoil_manifest(lambda manifest: manifest["plan"]["numerics"].update(weight_range=[])),
    "float layers are a list": spoil_manifest(lambda manifest: manifest.update(float_layers=[])),
    "a number beyond any float": spoil_manifest(
        lambda manifest: next(node for node in manifest["graph"]["nodes"] if node["op"] == "quantize")[
            "attributes"
        ].update(scale=10**400)
    ),
    "a scale that is not a number": lambda directory: replace_value(directory, "parameters", float("nan")),
    "an infinite bias": lambda directory: replace_value(directory, "float32", float("inf")),
}


@pytest.mark.parametrize("spoil", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_damaged_or_hostile_checkpoint_is_refused(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    some_checkpoint(tmp_path)
    spoil(tmp_path)

    with pytest.raises(InputError):
        load(tmp_path)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"not a zip")

    with pytest.raises(CheckpointError, match="directory or a zip"):
        load(tmp_path / "a.zip")


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("manifest.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            bundle.writestr("manifest.json", "{}")

    with pytest.raises(CheckpointError, match="exactly once"):
        load(tmp_path / "a.zip")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(files_module.FILE_LIMITS, "manifest.json", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("manifest.json", b" " * 1_000_000)

    with pytest.raises(CheckpointError, match="at most 1000 bytes"):
        load(tmp_path / "a.zip")


def flip_compressed_bytes(content: bytearray) -> None:
    """Damage what stands behind the local header of the first member."""
    for place in range(120, 160):
        content[place] ^= 0xFF


def say_encrypted(content: bytearray) -> None:
    """Set bit 0 of every member's flags, in the local headers and in the directory."""
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(mark, place + 4)


@pytest.mark.parametrize("damage", [flip_compressed_bytes, say_encrypted])
def test_a_zip_that_cannot_be_unpacked_is_refused(damage: Callable[[bytearray], None], tmp_path: Path) -> None:
    some_checkpoint(tmp_path / "a")
    packed = io.BytesIO()
    archive(tmp_path / "a", packed)
    content = bytearray(packed.getvalue())
    damage(content)
    (tmp_path / "a.zip").write_bytes(content)

    with pytest.raises(CheckpointError, match="directory or a zip"):
        load(tmp_path / "a.zip")
