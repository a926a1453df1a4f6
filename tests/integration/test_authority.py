"""RabbitMQ with the authority behind it: who may log in, and who may do what, over AMQP and STOMP.

The matrix of every user, door and job is generated elsewhere; here is every operation of AMQP.
"""

import asyncio
import json
from collections.abc import Iterator

import aiormq
import httpx
import pytest
from aiormq.exceptions import (
    ChannelLockedResource,
    ChannelPreconditionFailed,
    InvalidFrameError,
)

from api.users import add_user
from deploy.guard import SERVICE
from jobcast.names import DEAD, EVENTS, LIFECYCLE
from jobcast.reporter import Reporter
from tests.eventually import eventually
from tests.integration.authority import (
    any_queue_name,
    guarded_node,
)
from tests.integration.broker import REFUSED, Broker
from tests.integration.operations import (
    ALLOWED,
    REFUSALS,
    Doing,
    bound,
    consumed,
    declared,
    deleted,
    got,
    ignored,
    published,
)
from tests.integration.stomp import Stomp
from tests.servers import need_rabbitmq

OWN = "destination:/exchange/job.events/alice.#"
USERS = {
    "alice": ["subscriber"],
    "alice.x": ["subscriber"],
    "bob": ["subscriber"],
    "executor": ["executor"],
    "both": ["subscriber", "executor"],
    "root": ["admin"],
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    need_rabbitmq()
    users_file = tmp_path_factory.mktemp("users") / "users.toml"
    tokens = {name: add_user(users_file, name, roles) for name, roles in USERS.items()}
    with (
        any_queue_name(),
        guarded_node(tmp_path_factory.mktemp("guarded"), users_file) as (node, guard),
    ):
        broker = Broker(node, guard, tokens)
        asyncio.run(prepare(broker))
        yield broker


async def prepare(broker: Broker) -> None:
    """Queues of everybody, as they would stand there."""
    async with broker.channel(SERVICE) as channel:
        names = (DEAD, "jobcast.state.0", "sub.bob.c.n", "sub.alice%2Ex.c.n", "sub.alice.c.n")
        for name in (*names, "cmd.executor.n", "cmd.other.n", "sub.both.c.n"):
            await channel.queue_declare(name, durable=True)


@pytest.mark.parametrize(
    ("user", "doing"),
    [pytest.param(user, doing, id=f"{user} {what}") for user, what, doing in ALLOWED],
)
async def test_what_each_role_is_for_works(broker: Broker, user: str, doing: Doing) -> None:
    assert await broker.may(user, doing)


@pytest.mark.parametrize(
    ("user", "doing"),
    [pytest.param(user, doing, id=f"{user} {what}") for user, what, doing in REFUSALS],
)
async def test_all_else_is_refused(broker: Broker, user: str, doing: Doing) -> None:
    assert not await broker.may(user, doing)


# aiormq leaves the transport of a login that fails to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("bob", "alice's"),
        ("Alice", "alice's"),
        ("guest", "guest"),
        (SERVICE, "wrong"),
        (SERVICE, "alice's"),
        ("nobody", "alice's"),
    ],
)
async def test_a_wrong_login_is_refused_over_amqp_and_stomp(
    broker: Broker, user: str, password: str
) -> None:
    password = broker.tokens["alice"] if password == "alice's" else password
    with pytest.raises(REFUSED):
        await aiormq.connect(broker.node.url_of(user, password))
    with pytest.raises(PermissionError):
        await Stomp.connect(broker.node.stomp_port, user, password)


async def test_the_user_id_of_another_is_refused_by_the_broker(broker: Broker) -> None:
    for claimed in (SERVICE, "alice"):
        with pytest.raises(ChannelPreconditionFailed):
            await broker.may("executor", published(LIFECYCLE, "k", user_id=claimed))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_another_vhost_is_refused(broker: Broker) -> None:
    with pytest.raises(InvalidFrameError, match=r"Connection\.Close"):
        await aiormq.connect(broker.node.url_of("root", broker.tokens["root"]) + "other")


async def test_nobody_but_the_service_enters_the_management_interface(broker: Broker) -> None:
    async with httpx.AsyncClient(base_url=broker.node.management_url) as http:
        for user in ("alice", "root"):
            answer = await http.get("/api/whoami", auth=(user, broker.tokens[user]))
            assert answer.status_code == 401


async def _heard(broker: Broker, subscriber: Stomp, key: str) -> str:
    """Publishes until the subscriber has a message, and answers with its destination."""

    async def told() -> str:
        async with broker.channel(SERVICE) as channel:
            await channel.basic_publish(b"{}", exchange=EVENTS, routing_key=key)
        return await subscriber.hear(0.5)

    frame = await eventually(told, every_s=0)
    return next(line for line in frame.split("\n") if line.startswith("destination:"))


@pytest.mark.parametrize(
    "headers",
    [
        (OWN,),
        (OWN, "durable:true", "x-queue-name:sub.alice.stomp.n"),
        (OWN, "exclusive:true"),
    ],
)
async def test_a_subscriber_follows_over_stomp(broker: Broker, headers: tuple[str, ...]) -> None:
    client = await broker.stomp("alice")
    assert await client.ask("SUBSCRIBE", "id:1", *headers) == "RECEIPT"
    assert "alice.job.started.j" in await _heard(broker, client, "alice.job.started.j")
    await client.close()


