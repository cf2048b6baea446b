"""Prometheus metrics: what this process has answered, and how jobs and dispatchers stand in the database."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock
from typing import Any

from sqlalchemy import Connection, func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.store.database import database_now
from service.store.states import ACTIVE, JobStatus
from service.store.tables import dispatchers, jobs, trials
from workers.events import TrialStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
MAX_ROUTES = 500

Labels = tuple[tuple[str, str], ...]


class Requests:
    """Answers of this process by method, route and status, and how long they took until their first byte."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[Labels] = Counter()
        self._buckets: dict[Labels, list[int]] = {}
        self._sums: Counter[Labels] = Counter()

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        spot: Labels = (("method", method), ("route", route))
        with self._lock:
            if spot not in self._buckets and len(self._buckets) >= MAX_ROUTES:
                return  # a bound; there are not so many routes
            self._counts[(*spot, ("status", str(status)))] += 1
            buckets = self._buckets.setdefault(spot, [0] * (len(BUCKETS_S) + 1))
            buckets[next((n for n, edge in enumerate(BUCKETS_S) if seconds <= edge), len(BUCKETS_S))] += 1
            self._sums[spot] += seconds  # type: ignore[assignment]  # a counter of seconds

    def lines(self) -> Iterator[str]:
        """Yield the metrics as text."""
        with self._lock:
            counts, sums = dict(self._counts), dict(self._sums)
            buckets = {spot: list(row) for spot, row in self._buckets.items()}
        yield from metric("tightfit_requests_total", "counter", "Answers.", counts.items())
        yield from _head("tightfit_request_seconds", "histogram", "Time until an answer begins.")
        for spot, row in buckets.items():
            total = 0
            for edge, count in zip((*BUCKETS_S, float("inf")), row, strict=True):
                total += count
                shown = "+Inf" if edge == float("inf") else f"{edge:g}"
                yield _line("tightfit_request_seconds_bucket", (*spot, ("le", shown)), total)
            yield _line("tightfit_request_seconds_sum", spot, sums[spot])
            yield _line("tightfit_request_seconds_count", spot, total)


class Measuring:
    """ASGI middleware that counts answers."""

    def __init__(self, app: ASGIApp, *, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and take the time until its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        since = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._requests.add(method, route, message["status"], time.perf_counter() - since)
            await send(message)

        await self._app(scope, receive, measured)


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def stored_lines(connection: Connection) -> Iterator[str]:
    """Yield what the database says: all jobs, the trials of those that run, and the dispatchers."""
    by_status = dict.fromkeys(JobStatus, 0)
    for status, count in connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status)):
        by_status[JobStatus(status)] = count
    yield from metric("tightfit_jobs", "gauge", "Jobs by status.", _by("status", by_status))
    running = select(jobs.c.id).where(jobs.c.status.in_(ACTIVE))
    query = select(trials.c.status, func.count()).where(trials.c.job_id.in_(running)).group_by(trials.c.status)
    found = {str(status): 0 for status in TrialStatus} | {row[0]: row[1] for row in connection.execute(query)}
    yield from metric("tightfit_running_trials", "gauge", "Trials of jobs that run, by status.", _by("status", found))
    spent = connection.execute(select(func.coalesce(func.sum(jobs.c.spent_s), 0.0))).scalar_one()
    yield from metric(
        "tightfit_job_seconds", "gauge", "Time that dispatchers have spent on stored jobs.", [((), spent)]
    )
    oldest = select(func.min(jobs.c.created_at)).where(jobs.c.status == JobStatus.QUEUED)
    first = connection.execute(oldest).scalar_one_or_none()
    age = 0.0 if first is None else max(0.0, time.time() - first.timestamp())
    yield from metric("tightfit_queue_age_seconds", "gauge", "Age of the oldest job that waits.", [((), age)])
    for name, kind, text, column in (
        ("evaluators", "gauge", "Evaluators per job.", dispatchers.c.evaluators),
        ("running", "gauge", "Jobs in hand.", dispatchers.c.running),
        ("evaluator_busy_seconds", "counter", "Time that evaluators worked on trials.", dispatchers.c.busy_s),
        ("age_seconds", "gauge", "Last seen.", database_now() - dispatchers.c.seen_at),
    ):
        rows = connection.execute(select(dispatchers.c.name, column))
        yield from metric(
            f"tightfit_dispatcher_{name}", kind, text, [((("dispatcher", row[0]),), row[1]) for row in rows]
        )


def metric(name: str, kind: str, text: str, values: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    """Yield a metric with its values."""
    yield from _head(name, kind, text)
    for labels, value in values:
        yield _line(name, labels, value)


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _by(label: str, counts: Mapping[Any, float]) -> list[tuple[Labels, float]]:
    return [(((label, str(name)),), count) for name, count in counts.items()]
