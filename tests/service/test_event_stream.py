import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.event_stream import ServerEvent, events, lines


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut ``data`` at these places, wherever they fall: between bytes of one character, between ``\\r`` and ``\\n``."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_an_event_has_its_id_its_name_and_its_data() -> None:
    stream = [b"id: 7\nevent: trial\ndata: {}\n\n"]

    assert list(events(stream)) == [ServerEvent(id="7", event="trial", data="{}")]


def test_comments_and_unknown_fields_are_skipped() -> None:
    stream = [b": still here\n\nretry: 10\nnonsense\ndata: 1\n\n"]

    assert list(events(stream)) == [ServerEvent(id="", event="message", data="1")]


def test_several_data_lines_are_one_text() -> None:
    assert [event.data for event in events([b"data: a\ndata:b\n\n"])] == ["a\nb"]


def test_an_event_without_an_id_keeps_the_last_one() -> None:
    stream = [b"id: 3\ndata: a\n\ndata: b\n\n"]

    assert [event.id for event in events(stream)] == ["3", "3"]


def test_an_event_that_the_end_cuts_off_is_dropped() -> None:
    assert list(events([b"data: a\n\nid: 9\ndata: half"])) == [ServerEvent(id="", event="message", data="a")]


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.text(), st.sampled_from(["trial", "front"]))),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_what_was_sent_is_read_however_the_bytes_are_cut(
    sent: list[tuple[int, str, str]], end: str, places: list[int]
) -> None:
    text = "".join(
        f"id: {number}{end}event: {name}{end}data: {json.dumps(value, ensure_ascii=False)}{end}{end}"
        for number, value, name in sent
    )

    received = list(events(cut(text.encode(errors="replace"), places)))

    assert [(int(event.id), event.event) for event in received] == [(number, name) for number, _, name in sent]
    expected = [value.encode(errors="replace").decode() for _, value, _ in sent]
    assert [json.loads(event.data) for event in received] == expected


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x85"])
def test_only_line_ends_end_a_line(separator: str) -> None:
    assert list(lines([f"a{separator}b\n".encode()])) == [f"a{separator}b"]
