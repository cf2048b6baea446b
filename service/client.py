"""A typed client of the REST API. Needs httpx and pydantic; neither torch nor ray.

with Client("http://127.0.0.1:8321") as client:
    model = client.upload_model("net.onnx")
    data = client.upload_dataset("data.npz")
    job = client.submit({"model_id": model.id, "dataset_id": data.id, "devices": ["raspberry-pi-4"]})
    client.wait(job.id)
    client.download_best(job.id, "best.zip", device="raspberry-pi-4")
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from service.api.rerank_schemas import RerankRead
from service.api.schemas import (
    DatasetRead,
    DeviceRead,
    DeviceSummary,
    EstimatesRead,
    FieldError,
    FrontRead,
    JobRead,
    JobSummary,
    ModelRead,
    ModelSummary,
    Page,
    SensitivityRead,
    TrialDetail,
    TrialRead,
)
from service.api.why_schemas import WhyRead
from service.event_stream import ServerEvent, events

DEFAULT_URL = "http://127.0.0.1:8321"
ENDED = frozenset({"done", "failed", "cancelled"})
PAUSED = "paused"

_QUIET_SECONDS = 60.0  # the service says something at least every few seconds; after this the stream is dead
_RETRY_SECONDS = 1.0

Read = TypeVar("Read", bound=BaseModel)
Query = Mapping[str, str | int | float | None]


class ClientError(Exception):
    """The service could not be asked, or what it said could not be understood."""


class ProblemError(ClientError):
    """The service refused a request and said why (RFC 9457).

    ``code`` is stable, ``errors`` names every field that breaks a rule, with the rule and the value.
    """

    def __init__(
        self, *, status: int, title: str, detail: str = "", code: str = "", errors: tuple[FieldError, ...] = ()
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.code = code
        self.errors = errors
        super().__init__(
            "\n".join([f"{title} ({status}): {detail}" if detail else f"{title} ({status})", *self.lines()])
        )

    def lines(self) -> list[str]:
        """Return one line per field that breaks a rule."""
        return [
            f"{error.field}: {error.rule}" + ("" if error.value is None else f", got {json.dumps(error.value)}")
            for error in self.errors
        ]

    @classmethod
    def of(cls, response: httpx.Response) -> "ProblemError":
        """Read an answer; one that is not ``application/problem+json`` gives its first characters."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if kind == "application/problem+json":
            try:
                body = response.json()
                return cls(
                    status=response.status_code,
                    title=body.get("title") or response.reason_phrase,
                    detail=body.get("detail") or "",
                    code=body.get("code") or "",
                    errors=tuple(FieldError.model_validate(row) for row in body.get("errors") or ()),
                )
            except (ValueError, AttributeError):
                pass
        return cls(status=response.status_code, title=response.reason_phrase or "Error", detail=response.text[:200])


