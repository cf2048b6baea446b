"""Read measurements of a device from a CSV file: whole networks, or single kernels where those can be timed."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from hwmodels.builder import WorkloadBuilder
from hwmodels.calibrate import Measurement
from hwmodels.errors import InputError
from hwmodels.workload import Workload

KERNEL_OPS = ("conv", "linear", "pool", "add", "mul", "concat")
KERNEL_COLUMNS = (
    "in_channels",
    "out_channels",
    "height",
    "width",
    "kernel",
    "stride",
    "groups",
    "weight_bits",
    "activation_bits",
)
_DEFAULTS = {"kernel": 1, "stride": 1, "groups": 1, "weight_bits": 32, "activation_bits": 32}
MAX_SIZE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """A row: a network by name and perhaps file, or a kernel."""

    line: int
    network: str
    file: str  # "" where the row names none
    kernel: Workload | None
    latency_ms: float


def read_rows(text: str) -> list[MeasuredRow]:
    """Return the rows of a CSV file.

    A row has ``latency_ms`` or ``latency_us``, and either ``network`` (with ``file`` where it is to be read) or
    ``op`` with the columns of ``KERNEL_COLUMNS``. Other columns are ignored.

    Raises:
        InputError: Names the line and the column that is missing, unknown or not a number in its range.
    """
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or ()
    if not {"latency_ms", "latency_us"} & set(columns):
        raise InputError("columns", "must include 'latency_ms' or 'latency_us'", ", ".join(columns))
    if not {"network", "op"} & set(columns):
        raise InputError("columns", "must include 'network' or 'op'", ", ".join(columns))
    rows = [
        _row(line, {key: (value or "").strip() for key, value in row.items() if key}) for line, row in _lines(reader)
    ]
    if not rows:
        raise InputError("measurements", "must have at least one row")
    return rows


def measurements(rows: list[MeasuredRow], workloads: Mapping[str, Workload]) -> list[Measurement]:
    """Return what rows measured; ``workloads`` are the networks by name. Several rows of one network are its repeats.

    Raises:
        InputError: A row names a network that is not among them.
    """
    found: dict[str, tuple[Workload, list[float]]] = {}
    for row in rows:
        workload = row.kernel or workloads.get(row.network)
        if workload is None:
            known = ", ".join(sorted(workloads)) or "none"
            raise InputError(f"line {row.line}, network", f"is not known; known: {known}", row.network)
        found.setdefault(row.network, (workload, []))[1].append(row.latency_ms)
    return [
        Measurement(network=name, workload=workload, latency_ms=median(values))
        for name, (workload, values) in found.items()
    ]


def _lines(reader: "csv.DictReader[str]") -> list[tuple[int, dict[str, str]]]:
    return [(line, row) for line, row in enumerate(reader, start=2) if any(value for value in row.values())]


def _row(line: int, row: Mapping[str, str]) -> MeasuredRow:
    milliseconds = row.get("latency_ms", "")
    latency_ms = (
        _number(line, "latency_ms", milliseconds)
        if milliseconds
        else _number(line, "latency_us", row.get("latency_us", "")) / 1e3
    )
    if not row.get("op"):
        if not row.get("network"):
            raise InputError(f"line {line}", "must name a network or an op")
        return MeasuredRow(
            line=line, network=row["network"], file=row.get("file", ""), kernel=None, latency_ms=latency_ms
        )
    name, kernel = _kernel(line, row)
    return MeasuredRow(line=line, network=row.get("network") or name, file="", kernel=kernel, latency_ms=latency_ms)


def _kernel(line: int, row: Mapping[str, str]) -> tuple[str, Workload]:
    op = row["op"]
    if op not in KERNEL_OPS:
        raise InputError(f"line {line}, op", f"must be one of {', '.join(KERNEL_OPS)}", op)
    size = {
        name: _integer(line, name, row.get(name, ""), _DEFAULTS.get(name))
        for name in KERNEL_COLUMNS
        if _needs(op, name)
    }
    bits = {
        name: _integer(line, name, row.get(name, ""), _DEFAULTS[name]) for name in ("weight_bits", "activation_bits")
    }
    shape = (size["in_channels"], size.get("height", 1), size.get("width", size.get("height", 1)))
    build = WorkloadBuilder(shape, **bits)
    if op == "conv":
        if shape[0] % size["groups"] or size["out_channels"] % size["groups"]:
            raise InputError(f"line {line}, groups", "must divide both channel counts", size["groups"])
        output = build.conv(build.input, size["out_channels"], size["kernel"], size["stride"], groups=size["groups"])
    elif op == "linear":
        output = build.linear(build.input, size["out_channels"])
    elif op == "pool":
        output = build.pool(build.input, size["kernel"], size["stride"])
    elif op == "concat":
        output = build.concat(build.input, build.input)
    else:
        output = build.elementwise(op, build.input, build.input)
    name = " ".join((op, *(f"{key}={value}" for key, value in {**size, **bits}.items())))
    return name, build.build(output)


def _needs(op: str, column: str) -> bool:
    if column in ("weight_bits", "activation_bits"):
        return False
    if op == "linear":
        return column in ("in_channels", "out_channels")
    if column in ("out_channels", "groups"):
        return op == "conv"
    return column not in ("kernel", "stride") or op in ("conv", "pool")


def _integer(line: int, column: str, text: str, default: int | None) -> int:
    if not text and default is not None:
        return default
    value = _number(line, column, text)
    if value != int(value) or value > MAX_SIZE:
        raise InputError(f"line {line}, {column}", f"must be a whole number of at most {MAX_SIZE}", text)
    return int(value)


def _number(line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"line {line}, {column}", "must be a number", text) from None
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"line {line}, {column}", "must be positive", text)
    return value
