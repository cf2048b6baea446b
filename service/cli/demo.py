"""``tightfit demo``: the whole way of a job on real images, from the trained network to a checkpoint that runs.

The network and the images belong to ``examples/digits`` of the source checkout; the installed package has neither.
"""

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.rule import Rule

import service
from compress.plan import LayerBits, Plan
from service import display
from service.api.schemas import JobRead, ModelRead
from service.cli import tables
from service.cli.child_service import ChildService, child_service
from service.cli.demo_report import (
    Images,
    Labels,
    MeasuredFile,
    measure_onnx,
    measure_packed,
    measured_table,
    read_card,
    read_images,
)
from service.cli.joint import joint_lines
from service.cli.output import out, problems_end_the_command
from service.cli.pull import pull_checkpoint, verification_table
from service.cli.watch import follow
from service.client import Client, ClientError, ProblemError

EXIT_INTERRUPTED = 130
NETWORK = "examples/digits/digits_resnet.onnx"
JOB: dict[str, Any] = {
    "name": "digits on a Pi and a microcontroller",
    "limits": {"accuracy_drop": 0.0025},
    "objectives": ["accuracy", "latency_ms", "model_bytes"],
    "split": {"calibration": 0.15, "search": 0.6},  # few images: most of them where trials are compared
    "budget": {"trials": 300, "minutes": 2.5},
    "seed": 0,
}
LATENCY_SHARES = {"raspberry-pi-4": 0.95, "stm32h743": 1.05}
"""Latency limits, as shares of what the network takes there at uniform 8 bits.

On the Pi fewer bits alone are not enough; on the microcontroller the uniform baselines fit, and are there to be beaten.
"""
MODEL_BYTES = {"raspberry-pi-4": 60_000, "stm32h743": 90_000}
SHOWN_DROP = 0.1
"""Trials of the front that lose more accuracy than this are only counted."""
WIDER_DROP = 0.01
"""Where no trial keeps the job's own limit on the drop of accuracy, best is looked for within this."""


def demo(
    home: Annotated[
        Path | None, typer.Option(help="Fresh folder for the service's data; one under .demo if left out.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the service; 0 takes a free one.")] = 0,
    trials: Annotated[int, typer.Option(min=1, help="Stop the search after so many trials.")] = JOB["budget"]["trials"],
) -> None:
    """Compress the example network for two devices, and check what comes out.

    Starts a service of its own, submits a job, follows it, and measures the best checkpoint on the held-out images.
    On a terminal the service goes on until Ctrl-C, so that the page can be looked at; else it stops.
    """
    started = time.monotonic()
    with problems_end_the_command():
        root = find_examples()
        folder = (home or Path(".demo") / datetime.now().strftime("%Y%m%d-%H%M%S")).absolute()
        if folder.exists() and any(folder.iterdir()):
            raise ClientError(f"{folder} is not empty; the demo wants a fresh folder")
        try:
            with child_service(folder / "home", port=port) as running, Client(running.url) as client:
                _say_where(running)
                page = _run(client, Materials.prepare(root, folder), folder, trials=trials)
                out.print(Rule(style="dim"))
                out.print(f"Took {display.duration(time.monotonic() - started)}. Files: {folder}", soft_wrap=True)
                _keep_serving(page, running)
        except KeyboardInterrupt:
            out.print("Stopped.")
            raise typer.Exit(EXIT_INTERRUPTED) from None


