"""The API and the pages as one ASGI application. Imports neither torch nor ray."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.api import (
    datasets,
    devices,
    document,
    errors,
    estimates,
    events,
    explaining,
    health,
    jobs,
    models,
    problems,
    rerank,
    sensitivity,
    studies,
    tokens,
    trials,
)
from service.api.body_limit import BodyLimit
from service.api.conditional import Conditional
from service.api.event_hub import EventHub
from service.api.guard import Guard
from service.api.same_origin import SameOrigin
from service.api.security_headers import SecurityHeaders
from service.api.slow_calls import SlowCalls
from service.observability.metrics import Measuring, Requests
from service.pages.login import router as login
from service.pages.questions import router as questions
from service.pages.routes import router as pages
from service.services import Services
from service.settings import Settings

ROUTERS = (
    models,
    datasets,
    devices,
    estimates,
    jobs,
    events,
    trials,
    explaining,
    rerank,
    studies,
    sensitivity,
    tokens,
    problems,
    health,
)

PRELOAD_AFTER_S = 30.0
"""Ingestion starts then, or with the first upload: until then processors belong to jobs that a crash has left."""


def create_app(settings: Settings) -> FastAPI:
    """Return the application. The database must be at head (``service.store.migrate``)."""
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services.ingest.start_later(PRELOAD_AFTER_S)
        gc.freeze()  # what has been imported stays: looking through all of it now and then would hold up every answer
        yield
        app.state.stopping = True
        services.close()

    app = FastAPI(
        title="tightfit", version="1", lifespan=lifespan, docs_url=None, redoc_url=None
    )  # their pages load scripts from elsewhere
    app.state.services = services
    app.state.stopping = False
    app.state.requests = Requests()
    app.state.hub = EventHub(services.database)
    errors.install(app)
    document.install(app)
    # From the inside out: what is added last sees a request first.
    app.add_middleware(SlowCalls)
    app.add_middleware(BodyLimit, upload_bytes=settings.max_upload_bytes, other_bytes=settings.max_body_bytes)
    app.add_middleware(Guard, database=services.database, settings=settings)
    names = [name.strip() for name in settings.allowed_hosts.split(",") if name.strip()]
    app.add_middleware(SameOrigin, allowed_hosts=names)
    app.add_middleware(Conditional)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Measuring, requests=app.state.requests)
    for module in ROUTERS:
        app.include_router(module.router)
    app.include_router(pages)
    app.include_router(questions)
    app.include_router(login)
    return app
