"""Questions over AMQP: each cell of docs/policy.toml, asked of the running RabbitMQ and answered by
the notifier's own door, on the matrix's Redis."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Any, Final, NamedTuple

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from broker.questions import Questions
from broker.topology import QUERIES
from deploy.guard import SERVICE
from jobcast.names import encode_part
from notifier.connection import connect
from notifier.figures import Figures
from notifier.query import Answerer
from notifier.store import Store
from notifier.users import Admins
from tests.eventually import eventually
from tests.integration import operations
from tests.integration.asker import Asker
from tests.matrix.cast import ISSUED, STRANGER
from tests.matrix.policy import KINDS, Amqp, Kind, each, mentions, read
from tests.matrix.scene import Scene, filled, pairs
from tests.matrix.test_amqp import ASK, Broker
from tests.matrix.test_amqp import SERVICE as ITSELF

ROWS: Final = [row for row in read().amqp if row.do == ASK]


class Cell(NamedTuple):
    """One question of `me`, and what the table says of it."""

    label: str
    me: str
    kind: Kind
    wanted: str
    body: dict[str, str]
    properties: Mapping[str, Any]


def cells(row: Amqp, scene: Scene) -> Iterator[Cell]:
    kinds = KINDS if mentions(row, "{owner}") or mentions(row, "{job}") else KINDS[:1]
    for who, kind, reply_to in product(
        ("subscriber", "executor", "admin"), kinds, each(row.reply_to)
    ):
        for me, other in pairs(who, row):
            if row.users != "all" and (me in ISSUED) != (row.users == "issuer"):
                continue
            owner, job = scene.job(me, other, kind)
            body = {name: filled(text, job=job, owner=owner) for name, text in row.ask.items()}
            to = filled(reply_to, me=encode_part(me), owner=encode_part(owner), n="matrix")
            user = None if row.user_id is None else filled(row.user_id, me=me, owner=owner)
            properties = {"user_id": user, "reply_to": to, "headers": dict(row.headers)}
            label = f"{who}, {me}, {kind} ({owner}), {to}"
            yield Cell(label, me, kind, row.answer(who, kind) or "", body, properties)


@pytest.fixture
async def door(scene: Scene) -> AsyncIterator[None]:
    """The notifier's, without the notifier."""
    redis = connect(scene.redis.url, name="matrix")
    admins = Admins(scene.cast.users_file, {SERVICE})
    answerer = Answerer(Store(redis), admins, SERVICE, Figures())
    task = asyncio.create_task(Questions(scene.node.url, answerer.answer).run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await redis.aclose()


@pytest.fixture
async def broker(scene: Scene, door: None) -> AsyncIterator[Broker]:
    broker = Broker(scene)

    async def open_() -> bool:
        channel = await (await broker.connection(ITSELF)).channel()
        found = await channel.queue_declare(QUERIES, passive=True)
        await channel.close()
        return bool(found.consumer_count)

    await eventually(open_)
    yield broker
    await broker.close()


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
async def test_a_question_is_answered_as_the_table_says(
    scene: Scene, broker: Broker, row: Amqp
) -> None:
    wrong: list[str] = []
    bodies: dict[tuple[str, Kind], set[bytes]] = {}
    for cell in cells(row, scene):
        said, body = await asked(scene, broker, cell)
        bodies.setdefault((cell.me, cell.kind), set()).add(body)
        if said != cell.wanted:
            wrong.append(f"{cell.label}: {said}, not {cell.wanted}")
    assert not wrong, "\n".join(wrong)
    for (me, kind), told in bodies.items():
        if kind == "foreign" and me not in {"admin", "chief"}:
            assert told == bodies[me, "unknown"], "they are told apart"


async def asked(scene: Scene, broker: Broker, cell: Cell) -> tuple[str, bytes]:
    """What was answered, by a good question after it: RabbitMQ and the door keep their order."""
    queue = str(cell.properties["reply_to"])
    made = queue if queue.startswith(("sub.", "cmd.")) and STRANGER not in queue else ""
    if made:
        await broker.tried(ITSELF, operations.declared(made))
    channel = await (await broker.connection(cell.me)).channel()
    try:
        asker = Asker(channel, cell.me)
        await asker.listen()
        name = await asker.send(cell.body, **cell.properties)
        await asker.ask({"job": scene.jobs[cell.me]})
        direct = asker.heard.get(name)
        found = direct or (await left_in(broker, made) if made else None)
    except ChannelAccessRefused:
        return "refused", b""
    except ChannelPreconditionFailed as why:
        # So a `user_id` that is not the connection's is answered, and nothing else here.
        return ("refused" if "user_id" in str(why) else f"? {why}"), b""
    finally:
        if made:
            await broker.tried(ITSELF, operations.deleted(made))
    await channel.close()
    if found is None:
        return "silent", b""
    kind, body = found.header.properties.message_type, found.body
    if kind == "job.status":
        assert json.loads(body)["id"] == cell.body["job"]
        return kind, body
    error = json.loads(body)["error"]
    return f"{error['status']} {error['type']}", body


async def left_in(broker: Broker, queue: str) -> DeliveredMessage | None:
    """What the service finds in it."""
    channel = await (await broker.connection(ITSELF)).channel()
    found = await channel.basic_get(queue, no_ack=True)
    await channel.close()
    return found if found.header.properties.message_type else None
