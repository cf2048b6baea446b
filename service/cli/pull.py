"""``tightfit pull``: a checkpoint lands in a folder, with what its verification said."""

import zipfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from service import display
from service.api.schemas import TrialRead
from service.cli.common import DEFAULT_URL, Json, Url
from service.cli.output import err, out, print_json, problems_end_the_command
from service.cli.references import find_job
from service.client import Client, ClientError

MAX_UNPACKED_BYTES = 4 * 2**30


def pull(
    reference: Annotated[str, typer.Argument(help="Id of a job (its best trial is pulled) or of a trial, or `last`.")],
    to: Annotated[
        Path | None, typer.Option("--to", "-o", help="Folder for the files; the trial's name if left out.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Best on this device; the job's first one if left out.")] = None,
    accuracy_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="Best is the cheapest trial that loses at most this.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Download a checkpoint, unpack it and say what its verification found."""
    with problems_end_the_command(), Client(url) as client:
        trial = find_trial(client, reference, device=device, accuracy_drop=accuracy_drop)
        folder = to or Path(f"checkpoint-{trial.id[-12:]}")
        files = pull_checkpoint(client, trial, folder)
    if as_json:
        print_json({"folder": str(folder), "files": [str(path) for path in files], "trial": trial})
        return
    out.print(verification_table(trial))
    for path in files:
        out.print(f"{path}  {display.size(path.stat().st_size)}", markup=False, soft_wrap=True)
    err.print(f"run it: tightfit.load({str(folder)!r})", style="dim", markup=False, soft_wrap=True)


def find_trial(
    client: Client, reference: str, *, device: str | None = None, accuracy_drop: float | None = None
) -> TrialRead:
    """Return the trial with this id, or the best one of the job with this id."""
    if "-" in reference:
        return client.trial(reference)
    return client.best(find_job(client, reference).id, device=device, accuracy_drop=accuracy_drop)


def pull_checkpoint(client: Client, trial: TrialRead, folder: Path) -> list[Path]:
    """Download a trial's packed checkpoint and unpack it into ``folder``; return its files."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = client.download_checkpoint(trial.id, folder / "packed.zip")
    try:
        return unpack(archive, folder)
    finally:
        archive.unlink()


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a checkpoint's zip: plain files side by side, nothing that leads out of the folder.

    Raises:
        ClientError: The archive is not that.
    """
    try:
        with zipfile.ZipFile(archive) as files:
            members = files.infolist()
            if any(Path(member.filename).name != member.filename or member.is_dir() for member in members):
                raise ClientError(f"{archive} is not a checkpoint: its files have folders")
            if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
                raise ClientError(f"{archive} unpacks to more than {display.size(MAX_UNPACKED_BYTES)}")
            return [Path(files.extract(member, folder)) for member in members]
    except zipfile.BadZipFile as error:
        raise ClientError(f"{archive} is not a zip file") from error


def verification_table(trial: TrialRead) -> Table:
    """Return what reloading and measuring a trial's checkpoint found."""
    checkpoint = trial.checkpoint
    found: dict[str, Any] = {} if checkpoint is None else checkpoint.verification
    result = Table.grid(padding=(0, 2))
    good = checkpoint is not None and checkpoint.verified
    result.add_row("checkpoint", "[green]verified[/]" if good else "[red]not verified[/]")
    for failure in found.get("failures", ()):
        result.add_row("", Text(str(failure), style="red"))
    images = found.get("images")
    for name, key in (
        ("the trial", "trial_correct"),
        ("reloaded from its file", "torch_correct"),
        ("as ONNX", "onnx_correct"),
    ):
        if images and key in found:
            result.add_row(name, f"{display.accuracy(found[key] / images)} of the {images} search images")
    if "packed_bytes" in found:
        result.add_row("packed", f"{found['packed_bytes']:,} bytes, as predicted {found['predicted_packed_bytes']:,}")
    for row in found.get("figures", ()):
        place = f" on {row['device']}" if row["device"] else ""
        result.add_row(f"{row['figure']}{place}", Text(f"{row['kind']}: {row['reason']}"))
    if test := found.get("test"):
        low, high = (display.points(-edge) for edge in reversed(test["drop_interval"]))
        result.add_row(
            "never looked at",
            f"{display.accuracy(test['correct'] / test['images'])} of the {test['images']} test images; float network "
            f"{display.accuracy(test['float_correct'] / test['images'])}, 95 % between {low} and {high}",
        )
    if tuned := found.get("fine_tuned"):
        if tuned["failures"]:
            text = Text(f"not verified: {'; '.join(tuned['failures'])}", style="red")
        else:
            text = Text(
                f"{display.accuracy(tuned['test']['correct'] / tuned['test']['images'])} of the same test images"
            )
        result.add_row("fine-tuned", text)
    return result
