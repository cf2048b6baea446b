"""``/v1/tokens`` and ``/v1/audit``: access, for those with the scope ``admin``."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from service.access.principal import Scope
from service.api.access_schemas import AuditRead, TokenCreate, TokenCreated, TokenRead
from service.api.dependencies import Cursor, Limit, PrincipalOf, ServicesOf
from service.api.schemas import Page
from service.errors import ConflictError, NotFoundError
from service.store.audit import Audit
from service.store.records import TokenRecord
from service.store.rows import moment
from service.store.tokens import Tokens

router = APIRouter(prefix="/v1", tags=["access"])

Owner = Annotated[str | None, Query(max_length=64, description="Only lines of this owner")]


@router.post("/tokens", status_code=201)
def create_token(services: ServicesOf, principal: PrincipalOf, body: TokenCreate) -> TokenCreated:
    """Make a token. Its secret is in this answer and nowhere else.

    The first token is made on the service's own machine, by ``tightfit token create``: whoever may do that owns it.
    """
    if principal.token_id is None:
        raise ConflictError("make the first token by `tightfit token create` on this machine", code="no_token_yet")
    expires_at = None if body.days is None else moment() + timedelta(days=body.days)
    with services.database.write() as connection:
        token, secret = Tokens(connection).create(
            name=body.name, owner=body.owner or principal.owner, scope=Scope(body.scope), expires_at=expires_at
        )
    return TokenCreated(**_read(token).model_dump(), token=str(secret))


@router.get("/tokens")
def list_tokens(services: ServicesOf, cursor: Cursor = None, limit: Limit = 50) -> Page[TokenRead]:
    """List tokens, the newest first, those included that can no longer be used."""
    with services.database.read() as connection:
        rows = Tokens(connection).page(before=cursor, limit=limit + 1)
    return Page(
        items=[_read(row) for row in rows[:limit]], next_cursor=rows[limit - 1].id if len(rows) > limit else None
    )


@router.delete("/tokens/{token_id}")
def revoke_token(services: ServicesOf, token_id: str) -> TokenRead:
    """Revoke a token: neither it nor a session that it opened is let in any more. Twice is once."""
    with services.database.write() as connection:
        token = Tokens(connection).revoke(token_id)
    if token is None:
        raise NotFoundError("token", token_id)
    return _read(token)


@router.get("/audit")
def list_audit(services: ServicesOf, owner: Owner = None, cursor: Cursor = None, limit: Limit = 50) -> Page[AuditRead]:
    """List what was changed and who was refused, the newest first."""
    with services.database.read() as connection:
        rows = Audit(connection).page(owner=owner, before=cursor, limit=limit + 1)
    return Page(
        items=[AuditRead.model_validate(row, from_attributes=True) for row in rows[:limit]],
        next_cursor=rows[limit - 1].id if len(rows) > limit else None,
    )


def _read(token: TokenRecord) -> TokenRead:
    return TokenRead(
        id=token.id,
        owner=token.owner,
        name=token.name,
        scope=token.scope,
        status="revoked" if token.revoked_at else "usable" if token.usable(moment()) else "expired",
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )
