"""The API and the pages as one ASGI application. Imports neither torch nor ray."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.api import datasets, devices, errors, estimates, events, health, jobs, models, trials
from service.api.body_limit import BodyLimit
from service.api.same_origin import SameOrigin
from service.pages.routes import router as pages
from service.services import Services
from service.settings import Settings

ROUTERS = (models, datasets, devices, estimates, jobs, events, trials, health)


def create_app(settings: Settings) -> FastAPI:
    """Return the application. The database must be at head (``service.store.migrate``)."""
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services.ingest.start()
        yield
        app.state.stopping = True
        services.close()

    app = FastAPI(
        title="tightfit", version="1", lifespan=lifespan, docs_url=None, redoc_url=None
    )  # their pages load scripts from elsewhere
    app.state.services = services
    app.state.stopping = False
    errors.install(app)
    app.add_middleware(BodyLimit, upload_bytes=settings.max_upload_bytes, other_bytes=settings.max_body_bytes)
    names = [name.strip() for name in settings.allowed_hosts.split(",") if name.strip()]
    app.add_middleware(SameOrigin, allowed_hosts=names)
    for module in ROUTERS:
        app.include_router(module.router)
    app.include_router(pages)
    return app
