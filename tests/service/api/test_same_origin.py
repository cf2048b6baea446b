import httpx
import pytest

from tests.service.api.test_errors import problem_of


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://["])
def test_a_foreign_page_may_not_send_a_form(http: httpx.Client, origin: str) -> None:
    answer = http.post("/v1/models", files={"file": b"x"}, headers={"Origin": origin})

    assert problem_of(answer, 403)["code"] == "foreign_origin"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "", "[", "[::1", "a]b"])
def test_the_service_answers_to_its_own_names_only(http: httpx.Client, host: str) -> None:
    assert problem_of(http.get("/v1/jobs", headers={"Host": host}), 403)["code"] == "foreign_origin"


def test_its_own_pages_may_send(http: httpx.Client) -> None:
    own = f"http://{http.base_url.host}:{http.base_url.port}"

    assert http.post("/v1/jobs", json={}, headers={"Origin": own}).status_code == 422


@pytest.mark.parametrize("host", ["localhost", "[::1]:80", "127.0.0.1"])
def test_every_name_of_loopback_is_its_own(http: httpx.Client, host: str) -> None:
    assert http.get("/healthz", headers={"Host": host}).status_code == 200
