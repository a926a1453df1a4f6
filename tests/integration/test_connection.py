"""The bounds of a connection, on a real server with an app that answers at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api import connection
from api.connection import BODY_S, HEAD_MAX, HEAD_S, HEADERS_MAX, URL_MAX, Connection, hurry
from tests.eventually import eventually

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
PIECE = b"x" * 65_536


class Served(NamedTuple):
    server: uvicorn.Server
    port: int
    bodies: list[bytes]

    @property
    def connections(self) -> list[Connection]:
        found = self.server.server_state.connections
        return [one for one in found if isinstance(one, Connection)]

    async def ask(self, *pieces: bytes) -> bytes:
        """What is answered to these bytes, until the server closes or the answer is complete."""
        async with self.line() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                try:
                    await writer.drain()
                except ConnectionError:
                    break
            return await answer(reader)

    @asynccontextmanager
    async def line(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def one(self, is_ready: Callable[[Connection], bool]) -> Connection:
        await eventually(lambda: [one for one in self.connections if is_ready(one)])
        return next(one for one in self.connections if is_ready(one))


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head + await reader.readexactly(int(length or b"0"))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while scope["path"] != "/deaf":
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.disconnect" or not message["more_body"]:
                break
        bodies.append(body)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(
        app, port=0, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield Served(server, server.servers[0].sockets[0].getsockname()[1], bodies)
    server.should_exit = True
    await task


async def test_what_is_within_the_bounds_passes(served: Served) -> None:
    path = b"GET /" + b"x" * (URL_MAX - 100) + b" HTTP/1.1\r\n"
    lines = b"".join(b"h%d: %b\r\n" % (number, b"y" * 300) for number in range(HEADERS_MAX - 1))
    assert status(await served.ask(path + b"Host: a\r\n\r\n")) == 200
    assert status(await served.ask(GET + lines + b"\r\n")) == 200
    assert status(await served.ask(GET, lines[:9_000], lines[9_000:], b"\r\n")) == 200


@pytest.mark.parametrize(
    ("wanted", "pieces"),
    [
        (414, [b"GET /" + b"x" * URL_MAX + b" HTTP/1.1\r\nHost: a\r\n\r\n"]),
        (414, [b"GET /", *[PIECE] * 160, b" HTTP/1.1\r\n\r\n"]),
        (431, [GET + b"A: " + b"x" * HEAD_MAX + b"\r\n\r\n"]),
        (431, [GET + b"A: ", *[PIECE] * 160, b"\r\n\r\n"]),
        (431, [GET, *[b"A: b\r\n" * 10_000] * 20, b"\r\n"]),
        (431, [GET + b"A: b\r\n" * HEADERS_MAX + b"\r\n"]),
        (431, [GET, b"A" * HEAD_MAX, b"A" * HEAD_MAX, b": b\r\n\r\n"]),
        # Before the end has come, or it might never.
        (414, [b"GET /", *[PIECE] * 20]),
        (431, [GET + b"A: ", *[PIECE] * 20]),
        (431, [GET, *[PIECE] * 20]),
        (400, [b"nonsense\r\n\r\n"]),
        (400, [b"GET /\x00secret HTTP/1.1\r\n\r\n"]),
    ],
)
async def test_what_is_beyond_them_is_refused_and_the_line_closed(
    served: Served, wanted: int, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    said = await served.ask(*pieces)
    assert status(said) == wanted
    assert b"application/problem+json" in said
    assert b"nosniff" in said
    assert b"secret" not in said
    assert served.bodies == []
    await eventually(lambda: not served.connections)
    assert caplog.text == ""  # nobody fills the log before having shown who they are


async def test_a_large_body_before_a_head_is_not_counted_as_head(served: Served) -> None:
    body = b"z" * 200_000
    first = POST + b"Content-Length: 200000\r\n\r\n"
    async with served.line() as (reader, writer):
        writer.write(first + body + GET)
        assert status(await answer(reader)) == 200
        writer.write(b"\r\n")
        assert status(await answer(reader)) == 200
    assert served.bodies == [body, b""]


async def test_a_body_that_nobody_reads_is_not_read_to_its_end(served: Served) -> None:
    head = b"POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"
    async with served.line() as (reader, writer):
        writer.write(head)
        assert status(await answer(reader)) == 200
        writer.write(PIECE + PIECE)
        await eventually(lambda: not served.connections)


async def test_a_head_that_trickles_is_refused(served: Served) -> None:
    async with served.line() as (reader, writer):
        writer.write(GET)
        one = await served.one(lambda c: c._in_head)
        begun = asyncio.get_running_loop().time()
        one.hurry(begun + HEAD_S - 1)
        writer.write(b"A: b\r\n")
        await served.one(lambda c: len(c.headers) == 1)
        one.hurry(begun + HEAD_S + 0.1)  # a little now and then gains nothing
        assert status(await answer(reader)) == 408


async def test_a_line_on_which_nothing_is_said_is_closed(served: Served) -> None:
    async with served.line() as (reader, _):
        one = await served.one(lambda c: True)
        one.hurry(asyncio.get_running_loop().time() + HEAD_S + 0.1)
        assert await reader.read() == b""


async def test_a_body_that_trickles_is_refused_and_a_slow_honest_one_is_not(
    served: Served,
) -> None:
    async with served.line() as (reader, writer):
        writer.write(POST + b"Content-Length: 100000\r\n\r\n")
        one = await served.one(lambda c: c.cycle is not None)
        begun = asyncio.get_running_loop().time()
        writer.write(b"y" * 40_960)
        await eventually(lambda: one._body == 40_960)
        one.hurry(begun + BODY_S + 9)
        assert not one.transport.is_closing()
        one.hurry(begun + BODY_S + 11)
        assert status(await answer(reader)) == 408


async def test_an_idle_line_between_requests_is_left_alone(served: Served) -> None:
    async with served.line() as (reader, writer):
        writer.write(GET + b"\r\n")
        assert status(await answer(reader)) == 200
        one = await served.one(lambda c: True)
        one.hurry(asyncio.get_running_loop().time() + 60)
        writer.write(GET + b"\r\n")
        assert status(await answer(reader)) == 200


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HURRY_S", 0.02)
    monkeypatch.setattr(connection, "HEAD_S", 0.1)


@pytest.mark.usefixtures("quick")
async def test_one_timer_looks_after_all_connections(served: Served) -> None:
    looking = asyncio.create_task(hurry(served.server))
    try:
        async with served.line() as (slow, writer), served.line() as (mute, _):
            writer.write(GET)
            assert status(await answer(slow)) == 408
            assert await mute.read() == b""
    finally:
        looking.cancel()
