import asyncio
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.datastructures import QueryParams
from starlette.types import Message

from api.figures import ApiFigures
from api.identity import Identity
from api.settings import Settings
from api.stream_routes import cursor_of, find_stream, routes
from api.streams import STUCK_S, StreamEndpoint, Streams
from api.tenure import Tenure
from notifier.connection import StoreUnavailable
from notifier.follow import JobGone, JobNotFound, NothingLeft
from notifier.listener import Item
from notifier.reader import Reader
from notifier.users import Users
from tests.eventually import eventually

OPENING = Item("stream", b"{}")
END = Item("succeeded", b"{}", "1-0")


class Exchange:
    """One request for a stream, and what is sent as its answer."""

    def __init__(self, *, stuck: bool = False, method: str = "GET") -> None:
        self.scope: dict[str, Any] = {
            "identity": Identity("alice", ["subscriber"], "token", ""),
            "type": "http",
            "manners": ((b"x-request-id", b"r"),),
            "path": "/v1/events",
            "method": method,
        }
        self.sent: list[Message] = []
        self.stuck = stuck
        self.blocked = asyncio.Event()

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        return {}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self.stuck and message["type"] == "http.response.body":
            self.blocked.set()
            await asyncio.Event().wait()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def nobody() -> Users:
    """Users that never change."""
    return cast("Users", SimpleNamespace(generation=0, refresh=lambda: None))


def open_streams(*, draining: bool = False, per_user: int = 5, most: int = 5) -> Streams:
    reader = cast("Reader", SimpleNamespace(hub=SimpleNamespace(draining=draining)))
    settings = Settings(amqp_url="", redis_url="", streams_per_user=per_user, streams_max=most)
    return Streams(reader, settings, ApiFigures(most), Tenure(nobody()))


async def follow(*steps: Item | Exception) -> AsyncGenerator[list[Item], None]:
    for step in steps:
        if isinstance(step, Exception):
            raise step
        yield [step]


async def run(streams: Streams, exchange: Exchange, *steps: Item | Exception) -> Exchange:
    endpoint = StreamEndpoint(streams, lambda scope, age: follow(*steps), of_one_job=True)
    await endpoint(exchange.scope, exchange.receive, exchange.send)
    return exchange


async def test_a_stream_begins_with_retry_and_the_opening_in_one_block() -> None:
    answer = await run(open_streams(), Exchange(), OPENING, END)
    retry, rest = answer.body.split(b"\n", 1)
    assert 1_000 <= int(retry.removeprefix(b"retry: ")) <= 5_000
    assert rest == b"event: stream\ndata: {}\n\nevent: succeeded\nid: 1-0\ndata: {}\n\n"
    assert answer.sent[-1]["more_body"] is False


async def test_a_stream_that_is_to_be_resumed_says_so_and_an_ended_one_does_not() -> None:
    started = Item("started", b"{}", "1-0")
    resumed = await run(open_streams(), Exchange(), OPENING, started)
    last = resumed.sent[-1]["body"]
    assert 0 <= int(last.removeprefix(b"retry: ").strip()) <= 1_000
    ended = await run(open_streams(), Exchange(), OPENING, started, END)
    assert ended.sent[-1]["body"] == b""


@pytest.mark.parametrize("steps", [[StoreUnavailable()], [OPENING, StoreUnavailable()]])
async def test_unavailability_is_a_stream_that_says_come_later(
    steps: list[Item | Exception],
) -> None:
    answer = await run(open_streams(), Exchange(), *steps)
    assert answer.status == 200
    assert 5_000 <= int(answer.body.rsplit(b"retry: ")[-1].split(b"\n")[0]) <= 15_000
    assert answer.body.endswith(b"\n: unavailable\n\n")


async def test_a_stream_that_is_cut_while_it_is_being_opened_is_told_to_come_later() -> None:
    streams, exchange, asked = open_streams(), Exchange(), asyncio.Event()

    async def waits_for_redis() -> AsyncGenerator[list[Item], None]:
        asked.set()
        await asyncio.Event().wait()
        yield []

    endpoint = StreamEndpoint(streams, lambda scope, age: waits_for_redis(), of_one_job=False)
    answering = asyncio.create_task(endpoint(exchange.scope, exchange.receive, exchange.send))
    await asked.wait()
    streams.cut_all()
    await asyncio.wait_for(answering, 5)
    assert exchange.status == 200
    assert exchange.body.endswith(b"\n: shutting down\n\n")
    assert len(streams) == 0