def find_examples() -> Path:
    """Return the folder that has ``examples/digits``: this one, or the checkout that the package runs from."""
    for root in (Path.cwd(), Path(service.__file__).resolve().parents[1]):
        if (root / NETWORK).is_file():
            return root
    raise ClientError(
        f"the demo needs {NETWORK}, which is in the source checkout and not in the installed package: "
        "clone the repository and run `make demo` (or `tightfit demo`) inside it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """What the demo hands in, and the same images as the network takes them."""

    network: Path
    data: Path
    preprocessing: dict[str, Any]
    images: Images
    labels: Labels

    @classmethod
    def prepare(cls, root: Path, folder: Path) -> "Materials":
        """Let the example write the images that the network was not trained on, and read its card."""
        data = folder / "digits_heldout.npz"
        # its own process: the example's modules are not part of this package
        command = [sys.executable, "-m", "examples.digits.heldout", str(data)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ClientError(f"the example could not write its images: {last} (install the dev extra: scikit-learn)")
        preprocessing = read_card((root / NETWORK).with_suffix(".json"))["preprocessing"]
        images, labels = read_images(data, preprocessing)
        return cls(network=root / NETWORK, data=data, preprocessing=preprocessing, images=images, labels=labels)


def _run(client: Client, given: Materials, folder: Path, *, trials: int) -> str:
    _step("1", "Hand in a trained network and labelled images")
    model = client.upload_model(given.network, name="digits_resnet", preprocessing=given.preprocessing)
    data = client.upload_dataset(given.data, name="digits, held out")
    out.print(
        f"{given.network.name}: {model.parameters:,} parameters, {model.macs:,} multiply-accumulates, "
        f"{len(model.layers)} layers, {len(model.blocks)} blocks, {len(model.groups)} channel groups",
        soft_wrap=True,
    )
    out.print(
        f"{data.images} images of {'×'.join(map(str, data.shape))} that it was not trained on, {data.classes} classes"
    )

    _step("2", "Ask what it costs as it is and at uniform 8 bits, and what the search can reach")
    limits = _price(client, model)

    _step("3", "Search operators, bit-widths and channels together, within limits")
    queued = client.submit(
        {
            **JOB,
            "devices": [
                {"name": name, "limits": {"latency_ms": value, "model_bytes": MODEL_BYTES[name]}}
                for name, value in limits.items()
            ],
            "model_id": model.id,
            "dataset_id": data.id,
            "budget": {**JOB["budget"], "trials": trials},
        }
    )
    page = f"{client.url}/jobs/{queued.id}"
    for device in queued.devices:
        found = [f"{display.limit_words(name, value)}" for name, value in device.limits.items() if value is not None]
        out.print(f"{device.name}: {', '.join(found)}", highlight=False, soft_wrap=True)
    out.print(f"watch it grow: [link={page}]{page}[/link]\n", soft_wrap=True)
    job = follow(client, queued.id)
    if job.status != "done":
        raise ClientError(f"the job ended as {job.status}: {job.reason}")
    _print_fronts(client, job, model)

    _step("5", "Pull the best checkpoint of each device, reload it from its file and measure it here")
    original = measure_onnx("float network (ONNX Runtime)", given.network, given.images, given.labels)
    pulled = [_pull_best(client, job.id, device, folder, given, original) for device in limits]
    if not any(pulled):
        raise ClientError("no device got a checkpoint")
    return page


def _price(client: Client, model: ModelRead) -> dict[str, float]:
    """Print prices per device; return a latency limit for each."""
    devices = list(LATENCY_SHARES)
    as_it_is = client.estimate(model.id, devices, fit_check=True)
    uniform = Plan(layers={layer.name: LayerBits(weight_bits=8, activation_bits=8) for layer in model.layers})
    at_8_bits = client.estimate(model.id, devices, plan=uniform.to_json())
    out.print(tables.estimates_table(as_it_is, title="As it is, 32 bit float"))
    out.print("", tables.estimates_table(at_8_bits, title="At uniform 8 bits", errors=False))
    out.print("", tables.ranges_table(as_it_is.ranges or {}))
    return {row.device: float(f"{row.latency_ms * LATENCY_SHARES[row.device]:.2g}") for row in at_8_bits.estimates}


def _print_fronts(client: Client, job: JobRead, model: ModelRead) -> None:
    _step("4", "The front of each device: no trial on it can be bettered in both accuracy and latency")
    counts = job.trial_counts
    out.print(
        f"{counts.done} trials measured, {counts.stopped} stopped early as beaten already, "
        f"{counts.infeasible} were beyond a limit by arithmetic and never measured, "
        f"{counts.failed} failed; {job.split['search'] if job.split else '?'} images to search with\n",
        soft_wrap=True,
    )
    trials = list(client.trials(job.id))
    for device in job.devices:
        front = client.front(job.id, device=device.name)
        title = f"{device.name}: {len(front.points)} on the front, of {front.feasible_count} within the limits"
        floor = round((front.float_.accuracy or 0.0) - SHOWN_DROP, 2) if front.float_ else 0.0
        out.print(tables.front_table(front, model, title=title, least_accuracy=floor))
        out.print(*joint_lines(front, trials, model.model_dump(mode="json")), "", sep="\n", soft_wrap=True)


def _pull_best(
    client: Client, job_id: str, device: str, folder: Path, given: Materials, original: MeasuredFile
) -> bool:
    """Pull a device's best checkpoint and print what it is worth; say why if there is none."""
    best = None
    for drop in (None, WIDER_DROP):
        try:
            best = client.best(job_id, device=device, accuracy_drop=drop)
            break
        except ProblemError as error:
            out.print(f"[bold]{device}[/]: {error.detail}", soft_wrap=True)
    if best is None:
        return False
    folder = folder / f"best-{device}"
    pull_checkpoint(client, best, folder)
    onnx = client.download_checkpoint(best.id, folder / "model.onnx", format="onnx")
    costs = best.costs[device]
    out.print(
        f"[bold]{device}[/]: trial {best.number}, {display.amount(costs.latency_ms)} ms, "
        f"{display.amount(costs.energy_mj)} mJ, {costs.model_bytes:,} bytes there",
        soft_wrap=True,
    )
    measured = [
        measure_packed("packed checkpoint (tightfit.load)", folder, given.images, given.labels),
        measure_onnx("ONNX export (ONNX Runtime)", onnx, given.images, given.labels),
    ]
    out.print(measured_table(original, measured))
    out.print("", verification_table(best), "")
    return True


def _step(number: str, text: str) -> None:
    out.print()
    out.print(Rule(f"[bold]{number}  {text}", align="left", style="dim"))


def _say_where(running: ChildService) -> None:
    out.print(f"[bold]tightfit demo[/]  service at {running.url}, data in {running.home}", soft_wrap=True)


def _keep_serving(page: str, running: ChildService) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        out.print(f"The page was {page}. To see it again: TIGHTFIT_HOME={running.home} tightfit serve", soft_wrap=True)
        return
    out.print(f"The page: [bold][link={page}]{page}[/link][/]  Ctrl-C stops the service.", soft_wrap=True)
    with suppress(KeyboardInterrupt):
        while running.process.poll() is None:
            time.sleep(0.5)