class Client:
    """Talks to one tightfit service. Safe to share between threads; close it or use it as a context manager.

    Args:
        url: Where the service is.
        token: Sent as bearer token; ``TIGHTFIT_TOKEN`` of the environment if left out.
        timeout: Seconds to wait for an answer; uploads that are parsed may take longer than most.
    """

    def __init__(self, url: str = DEFAULT_URL, *, token: str | None = None, timeout: float = 150.0) -> None:
        token = token or os.environ.get("TIGHTFIT_TOKEN")
        headers = {} if not token else {"Authorization": f"Bearer {token}"}
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(timeout, connect=5.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upload_model(
        self,
        path: str | Path,
        *,
        data: str | Path | None = None,
        name: str | None = None,
        architecture: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        task: str = "classification",
    ) -> ModelRead:
        """Upload an ONNX file, or the safetensors of a named ``architecture``.

        ``data`` is the file in which an ONNX file keeps its tensors; where ``<path>.data`` exists, as PyTorch's
        exporter writes it by default, that is taken.
        ``preprocessing`` has ``layout``, ``scale``, ``mean`` and ``std``: what turns stored pixels into the input.
        """
        fields = {"task": task, "name": name, "architecture": architecture, **_form(preprocessing or {})}
        beside = Path(f"{path}.data")
        if data is None and architecture is None and beside.is_file():
            data = beside
        return self._upload("/v1/models", {"file": path, "data": data}, fields, ModelRead)

    def upload_dataset(self, path: str | Path, *, name: str | None = None) -> DatasetRead:
        """Upload an ``.npz`` with ``x`` and ``y``."""
        return self._upload("/v1/datasets", {"file": path}, {"name": name}, DatasetRead)

    def models(self, *, limit: int = 50) -> list[ModelSummary]:
        """Return the newest models."""
        return self._get("/v1/models", Page[ModelSummary], limit=limit).items

    def model(self, model_id: str) -> ModelRead:
        """Return a model with its layers, blocks, channel groups and float costs."""
        return self._get(f"/v1/models/{model_id}", ModelRead)

    def datasets(self, *, limit: int = 50) -> list[DatasetRead]:
        """Return the newest data sets."""
        return self._get("/v1/datasets", Page[DatasetRead], limit=limit).items

    def dataset(self, dataset_id: str) -> DatasetRead:
        """Return a data set."""
        return self._get(f"/v1/datasets/{dataset_id}", DatasetRead)

    def devices(self) -> list[DeviceSummary]:
        """Return every device profile that the service knows."""
        return list(self._every("/v1/devices", DeviceSummary))

    def device(self, name: str) -> DeviceRead:
        """Return a device profile: every number with its source."""
        return self._get(f"/v1/devices/{name}", DeviceRead)

    def add_device(self, profile: Mapping[str, Any]) -> DeviceRead:
        """Add a profile of one's own; the same one again is no error."""
        return self._post("/v1/devices", dict(profile), DeviceRead)

    def estimate(
        self,
        model_id: str,
        devices: list[str],
        *,
        plan: Mapping[str, Any] | None = None,
        limits: Mapping[str, float] | None = None,
        fit_check: bool = False,
    ) -> EstimatesRead:
        """Price a model, or a plan of it, on devices; ``fit_check`` adds the reachable range of every limit."""
        body = {"model_id": model_id, "devices": devices, "plan": plan, "limits": limits or {}, "fit_check": fit_check}
        return self._post("/v1/estimates", body, EstimatesRead)

    def submit(self, job: Mapping[str, Any], *, idempotency_key: str | None = None) -> JobRead:
        """Queue a job and return at once. The same key with the same job queues it once."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._post("/v1/jobs", job, JobRead, headers=headers)

    def job(self, job_id: str) -> JobRead:
        """Return a job as it stands."""
        return self._get(f"/v1/jobs/{job_id}", JobRead)

    def jobs(self, *, status: str | None = None, limit: int = 50) -> list[JobSummary]:
        """Return the newest jobs, of one status if it is given."""
        return self._get("/v1/jobs", Page[JobSummary], status=status, limit=limit).items

    def cancel(self, job_id: str) -> JobRead:
        """End a job; what it has found stays."""
        return self._post(f"/v1/jobs/{job_id}/cancel", None, JobRead)

    def pause(self, job_id: str) -> JobRead:
        """Stop a job after its trials in flight."""
        return self._post(f"/v1/jobs/{job_id}/pause", None, JobRead)

    def resume(self, job_id: str) -> JobRead:
        """Let a paused job go on with the trials it has."""
        return self._post(f"/v1/jobs/{job_id}/resume", None, JobRead)

    def delete(self, job_id: str) -> None:
        """Forget a job with its trials."""
        self._ask("DELETE", f"/v1/jobs/{job_id}")

    def trials(self, job_id: str) -> Iterator[TrialRead]:
        """Yield every trial of a job, page by page."""
        return self._every(f"/v1/jobs/{job_id}/trials", TrialRead)

    def trial(self, trial_id: str) -> TrialDetail:
        """Return a trial with its price per kernel on each device."""
        return self._get(f"/v1/trials/{trial_id}", TrialDetail)

    def front(self, job_id: str, *, device: str | None = None, x: str | None = None, y: str | None = None) -> FrontRead:
        """Return the Pareto front of a job on one device, by default its first one."""
        return self._get(f"/v1/jobs/{job_id}/front", FrontRead, device=device, x=x, y=y)

    def rerank(
        self,
        job_id: str,
        devices: Sequence[str | Mapping[str, Any]],
        *,
        limits: Mapping[str, float | int] | None = None,
        x: str | None = None,
    ) -> RerankRead:
        """Return the fronts of a job's trials on other devices or under other limits; nothing is searched.

        Args:
            job_id: The job.
            devices: Names, or ``{"name": …, "limits": {…}}``.
            limits: Hold on every device.
            x: The cost to trade against accuracy; by default the job's first.
        """
        body = {"devices": list(devices), "limits": dict(limits or {}), **_present({"x": x})}
        return self._post(f"/v1/jobs/{job_id}/rerank", body, RerankRead)

    def why(self, trial_id: str, *, other: str | None = None, device: str | None = None) -> WhyRead:
        """Return what each layer of a trial saves and loses, against another trial or the float network."""
        return self._get(f"/v1/trials/{trial_id}/why", WhyRead, other=other, device=device)

    def sensitivity(self, job_id: str) -> SensitivityRead:
        """Return what single choices do to the network of a job."""
        return self._get(f"/v1/jobs/{job_id}/sensitivity", SensitivityRead)

    def best(self, job_id: str, *, device: str | None = None, accuracy_drop: float | None = None) -> TrialRead:
        """Return the verified feasible trial with the lowest first cost objective.

        Raises:
            ProblemError: 409 with the reason if there is none.
        """
        return self._get(f"/v1/jobs/{job_id}/best", TrialRead, device=device, accuracy_drop=accuracy_drop)

    def download_checkpoint(self, trial_id: str, path: str | Path, *, format: str = "packed") -> Path:
        """Write a trial's checkpoint to ``path``.

        Args:
            trial_id: The trial.
            path: Where to write.
            format: ``packed`` (a zip) or ``onnx``; ``fine_tuned`` and ``fine_tuned_onnx`` if it was fine-tuned.
        """
        return self._download(f"/v1/trials/{trial_id}/checkpoint", path, format=format)

    def download_best(
        self, job_id: str, path: str | Path, *, device: str | None = None, format: str = "packed"
    ) -> Path:
        """Write the best trial's checkpoint to ``path``."""
        return self._download(f"/v1/jobs/{job_id}/best/checkpoint", path, device=device, format=format)

    def download_study(self, job_id: str, path: str | Path, *, device: str | None = None) -> Path:
        """Write a job's trials to ``path`` as an Optuna journal."""
        return self._download(f"/v1/jobs/{job_id}/study", path, device=device)

    def events(self, job_id: str, *, after: str = "") -> Iterator[ServerEvent]:
        """Yield a job's events from one connection, those after the event ``after``; ends when the server closes."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        timeout = httpx.Timeout(_QUIET_SECONDS, connect=5.0)
        with (
            self._reaching(),
            self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as response,
        ):
            if response.is_error:
                response.read()
                raise ProblemError.of(response)
            yield from events(response.iter_bytes(), last_event_id=after)

    def watch(
        self, job_id: str, *, patience: float = 60.0, pause: Callable[[float], None] = time.sleep
    ) -> Iterator[ServerEvent]:
        """Yield a job's events until it has ended or is paused, each once, whatever happens to the connection.

        A connection that breaks is opened again after the last event that came; a service that does not answer for
        ``patience`` seconds is given up.
        """
        last = ""
        silent_since: float | None = None
        while True:
            try:
                for event in self.events(job_id, after=last):
                    last, silent_since = event.id, None
                    yield event
                    # the stream of a paused job stays open; an old pause may be behind it
                    if _says_paused(event) and self.job(job_id).status == PAUSED:
                        return
                if self.job(job_id).status in ENDED:
                    return
                silent_since = None
            except ProblemError as error:
                if error.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
                silent_since = _still_patient(silent_since, patience, error)
            except ClientError as error:
                silent_since = _still_patient(silent_since, patience, error)
            pause(_RETRY_SECONDS)

    def wait(self, job_id: str) -> JobRead:
        """Return the job when it has ended or is paused."""
        for _ in self.watch(job_id):
            pass
        return self.job(job_id)

    def _every(self, path: str, kind: type[Read]) -> Iterator[Read]:
        cursor: str | None = None
        while True:
            page = self._get(path, Page[kind], cursor=cursor)  # type: ignore[valid-type]
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def _get(self, path: str, kind: type[Read], **query: str | int | float | None) -> Read:
        return _read(self._ask("GET", path, params=_present(query)), kind)

    def _post(self, path: str, body: Any, kind: type[Read], **options: Any) -> Read:
        return _read(self._ask("POST", path, json=body, **options), kind)

    def _upload(self, path: str, files: Mapping[str, str | Path | None], fields: Query, kind: type[Read]) -> Read:
        with ExitStack() as opened:
            parts = {}
            for field, source in ((field, Path(file)) for field, file in files.items() if file is not None):
                try:
                    parts[field] = (source.name, opened.enter_context(source.open("rb")))
                except OSError as error:
                    raise ClientError(f"cannot read {source}: {error.strerror or error}") from error
            return _read(self._ask("POST", path, data=_present(fields), files=parts), kind)

    def _download(self, path: str, target: str | Path, **query: str | None) -> Path:
        destination = Path(target)
        part = destination.with_name(destination.name + ".part")  # what has the name is whole
        try:
            with self._reaching(), self._http.stream("GET", path, params=_present(query)) as response:
                if response.is_error:
                    response.read()
                    raise ProblemError.of(response)
                with part.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            return part.replace(destination)
        finally:
            part.unlink(missing_ok=True)

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._reaching():
            response = self._http.request(method, path, **options)
        if response.is_error:
            raise ProblemError.of(response)
        return response

    def _reaching(self) -> "_Reaching":
        return _Reaching(self.url)


class _Reaching:
    """Says where the service should have been when a request does not get through."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            raise ClientError(f"no service answers at {self._url}; `tightfit serve` starts one ({error})") from error
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            raise ClientError(f"asking {self._url} failed: {type(error).__name__}: {error}") from error


def _read(response: httpx.Response, kind: type[Read]) -> Read:
    try:
        return TypeAdapter(kind).validate_json(response.content)
    except ValidationError as error:
        raise ClientError(f"{response.url} answered what this client does not understand: {error}") from error


def _says_paused(event: ServerEvent) -> bool:
    return event.event == "status" and bool(json.loads(event.data).get("status") == PAUSED)


def _form(fields: Mapping[str, Any]) -> dict[str, str | None]:
    """Return fields of a form; lists and mappings travel as JSON."""
    return {
        key: value if isinstance(value, str) or value is None else json.dumps(value) for key, value in fields.items()
    }


def _present(fields: Query) -> dict[str, str | int | float]:
    return {key: value for key, value in fields.items() if value is not None}


def _still_patient(since: float | None, patience: float, error: ClientError) -> float:
    now = time.monotonic()
    if since is not None and now - since > patience:
        raise error
    return now if since is None else since