@pytest.mark.parametrize(
    ("streams", "why"),
    [
        (open_streams(draining=True), b"shutting down"),
        (open_streams(most=0), b"too many streams here"),
    ],
)
async def test_draining_and_the_processes_own_limit_are_answered_with_200(
    streams: Streams, why: bytes
) -> None:
    answer = await run(streams, Exchange(), OPENING)
    assert answer.status == 200
    assert answer.body.endswith(b"\n: %b\n\n" % why)


async def test_the_users_own_limit_is_429() -> None:
    answer = await run(open_streams(per_user=0), Exchange(), OPENING)
    assert answer.status == 429
    assert (b"retry-after", b"10") in answer.sent[0]["headers"]
    assert (b"x-request-id", b"r") in answer.sent[0]["headers"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(JobNotFound(), 404), (JobGone(deleted=True), 410), (NothingLeft(), 204)],
)
async def test_answers_about_the_job_keep_their_status(error: Exception, status: int) -> None:
    assert (await run(open_streams(), Exchange(), error)).status == status


async def test_a_head_request_gets_the_headers_alone() -> None:
    answer = await run(open_streams(), Exchange(method="HEAD"), OPENING)
    assert (answer.status, answer.body) == (200, b"")


async def test_a_reader_that_is_stuck_is_cut_and_its_place_is_free_again() -> None:
    streams, exchange = open_streams(), Exchange(stuck=True)
    task = asyncio.create_task(run(streams, exchange, OPENING, END))
    await exchange.blocked.wait()
    now = asyncio.get_running_loop().time()
    streams.cut_stuck(now)
    await asyncio.sleep(0)
    assert not task.done()
    streams.cut_stuck(now + STUCK_S + 1)
    await task
    assert len(streams) == 0


class Feed:
    """A stream whose next event comes when the test says so."""

    def __init__(self) -> None:
        self.next: asyncio.Queue[Item] = asyncio.Queue()

    async def follow(self) -> AsyncGenerator[list[Item], None]:
        yield [OPENING]
        while True:
            yield [await self.next.get()]


def begun(streams: Streams, exchange: Exchange, feed: Feed) -> "asyncio.Task[None]":
    endpoint = StreamEndpoint(streams, lambda scope, age: feed.follow(), of_one_job=True)
    return asyncio.create_task(endpoint(exchange.scope, exchange.receive, exchange.send))


def expires(exchange: Exchange, left_s: float) -> None:
    identity = exchange.scope["identity"]
    exchange.scope["identity"] = Identity(
        identity.user, identity.roles, "jwt", "", time.time() + left_s
    )


async def test_an_open_stream_is_told_between_two_events_that_its_credential_ends() -> None:
    streams, exchange, feed = open_streams(), Exchange(), Feed()
    expires(exchange, 600)
    task = begun(streams, exchange, feed)
    await eventually(lambda: exchange.body.endswith(b"\n\n"))
    for left_s in (100, 29.5, 20):
        streams.tenure.check(time.time() + 600 - left_s)
    await eventually(lambda: b"expiring" in exchange.body)
    feed.next.put_nowait(Item("started", b"{}", "1-0"))
    await eventually(lambda: b"started" in exchange.body)
    said = exchange.body.partition(b"event: stream")[2]
    assert said == (
        b'\ndata: {}\n\nevent: expiring\ndata: {"in_s":29}\n\nevent: started\nid: 1-0\ndata: {}\n\n'
    )
    streams.tenure.check(time.time() + 601)
    await task
    assert exchange.body.endswith(b"\n\n: expired\n\n")
    assert exchange.sent[-1]["more_body"] is False
    assert counted(streams, "jobcast_streams_cut_total") == {"expired": 1}


async def test_a_stuck_reader_is_cut_at_the_expiry_without_a_word() -> None:
    streams, exchange, feed = open_streams(), Exchange(), Feed()
    expires(exchange, 600)
    task = begun(streams, exchange, feed)
    await eventually(lambda: exchange.body.endswith(b"\n\n"))
    exchange.stuck = True
    feed.next.put_nowait(Item("started", b"{}", "1-0"))
    await exchange.blocked.wait()
    streams.tenure.check(time.time() + 590)
    await asyncio.sleep(0)
    streams.tenure.check(time.time() + 601)
    await task
    assert b"expir" not in exchange.body
    assert len(streams) == 0


