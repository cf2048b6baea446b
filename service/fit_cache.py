"""What fit checks have found: submissions of the same kind come in bursts."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Lock
from typing import Any

KEPT = 256
IRRELEVANT = ("name", "seed", "budget", "split")
"""Parts of a job that what it can reach does not depend on."""

Result = Mapping[str, Any]


class FitCache:
    """Results by everything that they depend on; safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._results: OrderedDict[str, Future[Result]] = OrderedDict()

    def get(
        self,
        *,
        graph: str,
        spec: Mapping[str, Any],
        profiles: Any,
        compute: Callable[[], Result],
        admit: Callable[[], None] = lambda: None,
    ) -> Result:
        """Return what ``compute`` says of this network, job and devices, asking it once however many want to know.

        What it raises, all raise who wait for it; who comes later asks again. Who finds
        nothing calls ``admit`` first, which raises if that one may not ask; the others do not hear of it.
        """
        relevant = {name: value for name, value in spec.items() if name not in IRRELEVANT}
        key = hashlib.sha256(json.dumps([graph, relevant, profiles], sort_keys=True).encode()).hexdigest()
        with self._lock:
            known = key in self._results
        if not known:
            admit()
        with self._lock:
            result = self._results.get(key)
            asked = result is not None
            if result is None:
                result = self._results[key] = Future()
                if len(self._results) > KEPT:
                    self._results.popitem(last=False)
            self._results.move_to_end(key)
        if not asked:
            self._ask(key, result, compute)
        return result.result()

    def _ask(self, key: str, result: Future[Result], compute: Callable[[], Result]) -> None:
        try:
            result.set_result(compute())
        except BaseException as error:
            with self._lock:
                self._results.pop(key, None)
            result.set_exception(error)
