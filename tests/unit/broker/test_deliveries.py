"""Any bytes of a broker, cut anywhere: deliveries go to their taker, all else goes on unchanged."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from broker import deliveries
from broker.deliveries import Deliveries, Taker
from broker.properties import KEPT, MESSAGE_BYTES, incoming
from jobcast.message import Incoming
from jobcast.tolerance import UNREADABLE

TAKEN, OTHER = 1, 2
"""A channel with a taker and one without."""
PIECE: Final = 5
"""Bytes of a body in a frame."""

Feed = tuple[list[Incoming], bytes]
Paused = tuple[Deliveries, "Transport", list[Taker]]


class Transport(asyncio.Transport):
    """Notes whether it is being read."""

    def __init__(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def delivery(channel: int, tag: int, body: bytes, kind: type[Any] = Basic.Deliver) -> list[bytes]:
    """A message as the broker sends it, frame by frame."""
    said: dict[str, Any] = {"delivery_tag": tag, "exchange": "e", "routing_key": "a.b"}
    said |= {"consumer_tag": "ctag1.x"} if kind is Basic.Deliver else {"message_count": 0}
    properties = Basic.Properties(content_type="text/plain", message_id=f"m{tag}")
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    frames = [
        kind(**said),
        ContentHeader(body_size=len(body), properties=properties),
        *map(ContentBody, pieces),
    ]
    return [pamqp.frame.marshal(frame, channel) for frame in frames]


def fed(chunks: Sequence[bytes]) -> Feed:
    """What was taken, and what aiormq reads."""

    async def feed() -> Feed:
        taken: list[Incoming] = []
        reader = Deliveries()
        reader.set_transport(Transport())
        reader.to(TAKEN, taken.append)
        for chunk in chunks:
            reader.feed_data(chunk)
        for _ in range(2):  # for the end of the stream, and for that of the connection
            reader.feed_eof()
        return taken, await reader.read()

    return asyncio.run(feed())


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    yield from (data[at:end] for at, end in pairwise(ends))


OTHERS: Final = (
    pamqp.frame.marshal(Heartbeat(), 0),
    pamqp.frame.marshal(Basic.Ack(7, multiple=True), OTHER),
    pamqp.frame.marshal(Basic.ConsumeOk("ctag1.x"), TAKEN),
    pamqp.frame.marshal(Basic.Cancel("ctag1.x"), TAKEN),
    b"".join(delivery(OTHER, 9, b"somebody else's")),
    b"".join(delivery(TAKEN, 9, b"asked for", Basic.GetOk)),
)


@given(
    st.lists(st.one_of(st.binary(max_size=3 * PIECE), st.sampled_from(range(len(OTHERS))))),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_deliveries_are_taken_and_all_else_goes_on(
    items: list[bytes | int], places: list[int]
) -> None:
    bodies = [item for item in items if isinstance(item, bytes)]
    others = [OTHERS[item] for item in items if isinstance(item, int)]
    data, tag = b"", 0
    for item in items:
        if isinstance(item, int):
            data += OTHERS[item]
        else:
            tag += 1
            data += b"".join(delivery(TAKEN, tag, item))
    taken, passed = fed(list(cut(data, places)))
    assert [(one.tag, one.body) for one in taken] == list(enumerate(bodies, 1))
    assert {one.content_type for one in taken} <= {"text/plain"}
    assert passed == b"".join(others)


@given(st.permutations([0] * 4 + [1] * 4))
def test_messages_of_two_channels_may_come_in_turns(order: list[int]) -> None:
    sources = [iter(delivery(TAKEN + at, at + 1, b"0123456789")) for at in range(2)]
    data = b"".join(next(sources[at]) for at in order)
    taken, passed = fed([data])
    assert [(one.tag, one.body) for one in taken] == [(1, b"0123456789")]
    assert passed == b"".join(delivery(OTHER, 2, b"0123456789"))


def test_a_channel_that_is_closed_in_the_middle_of_a_message() -> None:
    close = pamqp.frame.marshal(Channel.Close(404, "gone", 0, 0), TAKEN)
    taken, passed = fed([*delivery(TAKEN, 1, b"0123456789")[:3], close])
    assert (taken, passed) == ([], close)


@pytest.mark.parametrize(
    "strange",
    [
        b"AMQP\x00\x00\x09\x01",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        pamqp.frame.marshal(Basic.Ack(1), TAKEN)[:-1] + b"\x00",
        b"".join(delivery(TAKEN, 2, b"x"))[:-1] + b"\x00",
    ],
    ids=["another version", "another protocol", "a frame without an end", "a body without an end"],
)
def test_what_is_no_frame_is_left_to_aiormq(strange: bytes) -> None:
    whole = b"".join(delivery(TAKEN, 1, b"whole"))
    taken, passed = fed([whole + strange, b"and more"])
    assert [one.body for one in taken] == [b"whole"]
    assert passed.endswith(b"and more")
    assert (strange + b"and more").endswith(passed)


def test_a_broken_connection_shows_the_frame_that_was_not_whole() -> None:
    frame = pamqp.frame.marshal(Basic.Ack(1), OTHER)
    assert fed([frame, frame[:-3]]) == ([], frame + frame[:-3])


async def test_aiormq_learns_that_the_link_lives_from_deliveries_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries, "STILL_THERE_S", 0.0)
    reader = Deliveries()
    reader.set_transport(Transport())
    reader.to(TAKEN, lambda _: None)
    reader.feed_data(b"".join(delivery(TAKEN, 1, b"x")))
    assert await reader.readexactly(8) == pamqp.frame.marshal(Heartbeat(), 0)


SIZE: Final = incoming(b"".join(delivery(TAKEN, 1, b"")[1:])[7:-1], b"x" * 51, 1).size


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Paused]:
    """Two takers that hold a message each, which is too much; needs a running loop."""
    monkeypatch.setattr(deliveries, "HELD_MAX", 2 * SIZE - 1)
    monkeypatch.setattr(deliveries, "STILL_THERE_S", 0.01)

    def build() -> Paused:
        reader, transport = Deliveries(), Transport()
        reader.set_transport(transport)
        takers = [reader.to(channel, lambda _: None) for channel in (TAKEN, OTHER)]
        for tag, channel in enumerate((TAKEN, OTHER)):
            assert transport.reading
            reader.feed_data(b"".join(delivery(channel, tag, b"x" * 51)))
        assert (transport.reading, reader.held) == (False, 2 * SIZE)
        return reader, transport, takers

    return build


async def test_too_much_in_hand_stops_the_reading_until_half_of_it_is_settled(
    paused: Callable[[], Paused],
) -> None:
    reader, transport, (one, other) = paused()
    # Told again and again, so that a long wait is not taken for a dead link.
    assert await reader.readexactly(24) == 3 * deliveries.STILL_THERE
    reader.settled(one, SIZE)
    assert not transport.reading
    reader.settled(other, 1)
    assert transport.reading


async def test_what_is_dropped_is_not_held_and_still_comes_to_nobody(
    paused: Callable[[], Paused],
) -> None:
    reader, transport, (one, other) = paused()
    reader.drop(other)
    reader.settled(other, SIZE)  # too late, and nothing happens
    assert not transport.reading
    reader.drop(one)
    assert (transport.reading, reader.held) == (True, 0)
    reader.feed_data(b"".join(delivery(TAKEN, 3, b"more") * 50))
    assert (transport.reading, reader.held) == (True, 0)
    reader.feed_eof()
    passed = await reader.read()
    assert passed == deliveries.STILL_THERE * (len(passed) // 8)


async def test_everything_is_read_while_an_answer_is_waited_for(
    paused: Callable[[], Paused],
) -> None:
    reader, transport, _ = paused()
    with reader.asking():
        assert transport.reading
        reader.feed_data(b"".join(delivery(TAKEN, 3, b"more")))
        assert transport.reading
    assert not transport.reading


async def test_a_pause_outlasts_the_one_that_aiormqs_own_bound_makes(
    paused: Callable[[], Paused],
) -> None:
    reader, transport, _ = paused()
    transport.resume_reading()  # as StreamReader does when its buffer has been read
    reader.feed_data(pamqp.frame.marshal(Heartbeat(), 0))
    assert not transport.reading


def test_the_end_of_a_channel_leaves_its_number_to_the_next() -> None:
    async def taken() -> list[Incoming]:
        found: list[Incoming] = []
        reader = Deliveries()
        reader.set_transport(Transport())
        before = reader.to(TAKEN, found.append)
        reader.to(TAKEN, found.append)
        reader.end(TAKEN, before)
        reader.feed_data(b"".join(delivery(TAKEN, 1, b"x")))
        return found

    assert [message.body for message in asyncio.run(taken())] == [b"x"]


TEXT: Final = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40
)
SAID: Final = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            (
                "content_type",
                "content_encoding",
                "correlation_id",
                "reply_to",
                "expiration",
                "message_id",
                "message_type",
                "user_id",
                "app_id",
            ),
            TEXT,
        ),
        "headers": st.dictionaries(
            st.builds(str.__add__, st.sampled_from(("x-", "cloudEvents:", "")), TEXT),
            st.one_of(TEXT, st.integers(-9, 2**40)),
        ),
        "delivery_mode": st.sampled_from((1, 2)),
        "priority": st.integers(0, 9),
        "timestamp": st.just(datetime(2026, 11, 21, tzinfo=UTC)),
    },
)


def payload(body: bytes, **said: Any) -> bytes:
    """A header frame, less what is around its payload."""
    header = ContentHeader(body_size=len(body), properties=Basic.Properties(**said))
    return header.marshal()


@given(SAID)
def test_properties_are_read_as_pamqp_writes_them(said: dict[str, Any]) -> None:
    found = incoming(payload(b"x", **said), b"x", 3)
    whole = payload(b"x", **said)
    headers = said.get("headers", {}).items()
    assert structs.asdict(found) == {
        "body": b"x",
        "tag": 3,
        "size": len(whole) + 1 + MESSAGE_BYTES,
        "headers": {name: value for name, value in headers if name.startswith(KEPT)},
        **{name: said.get(name) for name in ("content_type", "correlation_id")},
        **{name: said.get(name) for name in ("user_id", "reply_to")},
    }


def broken(change: Callable[[bytes], bytes]) -> bytes:
    return change(payload(b"x", content_type="text/plain", headers={"a": "b"}, user_id="ann"))


@pytest.mark.parametrize(
    "header",
    [
        broken(lambda whole: whole[:-2]),
        broken(lambda whole: whole[:14]),
        broken(lambda whole: whole[:12]),
        broken(lambda whole: whole.replace(b"ann", b"\xff\xfe\xfd")),
        broken(lambda whole: whole.replace(b"text/plain", b"text/\xffplai")),
        broken(lambda whole: whole.replace(b"\x01aS", b"\x01a?")),
        broken(lambda whole: whole[:13] + bytes([whole[13] | 1]) + whole[14:]),
    ],
    ids=["short text", "flags alone", "no flags", "user", "content type", "table", "more flags"],
)
def test_properties_that_cannot_be_read_make_a_message_that_nobody_takes(header: bytes) -> None:
    found = incoming(header, b"body", 4)
    size = len(header) + 4 + MESSAGE_BYTES
    assert found == Incoming(body=b"body", content_type=UNREADABLE, tag=4, size=size)
