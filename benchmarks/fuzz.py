"""Requests made up from the OpenAPI document, by Schemathesis: no 5xx, and every answer is as the document says.

Schemathesis is not among the project's dependencies; ``--schemathesis`` names its command. ``python -m benchmarks.fuzz
--examples 500`` sends more than 20,000 requests.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from benchmarks import common
from benchmarks.load import serving

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main() -> None:
    """Start a service with an empty home, let Schemathesis loose on it, and print what it found."""
    arguments = common.parser(__doc__)
    arguments.add_argument("--schemathesis", default="schemathesis", help="its command (schemathesis)")
    arguments.add_argument("--examples", type=int, default=50, help="most requests per call and phase (50)")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="tightfit-fuzz-") as folder, serving(Path(folder), "") as (base, pid):
        httpx.get(f"{base}/openapi.json", timeout=120).raise_for_status()  # made once, which takes a moment
        before = resident_mb(pid)
        command = [
            options.schemathesis,
            "run",
            f"{base}/openapi.json",
            "--checks",
            CHECKS,
            "--max-examples",
            str(options.examples),
            "--seed",
            str(options.seed),
            "--workers",
            str(options.workers),
            "--phases",
            "examples,coverage,fuzzing",
            "--exclude-path-regex",
            r"/events$",  # a stream of a job that does not end
            "--request-timeout",
            "60",
            "--suppress-health-check",
            "all",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}, cwd=folder)
        after = resident_mb(pid)
        text = httpx.get(f"{base}/metrics", timeout=30).text
        well = httpx.get(f"{base}/readyz", timeout=30).status_code == 200
    counts: dict[str, int] = {}
    for status, count in re.findall(r'tightfit_requests_total\{.*status="(\d)\d\d"\} (\S+)', text):
        counts[f"{status}xx"] = counts.get(f"{status}xx", 0) + int(float(count))
    total = sum(counts.values())
    print("\n".join(done.stdout.splitlines()[-60:]))
    common.print_table(
        f"{total} requests, seed {options.seed}",
        ("answers", "count"),
        [[name, counts[name]] for name in sorted(counts)],
    )
    figures = {
        "requests": total,
        "answers": counts,
        "schemathesis_exit": done.returncode,
        "ready_afterwards": well,
        "resident_mb": [before, after],
    }
    print(f"resident memory {before:.0f} MB before, {after:.0f} MB after; ready afterwards: {well}")
    common.report("fuzz", figures, path=options.json)
    if done.returncode or counts.get("5xx") or not well:
        print(done.stderr[-2000:], file=sys.stderr)
        raise SystemExit(1)


def resident_mb(pid: int) -> float:
    """Return what a process holds of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