@pytest.mark.parametrize(
    "destination",
    [
        "/exchange/job.events/bob.#",
        "/exchange/job.events/#",
        "/exchange/job.events",
        "/exchange/job.lifecycle/alice.#",
        "/exchange/amq.headers/alice",
        "/exchange/amq.topic/bob.1job",
        "/topic/bob.1job",
        "/topic/bob.#",
        "/topic/#",
        "/topic/*.1job",
        "/queue/x",
        "/queue/sub.bob.c.n",
        "/amq/queue/sub.bob.c.n",
        "/amq/queue/jobcast.dead",
        "/reply-queue/sub.bob.c.n",
        "/temp-queue/x",
    ],
)
async def test_no_more_than_that_is_followed_over_stomp(broker: Broker, destination: str) -> None:
    client = await broker.stomp("alice")
    assert await client.ask("SUBSCRIBE", "id:1", f"destination:{destination}") == "ERROR"
    await client.close()


@pytest.mark.parametrize(
    "headers",
    [
        ("destination:/queue/sub.bob.c.n",),
        ("destination:/exchange/job.lifecycle/k",),
        ("destination:/exchange/job.events/alice.x",),
        ("destination:/topic/alice.1job",),
        ("destination:/exchange/job.query/status", "reply-to:/temp-queue/x"),
    ],
)
async def test_nothing_is_sent_over_stomp_but_queries(
    broker: Broker, headers: tuple[str, ...]
) -> None:
    client = await broker.stomp("alice")
    assert await client.ask("SEND", *headers) == "ERROR"
    await client.close()
    client = await broker.stomp("alice")
    good = ("destination:/exchange/job.query/status", "reply-to:/queue/sub.alice.c.n")
    assert await client.ask("SEND", *good) == "RECEIPT"
    await client.close()


async def test_the_guessable_queue_of_a_durable_stomp_subscription_is_of_use_to_nobody(
    broker: Broker,
) -> None:
    client = await broker.stomp("alice")
    durable = ("destination:/topic/alice.1job", "id:1", "durable:true", "auto-delete:false")
    assert await client.ask("SUBSCRIBE", *durable) == "ERROR"
    await client.close()
    name = "stomp-subscription-" + "g" * 22  # bob works it out, and is there before alice
    assert await broker.may("bob", declared(name))
    assert not await broker.may("bob", consumed(name))
    assert not await broker.may("bob", got(name))
    assert not await broker.may("alice", bound(name, EVENTS, "alice.#"))
    assert await broker.may("bob", deleted(name))


async def test_an_exclusive_queue_is_locked_for_all_others(broker: Broker) -> None:
    async with broker.channel("alice") as channel:
        await channel.queue_declare("sub.alice.c.mine", exclusive=True)
        with pytest.raises(ChannelLockedResource):
            await broker.may("alice", got("sub.alice.c.mine"))


async def test_what_a_subscription_costs_in_questions(broker: Broker) -> None:
    token = add_user(broker.guard.users_file, "fresh", ["subscriber"])
    broker.tokens["fresh"] = token
    broker.guard.questions.clear()
    async with broker.channel("fresh") as channel:
        await channel.queue_declare("sub.fresh.c.n", durable=True)
        await channel.queue_bind("sub.fresh.c.n", EVENTS, "fresh.#")
        await channel.basic_consume("sub.fresh.c.n", ignored)
    assert broker.guard.questions == {"user": 2, "vhost": 1, "resource": 4, "topic": 1}
    async with broker.channel("fresh") as channel:
        await channel.basic_consume("sub.fresh.c.n", ignored)
    assert broker.guard.questions.total() == 8  # the cache


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_reporter_loses_nothing_while_the_authority_is_away(broker: Broker) -> None:
    async with broker.channel(SERVICE) as channel:
        await channel.queue_declare("ledger", durable=True)
        await channel.queue_bind("ledger", LIFECYCLE)
    url = broker.node.url_of("executor", broker.tokens["executor"])
    async with Reporter(url, owner="alice") as reporter:
        await reporter.queued("before")
        await eventually(lambda: not reporter.undelivered)
        broker.guard.stop()
        try:
            await eventually(lambda: broker.refuses("executor"))  # RabbitMQ's cache has forgotten
            await _cut(broker, "executor")
            await reporter.queued("during")
            before = broker.refusals()
            await eventually(lambda: broker.refusals() > before)
            assert len(reporter.undelivered) == 1
        finally:
            broker.guard.start()
        await eventually(lambda: not reporter.undelivered, 20)
    async with broker.channel(SERVICE) as channel:
        bodies = [(await channel.basic_get("ledger", no_ack=True)).body for _ in range(2)]
        await channel.queue_delete("ledger")
    assert [json.loads(body)["subject"] for body in bodies] == ["before", "during"]


async def _cut(broker: Broker, user: str) -> None:
    async with httpx.AsyncClient(
        base_url=broker.node.management_url, auth=broker.node.login
    ) as http:
        path = f"/api/connections/username/{user}"

        async def gone() -> bool:
            (await http.delete(path)).raise_for_status()
            return not (await http.get(path)).json()

        await eventually(gone, every_s=0.1)
