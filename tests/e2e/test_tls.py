"""Everything over TLS: who has the authority gets in at every door, and is sure whom they speak to.

The servers are the module's own, with a certificate of their own; the strangers in between have
one of another authority, or one of the right authority for another host.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aio_pika
import httpx
import pytest
from playwright.async_api import Page
from redis.asyncio import Redis

from broker.errors import BrokerUnavailable
from broker.link import connected
from deploy.certificates import Certificates, certificates_in
from deploy.process import LOOPBACK
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack
from jobcast.client import Client
from jobcast.link import LinkLost, open_link
from jobcast.names import EVENTS
from jobcast.problems import Unavailable
from jobcast.reporter import Reporter
from notifier.connection import StoreUnavailable, connect, translated
from tests.integration.stomp import Stomp
from tests.logins import Logins
from tests.tls_servers import tls_servers

pytestmark = pytest.mark.timeout(120)

GREETINGS = {
    "HTTP": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority": b"GET /user HTTP/1.1\r\nHost: x\r\n\r\n",
    "management": b"GET /api/whoami HTTP/1.1\r\nHost: x\r\n\r\n",
    "AMQP": b"AMQP\x00\x00\x09\x01",
    "STOMP": b"CONNECT\naccept-version:1.2\n\n\0",
    "Redis": b"PING\r\n",
}


FIRST = """() => new Promise((told, failed) => {
    const source = new EventSource("/v1/events");
    source.addEventListener("stream", event => { source.close(); told(event.data) });
    source.onerror = failed;
})"""


class World(NamedTuple):
    certificates: Certificates
    rabbitmq: RabbitMQNode
    redis: RedisNode
    stack: Stack
    logins: Logins

    @property
    def ports(self) -> dict[str, int]:
        return {
            "HTTP": int(self.stack.urls[0].rpartition(":")[2]),
            "authority": self.stack.layout.authority_port or 0,
            "management": self.rabbitmq.management_port,
            "AMQP": self.rabbitmq.port,
            "STOMP": self.rabbitmq.stomp_port,
            "Redis": self.redis.port,
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tls")
    logins = Logins(folder / "users.toml")
    with tls_servers(folder, http_ports=(0, 0), management=True) as servers:
        yield World(*servers, logins)


@pytest.fixture
def trusting(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """As whoever has exported SSL_CERT_FILE."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(world.certificates.ca))
    return world


@pytest.mark.parametrize("door", GREETINGS)
async def test_a_door_says_nothing_in_the_clear_and_shows_its_certificate(
    world: World, door: str
) -> None:
    port = world.ports[door]
    assert await said_to(port, GREETINGS[door]) in {b"", None}
    tls = world.certificates.context()
    assert await said_to(port, GREETINGS[door], tls)
    with pytest.raises(ssl.SSLCertVerificationError):
        await said_to(port, GREETINGS[door], ssl.create_default_context(cadata=""))


