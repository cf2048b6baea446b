"""Random kills while jobs run: every job searches again soon and ends, and no trial is lost, doubled or changed.

``python -m benchmarks.faults --kills 100`` is the full run, once more with ``--database postgresql``. What the service
says goes into a record that is only ever appended to; afterwards every line of it must still hold.
"""

import hashlib
import json
import os
import random
import signal
import statistics
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
IN_FLIGHT = 3  # trials of a job that may have been under way when something died: two evaluators, and one ahead
CORES = len(os.sched_getaffinity(0))


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
    print_figures(figures, options.database)
    common.report("faults", figures, path=options.json)
    if figures["broken"] or set(figures["statuses"]) != {"done"} or figures["late"]:
        sys.exit(1)


def print_figures(figures: dict[str, Any], database: str) -> None:
    """Print how soon jobs searched again, by victim, and what the record says."""
    columns = (
        "victim",
        "kills",
        "again: median (s)",
        "longest (s)",
        f"over {ALLOWED_S:g} s",
        "cpu (s)",
        "load",
        "share",
    )
    rows = []
    for name in sorted({kill["victim"] for kill in figures["kills"]}):
        found = [kill for kill in figures["kills"] if kill["victim"] == name]
        seconds = [kill["again_s"] for kill in found]
        late = sum(value > ALLOWED_S for value in seconds)
        means = [statistics.fmean(kill[key] for kill in found) for key in ("cpu_s", "load", "share")]
        rows.append([name, len(found), statistics.median(seconds), max(seconds), late, *means])
    common.print_table(f"{len(figures['kills'])} kills on {database}", columns, rows)
    print("share: of the processors, what the service and its Ray got until it searched again; the rest went to others")
    print(
        f"{figures['recorded']} trials on record, {figures['broken']} of them lost, doubled or changed; "
        f"{figures['verified_checkpoints']} checkpoints verify, {figures['unverified_checkpoints']} do not; "
        f"jobs: {figures['statuses']}"
    )


def run(service: ServiceProcess, folder: Path, options: Any, url: str) -> dict[str, Any]:
    """Kill at random moments until enough were killed, then let the jobs end; return the figures."""
    pick, record = random.Random(options.seed), folder / "record.jsonl"
    service.start()
    budget = {"trials": options.trials}
    jobs = [service.submit(budget=budget, seed=number, name=f"job {number}") for number in range(options.jobs)]
    ended: list[str] = []
    kills: list[dict[str, Any]] = []
    names = [*VICTIMS, *(["postgresql"] if url else [])]
    turns: list[str] = []
    wait_for(lambda: all(service.ended(job) > 0 for job in jobs), seconds=PATIENCE_S)
    while len(kills) < options.kills:
        note(record, service, jobs)
        for job in [job for job in jobs if service.job(job)["status"] not in ("preparing", "searching", "queued")]:
            jobs.remove(job)
            ended.append(job)
            jobs.append(service.submit(budget=budget, seed=len(ended) + len(jobs) + 1, name="another job"))
        # Where none has begun, there is nothing that could search again, and kills would follow in no time.
        wait_for(lambda: any(ended_now(service, job) for job in jobs), seconds=PATIENCE_S)
        time.sleep(pick.uniform(0.0, 3.0))
        turns = turns or pick.sample(names, len(names))
        name = turns.pop()
        used, dispatcher = processor_seconds(service.pid), dispatcher_of(service)
        if not kill(service, folder, name, pick):
            continue
        since = time.monotonic()
        if name == "raylet":  # its actors go on for seconds, until they notice
            wait_for(lambda died=dispatcher: dispatcher_of(service) not in (None, died), seconds=PATIENCE_S)  # type: ignore[misc]
        # A job that had not begun to search cannot search again: it first measures what it has to know.
        before = {job: count for job in jobs if (count := ended_now(service, job))}
        wait_for(lambda before=before: again(service, before), seconds=PATIENCE_S)  # type: ignore[misc]
        kills.append(measured(service, name, time.monotonic() - since, used))
        print(f"{len(kills)}: {json.dumps(kills[-1])}", flush=True)
    wait_for(lambda: all(state(service, job) in ("done", "failed") for job in jobs), seconds=10 * PATIENCE_S)
    note(record, service, jobs)
    everything = ended + jobs
    statuses = Counter(state(service, job) for job in everything)
    return {
        "kills": kills,
        "late": sum(kill["again_s"] > ALLOWED_S for kill in kills),
        "statuses": dict(statuses),
        **check(record, service, everything),
    }


def dispatcher_of(service: ServiceProcess) -> int | None:
    """Return the process that dispatches, if there is one."""
    return next((pid for pid, command in descendants(service.pid).items() if VICTIMS["dispatcher"] in command), None)


def measured(service: ServiceProcess, victim: str, again_s: float, used: dict[int, float]) -> dict[str, Any]:
    """Return one kill's figures: on a machine that does other work, how much of it the service got until then."""
    now = processor_seconds(service.pid)
    cpu_s = sum(seconds - used.get(pid, 0.0) for pid, seconds in now.items())
    return {
        "victim": victim,
        "again_s": round(again_s, 1),
        "cpu_s": round(cpu_s, 1),
        "load": round(os.getloadavg()[0], 2),
        "share": round(cpu_s / (CORES * again_s), 2),
    }


def processor_seconds(pid: int) -> dict[int, float]:
    """Return the processor time that a process and those below it have taken, by process."""
    found = {}
    for each in (pid, *descendants(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[each] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def ended_now(service: ServiceProcess, job: str) -> int | None:
    """Return how many trials of a job have ended, waiting for the service and its database if they are away."""
    for _ in range(600):
        try:
            return service.ended(job)
        except (httpx.HTTPError, KeyError):
            time.sleep(0.1)
    return None


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
    """Whether every job has ended a trial that began after the kill, or needs none."""
    try:
        return all(
            state(service, job) in ("done", "packaging") or service.ended(job) > count + IN_FLIGHT
            for job, count in before.items()
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
    doubled = 0
    verified: Counter[bool] = Counter()
    for job in jobs:
        rows = trials(service, job)
        numbers = [row["number"] for row in rows]
        doubled += len(numbers) - len(set(numbers))
        doubled += sorted(set(numbers)) != list(range(len(set(numbers))))
        final |= {(job, row["number"]): fingerprint(row) for row in rows}
        verified.update(row["checkpoint"]["verified"] for row in rows if row["checkpoint"] is not None)
    broken = sum(digests != {final.get(key)} for key, digests in seen.items())
    return {
        "recorded": len(seen),
        "broken": broken + doubled,
        "verified_checkpoints": verified[True],
        "unverified_checkpoints": verified[False],
    }


if __name__ == "__main__":
    main()
