"""Random kills while jobs run: every job searches again soon and ends, and no trial is lost, doubled or changed.

``python -m benchmarks.faults --kills 100`` is the full run, once more with ``--database postgresql``. What the service
says goes into a record that is only ever appended to; afterwards every line of it must still hold.
"""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx

from benchmarks import common
from tests.end_to_end.service_process import ServiceProcess, descendants, processes_of, wait_for
from tests.postgresql import running_postgresql

VICTIMS = {
    "service": "",
    "dispatcher": "service.dispatcher",
    "driver": "_DriverActor",
    "evaluator": "_EvaluatorActor",
    "raylet": "raylet/raylet",
}
PATIENCE_S = 240.0
ALLOWED_S = 30.0


def main() -> None:
    """Run jobs, kill, look, and print what came of it."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--jobs", type=int, default=2, help="jobs that run at a time (2)")
    arguments.add_argument("--trials", type=int, default=400, help="trials of each (400)")
    arguments.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    stored = running_postgresql() if options.database == "postgresql" else nullcontext("")
    with tempfile.TemporaryDirectory(prefix="tightfit-faults-") as folder, stored as url:
        service = ServiceProcess(Path(folder) / "home", database_url=url)
        try:
            figures = run(service, Path(folder), options, url)
        finally:
            service.end()
    rows = [[name, count, figures["slowest_s"][name]] for name, count in figures["kills"].items()]
    common.print_table(f"kills on {options.database}", ("victim", "kills", "searching again after at most (s)"), rows)
    print(f"{figures['recorded']} trials on record, {figures['broken']} of them broken; jobs: {figures['statuses']}")
    common.report("faults", figures, path=options.json)
    late = any(seconds > ALLOWED_S for seconds in figures["slowest_s"].values())
    if figures["broken"] or set(figures["statuses"]) != {"done"} or late:
        sys.exit(1)


def run(service: ServiceProcess, folder: Path, options: Any, url: str) -> dict[str, Any]:
    """Kill at random moments until enough were killed, then let the jobs end; return the figures."""
    pick, record = random.Random(options.seed), folder / "record.jsonl"
    service.start()
    budget = {"trials": options.trials}
    jobs = [service.submit(budget=budget, seed=number, name=f"job {number}") for number in range(options.jobs)]
    ended: list[str] = []
    kills: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    names = [*VICTIMS, *(["postgresql"] if url else [])]
    wait_for(lambda: all(service.ended(job) > 0 for job in jobs), seconds=PATIENCE_S)
    while kills.total() < options.kills:
        note(record, service, jobs)
        for job in [job for job in jobs if service.job(job)["status"] not in ("preparing", "searching", "queued")]:
            jobs.remove(job)
            ended.append(job)
            jobs.append(service.submit(budget=budget, seed=len(ended) + len(jobs) + 1, name="another job"))
        time.sleep(pick.uniform(0.0, 3.0))
        name = pick.choice(names)
        before = {job: service.ended(job) for job in jobs}
        if not kill(service, folder, name, pick):
            continue
        kills[name] += 1
        took = wait_for(lambda before=before: again(service, before), seconds=PATIENCE_S)  # type: ignore[misc]
        slowest[name] = max(took, slowest.get(name, 0.0))
        print(f"{kills.total()}: {name}, searching again after {took:.1f} s", flush=True)
    wait_for(lambda: all(state(service, job) in ("done", "failed") for job in jobs), seconds=10 * PATIENCE_S)
    note(record, service, jobs)
    everything = ended + jobs
    statuses = Counter(state(service, job) for job in everything)
    return {
        "kills": dict(kills),
        "slowest_s": slowest,
        "statuses": dict(statuses),
        "load_average": os.getloadavg()[0],
        **check(record, service, everything),
    }


def kill(service: ServiceProcess, folder: Path, name: str, pick: random.Random) -> bool:
    """Kill one process of a kind; say whether there was one."""
    if name == "service":
        service.kill()
        wait_for(lambda: processes_of(folder / "home") == [], seconds=30)
        service.start()
        return True
    if name == "postgresql":
        found = [pid for pid, command in postgresql_processes(folder) if "checkpointer" in command]
    else:
        found = [pid for pid, command in descendants(service.pid).items() if VICTIMS[name] in command]
    if not found:
        return False
    os.kill(pick.choice(found), signal.SIGKILL)
    return True


def postgresql_processes(folder: Path) -> list[tuple[int, str]]:
    """Return PostgreSQL's processes; the death of one of them makes it restart all and recover from its log."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                own = "tightfit-postgresql-" in Path(f"/proc/{parent}/cmdline").read_bytes().decode()
            except OSError:
                continue
            if command.startswith("postgres:") and own:
                found.append((int(path.name), command))
    return found


def state(service: ServiceProcess, job: str) -> str:
    """Return a job's status, also while the service or its database is away."""
    try:
        return str(service.job(job).get("status"))
    except httpx.HTTPError:
        return "unknown"


def again(service: ServiceProcess, before: dict[str, int]) -> bool:
    """Whether every job has ended a trial more than before, or needs none."""
    try:
        return all(
            state(service, job) in ("done", "packaging") or service.ended(job) > count for job, count in before.items()
        )
    except (httpx.HTTPError, KeyError):
        return False


def note(record: Path, service: ServiceProcess, jobs: list[str]) -> None:
    """Append every trial that has ended to the record."""
    with record.open("a") as file:
        for job in jobs:
            for row in trials(service, job):
                file.write(json.dumps([job, row["number"], fingerprint(row)]) + "\n")


def trials(service: ServiceProcess, job: str) -> list[dict[str, Any]]:
    """Return the trials of a job that have ended."""
    for _ in range(100):
        try:
            return [row for row in service.trials(job) if row["status"] != "running"]
        except (httpx.HTTPError, KeyError):
            time.sleep(0.5)
    raise TimeoutError("the service does not answer")


def fingerprint(row: dict[str, Any]) -> str:
    """Return what must not change of a trial that has ended; its checkpoint comes later."""
    fixed = {name: value for name, value in row.items() if name != "checkpoint"}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def check(record: Path, service: ServiceProcess, jobs: list[str]) -> dict[str, Any]:
    """Compare the record with what the service says at the end."""
    seen: dict[tuple[str, int], set[str]] = {}
    for line in record.read_text().splitlines():
        job, number, digest = json.loads(line)
        seen.setdefault((job, number), set()).add(digest)
    final: dict[tuple[str, int], str] = {}
    doubled = unverified = 0
    for job in jobs:
        rows = trials(service, job)
        numbers = [row["number"] for row in rows]
        doubled += len(numbers) - len(set(numbers))
        doubled += sorted(set(numbers)) != list(range(len(set(numbers))))
        final |= {(job, row["number"]): fingerprint(row) for row in rows}
        unverified += sum(row["checkpoint"] is not None and not row["checkpoint"]["verified"] for row in rows)
    broken = sum(digests != {final.get(key)} for key, digests in seen.items())
    return {"recorded": len(seen), "broken": broken + doubled, "unverified_checkpoints": unverified}


if __name__ == "__main__":
    main()
