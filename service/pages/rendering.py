"""Templates, their filters, and the headers that every page carries."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from service import display

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
STATIC = FOLDER / "static"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        # The chart script sets styles on its elements; a style can neither run code nor, without sources, fetch.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",  # the chart's "download as PNG"
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def environment() -> Environment:
    """Return the templates' environment; a name that a template has and a page forgot is an error."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        accuracy=display.accuracy,
        amount=display.amount,
        count=display.count,
        duration=display.duration,
        limit_words=display.limit_words,
        moment=display.moment,
        points=display.points,
        quantity=lambda value, name: display.quantity(name, value),
        size=display.size,
    )
    env.globals.update(titles=display.TITLES, version=version("tightfit"))
    return env


_ENVIRONMENT = environment()


def page(template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page or a part of one."""
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(_with_defaults(context)), status, HEADERS)


def _with_defaults(context: Mapping[str, Any]) -> dict[str, Any]:
    return {"section": "", **context}
