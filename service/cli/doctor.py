"""``tightfit doctor``: what is wrong here, and what to do about it."""

from dataclasses import asdict

import typer

from service.cli.common import Json
from service.cli.output import out, print_json, table
from service.observability.doctor import examine
from service.settings import Settings


def doctor(as_json: Json = False) -> None:
    """Look at this machine and its service: folders, memory, database, artefacts, dispatcher, Ray, access.

    Leaves with code 1 if something should be done. Run it with the service's own settings.
    """
    findings = list(examine(Settings()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        result = table("", "", "What", "Found")
        for finding in findings:
            result.add_row("[green]well[/]" if finding.well else "[red]look[/]", finding.name, finding.text)
        out.print(result)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)
