"""The digits example as a job: network, held-out images, two devices."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

from compress.network.graph import Network
from compress.network.zoo import from_architecture
from compress.structure import Structure, analyse
from examples.digits.data import digits
from hwmodels.profile import builtin_profiles
from workers.problem import Problem
from workers.spec import Budget, DeviceTarget, JobSpec, Preprocessing
from workers.start import DriverStart

DEVICES = ("raspberry-pi-4", "stm32h743")
WEIGHTS = Path(__file__).parents[2] / "examples" / "digits" / "digits_resnet.safetensors"


@cache
def digits_network() -> tuple[Network, Structure]:
    network = from_architecture("digits_resnet", WEIGHTS)
    return network, analyse(network.to_meta())


def make_problem(spec: JobSpec) -> Problem:
    network, structure = digits_network()
    return Problem(spec, network, structure, builtin_profiles())


@pytest.fixture
def spec() -> JobSpec:
    return JobSpec(
        name="digits",
        devices=tuple(DeviceTarget(name=name) for name in DEVICES),
        budget=Budget(trials=8),
        strategy="nsga2",  # measures no single choices first
        imitation_steps=2,  # nothing here asks how good replacements are
        seed=5,
    )


@pytest.fixture
def start(spec: JobSpec) -> DriverStart:
    return make_start(spec)


def make_start(spec: JobSpec, *, images: int = 200) -> DriverStart:
    network, _ = digits_network()
    data = digits()
    return DriverStart(
        spec=spec.to_json(),
        preprocessing=replace(
            Preprocessing(),
            scale=data.preprocessing.scale,
            mean=data.preprocessing.mean,
            std=data.preprocessing.std,
        ).to_json(),
        graph=network.graph.to_json(),
        weights=safetensors.torch.save({name: tensor.contiguous() for name, tensor in network.tensors.items()}),
        dataset=safetensors.numpy.save({"x": data.heldout_x[:images], "y": data.heldout_y[:images].astype(np.int64)}),
        profiles={name: builtin_profiles()[name].to_json() for name in DEVICES},
    )
