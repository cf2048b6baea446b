"""Bodies and answers of ``/v1/tokens`` and ``/v1/audit``."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from service.api.job_schemas import Body
from service.api.schemas import Answer

ScopeName = Literal["read", "submit", "admin"]
OwnerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


class TokenCreate(Body):
    """A token to make. Without ``owner`` it is for the one who asks; without ``days`` it does not expire."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ci", "scope": "submit", "days": 90}]})

    name: Annotated[str, Field(min_length=1, max_length=200)]
    scope: ScopeName = "submit"
    owner: OwnerName | None = None
    days: Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)] | None = None


class TokenRead(Answer):
    """A token without its secret."""

    id: str
    owner: str
    name: str
    scope: str
    status: Literal["usable", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenCreated(TokenRead):
    """A new token, with the secret that its holder shows; it cannot be had again."""

    token: str


class AuditRead(Answer):
    """A request that changed something or was refused. ``owner`` is null for strangers."""

    id: str
    at: datetime
    owner: str | None
    token_id: str | None
    address: str
    method: str
    path: str
    status: int
