"""Logs for people, or one JSON document a line for machines; either names the job, and the trial if there is one."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]
_JOB_THREAD = "job "  # how ``service.job_run`` calls the thread of a job


class _Ids(logging.Filter):
    """Adds ``job`` and ``trial`` to every record: as said with it, else the job whose thread wrote it."""

    def filter(self, record: logging.LogRecord) -> bool:
        thread = record.threadName or ""
        record.job = getattr(
            record, "job", thread.removeprefix(_JOB_THREAD) if thread.startswith(_JOB_THREAD) else None
        )
        record.trial = getattr(record, "trial", None)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON document per record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "job": getattr(record, "job", None),
            "trial": getattr(record, "trial", None),
            "message": record.getMessage(),
            "error": None if record.exc_info is None else self.formatException(record.exc_info),
        }
        return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


def start(format: LogFormat, *, level: int = logging.INFO) -> None:
    """Write the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Ids())
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if format == "json" else text)
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
