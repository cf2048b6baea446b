"""The pages' routes. A page is rendered whole; its moving parts can be had alone, for the scripts that renew them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import FileResponse, JSONResponse, Response

from hwmodels.device_view import device_view
from service.api.dependencies import ServicesOf
from service.api.presenters import model_read, model_summary
from service.api.trials import read_trial
from service.device_facts import facts
from service.errors import NotFoundError
from service.pages.errors import PageRoute
from service.pages.fronts import FrontView, chart, front_view
from service.pages.panel import Panel, panel
from service.pages.reading import JobDocuments, read_job, read_jobs, verified_count
from service.pages.rendering import HEADERS, STATIC, page
from service.pages.roofline import drawing
from service.pages.views import AXES, elapsed_seconds, has_ended, reach, trial_rows
from service.store.identifiers import split_trial_id
from service.store.uploads import Models
from service.uploads import find_model

router = APIRouter(include_in_schema=False, route_class=PageRoute)

FILES = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.is_file()}

Choice = Annotated[str | None, Query(max_length=100)]


@router.get("/")
def jobs_page(services: ServicesOf, cursor: Choice = None) -> Response:
    """Return the list of jobs."""
    return page("jobs.html", section="Jobs", **_jobs(services, cursor))


@router.get("/parts/jobs")
def jobs_part(services: ServicesOf, cursor: Choice = None) -> Response:
    """Return the list of jobs alone."""
    return page("jobs_table.html", **_jobs(services, cursor))


@router.get("/jobs/{job_id}")
def job_page(
    services: ServicesOf,
    job_id: str,
    device: Choice = None,
    x: Choice = None,
    y: Choice = None,
    log: bool = False,
    all: bool = False,
    trial: Choice = None,
) -> Response:
    """Return a job's page."""
    documents = read_job(services, job_id)
    view = _view(documents, device, x, y)
    return page(
        "job.html",
        section="Jobs",
        **_progress(documents),
        view=view,
        log=log,
        all=all,
        axes=AXES,
        known_devices=tuple(services.profiles()),
        others=_others(view),
        reach=reach(documents.job),
        chosen=trial or "",
        panel=_panel(services, documents, trial, view.device) if trial else None,
        dataset=documents.dataset,
        model=documents.model,
        last_event=documents.last_event,
    )


@router.get("/jobs/{job_id}/parts/progress")
def progress_part(services: ServicesOf, job_id: str) -> Response:
    """Return how far a job is."""
    return page("job_progress.html", **_progress(read_job(services, job_id)))


@router.get("/jobs/{job_id}/parts/front")
def front_part(
    services: ServicesOf, job_id: str, device: Choice = None, x: Choice = None, y: Choice = None, trial: Choice = None
) -> Response:
    """Return the table of a job's front."""
    documents = read_job(services, job_id)
    return page("job_front.html", job=documents.job, view=_view(documents, device, x, y), chosen=trial or "")


@router.get("/jobs/{job_id}/chart")
def chart_data(
    services: ServicesOf, job_id: str, device: Choice = None, x: Choice = None, y: Choice = None
) -> Response:
    """Return what the chart of a job's front draws."""
    documents = read_job(services, job_id)
    return JSONResponse(chart(documents.job, _view(documents, device, x, y)), headers=HEADERS)


@router.get("/trials/{trial_id}/panel")
def panel_part(services: ServicesOf, trial_id: str, device: Choice = None) -> Response:
    """Return what a job's page says of one trial."""
    parts = split_trial_id(trial_id)
    if parts is None:
        raise NotFoundError("trial", trial_id)
    documents = read_job(services, parts[0])
    view = _view(documents, device, None, None)
    shown = _panel(services, documents, trial_id, view.device)
    return page("trial_panel.html", job=documents.job, panel=shown, others=_others(view))


@router.get("/models")
def models_page(services: ServicesOf) -> Response:
    """Return the list of models."""
    with services.database.read() as connection:
        found = Models(connection).page(limit=200)
    return page("models.html", section="Models", models=[model_summary(model) for model in found])


@router.get("/models/{model_id}")
def model_page(services: ServicesOf, model_id: str) -> Response:
    """Return a model's page."""
    return page("model.html", section="Models", model=model_read(find_model(services, model_id), services.profiles()))


@router.get("/devices")
def devices_page(services: ServicesOf) -> Response:
    """Return the list of device profiles."""
    return page("devices.html", section="Devices", devices=services.profiles().values())


@router.get("/devices/{name}")
def device_page(services: ServicesOf, name: str) -> Response:
    """Return every fact of a device profile, its roofline, and what measurements say of its prices."""
    profile = services.chosen_profiles({name: "name"})[name]
    view = device_view(profile)
    return page(
        "device.html",
        section="Devices",
        device=profile,
        facts=list(facts(profile.to_json())),
        roofs=view.roofs,
        drawing=drawing(view.roofs),
        validation=view.validation,
    )


@router.get("/new")
def new_page(services: ServicesOf) -> Response:
    """Return the form for a new job."""
    return page("new.html", section="New job", devices=services.profiles().values())


@router.get("/static/{name:path}")
def static_file(name: str) -> Response:
    """Return one of the files that ship with the pages."""
    path = FILES.get(name)
    if path is None:
        raise NotFoundError("file", name)
    return FileResponse(path, headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})


def _jobs(services: ServicesOf, cursor: str | None) -> dict[str, Any]:
    found = read_jobs(services, before=cursor)
    return {
        "jobs": [
            {"read": job, "ended": has_ended(job), "model": found.model_names[job.model_id]} for job in found.jobs
        ],
        "next_cursor": found.next_cursor,
        "part": f"/parts/jobs?cursor={cursor}" if cursor else "/parts/jobs",
    }


def _progress(documents: JobDocuments) -> dict[str, Any]:
    job = documents.job
    return {
        "job": job,
        "ended": has_ended(job),
        "elapsed": elapsed_seconds(job),
        "verified": verified_count(documents.trials),
    }


def _view(documents: JobDocuments, device: str | None, x: str | None, y: str | None) -> FrontView:
    job = documents.job
    names = [target.name for target in job.devices]
    chosen = device if device in names else names[0]
    rows = trial_rows(job, documents.trials, device=chosen, description=documents.model.description)
    return front_view(
        job, rows, device=chosen, x=x if x in AXES else job.objectives[1], y=y if y in AXES else "accuracy"
    )


def _others(view: FrontView) -> list[tuple[str, str]]:
    """Return identifier and name of what a trial may be compared with: the baselines and the front."""
    return list({row.id: row.name for row in (*view.baselines, *view.front)}.items())


def _panel(services: ServicesOf, documents: JobDocuments, trial_id: str, device: str) -> Panel | None:
    return panel(documents.job, read_trial(services, trial_id), device=device, description=documents.model.description)
