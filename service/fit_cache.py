"""What fit checks have found, and how many may wait for one: submissions of the same kind come in bursts."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock, Semaphore
from typing import Any

from service.errors import TooManyError

KEPT = 256
WAITING = 32
RETRY_AFTER_S = 5
IRRELEVANT = ("name", "seed", "budget", "split")
"""Parts of a job that what it can reach does not depend on."""

Result = Mapping[str, Any]


class FitUnknownError(Exception):
    """Nobody has asked for this fit yet, or the answer is not there; who wants it has to wait."""


class FitCache:
    """Results by everything that they depend on; safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._places = Semaphore(WAITING)
        self._results: OrderedDict[str, Future[Result]] = OrderedDict()

    def get(
        self,
        *,
        graph: str,
        spec: Mapping[str, Any],
        profiles: Any,
        compute: Callable[[], Result],
        may_wait: bool = True,
    ) -> Result:
        """Return what ``compute`` says of this network, job and devices, asking it once however many want to know.

        What it raises, all raise who wait for it; who comes later asks again.

        Raises:
            FitUnknownError: The result is not known, and the caller may not wait for it.
            TooManyError: As many wait for a result as may.
        """
        relevant = {name: value for name, value in spec.items() if name not in IRRELEVANT}
        key = hashlib.sha256(json.dumps([graph, relevant, profiles], sort_keys=True).encode()).hexdigest()
        with self._lock:
            known = self._results.get(key)
            if known is not None and known.done():
                self._results.move_to_end(key)
                return known.result()
        if not may_wait:
            raise FitUnknownError
        with self._place():
            result, asked = self._awaited(key)
            if not asked:
                self._ask(key, result, compute)
            return result.result()

    def _awaited(self, key: str) -> tuple[Future[Result], bool]:
        """Return what will hold the result, and whether somebody has asked for it already."""
        with self._lock:
            if key in self._results:
                return self._results[key], True
            self._results[key] = Future()
            if len(self._results) > KEPT:
                self._results.popitem(last=False)
            return self._results[key], False

    def _ask(self, key: str, result: Future[Result], compute: Callable[[], Result]) -> None:
        try:
            result.set_result(compute())
        except BaseException as error:
            with self._lock:
                if self._results.get(key) is result:
                    del self._results[key]
            result.set_exception(error)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise TooManyError(
                f"{WAITING} jobs are being checked already; try again", code="busy", retry_after_s=RETRY_AFTER_S
            )
        try:
            yield
        finally:
            self._places.release()
