"""Reads published measurements (CSV and JSON files of one folder) as workloads and latencies."""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from hwmodels.builder import with_bits
from hwmodels.calibrate import Measurement
from hwmodels.reference import (
    autoencoder,
    cifar_resnet,
    ds_cnn,
    fd_mobilenet,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    squeezenet,
    vgg,
)
from hwmodels.tables import from_block_list, from_layer_table
from hwmodels.workload import Workload


class Group(NamedTuple):
    """What is never pooled: one device under one runtime, width and number of threads."""

    device: str
    clock_mhz: str
    runtime: str
    dtype: str
    threads: str

    def __str__(self) -> str:
        return " / ".join(part for part in self if part)


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Networks:
    """Workloads by the names that the tables use."""

    def __init__(self, folder: Path) -> None:
        models = json.loads((folder / "model_layers.json").read_text(encoding="utf-8"))["models"]
        self.published_macs_m = {name: model["macs_m"] for name, model in models.items()}
        self._known: dict[tuple[str, str, str], Workload] = {}
        self._tables = {name: model["layers"] for name, model in models.items() if not name.startswith("nnmeter")}
        nets = json.loads((folder / "ofa_nets.json").read_text(encoding="utf-8"))["nets"]
        self._blocks = {net["id"]: net for net in nets}

    def table_names(self) -> Iterable[str]:
        """Return the networks that have an exact layer table."""
        return self._tables

    def float_workload(self, row: dict[str, str]) -> Workload | None:
        """Return the network that a row measured, or ``None`` where its architecture is not known here."""
        key = (row["model"], row["input_h"], row["input_c"] + row["arch_ref"][:4])
        if key not in self._known:
            found = self._build(row)
            if found is None:
                return None
            self._known[key] = found
        return self._known[key]

    def _build(self, row: dict[str, str]) -> Workload | None:
        name, size, channels = row["model"], int(float(row["input_h"] or 0)), int(float(row["input_c"] or 3))
        if name in self._tables and row["arch_ref"].startswith("ncnn"):
            return from_layer_table(self._tables[name])
        if name in self._blocks:
            return from_block_list(self._blocks[name])
        if name.startswith("ds_cnn_s"):
            return ds_cnn()
        if name.startswith("fc_autoencoder"):
            return autoencoder()
        if name.startswith("resnet8"):
            return cifar_resnet(8)
        if name == "resnet_v1_32(cifar)":
            return cifar_resnet(32)
        if name == "resnet_v1_8(cifar)":
            return cifar_resnet(8)
        found = re.match(r"(mobilenet_v1|mobilenet_v2|fd_mobilenet)_([0-9.]+)", name)
        if found:
            build = {"mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2, "fd_mobilenet": fd_mobilenet}
            classes = 2 if "VWW" in name else 1000
            return build[found[1]](float(found[2]), size, channels, classes)
        found = re.match(r"mobilenetv2_(\d{3})$", name)
        if found:
            return mobilenet_v2(int(found[1]) / 100, size)
        found = re.match(r"squeezenet_v(1\.[01])$", name)
        if found:
            return squeezenet(found[1], size)
        found = re.match(r"resnet(18|34|50|101|152)(_v1|_v1\.5|_v2)?$", name)
        if found:
            return resnet(int(found[1]), size, stride_in_3x3=found[2] != "_v1")
        found = re.match(r"vgg(11|13|16|19)$", name)
        return vgg(int(found[1]), size) if found else None


def measured_groups(folder: Path, networks: Networks, *, engines: tuple[str, ...]) -> dict[Group, list[Measurement]]:
    """Return measured latencies by group; several rows of one network are their median."""
    found: dict[Group, dict[tuple[str, str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    workloads: dict[tuple[str, str, str], Workload] = {}
    for row in rows(folder / "measured_latency.csv"):
        if row["engine"] not in engines or row["batch"] != "1":
            continue
        if row["evidence"] == "reported_in_model_name" or "submitter" in row["model"]:
            continue
        if row["dtype"] not in ("int8",) and not row["dtype"].startswith("fp"):
            continue
        workload = networks.float_workload(row)
        if workload is None:
            continue
        group = Group(row["device_id"], row["clock_mhz"], row["runtime"], row["dtype"], row["threads"])
        key = (row["model"], row["input_h"], row["input_c"])
        workloads[key] = workload
        found[group][key].append(float(row["latency_ms"]))
    result = {}
    for group, networks_of in found.items():
        bits = 8 if group.dtype == "int8" else 32
        result[group] = [
            Measurement(
                network=f"{key[0]}@{key[1]}x{key[2]}",
                workload=with_bits(workloads[key], weight_bits=bits, activation_bits=bits),
                latency_ms=median(values),
            )
            for key, values in networks_of.items()
        ]
    return result
