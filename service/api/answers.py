"""Answers that are asked for often."""

from collections.abc import Mapping

from fastapi.responses import Response

from service.api.schemas import Answer


def written(answer: Answer, *, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer as it is sent.

    FastAPI would check what was just made once more, and wait for another thread to do so.
    """
    return Response(answer.model_dump_json(by_alias=True), status_code, headers, media_type="application/json")
