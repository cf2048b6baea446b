"""Two services on one PostgreSQL, one of them killed half-way: every job runs once at a time, and every job ends.

``python -m benchmarks.two_services`` is the full run: 50 small jobs. The database itself keeps an append-only record of
every lease and of every write to a trial; at the end no line of it may show two holders of a job.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import common
from tests.end_to_end.lease_record import breaches, keep_lease_record, lease_record
from tests.end_to_end.service_process import ServiceProcess, wait_for
from tests.postgresql import running_postgresql

PATIENCE_S = 3600.0
ENDED = ("done", "failed", "cancelled")


def main() -> None:
    """Run the jobs, kill one service when half of them have ended, and print what the record says."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--jobs", type=int, default=50, help="jobs in all (50)")
    arguments.add_argument("--trials", type=int, default=6, help="trials of each (6)")
    arguments.add_argument("--concurrent", type=int, default=2, help="jobs that one service runs at a time (2)")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="tightfit-two-") as folder, running_postgresql() as url:
        shared = {"TIGHTFIT_ARTIFACTS": (Path(folder) / "artifacts").as_uri()}
        shared["TIGHTFIT_CONCURRENT_JOBS"] = str(options.concurrent)
        separator = "&" if "?" in url else "?"
        first, second = (
            ServiceProcess(Path(folder) / name, database_url=f"{url}{separator}application_name={name}", **shared)
            for name in ("first", "second")
        )
        try:
            figures = run(first, second, url, options)
        finally:
            first.end()
            second.end()
    print_figures(figures)
    common.report("two_services", figures, path=options.json)
    if figures["breaches"] or set(figures["statuses"]) != {"done"} or figures["wrong_numbers"]:
        sys.exit(1)


def run(first: ServiceProcess, second: ServiceProcess, url: str, options: Any) -> dict[str, Any]:
    """Submit through both services by turns, kill the first half-way, wait for all jobs; return the figures."""
    first.start()
    keep_lease_record(url)
    second.start()
    since = time.monotonic()
    budget = {"trials": options.trials}
    jobs = [
        (first, second)[number % 2].submit(budget=budget, seed=number, name=f"job {number}")
        for number in range(options.jobs)
    ]
    wait_for(lambda: ended(second, jobs) >= options.jobs // 2, seconds=PATIENCE_S)
    in_hand = Counter(str(second.job(job)["status"]) for job in jobs)
    first.kill()
    killed_s = time.monotonic() - since
    print(f"killed one service after {killed_s:.0f} s: {dict(in_hand)}", flush=True)
    wait_for(lambda: ended(second, jobs) == len(jobs), seconds=PATIENCE_S)
    entries = lease_record(url)
    taken = [entry for entry in entries if entry.kind == "taken"]
    starts = Counter(entry.job_id for entry in taken)
    expected = list(range(options.trials))
    return {
        "jobs": len(jobs),
        "statuses": dict(Counter(str(second.job(job)["status"]) for job in jobs)),
        "killed_after_s": killed_s,
        "all_ended_after_s": time.monotonic() - since,
        "record_lines": len(entries),
        "leases_taken_by": dict(Counter(entry.writer for entry in taken)),
        "taken_over": sum(count > 1 for count in starts.values()),
        "trials_ended": sum(entry.kind == "ended" for entry in entries),
        "wrong_numbers": sum([row["number"] for row in second.trials(job)] != expected for job in jobs),
        "breaches": breaches(entries),
    }


def ended(service: ServiceProcess, jobs: list[str]) -> int:
    """Return how many of the jobs have ended; looks now and then, because looking costs what the jobs need."""
    time.sleep(2.0)
    listed = service.http.get("/v1/jobs", params={"limit": len(jobs), "status": ENDED}).json()["items"]
    return len({row["id"] for row in listed} & set(jobs))


def print_figures(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    rows = [
        ["jobs", figures["jobs"]],
        ["ended as", ", ".join(f"{count} {name}" for name, count in figures["statuses"].items())],
        ["leases taken", ", ".join(f"{count} by the {name}" for name, count in figures["leases_taken_by"].items())],
        ["jobs taken over from the killed service", figures["taken_over"]],
        ["trials that ended", figures["trials_ended"]],
        ["jobs whose trials are not numbered without gap", figures["wrong_numbers"]],
        ["lines of the database's record", figures["record_lines"]],
        ["lines that show two holders, or a trial that ended twice", len(figures["breaches"])],
        ["killed after (s)", round(figures["killed_after_s"], 1)],
        ["all ended after (s)", round(figures["all_ended_after_s"], 1)],
    ]
    common.print_table("two services on one PostgreSQL, one killed half-way", ("", "figure"), rows)
    for line in figures["breaches"]:
        print(line)


if __name__ == "__main__":
    main()
