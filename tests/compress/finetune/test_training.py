from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from compress.apply import Compressed, apply, float_weights, prepare
from compress.checkpoint import load_compressed, packed_bytes, save
from compress.evaluate import logits
from compress.export.onnx_qdq import export_onnx
from compress.finetune import METHODS, FineTuning, Progress, TrainableNetwork, finetune
from compress.finetune.loss import distillation
from compress.finetune.training import factor
from compress.network.build import build_module
from compress.network.graph import Network
from compress.placement import LAYER_OPS
from compress.plan import LayerBits, Plan
from compress.structure import analyse, restructure
from hwmodels.errors import InputError
from tests.compress.networks import NETWORKS, chain, images, residual

SETTINGS = FineTuning(epochs=2, batch_size=8, learning_rate=0.01)
# Blends of noise have less contrast than the noise that is measured on.
LONGER = FineTuning(epochs=10, batch_size=32, learning_rate=0.01, blend=0.0)


class CutOffError(Exception):
    """Ends a run from its report."""


def low_bit_plan(network: Network, bits: int = 3) -> Plan:
    width = LayerBits(weight_bits=bits, activation_bits=max(bits, 3))
    return Plan(layers={node.name: width for node in network.graph.nodes if node.op in LAYER_OPS})


def compressed_of(network: Network, plan: Plan) -> tuple[Compressed, dict[str, Tensor]]:
    prepared = prepare(network, images(network, 32), structure=analyse(network))
    return apply(prepared, plan), dict(float_weights(prepared, plan))


def error(network: Network, teacher: Network) -> float:
    x = images(teacher, 64, seed=3)
    return float(distillation(logits(build_module(network), x), logits(build_module(teacher), x), 1.0))


def same(first: Compressed, second: Compressed) -> bool:
    tensors = first.network.tensors
    return first.network.graph == second.network.graph and all(
        torch.equal(tensors[name], second.network.tensors[name]) for name in tensors
    )


@pytest.mark.parametrize(
    ("method", "bits"), [("straight_through", 2), ("lsq", 2), ("lsq_plus", 2), ("pact", 3), ("dorefa", 3)]
)
def test_training_brings_the_network_closer_to_the_float_one(method: str, bits: int) -> None:
    network = residual()
    compressed, start = compressed_of(network, low_bit_plan(network, bits=bits))
    untrained = TrainableNetwork(compressed, start, METHODS.get(method)()).compressed()
    settings = replace(LONGER, method=method)

    tuned = finetune(compressed, network, images(network, 128), settings=settings, start=start)

    assert error(tuned.network, network) < 0.85 * error(untrained.network, network)


def test_training_starts_from_what_post_training_quantization_found() -> None:
    network = residual()
    compressed, start = compressed_of(network, low_bit_plan(network, bits=2))

    for method in ("lsq", "lsq_plus", "straight_through"):
        untrained = TrainableNetwork(compressed, start, METHODS.get(method)()).compressed()
        assert all(
            torch.equal(untrained.coded[name].codes.values, coded.codes.values)
            for name, coded in compressed.coded.items()
        )


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_statistics_of_normalisation_stay_or_follow_the_batches(batch_statistics: bool) -> None:
    network = residual()
    compressed, start = compressed_of(network, low_bit_plan(network))
    kept: list[dict[str, Tensor]] = []

    def keep(_: Progress, student: TrainableNetwork) -> None:
        kept.append({name: value.clone() for name, value in student.norms.named_buffers() if "running" in name})

    settings = replace(SETTINGS, epochs=2, batch_statistics=batch_statistics)
    finetune(compressed, network, images(network, 32), settings=settings, start=start, report=keep)

    assert kept[0]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0]) != batch_statistics


