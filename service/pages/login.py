"""``/login``: a browser swaps a token for a session cookie, which no script can read and no foreign page can send."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from service.access.principal import Principal
from service.access.secrets import Secret
from service.api.dependencies import PRINCIPAL, PrincipalOf, ServicesOf
from service.api.guard import COOKIE
from service.pages.errors import PageRoute
from service.pages.rendering import page
from service.services import Services
from service.store.rows import moment
from service.store.tokens import Sessions, Tokens

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SESSION_HOURS = 12
HOME = "/"


@router.get("/login")
def login_page(request: Request, next: Annotated[str, Query(max_length=2000)] = HOME) -> Response:
    """Return the form for a token, or who is signed in."""
    principal: Principal | None = request.scope.get(PRINCIPAL)
    return page("login.html", section="Access", principal=principal, target=_within(next), refused=False)


@router.post("/login")
def login(
    services: ServicesOf,
    request: Request,
    token: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form(max_length=2000)] = HOME,
) -> Response:
    """Open a session for the holder of a token."""
    session = _session(services, token.strip())
    if session is None:
        return page(
            "login.html",
            status=HTTPStatus.UNAUTHORIZED,
            section="Access",
            principal=None,
            target=_within(next),
            refused=True,
        )
    answer = RedirectResponse(_within(next), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE,
        str(session),
        max_age=SESSION_HOURS * 3600,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout")
def logout(services: ServicesOf, principal: PrincipalOf) -> Response:
    """End the session."""
    if principal.session_id is not None:
        with services.database.write() as connection:
            Sessions(connection).close(principal.session_id)
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _session(services: Services, token: str) -> Secret | None:
    secret = Secret.parse(token)
    if secret is None:
        return None
    with services.database.write() as connection:
        if Tokens(connection).holder(secret) is None:
            return None
        return Sessions(connection).open(secret.id, until=moment() + timedelta(hours=SESSION_HOURS))


def _within(target: str) -> str:
    """Return a path of this service, whatever was asked for: two slashes, or one and a backslash, name a host."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return HOME
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain and not parts.scheme and not parts.netloc else HOME
