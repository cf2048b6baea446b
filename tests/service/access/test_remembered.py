import anyio

from service.access.remembered import Remembered


class Source:
    """Answers what it is told to, and counts how often it was asked."""

    def __init__(self, value: str | None) -> None:
        self.value = value
        self.asked = 0

    async def look_up(self) -> str | None:
        self.asked += 1
        return self.value


def test_a_value_is_looked_up_once_until_its_time_is_over() -> None:
    source, now = Source("first"), 0.0
    remembered: Remembered[str] = Remembered(seconds=1.0, most=10, clock=lambda: now)

    async def at(moment: float) -> str | None:
        nonlocal now
        now = moment
        return await remembered.get("key", source.look_up)

    assert anyio.run(at, 0.0) == "first"
    source.value = "second"
    assert anyio.run(at, 0.9) == "first"
    assert source.asked == 1
    assert anyio.run(at, 1.0) == "second"


def test_what_is_not_there_is_asked_for_again() -> None:
    source = Source(None)
    remembered: Remembered[str] = Remembered(seconds=1.0, most=10, clock=lambda: 0.0)

    async def twice() -> str | None:
        await remembered.get("key", source.look_up)
        source.value = "now"
        return await remembered.get("key", source.look_up)

    assert anyio.run(twice) == "now"


def test_nothing_survives_being_forgotten_not_even_what_is_being_looked_up() -> None:
    remembered: Remembered[str] = Remembered(seconds=1.0, most=10, clock=lambda: 0.0)
    source = Source("new")

    async def overtaken() -> str | None:
        remembered.forget()  # while the old value is on its way
        return "old"

    async def look() -> list[str | None]:
        return [await remembered.get("key", overtaken), await remembered.get("key", source.look_up)]

    assert anyio.run(look) == ["old", "new"]


def test_no_more_is_kept_than_there_is_room_for() -> None:
    source = Source("value")
    remembered: Remembered[str] = Remembered(seconds=1.0, most=2, clock=lambda: 0.0)

    async def look() -> None:
        for key in ("a", "b", "c", "c", "b", "a"):
            await remembered.get(key, source.look_up)

    anyio.run(look)
    assert source.asked == 4  # of a, b, c and, when c had taken its place, of a again
