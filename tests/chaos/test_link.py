"""The test's own network: what it is told to do to connections, it does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from deploy.process import LOOPBACK, free_port
from tests.chaos.link import Link
from tests.chaos.plan import LONG, SHORT, plan

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Opened = Callable[[], Awaitable[Streams]]


@asynccontextmanager
async def echoed() -> AsyncIterator[tuple[Link, Opened]]:
    """A link to a server that says back what it is told, and how to open a connection."""
    writers: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    port = free_port()
    server = await asyncio.start_server(echo, LOOPBACK, port)
    async with Link("test", port) as link:

        async def opened() -> Streams:
            streams = await asyncio.open_connection(LOOPBACK, link.port)
            writers.append(streams[1])
            return streams

        yield link, opened
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    server.close()


async def answer(streams: Streams, text: bytes = b"hello") -> bytes:
    reader, writer = streams
    writer.write(text)
    async with asyncio.timeout(0.5):
        return await reader.read(100)


async def test_untouched_it_passes_everything() -> None:
    async with echoed() as (_, opened):
        streams = await opened()
        assert await answer(streams) == b"hello"
        streams[1].write_eof()
        assert await streams[0].read() == b""


async def test_a_cut_resets_what_is_open_and_lets_new_connections_through() -> None:
    async with echoed() as (link, opened):
        streams = await opened()
        await answer(streams)
        link.cut()
        with pytest.raises(ConnectionResetError):
            await streams[0].read(1)
        assert await answer(await opened()) == b"hello"


async def test_a_stall_keeps_what_is_said_until_it_is_healed() -> None:
    async with echoed() as (link, opened):
        streams = await opened()
        await answer(streams)
        link.stall()
        with pytest.raises(TimeoutError):
            await answer(streams, b"late")
        link.heal()
        assert await streams[0].read(100) == b"late"


async def test_a_lost_connection_stays_lost_and_nobody_is_told() -> None:
    async with echoed() as (link, opened):
        streams = await opened()
        await answer(streams)
        link.lose()
        link.heal()
        with pytest.raises(TimeoutError):
            await answer(streams)
        assert await answer(await opened()) == b"hello"


async def test_a_half_closed_connection_has_ended_for_one_side_alone() -> None:
    async with echoed() as (link, opened):
        streams = await opened()
        await answer(streams)
        link.half_close(0)
        assert await answer(streams) == b""
        assert not streams[1].is_closing()


def test_the_plan_depends_on_the_seed_alone_and_spares_nobody() -> None:
    deeds = plan(7, 600, LONG)
    assert deeds == plan(7, 600, LONG) != plan(8, 600, LONG)
    assert sum(len(d.victims) for d in deeds if d.what in {"kill", "pause"}) >= 200
    assert {deed.what for deed in deeds} >= {
        "kill",
        "pause",
        "restart",
        "cut",
        "lose",
        "half-close",
    }
    assert {"rabbitmq", "redis", "apis", "notifiers"} <= {deed.target for deed in deeds}


def test_no_target_is_harmed_while_it_is_down() -> None:
    for pace in (LONG, SHORT):
        until: dict[str, float] = {}
        for deed in plan(3, 300, pace):
            for victim in deed.victims:
                assert deed.at_s >= until.get(victim, 0), deed
                until[victim] = deed.at_s + deed.lasts_s
