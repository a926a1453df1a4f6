from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.sse import BUFFER_MAX, EventStream, ServerSentEvent, StreamTooLong


def read(*chunks: bytes) -> tuple[list[ServerSentEvent], EventStream]:
    stream = EventStream()
    return [event for chunk in chunks for event in stream.feed(chunk)], stream


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def test_an_event_has_a_type_data_and_the_id_in_force() -> None:
    events, _ = read(b"event: started\nid: 7-0\ndata: {}\n\ndata: more\n\n")
    assert events == [
        ServerSentEvent("started", "{}", "7-0"),
        ServerSentEvent("message", "more", "7-0"),
    ]


def test_a_comment_is_nothing_and_a_block_with_an_id_alone_moves_the_cursor() -> None:
    events, stream = read(b": quiet\n\nid: 9-0\n\n")
    assert events == []
    assert stream.last_event_id == "9-0"


def test_an_id_counts_only_when_its_block_is_complete() -> None:
    _, stream = read(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert stream.last_event_id == "1"


def test_an_empty_id_clears_the_cursor_and_one_with_nul_is_ignored() -> None:
    events, _ = read(b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\nid\ndata: c\n\n")
    assert [event.last_event_id for event in events] == ["1", "1", ""]


def test_several_data_lines_are_joined_and_one_leading_space_goes() -> None:
    events, _ = read(b"data:  two\ndata\ndata:none\n\n")
    assert [event.data for event in events] == [" two\n\nnone"]


def test_retry_takes_ascii_digits_only() -> None:
    _, stream = read(b"retry: 1500\n\nretry: 2s\n\nretry: -1\n\nretry:\n\n")
    assert stream.retry_ms == 1500


def test_a_byte_order_mark_is_dropped_at_the_start_only() -> None:
    events, _ = read(b"\xef", b"\xbb", b"\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n")
    assert [event.data for event in events] == ["a"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_ends_a_line_at_once(end: bytes) -> None:
    events, _ = read(b"data: a" + end + b"data: b" + end + end)
    assert [event.data for event in events] == ["a\nb"]


def test_a_line_end_cut_in_two_is_one() -> None:
    events, _ = read(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n")
    assert [event.data for event in events] == ["a\nb"]


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(StreamTooLong):
        read(b"data: " + b"x" * BUFFER_MAX)


LINES = st.sampled_from(
    [
        "data: é✓",
        "data:x",
        "data",
        "event: started",
        "id: 1",
        "id: 2",
        "id",
        ": hush",
        "retry: 5",
        "",
    ]
)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=30).map(
    lambda lines: "".join(line + end for line, end in lines).encode()
)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=20), st.booleans())
def test_any_chunking_gives_the_same_events(text: bytes, places: list[int], mark: bool) -> None:
    text = b"\xef\xbb\xbf" * mark + text
    whole, stream = read(text)
    pieces, other = read(*cut(text, places))
    assert pieces == whole
    assert (other.last_event_id, other.retry_ms) == (stream.last_event_id, stream.retry_ms)
    assert read(*cut(text, range(len(text))))[0] == whole


@given(STREAMS)
def test_events_are_those_of_a_plain_reading_of_the_standard(text: bytes) -> None:
    found = []
    data: list[str] = []
    for line in text.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        if not line:
            found += ["\n".join(data)] if data else []
            data = []
        elif line.startswith("data"):
            data.append(line[5:].removeprefix(" "))
    assert [event.data for event in read(text)[0]] == found
