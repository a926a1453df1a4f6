"""What the tests do with dead letters: putting them there, looking, retrying, and the command."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiormq

from broker.consumer import consuming
from broker.link import connected
from broker.topology import declare, topology
from jobcast.dead import opened_dead_letters
from jobcast.events import Event
from jobcast.letter import Letter
from jobcast.message import Incoming, Message, Outcome
from jobcast.names import DEAD
from jobcast.tour import Verdict
from jobcast.wire import JSON
from tests.eventually import eventually
from tests.integration.rabbit import channel_to, publish

STATE = "jobcast.state.0"


async def declared(url: str) -> str:
    """The service's queues, and nobody who takes anything from them."""

    async def declare_all() -> bool:
        async with channel_to(url) as channel:
            await declare(channel, topology(1))
        return True

    await eventually(declare_all)  # not at once where they have only just been deleted
    return url


def letters(ids: Sequence[str], reason: str = "not-json", size: int = 0) -> list[Message]:
    return [
        Message(
            exchange="",
            routing_key=DEAD,
            body=id.encode().ljust(size),
            message_id=id,
            content_type=JSON,
            headers={"x-jobcast-reason": reason, "x-jobcast-detail": "event: said"},
        )
        for id in ids
    ]


def names(count: int) -> list[str]:
    return [f"m{number:04}" for number in range(count)]


async def put(url: str, messages: Sequence[Message]) -> None:
    assert set(await publish(url, *messages)) <= {Outcome.CONFIRMED}


async def seen(url: str, *, at_most: int | None = None, quiet_s: float = 5) -> list[str]:
    """The ids of a pass; `at_most`: its reader wants no more."""
    found: list[str] = []

    async def visit(letter: Letter) -> Verdict:
        found.append(letter.id)
        return Verdict.ENOUGH if len(found) == at_most else Verdict.KEEP

    async with opened_dead_letters(url, quiet_s=quiet_s) as dead:
        await dead.look(visit)
    return found


async def retried(url: str, *ids: str) -> int:
    """Sends these letters again, or all."""
    sent = 0
    async with opened_dead_letters(url) as dead:

        async def visit(letter: Letter) -> Verdict:
            nonlocal sent
            if ids and letter.id not in ids:
                return Verdict.KEEP
            await dead.send_again(letter)
            sent += 1
            return Verdict.REMOVE

        await dead.look(visit)
    return sent


async def taken(url: str, count: int) -> list[Incoming]:
    """What has come to the state service."""
    found: list[Incoming] = []
    async with connected(url, "test") as connection, consuming(connection, STATE) as batches:
        while len(found) < count:
            batch = await batches.take()
            found += batch
            await batches.settle(batch)
    return found


async def first(url: str) -> Letter | None:
    found: list[Letter] = []

    async def visit(letter: Letter) -> Verdict:
        found.append(letter)
        return Verdict.KEEP

    async with opened_dead_letters(url) as dead:
        await dead.look(visit)
    return found[0] if found else None


def binary(event: Event) -> Incoming:
    """An event without data in binary mode."""
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.job_id,
        "owner": event.owner,
    }
    headers = {f"cloudEvents_{name}": value for name, value in attributes.items()}
    return Incoming(body=b'{"operation":"build"}', content_type=JSON, headers=headers)


async def deep_headers(url: str, exchange: str, key: str, depth: int = 1_500) -> None:
    """Publishes a message whose headers are tables in tables, deeper than Python reads."""
    table = b""
    for _ in range(depth):  # one name of one letter, and the table of it
        table = b"\x01kF" + len(table).to_bytes(4, "big") + table
    flags = (1 << 13).to_bytes(2, "big")  # headers, and no other property
    marshalled = flags + len(table).to_bytes(4, "big") + table

    class Properties(aiormq.spec.Basic.Properties):
        def marshal(self) -> bytes:
            return marshalled

    async with channel_to(url) as channel:
        await channel.basic_publish(
            b"{}", exchange=exchange, routing_key=key, properties=Properties(message_id="deep")
        )


class Ended:
    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code, self.raw, self.err = code, out, err.decode()

    @property
    def out(self) -> str:
        return self.raw.decode()


@asynccontextmanager
async def started(
    url: str, *args: str, stdin: int | None = None, stdout: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`stdin`, `stdout`: descriptors of a terminal; without one there is none."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobcast.cli", "dead", *args),
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE if stdout is None else stdout,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "JOBCAST_AMQP_URL": url},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def dead(url: str, *args: str) -> Ended:
    """`jobcast dead`, as an operator types it, without a terminal."""
    async with started(url, *args) as process:
        out, err = await process.communicate()
    assert b"Traceback" not in err
    return Ended(process.returncode or 0, out, err)
