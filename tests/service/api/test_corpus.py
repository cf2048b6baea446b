"""Everything of the corpus, through the service and its real ingestion process: a 4xx with its code, nothing else."""

import os
from pathlib import Path

import pytest

from tests.service.api.conftest import Running
from tests.service.api.corpus.data import DATA
from tests.service.api.corpus.networks import ARCHITECTURES, NETWORKS
from tests.service.api.corpus.profiles import JSON, PROFILES
from tests.service.api.test_errors import problem_of
from tests.service.api.uploads import post_dataset, post_model

GROWTH_BYTES = 96 * 2**20
"""What this process may grow by over the whole corpus; it makes the inputs, too."""

CASES = [
    *(("model", name) for name in NETWORKS),
    *(("weights", name) for name in ARCHITECTURES),
    *(("data", name) for name in DATA),
    *(("device", name) for name in PROFILES),
]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def before(running: Running) -> int:
    post_dataset(running.http, b"")  # ingestion has started
    return resident_bytes()


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 80


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_it_is_refused_with_its_code(running: Running, before: int, kind: str, name: str) -> None:
    http = running.http
    if kind == "model":
        make, code = NETWORKS[name]
        answer = post_model(http, make())
    elif kind == "weights":
        make, code = ARCHITECTURES[name]
        answer = post_model(http, make(), architecture="digits_resnet")
    elif kind == "data":
        make, code = DATA[name]
        answer = post_dataset(http, make())
    else:
        make, code = PROFILES[name]
        answer = http.post("/v1/devices", content=make(), headers={"Content-Type": JSON})

    assert 400 <= answer.status_code < 500, answer.text
    assert problem_of(answer, answer.status_code)["code"] == code


def test_afterwards_the_service_is_well_and_has_not_grown(running: Running, before: int) -> None:
    assert running.http.get("/readyz").status_code == 200
    assert resident_bytes() - before < GROWTH_BYTES
