"""What users do over AMQP, one operation each, and whose role it is to do it."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from broker.notices import TOPICS
from jobcast.names import COMMANDS, DEAD, EVENTS, LIFECYCLE, QUERY

Doing = Callable[[AbstractChannel], Awaitable[object]]


def declared(name: str, **arguments: Any) -> Doing:
    return lambda channel: channel.queue_declare(name, durable=True, arguments=arguments)


def bound(queue: str, exchange: str, key: str) -> Doing:
    return lambda channel: channel.queue_bind(queue, exchange, key)


def unbound(queue: str, exchange: str, key: str) -> Doing:
    return lambda channel: channel.queue_unbind(queue, exchange, key)


def joined(destination: str, source: str, key: str) -> Doing:
    return lambda channel: channel.exchange_bind(destination, source, key)


def got(queue: str) -> Doing:
    return lambda channel: channel.basic_get(queue, no_ack=True)


def consumed(queue: str) -> Doing:
    return lambda channel: channel.basic_consume(queue, ignored, no_ack=True)


def purged(queue: str) -> Doing:
    return lambda channel: channel.queue_purge(queue)


def deleted(queue: str) -> Doing:
    return lambda channel: channel.queue_delete(queue)


def published(exchange: str, key: str, **properties: Any) -> Doing:
    return lambda channel: channel.basic_publish(
        b"{}", exchange=exchange, routing_key=key, properties=Basic.Properties(**properties)
    )


def raised(name: str, kind: str, **arguments: Any) -> Doing:
    return lambda channel: channel.exchange_declare(name, exchange_type=kind, arguments=arguments)


async def ignored(_: object) -> None:
    pass


async def queries(channel: AbstractChannel) -> None:
    await channel.basic_consume("amq.rabbitmq.reply-to", ignored, no_ack=True)
    properties = Basic.Properties(reply_to="amq.rabbitmq.reply-to", user_id="alice")
    await channel.basic_publish(b"{}", exchange=QUERY, routing_key="status", properties=properties)


ALLOWED: list[tuple[str, str, Doing]] = [
    ("alice", "declares a queue of her own", declared("sub.alice.c.new")),
    ("alice", "declares a quorum queue", declared("sub.alice.c.q", **{"x-queue-type": "quorum"})),
    ("alice", "binds her own key", bound("sub.alice.c.n", EVENTS, "alice.#")),
    ("alice", "binds one job", bound("sub.alice.c.n", EVENTS, "alice.*.*.86e4")),
    ("alice", "unbinds", unbound("sub.alice.c.n", EVENTS, "alice.x")),
    ("alice", "gets", got("sub.alice.c.n")),
    ("alice", "consumes", consumed("sub.alice.c.n")),
    ("alice", "purges", purged("sub.alice.c.n")),
    ("alice", "deletes", deleted("sub.alice.c.gone")),
    ("alice", "asks with direct reply-to", queries),
    ("alice.x", "binds her encoded key", bound("sub.alice%2Ex.c.n", EVENTS, "alice%2Ex.#")),
    ("executor", "reports", published(LIFECYCLE, "k", user_id="executor")),
    ("executor", "declares a queue of its own", declared("cmd.executor.new")),
    ("executor", "binds commands", bound("cmd.executor.n", COMMANDS, "backup.cancel.*")),
    ("executor", "consumes commands", consumed("cmd.executor.n")),
    ("both", "reports", published(LIFECYCLE, "k")),
    ("both", "binds her own key", bound("sub.both.c.n", EVENTS, "both.#")),
    ("root", "binds everything", bound("sub.bob.c.n", EVENTS, "#")),
    ("root", "reads dead letters", got(DEAD)),
    ("alice", "hears her topics", bound("sub.alice.c.n", TOPICS, "alice.#")),
    ("alice.x", "hears a topic", bound("sub.alice%2Ex.c.n", TOPICS, "alice_2Ex.1job")),
    ("root", "publishes events", published(EVENTS, "bob.job.started.j")),
    ("root", "declares anything", declared("x")),
]
REFUSALS: list[tuple[str, str, Doing]] = [
    *(
        ("alice", f"declares {name or 'a server-named queue'}", declared(name))
        for name in ("", "x", "sub.alice.c", "sub.alice.c.n.m", "sub.bob.c.n", "sub.alice%2Ex.c.m")
    ),
    *(
        ("alice", f"binds {key}", bound("sub.alice.c.n", EVENTS, key))
        for key in ("#", "*.x", "bob.#", "alicex.#", "alice%2Ex.#", "Alice.#", "#.alice", "")
    ),
    *(
        ("alice", f"binds to {exchange}", bound("sub.alice.c.n", exchange, "alice.#"))
        for exchange in (LIFECYCLE, COMMANDS, QUERY, "amq.headers", "amq.fanout")
    ),
    *(
        (user, f"hears topic {key}", bound(f"sub.{queue}.c.n", TOPICS, key))
        for user, queue, keys in (
            ("alice", "alice", ("bob.1job", "#", "*.1job", "#.1job", "alice_2Ex.1job", "")),
            ("alice.x", "alice%2Ex", ("alice.1job", "alice.x.1job", "alice%2Ex.1job")),
            ("executor", "executor", ("executor.1job",)),
        )
        for key in keys
    ),
    ("alice", "sends a notice", published(TOPICS, "alice.1job")),
    *(
        ("alice", f"{what} {queue}", doing(queue))
        for queue in ("sub.bob.c.n", "sub.alice%2Ex.c.n", DEAD, "jobcast.state.0", "cmd.executor.n")
        for what, doing in (("gets", got), ("consumes", consumed), ("purges", purged))
    ),
    ("alice", "deletes another's queue", deleted("sub.bob.c.n")),
    ("alice", "binds another's queue", bound("sub.bob.c.n", EVENTS, "alice.#")),
    ("alice", "unbinds another's queue", unbound("sub.bob.c.n", EVENTS, "bob.#")),
    ("alice", "unbinds another's key", unbound("sub.alice.c.n", EVENTS, "bob.#")),
    ("alice.x", "reads the queue of alice", got("sub.alice.c.n")),
    ("alice", "publishes events", published(EVENTS, "alice.job.started.j")),
    ("alice", "reports", published(LIFECYCLE, "k")),
    ("alice", "commands", published(COMMANDS, "backup.cancel.j")),
    ("alice", "publishes on the default exchange", published("", "sub.bob.c.n")),
    ("alice", "publishes to her own queue", published("", "sub.alice.c.n")),
    ("alice", "declares an exchange", raised("sub.alice.c.x", "headers")),
    (
        "alice",
        "declares an alternate exchange",
        raised("sub.alice.c.x", "fanout", **{"alternate-exchange": LIFECYCLE}),
    ),
    *(
        (
            "alice",
            f"has dead letters sent to {exchange or 'the default exchange'}",
            declared("sub.alice.c.dlx", **{"x-dead-letter-exchange": exchange}),
        )
        for exchange in ("", LIFECYCLE, EVENTS, COMMANDS, "amq.direct")
    ),
    ("alice", "feeds events into job.lifecycle", joined(LIFECYCLE, EVENTS, "alice.#")),
    ("alice", "feeds everybody's events into job.query", joined(QUERY, EVENTS, "#")),
    ("alice", "feeds events into amq.topic", joined("amq.topic", EVENTS, "alice.#")),
    ("executor", "binds events", bound("cmd.executor.n", EVENTS, "executor.#")),
    ("executor", "declares a subscription", declared("sub.executor.c.n")),
    ("executor", "publishes events", published(EVENTS, "alice.job.succeeded.j")),
    ("executor", "asks", published(QUERY, "status")),
    ("executor", "reads state", got("jobcast.state.0")),
    ("executor", "reads another's commands", got("cmd.other.n")),
    ("both", "binds another's key", bound("sub.both.c.n", EVENTS, "alice.#")),
    ("both", "feeds another's events into job.lifecycle", joined(LIFECYCLE, EVENTS, "alice.#")),
]
