"""``tightfit token``: who may use a service. Works on its database, so that the first token needs no other."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import typer

from service import display
from service.access.principal import Scope
from service.cli.common import Json
from service.cli.output import err, out, print_json, table
from service.settings import Settings
from service.store.database import Database
from service.store.migrate import upgrade_to_head
from service.store.rows import moment
from service.store.tables import LOCAL_OWNER
from service.store.tokens import Tokens

app = typer.Typer(
    help="Make, list and revoke tokens. Run it where the service runs, with its TIGHTFIT_HOME or DATABASE_URL.",
    no_args_is_help=True,
)
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for: a person, a program.")],
    scope: Annotated[Scope, typer.Option(help="What it allows.")] = Scope.SUBMIT,
    owner: Annotated[str, typer.Option(help="Whose models, data and jobs it sees and makes.")] = LOCAL_OWNER,
    days: Annotated[float | None, typer.Option(min=0.001, max=3650, help="Expires after so many days.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print its secret, which cannot be had again. With the first one the service closes to others."""
    if not OWNER.fullmatch(owner):
        raise typer.BadParameter("an owner has at most 64 letters, digits and ._@-, beginning with a letter or digit")
    if not 1 <= len(name) <= 200:
        raise typer.BadParameter("a name has 1 to 200 characters")
    expires_at = None if days is None else moment() + timedelta(days=days)
    with _tokens() as tokens:
        token, secret = tokens.create(name=name, owner=owner, scope=scope, expires_at=expires_at)
    if as_json:
        print_json({"id": token.id, "owner": owner, "scope": str(scope), "token": str(secret)})
        return
    typer.echo(str(secret))
    err.print(
        f"token {token.id} of {owner}, scope {scope}; programs take it from TIGHTFIT_TOKEN", style="dim", soft_wrap=True
    )


@app.command("list")
def list_tokens(as_json: Json = False) -> None:
    """List tokens, the newest first, without their secrets."""
    with _tokens() as tokens:
        found = tokens.page(limit=1000)
    rows = [
        {
            "id": token.id,
            "name": token.name,
            "owner": token.owner,
            "scope": token.scope,
            "status": "revoked" if token.revoked_at else "usable" if token.usable(moment()) else "expired",
            "created": display.moment(token.created_at),
            "expires": "never" if token.expires_at is None else display.moment(token.expires_at),
        }
        for token in found
    ]
    if as_json:
        print_json(rows)
        return
    result = table("", "Id", "Name", "Owner", "Scope", "Status", "Created", "Expires")
    for row in rows:
        result.add_row(*row.values())
    out.print(
        result if rows else "No tokens: whoever reaches the service may use it, and it listens on loopback alone."
    )


@app.command()
def revoke(identifier: Annotated[str, typer.Argument(metavar="ID", help="As `tightfit token list` shows it.")]) -> None:
    """Revoke a token: neither it nor a browser that signed in with it is let in any more."""
    with _tokens() as tokens:
        token = tokens.revoke(identifier)
    if token is None:
        err.print(f"unknown token {identifier!r}", style="red", markup=False)
        raise typer.Exit(1)
    out.print(f"token {token.id} ({token.name}) is revoked", markup=False, soft_wrap=True)


@contextmanager
def _tokens() -> Iterator[Tokens]:
    database = Database(Settings().database_url)
    try:
        upgrade_to_head(database)
        with database.write() as connection:
            yield Tokens(connection)
    finally:
        database.close()
