"""``tightfit why``: what each layer of a trial saves and loses."""

from typing import Annotated

import typer
from rich.table import Table

from service import display
from service.api.why_schemas import LayerReasonRead, WhyRead
from service.cli.common import DEFAULT_URL, Json, Url
from service.cli.output import out, print_json, problems_end_the_command, table
from service.client import Client


def why(
    trial: Annotated[str, typer.Argument(help="The trial's id.")],
    other: Annotated[str | None, typer.Argument(help="A trial of the same job; the float network if left out.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
    device: Annotated[str | None, typer.Option(help="One of the job's devices; the first if left out.")] = None,
) -> None:
    """Show for each layer of a trial what its choices save and what they are predicted to lose."""
    with problems_end_the_command(), Client(url) as client:
        found = client.why(trial, other=other, device=device)
        if as_json:
            print_json(found)
        else:
            out.print(_table(found))


def _table(found: WhyRead) -> Table:
    title = f"{found.device}: saved against {found.other or 'the float network'}"
    headers = (">Latency (ms)", ">Energy (mJ)", ">Model (bytes)", ">Predicted loss (nats)")
    result = table(title, "Layer", "Choices", "Instead of", *headers)
    for row in found.layers:
        loss = display.ABSENT if row.predicted_loss is None else f"{row.predicted_loss:.5f}"
        saved = (display.amount(row.saved_latency_ms), display.amount(row.saved_energy_mj), f"{row.saved_bytes:,}")
        result.add_row(row.layer, _words(row.choices), _words(row.instead_of), *saved, loss)
    result.add_section()
    result.add_row("together", "", "", *_sums(found.layers))
    return result


def _sums(rows: list[LayerReasonRead]) -> tuple[str, str, str, str]:
    losses = [row.predicted_loss for row in rows]
    total = sum(loss for loss in losses if loss is not None)
    return (
        display.amount(sum(row.saved_latency_ms for row in rows)),
        display.amount(sum(row.saved_energy_mj for row in rows)),
        f"{sum(row.saved_bytes for row in rows):,}",
        display.ABSENT if None in losses else f"{total:.5f}",
    )


def _words(choices: dict[str, str]) -> str:
    return ", ".join(f"{kind} {choice}" for kind, choice in choices.items())
