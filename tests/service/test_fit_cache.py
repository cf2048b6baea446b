import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from service.errors import TooManyError
from service.fit_cache import KEPT, WAITING, FitCache

SPEC = {"name": "a", "seed": 0, "strategy": "auto", "space": {"weight_bits": [4, 8]}}


def ask(cache: FitCache, calls: list[int], spec: Mapping[str, Any], *, graph: str = "g") -> Mapping[str, Any]:
    def compute() -> dict[str, int]:
        calls.append(1)
        return {"call": len(calls)}

    return cache.get(graph=graph, spec=spec, profiles={}, compute=compute)


def test_jobs_that_differ_in_name_and_seed_are_checked_once() -> None:
    cache, calls = FitCache(), list[int]()

    first = ask(cache, calls, SPEC)

    assert ask(cache, calls, {**SPEC, "name": "b", "seed": 7}) == first
    assert ask(cache, calls, {**SPEC, "space": {"weight_bits": [8]}}) != first
    assert ask(cache, calls, SPEC, graph="other") != first
    assert len(calls) == 3


def test_what_failed_is_asked_again() -> None:
    cache = FitCache()
    with pytest.raises(ZeroDivisionError):
        cache.get(graph="g", spec=SPEC, profiles={}, compute=lambda: 1 / 0)  # type: ignore[arg-type,return-value]

    assert ask(cache, [], SPEC) == {"call": 1}


def test_results_take_bounded_memory() -> None:
    cache, calls = FitCache(), list[int]()
    for number in range(KEPT + 1):
        ask(cache, calls, SPEC, graph=str(number))

    ask(cache, calls, SPEC, graph=str(KEPT))
    assert len(calls) == KEPT + 1
    ask(cache, calls, SPEC, graph="0")
    assert len(calls) == KEPT + 2


def test_who_finds_too_many_waiting_is_told_when_to_come_back() -> None:
    cache, release = FitCache(), threading.Event()

    def slow() -> dict[str, int]:
        release.wait(10)
        return {}

    started = [threading.Thread(target=cache.get, kwargs=_kwargs(n, slow)) for n in range(WAITING)]
    for thread in started:
        thread.start()  # returns when the thread runs; it has a place within moments
    deadline = time.monotonic() + 10
    while cache._places._value and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        with pytest.raises(TooManyError) as error:
            ask(cache, [], SPEC, graph="one more")
    finally:
        release.set()
        for thread in started:
            thread.join()

    assert error.value.retry_after_s > 0
    assert ask(cache, [], SPEC, graph="afterwards")


def _kwargs(number: int, compute: Any) -> dict[str, Any]:
    return {"graph": f"slow {number}", "spec": SPEC, "profiles": {}, "compute": compute}
