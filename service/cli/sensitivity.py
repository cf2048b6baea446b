"""``tightfit sensitivity``: what single choices do to a job's network."""

from rich.table import Table

from service.api.schemas import SensitivityRead
from service.cli.common import DEFAULT_URL, JobId, Json, Url
from service.cli.output import out, print_json, problems_end_the_command, table
from service.cli.references import find_job
from service.client import Client


def sensitivity(job: JobId, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Show what each choice does alone to a job's network, the most harmful first.

    Only strategies that start from this measure it (`auto`, `integer_programme`).
    """
    with problems_end_the_command(), Client(url) as client:
        found = client.sensitivity(find_job(client, job).id)
        if as_json:
            print_json(found)
        elif found.choices:
            out.print(_table(found))
        else:
            out.print("Nothing was measured of single choices.")


def _table(found: SensitivityRead) -> Table:
    result = table("Each choice alone, all others at their dearest", "Of", "Name", ">Choice", ">Divergence", ">Loss")
    for row in sorted(found.choices, key=lambda row: -row.divergence):
        result.add_row(row.kind, row.name, str(row.choice), f"{row.divergence:.5f}", f"{row.loss:.5f}")
    return result
