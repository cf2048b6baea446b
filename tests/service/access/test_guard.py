import time

import httpx
import pytest

from service.access.principal import Scope
from service.api.guard import COOKIE, GUESSES_AT_ONCE, REMEMBERED_S
from service.app import create_app
from service.settings import Settings
from service.store.audit import Audit
from service.store.tables import LOCAL_OWNER
from service.store.tokens import Tokens
from tests.service.access.conftest import URL, Closed, add_token


def sign_in(closed: Closed, token: str, **fields: str) -> httpx.Response:
    return closed.ask("POST", "/login", data={"token": token, **fields}, headers={"Origin": URL})


def cookie_of(answer: httpx.Response) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


def test_a_service_without_tokens_is_open(opened: Closed) -> None:
    assert opened.ask("GET", "/v1/jobs").status_code == 200
    assert "No sign-in is needed" in opened.ask("GET", "/login").text


def test_it_closes_a_second_after_the_first_token_and_stays_closed_when_that_is_revoked(opened: Closed) -> None:
    assert opened.ask("GET", "/v1/jobs").status_code == 200
    secret = add_token(opened.database, LOCAL_OWNER, Scope.READ)
    time.sleep(REMEMBERED_S)
    assert opened.ask("GET", "/v1/jobs").status_code == 401
    assert opened.ask("GET", "/v1/jobs", secret).status_code == 200

    with opened.database.write() as connection:
        Tokens(connection).revoke(Tokens(connection).page()[0].id)
    time.sleep(REMEMBERED_S)

    assert opened.ask("GET", "/v1/jobs", secret).status_code == 401
    assert opened.ask("GET", "/v1/jobs").status_code == 401


def test_a_service_that_listens_to_others_is_closed_even_without_a_token(opened: Closed) -> None:
    app = create_app(Settings(home=opened.app.state.services.settings.home, host="0.0.0.0"))

    answer = Closed(app, opened.database, {}).ask("GET", "/v1/jobs")

    app.state.services.close()
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_first_token_is_not_made_over_the_network(opened: Closed) -> None:
    answer = opened.ask("POST", "/v1/tokens", json={"name": "me", "scope": "admin"})

    assert answer.status_code == 409
    assert answer.json()["code"] == "no_token_yet"


def test_a_token_made_by_an_admin_works_until_it_is_revoked(closed: Closed) -> None:
    admin = closed.tokens["admin"]
    made = closed.ask("POST", "/v1/tokens", admin, json={"name": "ci", "scope": "read", "owner": "ann", "days": 2})
    assert made.status_code == 201
    token = made.json()
    assert closed.ask("GET", "/v1/jobs", token["token"]).status_code == 200
    assert token["token"] not in closed.ask("GET", "/v1/tokens", admin).text

    assert closed.ask("DELETE", f"/v1/tokens/{token['id']}", admin).json()["status"] == "revoked"

    assert closed.ask("GET", "/v1/jobs", token["token"]).status_code == 401


def test_a_line_break_behind_a_path_opens_nothing(closed: Closed) -> None:
    submit = closed.tokens["submit"]

    assert closed.ask("POST", "/v1/tokens%0A", submit, json={"name": "me", "scope": "admin"}).status_code == 403
    assert closed.ask("GET", "/v1/audit%0A", submit).status_code == 403


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer x", "bearer  ", "Token y", "Bearer " + "a" * 5000])
def test_what_is_no_bearer_token_is_refused(closed: Closed, header: str) -> None:
    assert closed.ask("GET", "/v1/jobs", headers={"Authorization": header}).status_code == 401


def test_a_secret_with_one_letter_changed_opens_nothing(closed: Closed) -> None:
    right = closed.tokens["read"]
    wrong = right[:-1] + ("A" if right[-1] != "A" else "B")

    assert closed.ask("GET", "/v1/jobs", wrong).status_code == 401


