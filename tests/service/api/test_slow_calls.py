import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.slow_calls import COMPUTING, SUBMITTING, WAITING, SlowCalls


class Counting:
    """An application whose calls stay until they are told to answer, and then until their client has read."""

    def __init__(self) -> None:
        self.inside = 0
        self.answer, self.read = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        await self.answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.read.wait()


async def received() -> Message:
    return {}


def inside_of(path: str, *, calls: int, answered: bool = False, method: str = "GET") -> tuple[int, int]:
    """Return how many of so many calls at once have come through, and how many were told to come back."""

    async def main() -> tuple[int, int]:
        app, refused = Counting(), 0

        async def sent(message: Message) -> None:
            nonlocal refused
            if message.get("status") == 429:
                assert b"retry-after" in dict(message["headers"])
                refused += 1

        middleware = SlowCalls(app)
        if answered:
            app.answer.set()
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(middleware, {"type": "http", "path": path, "method": method}, received, sent)
            await anyio.wait_all_tasks_blocked()
            found = app.inside
            app.answer.set()
            app.read.set()
        assert app.inside + refused == calls
        return found, refused

    return anyio.run(main)


@pytest.mark.parametrize(
    "path",
    ["/v1/estimates", "/v1/jobs/1/rerank", "/v1/jobs/1/study", "/v1/trials/1-0/why", "/v1/trials/1-0", "/jobs/1/chart"],
)
def test_few_calls_that_compute_much_are_in_work_at_once(path: str) -> None:
    assert inside_of(path, calls=3 * COMPUTING) == (COMPUTING, 0)


def test_few_submissions_are_in_work_at_once_and_only_so_many_wait() -> None:
    assert inside_of("/v1/jobs", method="POST", calls=SUBMITTING + WAITING) == (SUBMITTING, 0)
    assert inside_of("/v1/jobs", method="POST", calls=SUBMITTING + WAITING + 3) == (SUBMITTING, 3)


@pytest.mark.parametrize(
    "path", ["/readyz", "/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/trials", "/v1/trials/1-0/checkpoint"]
)
def test_other_calls_wait_for_nobody(path: str) -> None:
    assert inside_of(path, calls=3 * COMPUTING) == (3 * COMPUTING, 0)


def test_an_answer_that_is_read_slowly_keeps_nobody_waiting() -> None:
    assert inside_of("/v1/estimates", calls=3 * COMPUTING, answered=True) == (3 * COMPUTING, 0)