def test_only_weights_of_two_bits_or_fewer_have_statistics_that_follow_the_batches() -> None:
    network = residual()
    followed = {}

    for bits in (2, 3):
        compressed, start = compressed_of(network, low_bit_plan(network, bits=bits))

        def look(_: Progress, student: TrainableNetwork, bits: int = bits) -> None:
            followed[bits] = student.norms.training

        settings = replace(SETTINGS, epochs=1)
        finetune(compressed, network, images(network, 16), settings=settings, start=start, report=look)

    assert followed == {2: True, 3: False}


def test_images_are_blended_unless_statistics_follow_them() -> None:
    network = residual()
    compressed, start = compressed_of(network, low_bit_plan(network))

    def tuned(blend: float, batch_statistics: bool) -> Compressed:
        settings = replace(SETTINGS, epochs=1, blend=blend, batch_statistics=batch_statistics)
        return finetune(compressed, network, images(network, 32), settings=settings, start=start)

    assert not same(tuned(0.0, False), tuned(0.5, False))
    assert same(tuned(0.0, True), tuned(0.5, True))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_stays_what_it_is(name: str) -> None:
    network = NETWORKS[name]()
    compressed, start = compressed_of(network, low_bit_plan(network))
    settings = replace(SETTINGS, epochs=1)

    tuned = finetune(compressed, network, images(network, 16), settings=settings, start=start)

    assert tuned.coded.keys() == compressed.coded.keys()
    assert [node.name for node in tuned.network.graph.nodes] == [node.name for node in compressed.network.graph.nodes]
    for weight in tuned.coded:
        assert torch.equal(tuned.coded[weight].decode(tuned.plan.numerics), tuned.network.tensors[weight])


def test_the_network_in_training_computes_what_will_be_deployed() -> None:
    network = residual()
    compressed, start = compressed_of(network, low_bit_plan(network, bits=4))
    x = images(network, 8)

    student = TrainableNetwork(compressed, start, METHODS.get("lsq")())

    # Biases are rounded when deployed; the float weights lead to the codes that rounding to nearest gave.
    torch.testing.assert_close(student(x), logits(build_module(student.compressed().network), x), rtol=0.02, atol=0.02)
    torch.testing.assert_close(student(x), logits(build_module(compressed.network), x), rtol=0.02, atol=0.02)


def test_equal_seeds_give_equal_networks_and_other_seeds_others() -> None:
    network = chain()
    compressed, start = compressed_of(network, low_bit_plan(network))
    x = images(network, 40)
    settings = replace(SETTINGS, augment=True, shift=1)

    runs = [finetune(compressed, network, x, settings=replace(settings, seed=seed), start=start) for seed in (5, 5, 6)]

    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    network = chain()
    compressed, start = compressed_of(network, low_bit_plan(network))
    x = images(network, 40)
    settings = replace(SETTINGS, epochs=3)

    def cut_off(progress: Progress, _: TrainableNetwork) -> None:
        if progress.epoch == 2:
            raise CutOffError

    whole = finetune(compressed, network, x, settings=settings, start=start)
    with pytest.raises(CutOffError):
        finetune(compressed, network, x, settings=settings, start=start, checkpoint=tmp_path, report=cut_off)
    epochs: list[int] = []
    resumed = finetune(
        compressed,
        network,
        x,
        settings=settings,
        start=start,
        checkpoint=tmp_path,
        report=lambda progress, _: epochs.append(progress.epoch),
    )

    assert epochs == [3]
    assert same(whole, resumed)


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    network = chain()
    compressed, _ = compressed_of(network, low_bit_plan(network))
    x = images(network, 16)
    finetune(compressed, network, x, settings=SETTINGS, checkpoint=tmp_path)

    with pytest.raises(InputError, match="equal settings"):
        finetune(compressed, network, x, settings=replace(SETTINGS, seed=1), checkpoint=tmp_path)


