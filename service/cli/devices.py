"""``tightfit devices``: list, show and add device profiles."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hwmodels.profile import load_profile
from service.cli import tables
from service.cli.common import DEFAULT_URL, Json, Url
from service.cli.output import input_errors_end_the_command, out, print_json, problems_end_the_command
from service.client import Client

if TYPE_CHECKING:
    from typer._click import Command, Context


class _ShowsByName(TyperGroup):
    """Takes what is no command of the group for the name of a device to show."""

    def resolve_command(self, ctx: "Context", args: list[str]) -> tuple[str | None, "Command | None", list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


devices = typer.Typer(cls=_ShowsByName, help="List the device profiles, show one, or add your own.")


@devices.callback(invoke_without_command=True)
def list_devices(context: typer.Context, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """List the device profiles; `devices show NAME` shows one, `devices add FILE` adds your own."""
    if context.invoked_subcommand is not None:
        return
    with problems_end_the_command(), Client(url) as client:
        found = client.devices()
        if as_json:
            print_json(found)
        else:
            out.print(tables.devices_table(found))


@devices.command()
def show(
    name: Annotated[str, typer.Argument(help="The device.")],
    url: Url = DEFAULT_URL,
    as_json: Json = False,
    whole: Annotated[bool, typer.Option(help="With --json: roofline and validation beside the profile.")] = False,
) -> None:
    """Show a profile: every fact with its source, its roofs, and how far its prices were from measurements."""
    with problems_end_the_command(), Client(url) as client:
        device = client.device(name)
    if as_json:
        print_json(device if whole else device.profile)
        return
    out.print(f"[bold]{device.title}[/]\n", tables.facts_table(device.profile))
    if device.roofs:
        out.print("", tables.roofs_table(device.roofs))
    out.print("", tables.validation_table(device.validation))


@devices.command()
def add(
    file: Annotated[Path, typer.Argument(help="Profile, YAML or JSON.", exists=True, dir_okay=False)],
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Add a profile of your own. A profile never changes: after an edit, give it a new name."""
    with input_errors_end_the_command():
        profile: dict[str, Any] = load_profile(file).to_json()
    with problems_end_the_command(), Client(url) as client:
        added = client.add_device(profile)
    if as_json:
        print_json(added)
    else:
        out.print(
            f"{added.name} is known now: `tightfit estimate --device {added.name}` prices for it.", soft_wrap=True
        )
