"""An append-only record that PostgreSQL itself keeps of who holds a job and who writes its trials.

Triggers note every change of a lease and every write to a trial, with the database's clock and the name under which the
writer has connected (``application_name``): nothing that a dispatcher says about itself is needed to judge it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

_SCHEMA = """
CREATE TABLE lease_record (
    entry bigserial PRIMARY KEY, at double precision NOT NULL, writer text NOT NULL, kind text NOT NULL,
    job_id text NOT NULL, epoch integer NOT NULL, number integer, status text, held boolean, free boolean
);
CREATE FUNCTION note_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch IS DISTINCT FROM OLD.epoch OR NEW.lease_owner IS DISTINCT FROM OLD.lease_owner THEN
        INSERT INTO lease_record (at, writer, kind, job_id, epoch, status, held, free) VALUES (
            extract(epoch FROM clock_timestamp()), current_setting('application_name'),
            CASE WHEN NEW.epoch > OLD.epoch THEN 'taken' ELSE 'released' END,
            NEW.id, NEW.epoch, NEW.status, NEW.lease_owner IS NOT NULL,
            OLD.lease_until IS NULL OR OLD.lease_until < extract(epoch FROM clock_timestamp()));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION note_trial() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lease_record (at, writer, kind, job_id, epoch, number, status)
    SELECT extract(epoch FROM clock_timestamp()), current_setting('application_name'),
        CASE WHEN NEW.status <> 'running' AND (TG_OP = 'INSERT' OR OLD.status = 'running')
            THEN 'ended' ELSE 'written' END,
        NEW.job_id, jobs.epoch, NEW.number, NEW.status FROM jobs WHERE jobs.id = NEW.job_id;
    RETURN NULL;
END $$;
CREATE TRIGGER note_lease AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION note_lease();
CREATE TRIGGER note_trial AFTER INSERT OR UPDATE ON trials FOR EACH ROW EXECUTE FUNCTION note_trial();
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the record: a lease ``taken`` or ``released``, a trial ``ended`` or else ``written``.

    ``epoch`` is the job's at that moment, the fencing token; ``free`` says of a lease that was taken whether it had
    been given back, or had run out, on the database's clock.
    """

    at: float
    writer: str
    kind: str
    job_id: str
    epoch: int
    number: int | None
    free: bool | None


def keep_lease_record(url: str) -> None:
    """Let a database whose tables are there keep the record from now on."""
    with psycopg.connect(_plain(url)) as connection:
        connection.execute(_SCHEMA)


def lease_record(url: str) -> list[Entry]:
    """Return what was noted, in order."""
    query = "SELECT at, writer, kind, job_id, epoch, number, free FROM lease_record ORDER BY entry"
    names = ("at", "writer", "kind", "job_id", "epoch", "number", "free")
    with psycopg.connect(_plain(url)) as connection:
        return [Entry(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]


def breaches(entries: Sequence[Entry]) -> list[str]:
    """Return in words where a job had two holders, was written to by who did not hold it, or a trial ended twice."""
    found = []
    for job_id, rows in itertools.groupby(sorted(entries, key=lambda entry: entry.job_id), key=lambda row: row.job_id):
        epoch, holder = 0, ""
        ended: set[int] = set()
        for row in rows:
            where = f"job {job_id}, epoch {row.epoch}, {row.kind} by {row.writer}"
            if row.kind == "taken":
                if row.epoch != epoch + 1 or not row.free:
                    found.append(f"{where}: the lease of epoch {epoch} was neither given back nor had it run out")
                epoch, holder = row.epoch, row.writer
                continue
            if (row.epoch, row.writer) != (epoch, holder):
                found.append(f"{where}: {holder} held the job under epoch {epoch}")
            if row.kind == "ended" and row.number is not None:
                if row.number in ended:
                    found.append(f"{where}: trial {row.number} ended before")
                ended.add(row.number)
    return found


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