@pytest.mark.parametrize("changed", ["network", "teacher", "images", "labels", "start"])
def test_a_state_that_started_from_something_else_is_refused(changed: str, tmp_path: Path) -> None:
    network = chain()
    compressed, start = compressed_of(network, low_bit_plan(network))
    x = images(network, 16)
    given: dict[str, Any] = {
        "compressed": compressed,
        "teacher": network,
        "images": x,
        "labels": torch.zeros(16, dtype=torch.long),
        "start": start,
    }
    name = next(iter(start))
    others: dict[str, dict[str, Any]] = {
        "network": {"compressed": compressed_of(network, low_bit_plan(network, bits=4))[0]},
        "teacher": {"teacher": replace(network, tensors={key: 2 * value for key, value in network.tensors.items()})},
        "images": {"images": x + 1e-3},
        "labels": {"labels": torch.ones(16, dtype=torch.long)},
        "start": {"start": {**start, name: start[name] * 1.01}},
    }
    settings = replace(SETTINGS, epochs=1)
    finetune(**given, settings=settings, checkpoint=tmp_path)

    finetune(**given, settings=settings, checkpoint=tmp_path)
    with pytest.raises(InputError, match="the same network, teacher and images"):
        finetune(**{**given, **others[changed]}, settings=settings, checkpoint=tmp_path)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    network = chain()
    compressed, _ = compressed_of(network, low_bit_plan(network))
    (tmp_path / "finetune.safetensors").write_bytes(b"not one")

    with pytest.raises(InputError, match="fine-tuning state"):
        finetune(compressed, network, images(network, 16), settings=SETTINGS, checkpoint=tmp_path)


def test_a_tuned_network_is_packed_reloaded_and_exported_like_any_other(tmp_path: Path) -> None:
    network = residual()
    plan = low_bit_plan(network)
    compressed, start = compressed_of(network, plan)
    x = images(network, 16, seed=9)

    tuned = finetune(compressed, network, images(network, 32), settings=SETTINGS, start=start)
    save(tuned, tmp_path, {})
    reloaded, _ = load_compressed(tmp_path)
    export_onnx(tuned, tmp_path / "model.onnx")

    assert same(reloaded, tuned)
    predicted = packed_bytes(restructure(network.to_meta(), plan, structure=analyse(network)), plan)
    assert (tmp_path / "model.safetensors").stat().st_size == predicted
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(scores, logits(build_module(tuned.network), x).numpy(), rtol=0.05, atol=0.05)


def test_a_pruned_float_network_is_fine_tuned_without_codes() -> None:
    network = residual()
    structure = analyse(network)
    plan = Plan(keep_ratios={group.name: 0.5 for group in structure.groups.groups})
    pruned = apply(prepare(network, images(network, 32), structure=structure), plan)

    tuned = finetune(pruned, network, images(network, 128), settings=LONGER)

    assert tuned.coded == {}
    assert tuned.network.graph == pruned.network.graph
    assert error(tuned.network, network) < 0.8 * error(pruned.network, network)


def test_labels_alone_teach_too() -> None:
    network = chain()
    x = images(network, 96)
    labels = (x.mean((1, 2, 3)) > 0).long()
    settings = replace(LONGER, epochs=20, distillation=0.0, normalise=False)

    tuned = finetune(network, network, x, labels, settings)

    right = (logits(build_module(tuned.network), x).argmax(1) == labels).float().mean()
    before = (logits(build_module(network), x).argmax(1) == labels).float().mean()
    assert float(right) > float(before) + 0.2


def test_without_labels_there_must_be_something_to_imitate() -> None:
    network = chain()

    with pytest.raises(InputError, match=r"finetune\.distillation"):
        finetune(network, network, images(network, 8), None, replace(SETTINGS, distillation=0.0))


def test_the_rate_rises_and_then_falls_to_zero() -> None:
    settings = FineTuning(warmup=0.1)

    factors = [factor(settings, step, 100) for step in range(100)]

    assert factors[:10] == sorted(factors[:10])
    assert factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5)  # halfway through the 90 steps of the cosine
    assert factors[-1] < 0.01
