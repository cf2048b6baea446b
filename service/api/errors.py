"""Errors as RFC 9457 ``application/problem+json``: one table maps kinds to status codes."""

import logging
import reprlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from hwmodels.errors import InputError
from service.api.schemas import FieldError, Problem
from service.errors import AppError, ConflictError, NotFoundError, TooLargeError, TooManyError, UnavailableError
from workers.ingest.protocol import IngestUnavailableError

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

STATUS_OF: dict[type[Exception], HTTPStatus] = {
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    TooManyError: HTTPStatus.TOO_MANY_REQUESTS,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    IngestUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    OperationalError: HTTPStatus.SERVICE_UNAVAILABLE,
    NoConnectionError: HTTPStatus.SERVICE_UNAVAILABLE,
    OSError: HTTPStatus.SERVICE_UNAVAILABLE,
    DataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IntegrityError: HTTPStatus.CONFLICT,
    AppError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The nearest class decides."""

METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

CODE_OF_HTTP = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200

logger = logging.getLogger(__name__)


def problem(status: int, code: str, detail: str, errors: Sequence[FieldError] = ()) -> Response:
    """Return an answer that says what is wrong."""
    title = HTTPStatus(status).phrase
    body = Problem(
        type=f"/v1/problems/{code}", title=title, status=status, detail=_utf8(detail), code=code, errors=list(errors)
    )
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(body.model_dump(mode="json"), status, headers, PROBLEM_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of an application leave as a problem."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in STATUS_OF:
        app.add_exception_handler(kind, _expected)
    app.add_exception_handler(Exception, _unexpected)


async def _expected(request: Request, error: Exception) -> Response:
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS_OF)
    status = STATUS_OF[kind]
    if isinstance(error, InputError):
        parts: tuple[InputError, ...] = getattr(error, "errors", (error,))
        return problem(status, error.code, "; ".join(str(part) for part in parts), [_field(part) for part in parts])
    if isinstance(error, NotFoundError) and error.field is not None:
        return problem(status, error.code, error.detail, [_row(error.field, error.detail, error.value)])
    if isinstance(error, AppError):
        answer = problem(status, error.code, error.detail)
        if isinstance(error, TooManyError):
            answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer
    if isinstance(error, IngestUnavailableError):
        return problem(status, "ingest_unavailable", str(error))
    if isinstance(error, DataError):  # a NUL in a text, which PostgreSQL does not take
        return problem(status, "invalid_input", "a value has characters that cannot be stored")
    if isinstance(error, IntegrityError):  # a model that a job is submitted for, deleted at that moment, say
        logger.warning("%s %s: rows contradict each other", request.method, request.url.path, exc_info=error)
        return problem(status, "conflict", "something that this needs was changed meanwhile; look again")
    if isinstance(error, OSError):
        logger.error("%s %s: files cannot be read or written", request.method, request.url.path, exc_info=error)
        reason = error.strerror or type(error).__name__
        return problem(status, "storage_unavailable", f"the service cannot read or write its files now: {reason}")
    logger.error("the database does not answer", exc_info=error)
    return problem(status, "database_unavailable", "the database does not answer; try again")


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    rows = [
        _row(
            ".".join(str(part) for part in row["loc"][1:]) or str(row["loc"][0]),
            row["msg"].removeprefix("Value error, "),
            row.get("input"),
        )
        for row in error.errors()
    ]
    detail = "; ".join(f"{row.field}: {row.rule}" for row in rows[:5])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", detail, rows)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OSError):  # a form whose file could not be kept
        return await _expected(request, error.__cause__)
    code = CODE_OF_HTTP.get(error.status_code, "error")
    answer = problem(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}")
    answer.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """Return what may be done with a path; the router names the methods of the first route alone."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    return [name for name in METHODS if any(route.matches(scopes[name])[0] is Match.FULL for route in routes)]


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "the service failed; its log has the reason")


def _field(error: InputError) -> FieldError:
    return _row(error.field, error.rule, error.value)


def _row(field: str, rule: str, value: Any) -> FieldError:
    return FieldError(field=_utf8(field), rule=_utf8(rule), value=_plain(value))


def _plain(value: Any, *, within: bool = False) -> Any:
    """Return a value that JSON can carry and that is neither long nor deep."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)  # also NaN
    if isinstance(value, (list, tuple)) and len(value) <= 16 and not within:
        return [_plain(item, within=True) for item in value]
    return _utf8(value[:200] if isinstance(value, str) else _SHORT.repr(value)[:200])


def _utf8(text: str) -> str:
    """Return a text that can be encoded: JSON may name half of a surrogate pair, which is no character."""
    return text.encode("utf-8", "backslashreplace").decode()
