"""Tokens and the sessions that browsers got for them."""

from datetime import datetime

from sqlalchemy import Connection, delete, exists, func, insert, or_, select, update

from service.access.principal import Principal, Scope
from service.access.secrets import Secret
from service.store.records import TokenRecord
from service.store.rows import moment, record, records, values_of
from service.store.tables import sessions, tokens


class Tokens:
    """The tokens of everybody. One is never deleted: a service that has had a token stays closed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, *, name: str, owner: str, scope: Scope, expires_at: datetime | None) -> tuple[TokenRecord, Secret]:
        """Make a token; the secret is in nobody's hands but the caller's."""
        secret = Secret.new()
        token = TokenRecord(
            id=secret.id,
            owner=owner,
            name=name,
            scope=scope,
            digest=secret.digest,
            created_at=moment(),
            expires_at=expires_at,
            revoked_at=None,
        )
        self._connection.execute(insert(tokens), values_of(token))
        return token, secret

    def any(self) -> bool:
        """Whether there ever was a token."""
        return bool(self._connection.execute(select(exists().select_from(tokens))).scalar_one())

    def any_usable(self) -> bool:
        """Whether anybody could come in."""
        usable = tokens.c.revoked_at.is_(None) & or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > moment())
        return bool(self._connection.execute(select(exists().select_from(tokens).where(usable))).scalar_one())

    def get(self, identifier: str) -> TokenRecord | None:
        """Return the token with this identifier."""
        row = self._connection.execute(select(tokens).where(tokens.c.id == identifier)).one_or_none()
        return None if row is None else record(TokenRecord, row)

    def page(self, *, before: str | None = None, limit: int = 50) -> list[TokenRecord]:
        """Return the newest tokens, older than ``before`` if that is given."""
        query = select(tokens).order_by(tokens.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(tokens.c.id < before)
        return records(TokenRecord, self._connection.execute(query))

    def revoke(self, identifier: str) -> TokenRecord | None:
        """Let a token, and the sessions that it opened, no longer be used; ``None`` if there is no such token."""
        revoked_at = func.coalesce(tokens.c.revoked_at, moment(), type_=tokens.c.revoked_at.type)
        statement = update(tokens).where(tokens.c.id == identifier).values(revoked_at=revoked_at)
        self._connection.execute(statement)
        self._connection.execute(delete(sessions).where(sessions.c.token_id == identifier))
        return self.get(identifier)

    def holder(self, secret: Secret) -> Principal | None:
        """Return whose secret this is; ``None`` if it is nobody's, or was revoked, or has expired."""
        token = self.get(secret.id)
        if token is None or not secret.matches(token.digest) or not token.usable(moment()):
            return None
        return Principal(owner=token.owner, scope=Scope(token.scope), token_id=token.id)


class Sessions:
    """The sessions of browsers: each stands for a token, and ends with it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self, token_id: str, *, until: datetime) -> Secret:
        """Begin a session; clears away those that have run out."""
        secret = Secret.new()
        self._connection.execute(delete(sessions).where(sessions.c.expires_at <= moment()))
        values = {"id": secret.id, "digest": secret.digest, "token_id": token_id, "expires_at": until}
        self._connection.execute(insert(sessions).values(**values))
        return secret

    def close(self, identifier: str) -> None:
        """End a session."""
        self._connection.execute(delete(sessions).where(sessions.c.id == identifier))

    def holder(self, secret: Secret) -> Principal | None:
        """Return whose session this is; ``None`` if it has ended, or its token can no longer be used."""
        row = self._connection.execute(select(sessions).where(sessions.c.id == secret.id)).one_or_none()
        if row is None or not secret.matches(row.digest) or row.expires_at <= moment():
            return None
        token = Tokens(self._connection).get(row.token_id)
        if token is None or not token.usable(moment()):
            return None
        return Principal(owner=token.owner, scope=Scope(token.scope), token_id=token.id, session_id=secret.id)