async def said_to(port: int, greeting: bytes, tls: ssl.SSLContext | None = None) -> bytes | None:
    """What is answered in the plain sense of the word; a TLS alert is no answer."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port, ssl=tls)
    try:
        writer.write(greeting)
        async with asyncio.timeout(10):
            answer = await reader.read(4096)
    except ConnectionError:
        return None
    finally:
        writer.close()
    return b"" if answer.startswith((b"\x15\x03", b"HTTP/1.1 400", b"HTTP/1.0 400")) else answer


async def test_a_job_is_told_at_every_door(trusting: World) -> None:
    world = trusting
    alice, executor = world.logins.alice, world.logins.executor
    told: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
    stomp = await Stomp.connect(
        world.rabbitmq.stomp_port, alice.name, alice.token, world.certificates.context()
    )
    destination = f"/exchange/job.events/{alice.name}.*.succeeded.*"
    stomp.say("SUBSCRIBE", "id:1", f"destination:{destination}", "receipt:1")
    assert (await stomp.hear()).startswith("RECEIPT")
    async with (
        await aio_pika.connect(world.rabbitmq.url_of(*alice)) as connection,
        Client(world.stack.urls[1], alice.token) as client,
    ):
        channel = await connection.channel()
        queue = await channel.declare_queue(f"sub.{alice.name}.tls.test", exclusive=True)
        await queue.bind(EVENTS, f"{alice.name}.*.succeeded.*")
        await queue.consume(told.put, no_ack=True)
        async with (
            Reporter(world.rabbitmq.url_of(*executor), owner=alice.name) as reporter,
            reporter.job("over-tls", operation="backup") as job,
        ):
            job.succeed(result={"answer": 42})
        changes = [change.event async for change in client.watch("over-tls")]
        assert (await client.wait("over-tls", 10)).result
    assert changes == ["snapshot"]
    async with asyncio.timeout(10):
        assert (await told.get()).correlation_id == "over-tls"
    assert "over-tls" in await stomp.hear()
    await stomp.close()


async def test_the_cookie_is_secure_and_a_page_follows_a_stream(
    trusting: World, page: Page
) -> None:
    world = trusting
    async with httpx.AsyncClient(verify=world.certificates.context()) as client:
        answer = await client.post(
            f"{world.stack.urls[0]}/v1/session", headers=world.logins.alice.headers
        )
    assert "secure" in answer.headers["set-cookie"].lower()
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    cookie: Any = {"name": name, "value": value, "url": world.stack.urls[0], "secure": True}
    await page.context.add_cookies([cookie])
    await page.goto(f"{world.stack.urls[0]}/healthz")
    first = await page.evaluate(FIRST)
    assert json.loads(first) == {"resume": "fresh"}


Opening = Callable[[World, int], Awaitable[Any]]


async def by_the_store(_world: World, port: int) -> None:
    client = connect(f"rediss://{LOOPBACK}:{port}/0", name="test", connections_max=1)
    try:
        with translated():
            await client.ping()
    finally:
        await client.aclose()


async def by_the_service(world: World, port: int) -> None:
    async with connected(world.rabbitmq.url_at(port), "test"):
        pass


async def by_an_executor(world: World, port: int) -> None:
    async with open_link(world.rabbitmq.url_at(port, *world.logins.executor)):
        pass


async def by_a_client(world: World, port: int) -> None:
    async with Client(f"https://{LOOPBACK}:{port}", world.logins.alice.token) as client:
        await client.get("any")


@pytest.mark.parametrize("by", [by_the_store, by_the_service, by_an_executor, by_a_client])
@pytest.mark.parametrize("stranger", ["of another authority", "for another host"])
async def test_nobody_is_taken_in_by_a_stranger_and_tells_them_nothing(
    trusting: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: Opening,
    stranger: str,
) -> None:
    theirs = certificates_in(tmp_path, names=None if "authority" in stranger else ["elsewhere"])
    if "host" in stranger:
        monkeypatch.setenv("SSL_CERT_FILE", str(theirs.ca))
    heard: list[bytes] = []
    async with listening(theirs, heard) as port:
        with pytest.raises((StoreUnavailable, BrokerUnavailable, LinkLost, Unavailable)) as caught:
            await by(trusting, port)
    wanted = "self-signed|local issuer" if "authority" in stranger else "IP address mismatch"
    assert caught.match(f"(?i)certificate.*({wanted})")
    assert heard == []


@asynccontextmanager
async def listening(theirs: Certificates, heard: list[bytes]) -> AsyncIterator[int]:
    """A server that notes what it is told once TLS is up."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(theirs.cert, theirs.key)

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if said := await reader.read(4096):
            heard.append(said)
        writer.close()

    server = await asyncio.start_server(hear, LOOPBACK, 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_restart_of_the_servers_is_survived(trusting: World) -> None:
    world = trusting
    await asyncio.to_thread(world.rabbitmq.restart)
    await asyncio.to_thread(world.redis.restart)
    alice = world.logins.alice
    async with (
        Reporter(world.rabbitmq.url_of(*world.logins.executor), owner=alice.name) as reporter,
        reporter.job("after-restart"),
    ):
        pass
    async with Client(world.stack.urls[0], alice.token) as client:
        assert (await client.wait("after-restart", 30)).status == "succeeded"
    async with Redis.from_url(world.redis.url) as store:
        assert await store.ping()
