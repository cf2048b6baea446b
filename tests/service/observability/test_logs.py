import json
import logging
import threading

from service.observability.logs import JsonFormatter, _Ids


def written(**extra: object) -> dict[str, object]:
    record = logging.getLogger("a").makeRecord("a", logging.INFO, "f", 1, "said %s", ("this",), None, extra=extra)
    _Ids().filter(record)
    return dict(json.loads(JsonFormatter().format(record)))


def test_a_line_is_a_document_with_job_and_trial() -> None:
    line = written(job="j", trial=3)

    assert (line["job"], line["trial"], line["message"], line["level"]) == ("j", 3, "said this", "INFO")


def test_what_the_thread_of_a_job_says_names_the_job() -> None:
    found: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: found.append(written()), name="job abc")
    thread.start()
    thread.join()

    assert found[0]["job"] == "abc"
    assert "job" not in written()
