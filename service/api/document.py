"""The OpenAPI document: what the framework finds, with how to come in, and every error as the problem that it is."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.access import rules
from service.api.schemas import Problem

REFERENCE = "#/components/schemas/Problem"
ANY_CALL = {
    "400": "The request is not HTTP or JSON as it should be",
    "401": "A token is needed",
    "403": "The token does not allow this, or another site's page asks",
    "429": "Too many requests, or too many jobs; `Retry-After` says how long to wait",
    "503": "Something that the service leans on does not answer; try again",
}
BY_BODY = {"413": "The body is too long", "422": "A value breaks a rule"}
BY_PATH = {"404": "There is nothing with this identifier for this owner", "409": "It is in a state that forbids this"}
EXAMPLE = {
    "type": "/v1/problems/unknown_job",
    "title": "Not Found",
    "status": 404,
    "detail": "unknown job '0123456789abcdef0123456789abcdef'",
    "code": "unknown_job",
    "errors": [],
}


def install(app: FastAPI) -> None:
    """Let an application describe itself so."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # the framework's way to change the document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes, description=app.description)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = {**problem, "examples": [EXAMPLE]}
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            responses = call["responses"]
            texts = dict(ANY_CALL)
            if "requestBody" in call or call.get("parameters"):
                texts |= BY_BODY
            if "{" in path or method == "post":
                texts |= BY_PATH
            for status, text in texts.items():
                responses[status] = {
                    "description": text,
                    "content": {"application/problem+json": {"schema": {"$ref": REFERENCE}}},
                }
            if not rules.is_public(path):
                call["security"] = [{"token": []}, {}]  # nothing, as long as the service has no token
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return document
