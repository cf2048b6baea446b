import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.access.principal import Scope
from service.access.rate_limit import MAX_KEYS, RateLimit
from service.access.rules import scope_for
from service.access.secrets import Secret
from service.cli.main import app
from service.serve import RefusedBindError, check_bind
from service.settings import Settings
from service.store.database import Database
from service.store.rows import moment
from service.store.tokens import Sessions, Tokens


def test_a_secret_reads_back_and_shows_itself_in_no_log() -> None:
    secret = Secret.new()

    assert Secret.parse(str(secret)) == secret
    assert secret.random not in repr(secret)
    assert len(secret.random) >= 43  # 256 bits


@pytest.mark.parametrize("text", ["", "tft_", "tft_x_y", "a" * 10_000, f"tft_{'0' * 32}_", "\0"])
def test_anything_else_is_no_secret(text: str) -> None:
    assert Secret.parse(text) is None


def test_the_database_holds_no_secret(database: Database) -> None:
    with database.write() as connection:
        token, secret = Tokens(connection).create(name="a", owner="ann", scope=Scope.READ, expires_at=None)
        session = Sessions(connection).open(token.id, until=moment())

    assert secret.random not in repr(token)
    assert token.digest == secret.digest != session.digest


def test_a_session_that_has_run_out_is_nobodys(database: Database) -> None:
    with database.write() as connection:
        token, _ = Tokens(connection).create(name="a", owner="ann", scope=Scope.READ, expires_at=None)
        session = Sessions(connection).open(token.id, until=moment())

        assert Sessions(connection).holder(session) is None


def test_scopes_contain_those_before_them() -> None:
    assert [[one.contains(other) for other in Scope] for one in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/anything/new", Scope.READ),
        ("POST", "/v1/anything/new", Scope.SUBMIT),
        ("PATCH", "/", Scope.SUBMIT),
        ("POST", "/v1/estimates", Scope.READ),
        ("PUT", "/v1/estimates", Scope.SUBMIT),
        ("GET", "/v1/tokens", Scope.ADMIN),
        ("GET", "/v1/tokens/x", Scope.ADMIN),
        ("POST", "/v1/tokens\n", Scope.ADMIN),
        ("GET", "/v1/audit\n", Scope.ADMIN),
        ("DELETE", "/v1/tokens/x\n", Scope.ADMIN),
    ],
)
def test_what_nobody_thought_of_is_protected(method: str, path: str, scope: Scope) -> None:
    assert scope_for(method, path) is scope


def test_a_bucket_empties_and_fills_again() -> None:
    now = 0.0
    limit = RateLimit(per_second=2.0, burst=3.0, clock=lambda: now)

    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limit.take("b") == 0.0
    now = 0.5
    assert [limit.take("a") for _ in range(2)] == [0.0, 0.5]
    now = 100.0
    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_buckets_take_bounded_memory() -> None:
    limit = RateLimit(per_second=1.0, burst=1.0)

    for number in range(MAX_KEYS + 10):
        limit.take(str(number))

    assert len(limit._buckets) == MAX_KEYS


def test_the_command_line_makes_lists_and_revokes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGHTFIT_HOME", str(home))
    settings = Settings(home=home, host="0.0.0.0")
    runner = CliRunner()

    made = runner.invoke(app, ["token", "create", "laptop", "--scope", "read", "--owner", "ann", "--json"])
    token = json.loads(made.output)
    check_bind(settings)
    listed = runner.invoke(app, ["token", "list", "--json"])
    revoked = runner.invoke(app, ["token", "revoke", token["id"]])

    assert [(row["name"], row["owner"], row["scope"], row["status"]) for row in json.loads(listed.output)] == [
        ("laptop", "ann", "read", "usable")
    ]
    assert token["token"] not in listed.output
    assert revoked.exit_code == 0
    with pytest.raises(RefusedBindError):  # nobody could come in
        check_bind(settings)
