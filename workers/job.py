"""A driver's start payload, unpacked: network, data, split, prices."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from compress.network.check import check_graph
from compress.network.graph import Graph, Network
from compress.structure import Structure, analyse
from hwmodels.errors import InputError
from hwmodels.profile import Profile, load_profile
from workers.data_free import made_data
from workers.events import Trial
from workers.spec import JobSpec, Preprocessing
from workers.split import Split, split_images
from workers.start import DriverStart

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobData:
    """One job, unpacked. ``images`` are in the network's own layout; ``shapes`` is the network without values.

    ``foundation`` names network and calibration images by their content.
    """

    spec: JobSpec
    graph: Graph
    tensors: Mapping[str, NDArray[Any]]
    shapes: Network
    structure: Structure
    images: FloatArray
    labels: LabelArray
    split: Split
    profiles: Mapping[str, Profile]
    trials: tuple[Trial, ...]
    packaged: frozenset[int]
    sensitivities: Mapping[str, tuple[float, float]]
    groundwork: Mapping[str, bytes]
    foundation: str
    spent_s: float


def load_job(start: DriverStart) -> JobData:
    """Unpack a payload, split its images and analyse its network; without data, make the images first (minutes)."""
    spec = JobSpec.from_json(start.spec)
    tensors = safetensors.numpy.load(start.weights)
    graph = check_graph(start.graph, {name: values.shape for name, values in tensors.items()})
    shapes = meta_network(graph, tensors)
    preprocessing = Preprocessing.from_json(start.preprocessing)
    if spec.data_free:
        images, labels = made_data(graph, tensors, preprocessing, seed=spec.seed)
    else:
        data = safetensors.numpy.load(start.dataset)
        images, labels = network_input(data["x"], preprocessing), data["y"].astype(np.int64)
    split = split_images(labels, spec.split, seed=spec.seed)
    return JobData(
        spec=spec,
        graph=graph,
        tensors=tensors,
        shapes=shapes,
        structure=analyse(shapes),
        images=images,
        labels=labels,
        split=split,
        profiles={name: load_profile(profile) for name, profile in start.profiles.items()},
        trials=start.trials,
        packaged=start.packaged,
        sensitivities=start.sensitivities,
        groundwork=start.groundwork,
        foundation=_content_name(start, images[split.calibration]),
        spent_s=start.spent_s,
    )


def _content_name(start: DriverStart, calibration: FloatArray) -> str:
    digest = hashlib.sha256(json.dumps(start.graph, sort_keys=True).encode())
    digest.update(hashlib.sha256(start.weights).digest())
    digest.update(np.ascontiguousarray(calibration).data)
    return digest.hexdigest()


def meta_network(graph: Graph, tensors: Mapping[str, NDArray[Any]]) -> Network:
    """Return a network that has the tensors' shapes and types, without their values."""
    dtypes = {dtype: torch.from_numpy(np.empty(0, dtype=dtype)).dtype for dtype in {t.dtype for t in tensors.values()}}
    return Network(
        graph=graph,
        tensors={
            name: torch.empty(values.shape, dtype=dtypes[values.dtype], device="meta")
            for name, values in tensors.items()
        },
    )


def network_input(pixels: NDArray[Any], preprocessing: Preprocessing) -> FloatArray:
    """Return stored images as the network takes them: float arrays as they are, integers scaled, channels first."""
    if np.issubdtype(pixels.dtype, np.floating):
        return np.ascontiguousarray(pixels, dtype=np.float32)
    if pixels.ndim == 3:  # grey images without a channel dimension
        pixels = pixels[:, None] if preprocessing.layout == "NCHW" else pixels[..., None]
    if pixels.ndim != 4:
        raise InputError("dataset.x", "integer images must have 3 or 4 dimensions", pixels.shape)
    channels_first = pixels.transpose(0, 3, 1, 2) if preprocessing.layout == "NHWC" else pixels
    mean, std = (
        np.array(values, dtype=np.float32).reshape(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    return np.ascontiguousarray((channels_first.astype(np.float32) * np.float32(preprocessing.scale) - mean) / std)
