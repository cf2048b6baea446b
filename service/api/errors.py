"""Errors as RFC 9457 ``application/problem+json``: one table maps kinds to status codes."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hwmodels.errors import InputError
from service.api.schemas import FieldError, Problem
from service.errors import AppError, ConflictError, NotFoundError, TooLargeError, UnavailableError
from workers.ingest.protocol import IngestUnavailableError

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

STATUS_OF: dict[type[Exception], HTTPStatus] = {
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    IngestUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    OperationalError: HTTPStatus.SERVICE_UNAVAILABLE,
    AppError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The nearest class decides."""

CODE_OF_HTTP = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}

logger = logging.getLogger(__name__)


def problem(status: int, code: str, detail: str, errors: Sequence[FieldError] = ()) -> Response:
    """Return an answer that says what is wrong."""
    title = HTTPStatus(status).phrase
    body = Problem(
        type=f"/v1/problems/{code}", title=title, status=status, detail=detail, code=code, errors=list(errors)
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
        row = FieldError(field=error.field, rule=error.detail, value=error.value)
        return problem(status, error.code, error.detail, [row])
    if isinstance(error, AppError):
        return problem(status, error.code, error.detail)
    if isinstance(error, IngestUnavailableError):
        return problem(status, "ingest_unavailable", str(error))
    logger.error("the database does not answer", exc_info=error)
    return problem(status, "database_unavailable", "the database does not answer; try again")


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    rows = [
        FieldError(
            field=".".join(str(part) for part in row["loc"][1:]) or str(row["loc"][0]),
            rule=row["msg"].removeprefix("Value error, "),
            value=_plain(row.get("input")),
        )
        for row in error.errors()
    ]
    detail = "; ".join(f"{row.field}: {row.rule}" for row in rows[:5])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", detail, rows)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODE_OF_HTTP.get(error.status_code, "error")
    answer = problem(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}")
    answer.headers.update(error.headers or {})
    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "the service failed; its log has the reason")


def _field(error: InputError) -> FieldError:
    return FieldError(field=error.field, rule=error.rule, value=_plain(error.value))


def _plain(value: Any) -> Any:
    """Return a value that JSON can carry and that is not long."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)  # also NaN
    if isinstance(value, (list, tuple)) and len(value) <= 16:
        return [_plain(item) for item in value]
    return value[:200] if isinstance(value, str) else repr(value)[:200]
