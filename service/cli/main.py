"""The ``tightfit`` command."""

from importlib.metadata import version
from typing import Annotated

import typer

from service.cli import listing, token
from service.cli.backup import backup, restore
from service.cli.bench import bench
from service.cli.calibrate import calibrate
from service.cli.demo import demo
from service.cli.devices import devices
from service.cli.dispatch import dispatch
from service.cli.doctor import doctor
from service.cli.export_study import export_study
from service.cli.pull import pull
from service.cli.rerank import rerank
from service.cli.sensitivity import sensitivity
from service.cli.serve import serve
from service.cli.submit import submit
from service.cli.watch import watch
from service.cli.why import why

app = typer.Typer(
    help="Makes a neural network fit a device: operators, bit-widths and channels in one search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    serve,
    dispatch,
    submit,
    watch,
    listing.jobs,
    listing.front,
    sensitivity,
    why,
    rerank,
    export_study,
    pull,
    listing.estimate,
    bench,
    calibrate,
    demo,
    doctor,
    backup,
    restore,
):
    app.command()(command)
app.add_typer(devices, name="devices")
app.add_typer(token.app, name="token")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(version("tightfit"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()
