"""What is taken away from those who are connected, on a RabbitMQ that asks the authority."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiormq
import msgspec
import pytest
from aiormq.abc import AbstractConnection

from api.deadlines import Deadlines
from api.management import opened_management
from api.revocation import AGAIN_S, CACHE_S, REVOCATION_S, revoking
from api.users import add_user, remove_user, rotate_token
from deploy.process import LOOPBACK, free_port
from jobcast.names import COMMANDS, EVENTS, LIFECYCLE
from tests.eventually import eventually
from tests.integration.authority import Guard, GuardedNode, guarded_node, logons_of
from tests.integration.proxy import Proxy
from tests.integration.stomp import Stomp
from tests.servers import need_rabbitmq

# aiormq leaves tasks of its own behind when a connection is closed by the other side.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Broker(NamedTuple):
    node: GuardedNode
    guard: Guard

    def fresh(self, name: str, *roles: str) -> str:
        """Adds a user, and answers with the token."""
        return add_user(self.guard.users_file, name, roles)

    async def connect(self, user: str, token: str) -> AbstractConnection:
        return await aiormq.connect(self.node.url_of(user, token))

    async def subscribe(self, user: str, token: str, key: str | None = None) -> AbstractConnection:
        """A durable subscription, and the connection that has made it."""
        connection = await self.connect(user, token)
        channel = await connection.channel()
        await channel.queue_declare(f"sub.{user}.c.n", durable=True)
        await channel.queue_bind(f"sub.{user}.c.n", EVENTS, key or f"{user}.#")
        return connection

    async def waiting(self, queue: str, *keys: str) -> int:
        """How many messages there are once one has been published on each key."""
        connection = await aiormq.connect(self.node.url)
        channel = await connection.channel()
        for key in keys:
            await channel.basic_publish(b"{}", exchange=EVENTS, routing_key=key)
        found = await channel.queue_declare(queue, passive=True)
        await connection.close()
        return found.message_count or 0

    async def bound(self) -> set[tuple[str, str]]:
        """Source and destination of every binding to the two exchanges."""
        settings = self.guard.settings()
        async with opened_management(settings, "/") as management:
            assert management is not None
            found = [*await management.bindings(EVENTS), *await management.bindings(COMMANDS)]
        return {(one.source, one.destination) for one in found}

    @asynccontextmanager
    async def revoking(self, deadlines: Deadlines | None = None) -> AsyncIterator[None]:
        """What every API replica does beside its other work."""
        settings = self.guard.settings()
        logons = logons_of(settings.users_file)
        async with (
            opened_management(settings, "/") as management,
            revoking(settings, logons, deadlines or Deadlines(), management),
        ):
            yield


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    need_rabbitmq()
    users_file = tmp_path_factory.mktemp("users") / "users.toml"
    add_user(users_file, "first", ["admin"])
    folder = tmp_path_factory.mktemp("guarded")
    with guarded_node(folder, users_file, cache_ms=int(CACHE_S * 1_000)) as (node, guard):
        yield Broker(node, guard)


async def test_a_removed_user_is_disconnected_everywhere_and_their_durable_queue_stays_empty(
    broker: Broker,
) -> None:
    token, other = broker.fresh("gone", "subscriber"), broker.fresh("stays", "subscriber")
    async with broker.revoking(), broker.revoking():  # two replicas
        amqp = await broker.subscribe("gone", token)
        stomp = await Stomp.connect(broker.node.stomp_port, "gone", token)
        beside = await broker.subscribe("stays", other)
        assert await broker.waiting("sub.gone.c.n", "gone.job.started.j") == 1
        began = time.monotonic()
        remove_user(broker.guard.users_file, "gone")
        await eventually(lambda: amqp.is_closed, REVOCATION_S)
        assert not (await stomp.hear(REVOCATION_S)).startswith("MESSAGE")
        assert await stomp.hear(REVOCATION_S) == ""
        await eventually(lambda: _unbound(broker, "sub.gone.c.n"), REVOCATION_S)
        assert time.monotonic() - began < REVOCATION_S
        assert await broker.waiting("sub.gone.c.n", "gone.job.started.j") == 1
        assert not beside.is_closed
        assert await broker.waiting("sub.stays.c.n", "stays.job.started.j") == 1
        await beside.close()


async def _unbound(broker: Broker, queue: str) -> bool:
    return all(destination != queue for _, destination in await broker.bound())


async def test_a_rotated_token_ends_what_it_has_opened_also_a_login_out_of_rabbitmqs_cache(
    broker: Broker,
) -> None:
    old = broker.fresh("rotated", "subscriber")
    async with broker.revoking():
        first = await broker.subscribe("rotated", old)
        await eventually(lambda: _remembered(broker, "rotated"), REVOCATION_S)
        new = rotate_token(broker.guard.users_file, "rotated")
        await eventually(lambda: first.is_closed, REVOCATION_S)
        cached = await broker.connect("rotated", old)  # RabbitMQ does not ask again so soon
        await eventually(lambda: cached.is_closed, AGAIN_S + REVOCATION_S)
        with pytest.raises(aiormq.exceptions.AMQPError):
            await broker.connect("rotated", old)
        again = await broker.connect("rotated", new)
        assert await broker.waiting("sub.rotated.c.n", "rotated.job.started.j") == 1
        await again.close()


async def test_an_added_token_and_a_role_more_disturb_nobody(broker: Broker) -> None:
    token = broker.fresh("more", "subscriber")
    path = broker.guard.users_file
    async with broker.revoking():
        connection = await broker.subscribe("more", token)
        text = path.read_text().replace(
            'name = "more"\nroles = ["subscriber"]',
            'name = "more"\nroles = ["subscriber", "admin"]',
        )
        path.write_text(text)
        marker = broker.fresh("marker", "subscriber")
        marked = await broker.connect("marker", marker)
        await eventually(lambda: _remembered(broker, "marker"), REVOCATION_S)
        remove_user(path, "marker")  # when this has been done, the other was seen as well
        await eventually(lambda: marked.is_closed, REVOCATION_S)
        assert not connection.is_closed
        await connection.close()


async def test_who_is_no_admin_any_more_hears_nothing_of_others(broker: Broker) -> None:
    token = broker.fresh("chief", "subscriber", "admin")
    path = broker.guard.users_file
    async with broker.revoking():
        connection = await broker.subscribe("chief", token, "#")
        path.write_text(path.read_text().replace('["subscriber", "admin"]', '["subscriber"]'))
        await eventually(lambda: connection.is_closed, REVOCATION_S)
        await eventually(lambda: _unbound(broker, "sub.chief.c.n"), REVOCATION_S)
        assert await broker.waiting("sub.chief.c.n", "other.job.started.j") == 0


async def test_what_happened_while_no_replica_ran_is_made_good_at_the_start(
    broker: Broker,
) -> None:
    tokens = {name: broker.fresh(name, "subscriber") for name in ("left", "turned", "same")}
    path = broker.guard.users_file
    async with broker.revoking():
        await eventually(lambda: _remembered(broker, "same"), REVOCATION_S)
    left, turned, same = [
        await broker.subscribe(name, tokens[name]) for name in ("left", "turned", "same")
    ]
    remove_user(path, "left")
    rotate_token(path, "turned")
    async with broker.revoking():
        await eventually(lambda: left.is_closed and turned.is_closed, REVOCATION_S)
        await eventually(lambda: _unbound(broker, "sub.left.c.n"), REVOCATION_S)
        assert not same.is_closed
        await same.close()


async def _remembered(broker: Broker, user: str) -> bool:
    async with opened_management(broker.guard.settings(), "/") as management:
        assert management is not None
        return user in await management.recall()


async def test_an_expired_jwt_ends_its_connections(broker: Broker) -> None:
    # What the authority notes at the login; for RabbitMQ this one is a user of the file.
    token, deadlines = broker.fresh("expires", "subscriber"), Deadlines()
    async with broker.revoking(deadlines):
        connection = await broker.connect("expires", token)
        deadlines.note("expires", time.time() + 0.5)
        began = time.monotonic()
        await eventually(lambda: connection.is_closed, REVOCATION_S)
        assert time.monotonic() - began > 0.4


async def test_the_service_and_other_accounts_of_rabbitmq_are_left_alone(broker: Broker) -> None:
    service = await aiormq.connect(broker.node.url)
    async with broker.revoking():
        token = broker.fresh("passing", "subscriber")
        passing = await broker.connect("passing", token)
        await eventually(lambda: _remembered(broker, "passing"), REVOCATION_S)
        remove_user(broker.guard.users_file, "passing")
        await eventually(lambda: passing.is_closed, REVOCATION_S)
    assert not service.is_closed
    await service.close()


async def test_an_exchange_that_was_made_to_feed_another_feeds_it_no_more(broker: Broker) -> None:
    token = broker.fresh("pourer", "subscriber", "executor")
    connection = await broker.connect("pourer", token)
    channel = await connection.channel()
    await channel.exchange_bind(LIFECYCLE, COMMANDS, "#")  # RabbitMQ's questions cannot tell
    assert (COMMANDS, LIFECYCLE) in await broker.bound()
    async with broker.revoking():
        await eventually(lambda: _unbound(broker, LIFECYCLE), REVOCATION_S)
    await connection.close()


async def test_what_cannot_be_done_yet_is_done_when_rabbitmqs_management_answers(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    token = broker.fresh("patient", "subscriber")
    connection = await broker.connect("patient", token)
    settings = broker.guard.settings()
    logons = logons_of(settings.users_file)
    port = free_port()  # nobody answers there yet
    away = msgspec.structs.replace(settings, management_url=f"http://{LOOPBACK}:{port}")
    async with (
        opened_management(away, "/") as management,
        revoking(away, logons, Deadlines(), management),
    ):
        remove_user(settings.users_file, "patient")
        await eventually(lambda: "what is to be revoked waits" in caplog.text)
        assert not connection.is_closed
        link = Proxy(broker.node.management_port)
        server = await asyncio.start_server(link.serve, LOOPBACK, port)
        await eventually(lambda: connection.is_closed)
    link.cut()
    server.close()
