import re
from pathlib import Path

import httpx
import pytest

from service.api.problem_types import PROBLEMS
from tests.service.api.test_errors import UNKNOWN, problem_of

ROOT = Path(__file__).parents[3]
CODE = re.compile(r"""\bcode\s*=\s*"([a-z_]+)"|problem\([^")]*"([a-z_]+)",""")


def codes_in_the_source() -> set[str]:
    text = "\n".join(
        path.read_text()
        for folder in ("service", "workers", "hwmodels", "compress")
        for path in (ROOT / folder).rglob("*.py")
    )
    return {name for found in CODE.finditer(text) for name in found.groups() if name}


def test_every_code_of_the_source_is_on_the_list() -> None:
    assert codes_in_the_source() - set(PROBLEMS) == set()


def test_the_type_of_a_problem_can_be_asked(http: httpx.Client) -> None:
    problem = problem_of(http.get(f"/v1/jobs/{UNKNOWN}"), 404)

    assert http.get(str(problem["type"])).json()["meaning"] == PROBLEMS["unknown_job"]
    assert problem_of(http.get("/v1/problems/nothing"), 404)["code"] == "unknown_problem"


def test_every_call_says_how_it_fails_and_who_may_send_it(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()

    for path, calls in document["paths"].items():
        for call in calls.values():
            errors = {status: answer for status, answer in call["responses"].items() if status >= "400"}
            assert {"401", "403", "429", "503"} <= set(errors)
            assert all("application/problem+json" in answer["content"] for answer in errors.values())
            assert ("security" in call) == (path not in ("/healthz", "/readyz"))
    assert document["components"]["schemas"]["JobCreate"]["examples"]
    assert "HTTPValidationError" not in str(document)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/devices", "/openapi.json"])
def test_who_has_an_answer_does_not_get_it_again(http: httpx.Client, path: str) -> None:
    tag = http.get(path).headers["etag"]

    again = http.get(path, headers={"If-None-Match": f'"other", {tag}'})
    changed = http.get(path, headers={"If-None-Match": '"other"'})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert changed.status_code == 200
