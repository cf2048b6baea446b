import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.errors import TooManyError
from service.fit_cache import KEPT, WAITING, FitCache, FitUnknownError

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


def test_who_asks_the_same_at_the_same_time_shares_one_answer() -> None:
    cache, calls, begun, release = FitCache(), list[int](), threading.Event(), threading.Event()

    def slow() -> dict[str, int]:
        calls.append(1)
        begun.set()
        release.wait(10)
        return {"call": len(calls)}

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(cache.get, graph="g", spec=SPEC, profiles={}, compute=slow)
        begun.wait(10)
        others = [pool.submit(cache.get, graph="g", spec=SPEC, profiles={}, compute=slow) for _ in range(7)]
        other = ask(cache, [], SPEC, graph="other")  # waits for none of them
        release.set()

    assert [each.result() for each in (first, *others)] == [{"call": 1}] * 8
    assert other == {"call": 1}


def test_who_may_not_wait_hears_only_what_is_known() -> None:
    cache = FitCache()

    with pytest.raises(FitUnknownError):
        cache.get(graph="g", spec=SPEC, profiles={}, compute=dict, may_wait=False)
    found = ask(cache, [], SPEC)

    assert found == {"call": 1}
    assert cache.get(graph="g", spec=SPEC, profiles={}, compute=dict, may_wait=False) == found


def test_who_finds_too_many_waiting_is_told_when_to_come_back() -> None:
    cache, begun, release = FitCache(), threading.Barrier(WAITING + 1), threading.Event()

    def slow() -> dict[str, int]:
        begun.wait(10)
        release.wait(10)
        return {}

    with ThreadPoolExecutor(WAITING) as pool:
        for number in range(WAITING):
            pool.submit(cache.get, graph=f"slow {number}", spec=SPEC, profiles={}, compute=slow)
        begun.wait(10)
        with pytest.raises(TooManyError) as error:
            ask(cache, [], SPEC, graph="one more")
        release.set()

    assert error.value.retry_after_s > 0
    assert ask(cache, [], SPEC, graph="afterwards")


def test_who_waits_for_what_fails_is_told_so() -> None:
    cache, calls, begun, release = FitCache(), list[int](), threading.Event(), threading.Event()

    def failing() -> dict[str, int]:
        calls.append(1)
        begun.set()
        release.wait(10)
        raise ValueError(f"no {len(calls)}")

    def wait() -> object:
        return cache.get(graph="g", spec=SPEC, profiles={}, compute=failing)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(wait)
        begun.wait(10)
        second = pool.submit(wait)
        deadline = time.monotonic() + 10
        while cache._places._value > WAITING - 2 and time.monotonic() < deadline:  # until both are inside
            time.sleep(0.01)
        release.set()

    assert [str(each.exception()) for each in (first, second)] == ["no 1", "no 1"]
