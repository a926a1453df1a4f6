"""Exchanges, queues and bindings as data, and the one function that declares them.

Only the notifier declares; queues stand before anything is routed to them. Why each argument is as
it is: docs/adr/0002-topology.md.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

import aiormq
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionCommandInvalid,
    ConnectionNotAllowed,
)
from msgspec import Struct

from broker.errors import TopologyMismatch
from jobcast.names import COMMANDS, DEAD, EVENTS, LIFECYCLE, QUERY, QUERY_KEY

PARTITIONS: Final = "jobcast.partitions"
QUERIES: Final = "jobcast.query"
HASH_TYPE: Final = "x-consistent-hash"
HASH_WEIGHT: Final = "20"
"""Points of each queue on the hash ring: with few, the shares differ widely."""

RING_KEPT: Final = (4, 3)
"""From this version of RabbitMQ on the hash ring is on disk. Before, it may be made of the bindings
after a start, in the order in which they are recovered: certain with one worker for it only."""

DECLARE_TIMEOUT_S: Final = 30.0

# Whatever else goes wrong (the broker is just going down, say) passes.
FOR_GOOD: Final = (
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionCommandInvalid,
    ConnectionNotAllowed,
)

# Never unset (20 on current brokers, and every crash counts), never -1 (3.10 takes it for 0).
DELIVERY_LIMIT: Final = 1_000
# A dead letter has nowhere to go from its queue: looking at it must not use it up.
DEAD_DELIVERY_LIMIT: Final = 1_000_000_000


class Exchange(Struct, frozen=True):
    name: str
    kind: str
    arguments: dict[str, Any] = {}


class Queue(Struct, frozen=True):
    name: str
    arguments: dict[str, Any]


class Binding(Struct, frozen=True):
    source: str
    destination: str
    key: str = ""
    to_exchange: bool = False


class Topology(Struct, frozen=True):
    """All of it, durable. `stale` bindings belong to another number of partitions."""

    queues: tuple[Queue, ...]
    exchanges: tuple[Exchange, ...]
    bindings: tuple[Binding, ...]
    stale: tuple[Binding, ...]


STATE_ARGUMENTS: Final[Mapping[str, Any]] = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
DEAD_ARGUMENTS: Final[Mapping[str, Any]] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DEAD_DELIVERY_LIMIT,
}


# An answer for which nobody waits any more is worth nothing: the oldest questions go first.
QUERY_ARGUMENTS: Final[Mapping[str, Any]] = {
    "x-queue-type": "classic",
    "x-message-ttl": 60_000,
    "x-max-length": 1_000,
    "x-max-length-bytes": 4_194_304,
    "x-overflow": "drop-head",
}


def state_queues(partitions: int) -> tuple[str, ...]:
    return tuple(f"jobcast.state.{number}" for number in range(partitions))


def topology(partitions: int, *more: Exchange) -> Topology:
    """Everything that must exist for this number of partitions, and `more`."""
    states = state_queues(partitions)
    direct = Binding(LIFECYCLE, states[0])
    spread = Binding(LIFECYCLE, PARTITIONS, to_exchange=True)
    hashed = tuple(Binding(PARTITIONS, queue, HASH_WEIGHT) for queue in sorted(states))
    exchanges = (
        Exchange(LIFECYCLE, "fanout"),
        Exchange(EVENTS, "topic"),
        Exchange(COMMANDS, "topic"),
        Exchange(QUERY, "direct"),
    )
    ring = Exchange(PARTITIONS, HASH_TYPE, {"hash-property": "correlation_id"})
    return Topology(
        queues=(
            Queue(DEAD, dict(DEAD_ARGUMENTS)),
            *(Queue(name, dict(STATE_ARGUMENTS)) for name in states),
        ),
        exchanges=(*exchanges, *(() if partitions == 1 else (ring,)), *more),
        bindings=(direct,) if partitions == 1 else (*hashed, spread),
        stale=() if partitions == 1 else (direct,),
    )


def keeps_ring(version: str) -> bool:
    """Whether a RabbitMQ of this version certainly gives a job to the same partition after a
    restart as before."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2]) >= RING_KEPT


def query_topology() -> Topology:
    """What must exist for questions. Apart from the rest: a classic queue goes away with its node,
    and the state service goes on without it."""
    return Topology(
        queues=(Queue(QUERIES, dict(QUERY_ARGUMENTS)),),
        exchanges=(Exchange(QUERY, "direct"),),
        bindings=(Binding(QUERY, QUERIES, QUERY_KEY),),
        stale=(),
    )


async def declare(channel: aiormq.abc.AbstractChannel, wanted: Topology) -> None:
    """Declare it all; `TopologyMismatch` says in one line what stands in the way."""
    doing: list[str] = []
    try:
        async with asyncio.timeout(DECLARE_TIMEOUT_S):
            await _declare(channel, wanted, doing)
    except FOR_GOOD as error:
        hint = (
            " (is the plugin rabbitmq_consistent_hash_exchange enabled?)"
            if HASH_TYPE in doing[-1]
            else ""
        )
        raise TopologyMismatch(f"RabbitMQ refuses {doing[-1]}{hint}: {error}") from error


async def _declare(channel: aiormq.abc.AbstractChannel, wanted: Topology, doing: list[str]) -> None:
    for queue in wanted.queues:
        doing.append(f"queue {queue.name}")
        await channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
    for exchange in wanted.exchanges:
        doing.append(f"exchange {exchange.name} of type {exchange.kind}")
        await channel.exchange_declare(
            exchange.name, exchange_type=exchange.kind, durable=True, arguments=exchange.arguments
        )
    for binding in wanted.bindings:
        doing.append(f"binding {binding.source} to {binding.destination}")
        await _bind(channel, binding)
    for binding in wanted.stale:
        doing.append(f"unbinding {binding.source} from {binding.destination}")
        await channel.queue_unbind(binding.destination, binding.source, binding.key)


async def _bind(channel: aiormq.abc.AbstractChannel, binding: Binding) -> None:
    if binding.to_exchange:
        await channel.exchange_bind(binding.destination, binding.source, binding.key)
    else:
        await channel.queue_bind(binding.destination, binding.source, binding.key)
