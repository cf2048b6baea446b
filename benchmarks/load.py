"""What the service does under load on loopback: latencies, saturation, event streams, submissions, a large page.

``python -m benchmarks.load --database postgresql --jobs 100000 --large-trials 1000000 --seconds 60`` is the full run.
Requests are sent at their time whether earlier ones were answered or not, and a latency counts from that time. Client
and server share the machine.
"""

import asyncio
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
from sqlalchemy import update

from benchmarks import common
from benchmarks.stored_jobs import DEVICE, fill
from examples.digits.heldout import write_heldout
from service.access.principal import Scope
from service.cli.demo import NETWORK
from service.store.database import Database
from service.store.events import Events
from service.store.migrate import upgrade_to_head
from service.store.tables import jobs
from service.store.tokens import Tokens
from tests.end_to_end.service_process import wait_for
from tests.postgresql import running_postgresql

ROOT = Path(__file__).parents[1]
OWNERS = 20
Row = dict[str, Any]


def main() -> None:
    """Fill a database, start a service on it, load it, and print what came of it."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    arguments.add_argument("--jobs", type=int, default=2000, help="stored jobs (2000)")
    arguments.add_argument("--trials-each", type=int, default=50, help="trials of each (50)")
    arguments.add_argument("--large-trials", type=int, default=100_000, help="trials of one large job (100000)")
    arguments.add_argument("--rate", type=float, default=100.0, help="requests per second (100)")
    arguments.add_argument("--connections", type=int, default=50)
    arguments.add_argument("--seconds", type=float, default=10.0, help="length of each measurement (10)")
    arguments.add_argument("--services", type=int, default=1, help="replicas, which the client asks in turn (1)")
    arguments.add_argument("--streams", type=int, default=500)
    arguments.add_argument("--submissions", type=int, default=2000)
    options = arguments.parse_args()
    stored = running_postgresql() if options.database == "postgresql" else nullcontext("")
    with tempfile.TemporaryDirectory(prefix="tightfit-load-") as folder, stored as url:
        home = Path(folder)
        database = Database(url or f"sqlite:///{home / 'tightfit.db'}")
        upgrade_to_head(database)
        since = time.perf_counter()
        names, large = fill(
            database, job_count=options.jobs, trials_each=options.trials_each, large=options.large_trials
        )
        print(f"filled in {time.perf_counter() - since:.0f} s", flush=True)
        with ExitStack() as stack:
            replicas = [stack.enter_context(serving(home, url, number)) for number in range(options.services)]
            figures = measure([base for base, _ in replicas], replicas[0][1], database, names, large, options)
        database.close()
    columns = ("call", "p50_ms", "p99_ms", "errors", "saturation_per_s")
    title = f"{options.rate:g} requests per second over {options.connections} connections, {options.database}"
    common.print_table(title, columns, [[row[name] for name in columns] for row in figures["calls"]])
    common.report("load", figures, path=options.json)


@contextmanager
def serving(home: Path, url: str, number: int = 0) -> Iterator[tuple[str, int]]:
    """Run a service without a dispatcher for the block."""
    port = 18_300 + (os.getpid() * 8 + number) % 8000
    environment = {**os.environ, "TIGHTFIT_HOME": str(home), "DATABASE_URL": url, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "service.cli", "serve", "--no-dispatch", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(base))
        yield base, process.pid
    finally:
        process.terminate()
        process.wait(30)


def measure(bases: Sequence[str], pid: int, database: Database, names: Sequence[str], large: str, options: Any) -> Row:
    """Return every figure."""
    base = bases[0]
    pick = random.Random(0)
    calls: dict[str, Callable[[], str]] = {
        "job list": lambda: "/v1/jobs?limit=50",
        "job": lambda: f"/v1/jobs/{pick.choice(names)}",
        "trials page": lambda: f"/v1/jobs/{pick.choice(names)}/trials?limit=50",
        "front": lambda: f"/v1/jobs/{pick.choice(names)}/front?device={DEVICE}",
        "front of the large job": lambda: f"/v1/jobs/{large}/front?device={DEVICE}",
    }
    rows = []
    for name, make in calls.items():
        latencies, errors = asyncio.run(open_loop(bases, make, options))
        rate = asyncio.run(closed_loop(bases, make, options))
        p50, p99 = (1000 * float(np.percentile(latencies, share)) for share in (50, 99))
        rows.append({"call": name, "p50_ms": p50, "p99_ms": p99, "errors": errors, "saturation_per_s": rate})
        print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {errors} errors, {rate:.0f}/s at most", flush=True)
    page = [_seconds(base, path) for path in (f"/jobs/{large}", f"/jobs/{large}/chart") for _ in range(3)]
    found: Row = {"calls": rows, "large_page_s": min(page[:3]), "large_chart_s": min(page[3:])}
    print(f"page of {options.large_trials} trials: {found['large_page_s']:.2f} s, chart {found['large_chart_s']:.2f} s")
    found |= asyncio.run(streams(base, pid, database, names[0], options))
    print(f"{options.streams} streams: slowest event {found['stream_delay_s']:.2f} s, {found['resident_mb']:.0f} MB")
    if options.submissions:
        found |= asyncio.run(submissions(bases, database, options))
        print(f"{options.submissions} submissions: {found['answers']} in {found['submissions_s']:.1f} s")
    return found


async def open_loop(bases: Sequence[str], make: Callable[[], str], options: Any) -> tuple[list[float], int]:
    """Send requests at their times; return the seconds from each time to its answer, and how many failed."""
    latencies: list[float] = []
    errors = 0
    turns = itertools.cycle(bases)

    async def one(client: aiohttp.ClientSession, due: float) -> None:
        nonlocal errors
        async with client.get(next(turns) + make()) as answer:
            await answer.read()
        latencies.append(time.perf_counter() - due)
        errors += answer.status != 200

    async with _client(options.connections) as client:
        await asyncio.gather(*(one(client, time.perf_counter()) for _ in range(options.connections)))  # connected
        latencies.clear()
        start, tasks = time.perf_counter(), []
        for number in range(int(options.rate * options.seconds)):
            due = start + number / options.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(client, due)))
        await asyncio.gather(*tasks)
    return latencies, errors


async def closed_loop(bases: Sequence[str], make: Callable[[], str], options: Any) -> float:
    """Return answers per second when every connection asks again as soon as it was answered."""
    until, count = time.perf_counter() + options.seconds / 2, 0
    turns = itertools.cycle(bases)

    async def one(client: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.perf_counter() < until:
            async with client.get(next(turns) + make()) as answer:
                await answer.read()
            count += 1

    async with _client(options.connections) as client:
        await asyncio.gather(*(one(client) for _ in range(options.connections)))
    return count / float(options.seconds / 2)


async def streams(base: str, pid: int, database: Database, job: str, options: Any) -> Row:
    """Open many event streams on one job that is made to search; return the longest delay of ten events."""
    with database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(status="searching", ended_at=None))
    delays: list[float] = []
    open_count = 0

    async def follow(client: aiohttp.ClientSession) -> None:
        nonlocal open_count
        async with client.get(f"{base}/v1/jobs/{job}/events") as answer:
            open_count += 1
            async for raw in answer.content:
                line = raw.decode()
                if line.startswith("data:") and '"sent":' in line:
                    delays.append(time.time() - float(line.partition('"sent":')[2].split(",")[0].strip("}")))
                if '"last":true' in line:
                    return

    async with _client(options.streams) as client:
        tasks = [asyncio.create_task(follow(client)) for _ in range(options.streams)]
        for _ in range(600):
            if open_count == options.streams:
                break
            await asyncio.sleep(0.1)
        for number in range(10):
            with database.write() as connection:
                Events(connection).append(job, [("progress", {"last": number == 9, "sent": time.time()})])
            await asyncio.sleep(0.5)
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"stream_delay_s": max(delays), "stream_events": len(delays), "resident_mb": resident / 2**20}


async def submissions(bases: Sequence[str], database: Database, options: Any) -> Row:
    """Let twenty owners submit all at once; return how they were answered, and whether every 202 is there."""
    with database.write() as connection:
        secrets = [
            str(Tokens(connection).create(name="load", owner=f"owner{n}", scope=Scope.SUBMIT, expires_at=None)[1])
            for n in range(OWNERS)
        ]
    data = Path(tempfile.mkdtemp()) / "digits.npz"
    write_heldout(data)
    bodies = []
    for secret in secrets:
        headers = {"Authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=bases[0], headers=headers, timeout=150) as http:
            words = {"scale": "0.0625", "mean": "0.306", "std": "0.376"}
            model = http.post("/v1/models", files={"file": (ROOT / NETWORK).read_bytes()}, data=words).json()["id"]
            dataset = http.post("/v1/datasets", files={"file": ("d.npz", data.read_bytes())}).json()["id"]
        bodies.append({"model_id": model, "dataset_id": dataset, "devices": [DEVICE]})
    answers: Counter[str] = Counter()
    accepted: list[tuple[str, str]] = []

    async def one(client: aiohttp.ClientSession, number: int) -> None:
        secret = secrets[number % OWNERS]
        headers = {"Authorization": f"Bearer {secret}"}
        async with client.post(
            f"{bases[number // OWNERS % len(bases)]}/v1/jobs", json=bodies[number % OWNERS], headers=headers
        ) as answer:
            found = await answer.json(content_type=None)
        waits = "" if answer.status != 429 or "retry-after" in answer.headers else " without Retry-After"
        answers[f"{answer.status}{waits}"] += 1
        if answer.status == 202:
            accepted.append((secret, found["id"]))

    since = time.perf_counter()
    async with _client(options.connections) as client:
        await asyncio.gather(*(one(client, number) for number in range(options.submissions)))
        took = time.perf_counter() - since
        missing = 0
        for secret, rows in itertools.groupby(sorted(accepted), key=lambda row: row[0]):
            listed = await _job_ids(client, bases[0], secret)
            missing += sum(job not in listed for _, job in rows)
    return {"answers": dict(answers), "submissions_s": took, "missing": missing}


async def _job_ids(client: aiohttp.ClientSession, base: str, secret: str) -> set[str]:
    found: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "200", **({"cursor": cursor} if cursor else {})}
        async with client.get(f"{base}/v1/jobs", params=query, headers={"Authorization": f"Bearer {secret}"}) as answer:
            page = await answer.json(content_type=None)
        if answer.status == 429:
            await asyncio.sleep(float(answer.headers["retry-after"]))
            continue
        found |= {row["id"] for row in page["items"]}
        cursor = page["next_cursor"]
    return found


def _client(connections: int) -> aiohttp.ClientSession:
    """Return a client that costs little: it shares the processors with what it measures."""
    timeout = aiohttp.ClientTimeout(total=120)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections), timeout=timeout)


def _seconds(base: str, path: str) -> float:
    since = time.perf_counter()
    httpx.get(base + path, timeout=60).raise_for_status()
    return time.perf_counter() - since


def _answers(base: str) -> bool:
    try:
        return httpx.get(f"{base}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
