from pathlib import Path

import pytest
from pydantic import ValidationError

from service.serve import RefusedBindError, check_bind, serve
from service.settings import Settings


def test_everything_lies_under_home_unless_said_otherwise(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)

    assert settings.database_url == f"sqlite:///{tmp_path}/tightfit.db"
    assert settings.artifacts_url == f"file://{tmp_path}/artifacts"
    assert settings.temporary == tmp_path / "tmp"


def test_a_child_builds_the_same_settings_from_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, database_url="postgresql+psycopg://u:p@h/d", port=1234, ingest_seconds=7.5)

    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)

    assert Settings() == settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_may_be_bound_without_a_token(host: str, tmp_path: Path) -> None:
    check_bind(Settings(home=tmp_path / "home", host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_anything_else_is_refused_before_anything_starts(host: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedBindError, match="no tokens yet"):
        serve(Settings(home=tmp_path / "home", host=host))

    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("bytes_", "taken"), [("0", True), ("1073741824", True), ("1073741823", False), ("-1", False)])
def test_evaluators_get_no_bound_that_a_healthy_trial_would_meet(
    bytes_: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGHTFIT_HOME", str(tmp_path))
    monkeypatch.setenv("TIGHTFIT_EVALUATOR_MEMORY_BYTES", bytes_)

    if taken:
        assert Settings().evaluator_memory_bytes == int(bytes_)
    else:
        with pytest.raises(ValidationError, match="TIGHTFIT_EVALUATOR_MEMORY_BYTES"):
            Settings()
