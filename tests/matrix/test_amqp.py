"""Every operation of AMQP: each cell of docs/policy.toml, asked of the running RabbitMQ."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import aiormq
import pytest
from aiormq.abc import AbstractConnection
from aiormq.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ProbableAuthenticationError,
)

from broker.notices import topic_part
from jobcast.names import encode_part
from tests.integration import operations
from tests.integration.operations import Doing
from tests.matrix.policy import KINDS, Amqp, Kind, each, mentions, read
from tests.matrix.scene import Scene, filled, pairs

OWN: Final = ("sub.", "cmd.", "stomp-subscription-")
LOGIN: Final = "log in"
ASK: Final = "ask"
ROWS: Final = [row for row in read().amqp if row.do not in (LOGIN, ASK)]


class Attempt(NamedTuple):
    """One operation of `me`. `queue` is made beforehand where it has to be there."""

    label: str
    me: str
    kind: Kind
    wanted: str
    what: dict[str, Any]
    queue: str | None


def attempts(row: Amqp, scene: Scene) -> Iterator[Attempt]:
    """All cells of the row, with everybody who stands for them."""
    kinds = KINDS if mentions(row, "{owner}") or mentions(row, "{topic}") else KINDS[:1]
    for who, kind in product(("subscriber", "executor", "admin"), kinds):
        wanted = row.answer(who, kind)
        for me, other in pairs(who, row) if wanted is not None else ():
            owner, job = scene.job(me, other, kind)
            for what in operations_of(row, owner, {"me": encode_part(me), "job": job}):
                told = " ".join(str(value) for value in what.values() if value)
                label = f"{who}, {me}, {kind} ({owner}): {told}"
                queue = what["queue"] if _exists(row, kind, what) else None
                yield Attempt(label, me, kind, wanted or "", what, queue)


def operations_of(row: Amqp, owner: str, fields: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each value of the row's fields that are lists, filled in."""
    values = (row.do, row.queue, row.exchange, row.source, row.key)
    names = ("do", "queue", "exchange", "source", "key")
    for *words, arguments in product(*map(each, values), each(row.arguments)):
        known = fields | {"owner": encode_part(owner), "n": uuid.uuid4().hex[:8]}
        known["topic"] = topic_part(owner)
        what: dict[str, Any] = {
            name: filled(word, **known) for name, word in zip(names, words, strict=True)
        }
        properties = {"user_id": row.user_id, "reply_to": each(row.reply_to)[0]}
        what["properties"] = {
            # `user_id` is a name, not a part of another.
            name: filled(value, **(known | ({"owner": owner} if name == "user_id" else {})))
            for name, value in properties.items()
            if value is not None
        }
        yield what | {"arguments": arguments}


def _exists(row: Amqp, kind: Kind, what: dict[str, Any]) -> bool:
    unknown = kind == "unknown" and "{owner}" in str(row.queue)
    return what["do"] != "declare" and what["queue"].startswith(OWN) and not unknown


def _raised(name: str, **arguments: Any) -> Doing:
    return operations.raised(name, "headers", **arguments)


DOING: Final[dict[str, Callable[[dict[str, Any]], Doing]]] = {
    "declare": lambda w: operations.declared(w["queue"], **w["arguments"]),
    "declare passively": lambda w: lambda channel: channel.queue_declare(w["queue"], passive=True),
    "consume": lambda w: operations.consumed(w["queue"]),
    "get": lambda w: operations.got(w["queue"]),
    "purge": lambda w: operations.purged(w["queue"]),
    "delete": lambda w: operations.deleted(w["queue"]),
    "bind": lambda w: operations.bound(w["queue"], w["exchange"], w["key"]),
    "unbind": lambda w: operations.unbound(w["queue"], w["exchange"], w["key"]),
    "publish": lambda w: operations.published(w["exchange"], w["key"], **w["properties"]),
    "declare exchange": lambda w: _raised(w["exchange"], **w["arguments"]),
    "delete exchange": lambda w: lambda channel: channel.exchange_delete(w["exchange"]),
    "bind exchange": lambda w: operations.joined(w["exchange"], w["source"], w["key"]),
}


