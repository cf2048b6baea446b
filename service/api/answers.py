"""Answers that are asked for often."""

from fastapi.responses import Response

from service.api.schemas import Answer


def written(answer: Answer) -> Response:
    """Return an answer as it is sent.

    FastAPI would check what was just made once more, and wait for another thread to do so.
    """
    return Response(answer.model_dump_json(by_alias=True), media_type="application/json")