def test_a_browser_is_led_to_the_login_and_back(closed: Closed) -> None:
    answer = closed.ask("GET", "/models?a=b", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fmodels%3Fa%3Db")

    signed_in = sign_in(closed, closed.tokens["submit"], next="/models?a=b")

    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/models?a=b")
    cookie = signed_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert closed.tokens["submit"] not in cookie
    assert closed.ask("GET", "/models", headers=cookie_of(signed_in)).status_code == 200


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "/\tx"]
)
def test_the_login_leads_nowhere_else(closed: Closed, target: str) -> None:
    assert sign_in(closed, closed.tokens["read"], next=target).headers["location"] == "/"


@pytest.mark.parametrize("kind", ["unknown", "revoked", "expired"])
def test_a_token_that_cannot_be_used_opens_no_session(closed: Closed, kind: str) -> None:
    answer = sign_in(closed, closed.tokens[kind])

    assert answer.status_code == 401
    assert COOKIE not in answer.cookies


def test_a_session_ends_with_its_token_and_with_the_sign_out(closed: Closed) -> None:
    first = cookie_of(sign_in(closed, closed.tokens["submit"]))
    second = cookie_of(sign_in(closed, closed.tokens["submit"]))

    closed.ask("POST", "/logout", headers={**first, "Origin": URL})
    assert closed.ask("GET", "/v1/jobs", headers=first).status_code == 401
    assert closed.ask("GET", "/v1/jobs", headers=second).status_code == 200

    with closed.database.write() as connection:
        Tokens(connection).revoke(closed.tokens["submit"].split("_")[1])
    time.sleep(REMEMBERED_S)
    assert closed.ask("GET", "/v1/jobs", headers=second).status_code == 401


def test_by_cookie_only_own_pages_change_anything(closed: Closed) -> None:
    cookie = cookie_of(sign_in(closed, closed.tokens["submit"]))

    without = closed.ask("POST", "/v1/jobs", json={}, headers=cookie)
    foreign = closed.ask("POST", "/v1/jobs", json={}, headers={**cookie, "Origin": "https://evil.example"})
    own = closed.ask("POST", "/v1/jobs", json={}, headers={**cookie, "Origin": URL})

    assert (without.status_code, without.json()["code"]) == (403, "no_origin")
    assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")
    assert own.status_code == 422  # let in, and told what the job lacks


def test_guessing_is_slowed_down_but_does_not_lock_out_who_has_a_token(closed: Closed) -> None:
    answers = [closed.ask("GET", "/v1/jobs", closed.tokens["unknown"]) for _ in range(int(GUESSES_AT_ONCE) + 2)]

    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert closed.ask("GET", "/v1/jobs", closed.tokens["read"]).status_code == 200


def test_a_token_may_not_ask_without_end(closed: Closed) -> None:
    app = create_app(Settings(home=closed.app.state.services.settings.home, requests_per_second=0.1))
    slow = Closed(app, closed.database, closed.tokens)

    answers = [slow.ask("GET", "/v1/jobs", slow.tokens["read"]) for _ in range(2)]

    app.state.services.close()
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["code"] == "too_many_requests"


def test_what_was_changed_and_who_was_refused_is_on_record(closed: Closed) -> None:
    closed.ask("POST", "/v1/jobs", closed.tokens["submit"], json={})
    closed.ask("POST", "/v1/jobs", closed.tokens["read"], json={})
    closed.ask("GET", "/v1/jobs", closed.tokens["unknown"])
    closed.ask("GET", "/v1/jobs", closed.tokens["read"])  # changes nothing, was not refused

    with closed.database.read() as connection:
        lines = Audit(connection).page()

    assert [(line.owner, line.method, line.path, line.status) for line in reversed(lines)] == [
        (LOCAL_OWNER, "POST", "/v1/jobs", 422),
        (LOCAL_OWNER, "POST", "/v1/jobs", 403),
        (None, "GET", "/v1/jobs", 401),
    ]
    listed = closed.ask("GET", "/v1/audit", closed.tokens["admin"], params={"owner": LOCAL_OWNER}).json()
    assert len(listed["items"]) == 2


@pytest.mark.parametrize("path", ["/v1/jobs", "/", "/nothing", "/login", "/static/job.js"])
def test_every_answer_carries_the_headers_that_browsers_heed(opened: Closed, path: str) -> None:
    headers = opened.ask("GET", path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in headers  # that would be a lie without TLS