async def test_a_stream_whose_credential_ends_before_it_has_begun_is_401() -> None:
    streams, exchange, never = open_streams(), Exchange(), asyncio.Event()
    expires(exchange, 600)

    async def waiting() -> AsyncGenerator[list[Item], None]:
        await never.wait()
        yield [OPENING]

    endpoint = StreamEndpoint(streams, lambda scope, age: waiting(), of_one_job=True)
    task = asyncio.create_task(endpoint(exchange.scope, exchange.receive, exchange.send))
    await eventually(lambda: len(streams) == 1)
    streams.tenure.check(time.time() + 601)
    await task
    assert exchange.status == 401


async def test_a_stream_lasts_no_longer_than_its_credential() -> None:
    streams, exchange, ages = open_streams(), Exchange(), []
    expires(exchange, 50)

    def follow_for(scope: object, age: float) -> AsyncGenerator[list[Item], None]:
        ages.append(age)
        return follow(OPENING, END)

    endpoint = StreamEndpoint(streams, follow_for, of_one_job=True)
    await endpoint(exchange.scope, exchange.receive, exchange.send)
    assert 45 < ages[0] <= 50


def test_the_header_beats_the_query_and_empty_counts_as_none() -> None:
    def cursor(header: bytes | None, query: str) -> str | None:
        headers = [] if header is None else [(b"last-event-id", header)]
        return cursor_of({"headers": headers}, QueryParams(query))

    assert cursor(b"1-0", "last_event_id=2-0") == "1-0"
    assert cursor(b"", "last_event_id=2-0") == "2-0"
    assert cursor(None, "lastEventId=3-0") == "3-0"
    assert cursor(None, "") is None


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/v1/events", True),
        ("HEAD", "/v1/jobs/a/events", True),
        ("POST", "/v1/events", False),
        ("GET", "/v1/jobs/a/b/events", False),
        ("GET", "/v1/jobs", False),
    ],
)
def test_only_requests_that_open_a_stream_go_past_the_app(
    method: str, path: str, found: bool
) -> None:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    assert (find_stream(scope, routes(open_streams())) is not None) is found


def counted(streams: Streams, name: str) -> dict[str, float]:
    """What has been counted so far, by the value of the one label."""
    return {
        next(iter(sample.labels.values())): sample.value
        for family in streams.figures.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


async def test_streams_that_we_end_early_are_counted_by_cause() -> None:
    streams, first, *others = open_streams(), *(Exchange(stuck=True) for _ in range(3))
    task = asyncio.create_task(run(streams, first, OPENING, END))
    await first.blocked.wait()
    streams.cut_stuck(asyncio.get_running_loop().time() + STUCK_S + 1)
    await task
    tasks = [asyncio.create_task(run(streams, one, OPENING, END)) for one in others]
    for one in others:
        await one.blocked.wait()
    assert counted(streams, "jobcast_streams_open") == {"job": 2}
    streams.cut_all()
    await asyncio.gather(*tasks)
    await run(streams, Exchange(), OPENING, StoreUnavailable())
    await run(streams, Exchange(), OPENING, END)
    assert counted(streams, "jobcast_streams_cut_total") == {
        "stuck": 1,
        "shutdown": 2,
        "unavailable": 1,
    }
    assert counted(streams, "jobcast_streams_opened_total") == {"job": 5}
    assert counted(streams, "jobcast_streams_open") == {}


@pytest.mark.parametrize(
    ("streams", "step", "cause"),
    [
        (open_streams(per_user=0), OPENING, "user-limit"),
        (open_streams(most=0), OPENING, "process-limit"),
        (open_streams(draining=True), OPENING, "draining"),
        (open_streams(), StoreUnavailable(), "unavailable"),
    ],
)
async def test_streams_that_must_come_later_are_counted_by_cause(
    streams: Streams, step: Item | Exception, cause: str
) -> None:
    await run(streams, Exchange(), step)
    assert counted(streams, "jobcast_streams_put_off_total") == {cause: 1}
    assert counted(streams, "jobcast_streams_opened_total") == {}


async def test_new_streams_that_come_too_fast_are_counted_as_put_off() -> None:
    streams = open_streams(most=1_000)
    for _ in range(150):
        await run(streams, Exchange(), OPENING, END)
    assert counted(streams, "jobcast_streams_put_off_total").keys() == {"rate"}
