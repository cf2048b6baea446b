"""Errors of pages are pages: somebody looks at them."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from hwmodels.errors import InputError
from service.api.errors import STATUS_OF
from service.errors import AppError
from service.pages.rendering import page


class PageRoute(APIRoute):
    """A route whose expected errors are rendered for people, with the status that the API would give."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler with its errors caught."""
        handle = super().get_route_handler()

        async def handle_errors(request: Request) -> Response:
            try:
                return await handle(request)
            except (AppError, InputError) as error:
                status = next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)
                return page("problem.html", status=status, title=HTTPStatus(status).phrase, detail=str(error))

        return handle_errors
