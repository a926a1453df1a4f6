"""`jobcast subscribe` as a stranger starts it, on a running service."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast.client_id import own_client_id
from jobcast.events import Started, Succeeded
from jobcast.names import subscription_queue
from tests.integration.place import Place
from tests.integration.rabbit import channel_to
from tests.logins import Login

TIMEOUT_S: Final = 30.0


@pytest.fixture
async def place(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login, tmp_path: Path
) -> AsyncIterator[Place]:
    place = Place(rabbitmq, stack, subscriber)
    made = own_client_id({"XDG_STATE_HOME": str(tmp_path)})
    place.queue = subscription_queue(subscriber.name, made, "ends")
    yield place
    async with channel_to(rabbitmq.url) as channel:
        await channel.queue_delete(place.queue)


@asynccontextmanager
async def subscribed(
    place: Place, folder: Path, *args: str, **env: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    given = {"JOBCAST_AMQP_URL": place.amqp_url, "XDG_STATE_HOME": str(folder), **env}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobcast.cli", "subscribe", "ends", *args),
        env=os.environ | given,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)).decode().strip()


async def test_a_line_is_printed_for_each_notification_and_none_twice(
    place: Place, tmp_path: Path
) -> None:
    async with subscribed(place, tmp_path, "--json", "--event", "succeeded") as process:
        await place.consumed()
        await place.report(Started, Succeeded, job="a", operation="backup")
        told: dict[str, Any] = json.loads(await line(process))
        assert (told["event"], told["job"]["id"], told["job"]["operation"]) == (
            "succeeded",
            "a",
            "backup",
        )
        assert {"message_id", "cursor", "timestamp"} <= told.keys()
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 130
    await place.emptied()
    await place.report(Started, Succeeded, job="b", operation="backup")
    async with subscribed(place, tmp_path, "--event", "succeeded") as process:
        printed = (await line(process)).split()
        assert printed[1:3] == ["b", "succeeded"]


async def test_what_could_not_be_printed_comes_again(place: Place, tmp_path: Path) -> None:
    async with subscribed(place, tmp_path) as process:
        await place.consumed()
        await place.report(Started, job="a")
        assert (await line(process)).split()[1] == "a"
        # The transport holds the reading end; without it the next line has no reader.
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        await place.report(Started, job="b")
        assert await asyncio.wait_for(process.wait(), TIMEOUT_S) != 0
    async with subscribed(place, tmp_path) as process:
        assert (await line(process)).split()[1] == "b"


async def test_the_token_is_the_password_where_the_url_has_none(
    place: Place, tmp_path: Path
) -> None:
    url = f"amqp://{place.login.name}@127.0.0.1:{place.node.port}/"
    env = {"JOBCAST_AMQP_URL": url, "JOBCAST_TOKEN": place.login.token}
    async with subscribed(place, tmp_path, **env) as process:
        await place.consumed()
        await place.report(Started, job="a")
        assert (await line(process)).split()[1] == "a"


@pytest.mark.parametrize(
    ("args", "env", "word"),
    [
        (("--event", "ended"), {}, "event"),
        (("--operation", "*"), {}, "operation"),
        ((), {"JOBCAST_AMQP_URL": "amqp://127.0.0.1:1/"}, "amqp_url"),
        ((), {"JOBCAST_AMQP_URL": "http://127.0.0.1:1/"}, "JOBCAST_AMQP_URL"),
        ((), {"XDG_STATE_HOME": "/proc/nowhere"}, "client-id"),
    ],
)
async def test_wrong_usage_is_one_line(
    place: Place, tmp_path: Path, args: tuple[str, ...], env: dict[str, str], word: str
) -> None:
    async with subscribed(place, tmp_path, *args, **env) as process:
        _, said = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode == 2
    assert len(said.splitlines()) == 1
    assert word in said.decode()
