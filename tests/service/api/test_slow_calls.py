import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.slow_calls import AT_ONCE, SlowCalls


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


async def sent(message: Message) -> None:
    pass


def inside_of(path: str, *, calls: int, answered: bool = False) -> int:
    """Return how many of so many calls at once have come through."""

    async def main() -> int:
        app = Counting()
        middleware = SlowCalls(app)
        if answered:
            app.answer.set()
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(middleware, {"type": "http", "path": path}, received, sent)
            await anyio.wait_all_tasks_blocked()
            found = app.inside
            app.answer.set()
            app.read.set()
        assert app.inside == calls  # nobody was turned away
        return found

    return anyio.run(main)


@pytest.mark.parametrize(
    "path",
    ["/v1/estimates", "/v1/jobs/1/rerank", "/v1/jobs/1/study", "/v1/trials/1-0/why", "/v1/trials/1-0", "/jobs/1/chart"],
)
def test_few_calls_that_compute_much_are_in_work_at_once(path: str) -> None:
    assert inside_of(path, calls=3 * AT_ONCE) == AT_ONCE


@pytest.mark.parametrize(
    "path", ["/readyz", "/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/trials", "/v1/trials/1-0/checkpoint"]
)
def test_other_calls_wait_for_nobody(path: str) -> None:
    assert inside_of(path, calls=3 * AT_ONCE) == 3 * AT_ONCE


def test_an_answer_that_is_read_slowly_keeps_nobody_waiting() -> None:
    assert inside_of("/v1/estimates", calls=3 * AT_ONCE, answered=True) == 3 * AT_ONCE
