from pathlib import Path

import pytest

from service.artifacts import ArtifactStore
from service.dispatcher import AWAY_S, Dispatcher
from service.settings import Settings
from service.store.database import Database
from workers import cluster


@pytest.mark.parametrize(
    ("probes", "gone"),
    [
        ([(0.0, False), (AWAY_S - 1, False)], False),
        ([(0.0, False), (AWAY_S + 1, False)], True),
        ([(0.0, True), (10 * AWAY_S, False)], False),  # the first probe after a long stall
        ([(0.0, False), (AWAY_S - 1, True), (AWAY_S + 1, False)], False),
    ],
)
def test_a_head_is_gone_that_has_been_silent_for_a_while(
    tmp_path: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    probes: list[tuple[float, bool]],
    gone: bool,
) -> None:
    dispatcher = Dispatcher(Settings(home=tmp_path), database, ArtifactStore((tmp_path / "artifacts").as_uri()))
    found = False
    for now, answers in probes:
        monkeypatch.setattr("service.dispatcher.time.monotonic", lambda now=now: 1000.0 + now)
        monkeypatch.setattr(cluster, "answers", lambda answers=answers: answers)
        found = dispatcher._cluster_is_gone()

    assert found is gone


def test_no_job_is_taken_while_the_head_is_silent(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path)
    dispatcher = Dispatcher(settings, database, ArtifactStore((tmp_path / "artifacts").as_uri()))
    places = []
    for answers in (True, False, True):
        monkeypatch.setattr(cluster, "answers", lambda answers=answers: answers)
        dispatcher._cluster_is_gone()
        places.append(dispatcher._places())

    assert places == [settings.concurrent_jobs, 0, settings.concurrent_jobs]
