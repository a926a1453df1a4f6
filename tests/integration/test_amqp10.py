"""AMQP 1.0, as JMS clients speak it, with a client that is not ours: what they see of a durable
subscription. On RabbitMQ 3.x, by the plugin `rabbitmq_amqp1_0` (docs/protocol.md § 4)."""

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiormq
import httpx
import msgspec
import pytest

from api.users import add_user
from broker.topology import declare, topology
from deploy.guard import Doors
from deploy.rabbitmq import PLUGINS, RabbitMQNode
from jobcast.client import Client
from jobcast.job import Job, JobError, Status
from jobcast.notification import Notice, notification
from tests.eventually import eventually
from tests.integration.authority import Guard
from tests.integration.rabbit import channel_to, depth, publish
from tests.servers import need, need_rabbitmq

PYTHON: Final = "/usr/bin/python3"
READER: Final = Path(__file__).with_name("proton_reader.py")
QUEUE: Final = "sub.alice%2Ex.jms.ends"
FAILED: Final = Job(
    id="86e4.4546",
    owner="alice.x",
    operation="backup",
    group="nightly",
    status=Status.FAILED,
    outcome="error",
    version=3,
    status_code=500,
    error=JobError("error", "disk full"),
    created_at="2026-11-21T10:00:00.000Z",
    updated_at="2026-11-21T10:00:05.250Z",
)
TOLD: Final = notification(
    Notice(job=FAILED, snapshot=msgspec.json.encode(FAILED), event="failed", cursor="17-0")
)


class Place(NamedTuple):
    """A node with the plugin. RabbitMQ itself holds the account `jms`, which may read one queue."""

    node: RabbitMQNode
    tokens: dict[str, str]

    async def read(self, user: str, queue: str) -> dict[str, Any] | str:
        """One message of the queue, or what was said instead."""
        url = f"amqp://{user}:{self.tokens[user]}@127.0.0.1:{self.node.port}"
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, str(READER), url, f"/amq/queue/{queue}", "1"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, said = await process.communicate()
        if process.returncode:
            return said.decode()
        told: dict[str, Any] = json.loads(printed)
        return told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    need_rabbitmq()
    proton = [PYTHON, "-c", "import proton"]
    has = Path(PYTHON).exists() and not subprocess.run(proton, check=False).returncode
    need(PYTHON if has else None, "Qpid Proton")
    folder = tmp_path_factory.mktemp("amqp10")
    users = folder / "users.toml"
    tokens = {name: add_user(users, name, ["subscriber"]) for name in ("alice.x", "bob")}
    guard = Guard(users)
    plugins = (*PLUGINS, "rabbitmq_amqp1_0")
    doors = Doors(authority=guard.url, cache_ms=1_000)
    with RabbitMQNode(folder / "node", plugins=plugins, doors=doors) as node:
        guard.amqp_url, guard.management_url = node.url, node.management_url
        guard.start()
        try:
            if asyncio.run(prepare(node)) >= 4:
                pytest.skip("RabbitMQ 4 speaks AMQP 1.0 itself; what it shows is not tested")
            yield Place(node, tokens | {"jms": account(node)})
        finally:
            guard.stop()


async def prepare(node: RabbitMQNode) -> int:
    """Declares what the service declares; the major version."""
    connection = await aiormq.connect(node.url)
    channel = await connection.channel()
    await declare(channel, topology(1))
    version = str(connection.server_properties["version"])
    await connection.close()
    return int(version.partition(".")[0])


def account(node: RabbitMQNode) -> str:
    """Makes it as an operator does; its password."""
    password = "of-the-account"
    rights = {"configure": "^$", "write": "^$", "read": f"^{re.escape(QUEUE)}$"}
    with httpx.Client(base_url=f"{node.management_url}/api", auth=node.login) as http:
        http.put("/users/jms", json={"password": password, "tags": ""}).raise_for_status()
        http.put("/permissions/%2F/jms", json=rights).raise_for_status()
    return password


async def subscribed(place: Place) -> None:
    """The subscription of the SDK, left behind with one notification in it."""
    url = place.node.url_of("alice.x", place.tokens["alice.x"])
    async with Client("http://127.0.0.1:1", amqp_url=url, client_id="jms") as client:
        waiting = asyncio.create_task(anext(client.subscribe("ends")))
        await eventually(lambda: consumed(place.node.url), 20)
        waiting.cancel()
    await publish(place.node.url, TOLD)
    await eventually(lambda: ready(place.node.url))


async def consumed(url: str) -> bool:
    async with channel_to(url) as channel:
        return bool((await channel.queue_declare(QUEUE, passive=True)).consumer_count)


async def ready(url: str) -> bool:
    return await depth(url, QUEUE) == 1


async def test_a_jms_client_reads_a_durable_subscription(place: Place) -> None:
    await subscribed(place)
    seen = await place.read("jms", QUEUE)
    assert isinstance(seen, dict), seen
    assert seen["id"] == TOLD.message_id == "alice.x/86e4.4546/3"
    assert seen["correlation_id"] == "86e4.4546"
    assert seen["content_type"] == "application/cloudevents+json"
    assert (seen["durable"], seen["priority"], seen["ttl"]) == (True, 4, 0)
    assert (seen["body_type"], seen["body"]) == ("bytes", TOLD.body.decode())
    # What the plugin does not pass on, or puts elsewhere:
    assert seen["subject"] == TOLD.routing_key == "alice%2Ex.backup.failed.86e4%2E4546"
    assert seen["properties"] is None
    assert seen["annotations"] == {}
    assert seen["group_id"] is None
    assert seen["to"] is None
    # Seconds taken for milliseconds.
    assert seen["creation_time"] * 1000 == TOLD.timestamp

    async def accepted() -> bool:
        async with channel_to(place.node.url) as channel:
            found = await channel.queue_declare(QUEUE, passive=True)
        return not found.message_count and not found.consumer_count

    await eventually(accepted)


async def test_an_account_reads_no_other_queue(place: Place) -> None:
    async with channel_to(place.node.url) as channel:
        await channel.queue_declare("sub.bob.jms.ends", durable=True)
    await publish(place.node.url, TOLD)
    assert isinstance(await place.read("jms", "sub.bob.jms.ends"), str)


@pytest.mark.parametrize("user", ["alice.x", "bob"])
async def test_a_user_of_the_api_is_not_let_in_by_the_plugin(place: Place, user: str) -> None:
    """It logs in a second time without a password, which the API takes for nobody."""
    await subscribed(place)
    said = await place.read(user, QUEUE)
    assert "auth_failure" in said
    async with channel_to(place.node.url) as channel:
        await channel.queue_purge(QUEUE)
