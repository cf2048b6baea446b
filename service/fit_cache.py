"""What fit checks have found, and how many may wait for one: submissions of the same kind come in bursts."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
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


class FitCache:
    """Results by everything that they depend on; safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._places = Semaphore(WAITING)
        self._results: OrderedDict[str, Result] = OrderedDict()

    def get(self, *, graph: str, spec: Mapping[str, Any], profiles: Any, compute: Callable[[], Result]) -> Result:
        """Return what ``compute`` says of this network, job and devices, asking it once.

        Raises:
            TooManyError: As many wait for a result as may.
        """
        relevant = {name: value for name, value in spec.items() if name not in IRRELEVANT}
        key = hashlib.sha256(json.dumps([graph, relevant, profiles], sort_keys=True).encode()).hexdigest()
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        with self._place():
            result = compute()
        with self._lock:
            self._results[key] = result
            if len(self._results) > KEPT:
                self._results.popitem(last=False)
        return result

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
