"""``tightfit submit``: files and limits become a job."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.common import DEFAULT_URL, Json, Url
from service.cli.options import DEVICE_HELP, LIMIT_HELP, parse_device, parse_limits, parse_numbers
from service.cli.output import err, out, print_json, problems_end_the_command
from service.cli.references import find_dataset, find_model, read_document
from service.cli.watch import end_with, follow, stream_events
from service.client import Client


def submit(
    model: Annotated[
        str | None, typer.Option(help="ONNX (or safetensors) file to upload, or the id of a model.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Labelled data (.npz) to upload, or the id of a data set; none: a data-free job.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help=DEVICE_HELP)] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="Cost to minimise beside the accuracy. Repeat; the first one decides what is best."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Stop after so many trials.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so many minutes.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the job.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed searches the same candidates.")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="How candidates are proposed: auto, differentiable, integer_programme, nsga2, policy_gradient, random"
            " or tpe."
        ),
    ] = None,
    weight_bits: Annotated[str | None, typer.Option(help="Widths that weights may have: 2,4,8.")] = None,
    activation_bits: Annotated[str | None, typer.Option(help="Widths that activations may have: 4,8.")] = None,
    keep_ratios: Annotated[str | None, typer.Option(help="Shares of channels that may be kept: 0.5,0.75,1.")] = None,
    operators: Annotated[str | None, typer.Option(help="What may stand in a block's place: original,skip.")] = None,
    imitation_steps: Annotated[
        int | None,
        typer.Option(min=0, max=10_000, help="Train every replacement of a block for so many steps first; 0: not."),
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="Architecture that a safetensors file belongs to.")] = None,
    pixels: Annotated[
        str | None,
        typer.Option(
            help="What turns stored pixels into the input, JSON: layout, scale, mean, std; needed for integer arrays."
        ),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            help="Job as a JSON file, as the REST API takes it; options override it.", exists=True, dir_okay=False
        ),
    ] = None,
    finetune: Annotated[
        int | None,
        typer.Option(min=1, help="Fine-tune finalists for so many epochs; what is trained with is in --spec."),
    ] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Submitting twice with one key makes one job.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job until it ends.")] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Queue a job: a network, data, devices and limits.

    For example: tightfit submit --model net.onnx --data images.npz --device raspberry-pi-4:latency_ms=4
    --device stm32h743 --limit model_bytes=100000 --trials 200 --watch
    """
    job: dict[str, Any] = {} if spec is None else read_document(spec)
    given: dict[str, Any] = {
        "name": name,
        "devices": [parse_device(text) for text in device or []],
        "limits": parse_limits(limit or []),
        "objectives": ["accuracy", *objective] if objective else None,
        "seed": seed,
        "imitation_steps": imitation_steps,
        "strategy": strategy,
    }
    job |= {key: value for key, value in given.items() if value not in (None, [], {})}
    space = {
        "weight_bits": _numbers(weight_bits, "--weight-bits", int),
        "activation_bits": _numbers(activation_bits, "--activation-bits", int),
        "keep_ratios": _numbers(keep_ratios, "--keep-ratios", float),
        "operators": None if operators is None else operators.split(","),
    }
    _override(job, "space", space)
    _override(job, "budget", {"trials": trials, "minutes": minutes})
    _override(job, "finetune", {"epochs": finetune})
    if model is None and "model_id" not in job:
        raise typer.BadParameter("say which network: --model FILE, or model_id in --spec")
    if not job.get("devices"):
        raise typer.BadParameter("say which device: --device NAME, or devices in --spec")
    with problems_end_the_command(), Client(url) as client:
        if model is not None:
            job["model_id"] = find_model(client, model, architecture=architecture, preprocessing=_preprocessing(pixels))
        if data is not None:
            job["dataset_id"] = find_dataset(client, data)
        elif "dataset_id" not in job:
            job["data_free"] = True
            err.print("no --data: images are made from the network, and the score is agreement with it", style="dim")
        queued = client.submit(job, idempotency_key=idempotency_key)
        if not as_json:
            out.print(f"job [bold]{queued.id}[/] is {queued.status}: {client.url}/jobs/{queued.id}", soft_wrap=True)
        if not watch:
            if as_json:
                print_json(queued)
            else:
                err.print(f"follow it: tightfit watch {queued.id}", style="dim", soft_wrap=True)
            return
        ended = stream_events(client, queued.id) if as_json else follow(client, queued.id)
    end_with(ended)


def _numbers(text: str | None, name: str, kind: type[int] | type[float]) -> list[int] | list[float] | None:
    return None if text is None else parse_numbers(text, name=name, kind=kind)


def _override(job: dict[str, Any], part: str, values: dict[str, Any]) -> None:
    given = {key: value for key, value in values.items() if value is not None}
    if given:
        job[part] = {**job.get(part, {}), **given}


def _preprocessing(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--pixels must be JSON: {error}") from None
    if not isinstance(fields, dict):
        raise typer.BadParameter("--pixels must be a JSON object")
    return fields