def doing(what: dict[str, Any]) -> Doing:
    return DOING[what["do"]](what)


class Broker:
    """Connections of everybody, opened when first needed."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._open: dict[str, AbstractConnection] = {}

    async def close(self) -> None:
        for connection in self._open.values():
            await connection.close()

    async def connection(self, me: str) -> AbstractConnection:
        if me not in self._open:
            cast, node = self._scene.cast, self._scene.node
            url = node.url_of(me, cast.credentials[me]) if me in cast.credentials else node.url
            self._open[me] = await aiormq.connect(url)
        return self._open[me]

    async def tried(self, me: str, operation: Doing) -> tuple[str, str]:
        """What became of it, and what RabbitMQ said."""
        channel = await (await self.connection(me)).channel()
        try:
            await operation(channel)
        except ChannelAccessRefused as error:
            return "refused", str(error)
        except ChannelNotFoundEntity as error:
            return "not found", str(error)
        except ChannelLockedResource as error:
            return "locked", str(error)
        except ChannelPreconditionFailed as error:
            # So a `user_id` that is not the connection's is answered, and nothing else here.
            return ("refused" if "user_id" in str(error) else f"? {error}"), str(error)
        await channel.close()
        return "allowed", ""


SERVICE: Final = ""
"""Nobody's name: the service's own connection."""


@pytest.fixture
async def broker(scene: Scene) -> AsyncIterator[Broker]:
    broker = Broker(scene)
    yield broker
    await broker.close()


@asynccontextmanager
async def standing(broker: Broker, queue: str | None) -> AsyncIterator[None]:
    """The queue is there for the block."""
    if queue is not None:
        await broker.tried(SERVICE, operations.declared(queue))
    try:
        yield
    finally:
        if queue is not None:
            await broker.tried(SERVICE, operations.deleted(queue))


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
async def test_an_operation_is_answered_as_the_table_says(
    scene: Scene, broker: Broker, row: Amqp
) -> None:
    wrong: list[str] = []
    for one in attempts(row, scene):
        async with standing(broker, one.queue):
            said, why = await broker.tried(one.me, doing(one.what))
        if one.what["do"].startswith("delete") and said == "allowed":
            await scene.declare()
        if said != one.wanted:
            wrong.append(f"{one.label}: {said} ({why}), not {one.wanted}")
    assert not wrong, "\n".join(wrong)


async def test_nobody_logs_in(scene: Scene) -> None:
    (row,) = [row for row in read().amqp if row.do == LOGIN]
    for label, name, password in scene.cast.passwords():
        said = await login(scene, name, password)
        assert said == row.answer("nobody", "own"), label
    for who in ("subscriber", "executor", "admin"):
        for me, _ in pairs(who):
            said = await login(scene, me, scene.cast.credentials[me])
            assert said == row.answer(who, "own"), me


async def login(scene: Scene, name: str, password: str) -> str:
    try:
        connection = await aiormq.connect(scene.node.url_of(name, quote(password, safe="")))
    except (AuthenticationError, ProbableAuthenticationError):
        return "refused"
    except AMQPConnectionError as error:
        return f"? {error!r}"
    await connection.close()
    return "allowed"


FOREIGN: Final = [
    row for row in ROWS if "{owner}" in str(row.queue) and row.do not in {"declare passively"}
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in FOREIGN])
async def test_a_foreign_queue_and_an_unknown_one_are_refused_in_the_same_words(
    scene: Scene, broker: Broker, row: Amqp
) -> None:
    said: dict[Kind, set[str]] = {"foreign": set(), "unknown": set()}
    for one in attempts(row, scene):
        if one.me == "alice" and one.wanted == "refused" and one.kind != "own":
            async with standing(broker, one.queue):
                _, why = await broker.tried(one.me, doing(one.what))
            said[one.kind].add(why.replace(one.what["queue"], "…"))
    assert said["foreign"] == said["unknown"]
    assert said["foreign"] or row.answer("subscriber", "foreign") != "refused"
