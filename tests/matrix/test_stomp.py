"""What is asked over STOMP: each cell of docs/policy.toml, asked of the running RabbitMQ."""

import asyncio
import uuid
from collections.abc import Iterator
from itertools import product
from typing import Final, NamedTuple

import aiormq
import pytest

from broker.notices import topic_part
from deploy.process import LOOPBACK
from jobcast.names import encode_part
from tests.integration.stomp import Stomp as Client
from tests.matrix.policy import KINDS, Kind, Stomp, each, mentions, read
from tests.matrix.scene import Scene, filled, pairs

AT_ONCE: Final = 8
SAID: Final = {"access_refused": "refused", "not_found": "not found"}
EXISTING: Final = "/amq/queue/"
ROWS: Final = [row for row in read().stomp if row.do != "CONNECT"]


class Attempt(NamedTuple):
    """One frame that `me` sends on a connection of its own."""

    label: str
    me: str
    wanted: str
    destination: str
    queue: str | None  # to be there beforehand


def attempts(row: Stomp, scene: Scene) -> Iterator[Attempt]:
    kinds = KINDS if mentions(row, "{owner}") or mentions(row, "{topic}") else KINDS[:1]
    for who, kind, template in product(
        ("subscriber", "executor", "admin"), kinds, each(row.destination)
    ):
        wanted = row.answer(who, kind)
        for me, other in pairs(who, row) if wanted is not None else ():
            owner, job = scene.job(me, other, kind)
            fields = {"job": job, "n": uuid.uuid4().hex[:8]}
            names = {"owner": encode_part(owner), "me": encode_part(me)}
            names["topic"] = topic_part(owner)
            destination = filled(template, **fields, **names)
            label = f"{who}, {me}, {kind}: {destination}"
            queue = _queue(destination) if kind != "unknown" else None
            yield Attempt(label, me, wanted or "", destination, queue)


def _queue(destination: str) -> str | None:
    name = destination.removeprefix(EXISTING)
    return name if name != destination and name.startswith(("sub.", "cmd.")) else None


async def tried(scene: Scene, row: Stomp, one: Attempt) -> str:
    client = await Client.connect(scene.node.stomp_port, one.me, scene.cast.credentials[one.me])
    try:
        client.say(row.do, "receipt:r", "id:1", f"destination:{one.destination}", body="{}")
        return told(await client.hear(10))
    finally:
        await client.close()


def told(frame: str) -> str:
    if frame.startswith("RECEIPT"):
        return "allowed"
    said = [word for word in SAID if word in frame]
    return SAID[said[0]] if said else f"? {frame!r}"


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
async def test_a_frame_is_answered_as_the_table_says(scene: Scene, row: Stomp) -> None:
    tries, wrong = list(attempts(row, scene)), list[str]()
    connection = await aiormq.connect(scene.node.url)
    channel = await connection.channel()
    for one in tries:
        if one.queue is not None:
            await channel.queue_declare(one.queue, durable=True)
    limit = asyncio.Semaphore(AT_ONCE)

    async def check(one: Attempt) -> None:
        async with limit:
            said = await tried(scene, row, one)
        if said != one.wanted:
            wrong.append(f"{one.label}: {said}, not {one.wanted}")

    await asyncio.gather(*map(check, tries))
    for one in tries:
        if one.queue is not None:
            await channel.queue_delete(one.queue)
    await connection.close()
    assert not wrong, "\n".join(wrong)


async def test_nobody_connects(scene: Scene) -> None:
    (row,) = [row for row in read().stomp if row.do == "CONNECT"]
    for label, name, password in scene.cast.passwords():
        assert await connected(scene, name, password) == row.answer("nobody", "own"), label
    kind: Kind = "own"
    for who in ("subscriber", "executor", "admin"):
        for me, _ in pairs(who):
            said = await connected(scene, me, scene.cast.credentials[me])
            assert said == row.answer(who, kind), me


async def connected(scene: Scene, name: str, password: str) -> str:
    client = Client(*await asyncio.open_connection(LOOPBACK, scene.node.stomp_port))
    try:
        client.say(
            "CONNECT", "accept-version:1.2", "host:/", f"login:{name}", f"passcode:{password}"
        )
        return "allowed" if (await client.hear()).startswith("CONNECTED") else "refused"
    finally:
        await client.close()
