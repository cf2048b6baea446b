"""What every benchmark needs: its arguments, the data that it was given, a table, and the setting it ran in."""

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

DATA_MISSING = 2  # exit status when data is not there, or is not what the figures were made with

SOURCES: Mapping[str, str] = {
    "cifar10": "CIFAR-10 (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html) as .npz of x and y",
    "fashion_mnist": "Fashion-MNIST (Xiao et al. 2017, https://github.com/zalandoresearch/fashion-mnist), gzipped IDX",
    "mnist": "MNIST (LeCun et al., CC BY-SA 3.0), gzipped IDX",
    "weights": "ResNet-20/32 (Y. Idelbayev, https://github.com/akamaster/pytorch_resnet_cifar10) as safetensors",
}
CHECKSUMS = Path(__file__).with_name("data.sha256")  # in the form of sha256sum; paths below --data


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return an argument parser that knows ``--data`` and ``--json``; a benchmark adds its own."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path("data"), help="folder with the data sets (data)")
    arguments.add_argument("--json", type=Path, help="write the figures to this file, too")
    return arguments


def require_files(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the path of every named file below ``folder`` once its sha256 is what the figures were made with.

    A benchmark has no use for other data, so it ends here with status 2, naming each file and its source.
    """
    expected = known_checksums()
    paths = {name: folder / name for name in names}
    complaints = []
    for name, path in paths.items():
        if not path.is_file():
            complaints.append(f"{path}: not there")
        elif name in expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected[name]:
            complaints.append(f"{path}: other bytes than those behind the published figures")
    if complaints:
        sources = {SOURCES[name.split("/")[0]] for name in paths}
        for line in (*complaints, *(f"source: {source}" for source in sorted(sources))):
            print(line, file=sys.stderr)
        raise SystemExit(DATA_MISSING)
    return paths


def known_checksums() -> dict[str, str]:
    """Return sha256 by file name, relative to the data folder."""
    pairs = (line.split(maxsplit=1) for line in CHECKSUMS.read_text().splitlines())
    return {name: digest for digest, name in pairs}


def setting() -> dict[str, Any]:
    """Return what a figure depends on besides the code: processor, threads, versions."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("tightfit", "torch", "onnxruntime", "ray", "optuna", "numpy")},
    }


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns; numbers stand to the right, floats with four significant digits."""
    table = Table(title=title, title_justify="left")
    filled = [[_cell(value) for value in row] for row in rows]
    for number, name in enumerate(columns):
        numeric = bool(filled) and all(_is_number(row[number]) for row in filled)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in filled:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def report(name: str, figures: Mapping[str, Any], *, path: Path | None) -> None:
    """Print the setting, and write name, setting and figures as JSON when ``path`` is given."""
    facts = setting()
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    print(f"{facts['cpu']}, {facts['cores']} cores, threads: {facts['threads']}; {versions}")
    if path is not None:
        content = {"benchmark": name, "setting": facts, "figures": dict(figures)}
        path.write_text(json.dumps(content, indent=2) + "\n")


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _is_number(text: str) -> bool:
    return text in {"", "–"} or text[:1].isdigit() or text[:1] == "-"


def _cpu_model() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
