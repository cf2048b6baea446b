"""Identifiers: opaque to users, ordered by time of creation for the database."""

import secrets
import time


def new_id() -> str:
    """Return 32 hexadecimal digits: 48 bits of milliseconds since 1970, then 80 random ones (as UUID version 7)."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def trial_id(job_id: str, number: int) -> str:
    """Return the identifier of a job's trial."""
    return f"{job_id}-{number}"


def split_trial_id(identifier: str) -> tuple[str, int] | None:
    """Return job and number of a trial's identifier, ``None`` if it is not one."""
    job_id, _, number = identifier.rpartition("-")
    if not job_id or not number.isascii() or not number.isdigit() or len(number) > 9:
        return None
    return job_id, int(number)
