"""Who may do what at RabbitMQ, as tables of pure decisions (docs/security.md).

RabbitMQ asks per vhost, per queue or exchange, and per routing key of a topic exchange; it does not
say what for. What it never asks about is in docs/security.md under "not defended". Names are cut at
the dots and compared part by part with the encoded user name: a pattern over raw names for `a`
would open the queues of `a.b` as well.
"""

import re
from collections.abc import Collection
from typing import Final

from broker.notices import TOPICS, topic_part
from jobcast.names import (
    COMMANDS,
    EVENTS,
    LIFECYCLE,
    QUERY,
    encode_part,
    is_own,
    is_own_subscription,
)

ADMIN: Final = "admin"
SUBSCRIBER: Final = "subscriber"
EXECUTOR: Final = "executor"
ROLES: Final = frozenset({SUBSCRIBER, EXECUTOR, ADMIN})
PERMISSIONS: Final = frozenset({"configure", "write", "read"})

LISTENER: Final = "listener"
"""What a logon session (`api.logon`) is at RabbitMQ, whatever its user is: it hears the user's
topics and has no other right. No role of anybody's."""
HEARING: Final = frozenset({SUBSCRIBER, LISTENER})

TAG: Final = "jobcast-"
"""Roles of users who stand in no file travel as RabbitMQ's tags of these users. The names are our
own: `administrator`, `management`, `monitoring`, `policymaker` and `impersonator` mean something to
RabbitMQ. And they are few: RabbitMQ makes an atom of each, and forgets none."""

STOMP_QUEUE: Final = re.compile(r"\Astomp-subscription-[A-Za-z0-9_-]{22}\Z")
"""What the STOMP plugin names a subscription."""

EXCHANGES: Final[dict[tuple[str, str], frozenset[str]]] = {
    (EVENTS, "read"): frozenset({SUBSCRIBER}),
    (TOPICS, "read"): HEARING,
    (QUERY, "write"): frozenset({SUBSCRIBER}),
    (LIFECYCLE, "write"): frozenset({EXECUTOR}),
    (COMMANDS, "read"): frozenset({EXECUTOR}),
}


def may_use(user: str, roles: Collection[str], kind: str, name: str, permission: str) -> bool:
    """Whether the user may `configure`, `write` to or `read` this `queue` or `exchange`.

    To bind, one needs `write` on the queue and `read` on the exchange; to have dead letters sent to
    an exchange `write` on it, and `read` on the queue. `amq.default` is the default exchange.
    """
    if ADMIN in roles:
        return True
    if kind == "exchange":
        return not EXCHANGES.get((name, permission), frozenset()).isdisjoint(roles)
    return kind == "queue" and permission in PERMISSIONS and _is_theirs(user, roles, name)


def _is_theirs(user: str, roles: Collection[str], queue: str) -> bool:
    if STOMP_QUEUE.match(queue):
        return not HEARING.isdisjoint(roles)
    if SUBSCRIBER in roles and is_own_subscription(queue, user):
        return True
    return EXECUTOR in roles and is_own(queue, "cmd", user, 3)


def must_be_transient(kind: str, name: str, permission: str) -> bool:
    """Whether `may_use` holds only while the queue exists and is not durable.

    The plugin gives the queue of a *durable* subscription a name that anybody can work out (the MD5
    of routing key and id), and so read, or declare and read before its owner comes. The names of
    the others are random, and a queue cannot change from the one kind to the other. So no durable
    queue of such a name is read or bound by anybody: durable subscriptions name a queue of their
    own (`x-queue-name:sub.<own name>.…`).
    """
    return kind == "queue" and permission != "configure" and bool(STOMP_QUEUE.match(name))


def may_route(user: str, roles: Collection[str], exchange: str, permission: str, key: str) -> bool:
    """Whether the user may bind to (`read`) or publish on (`write`) a key of a topic exchange."""
    if ADMIN in roles:
        return True
    if permission != "read":
        return False
    first = key.partition(".")[0]
    if exchange == EVENTS:
        return SUBSCRIBER in roles and first == encode_part(user)
    if exchange == TOPICS:
        return not HEARING.isdisjoint(roles) and first == topic_part(user)
    return exchange == COMMANDS and EXECUTOR in roles


def tags_of(roles: Collection[str]) -> str:
    """The roles as RabbitMQ carries them, separated by spaces; unknown ones are left out."""
    return " ".join(TAG + role for role in sorted(ROLES.intersection(roles)))


def roles_of(tags: str) -> frozenset[str]:
    """The roles of what `tags_of` has written; other tags count for nothing."""
    words = tags.split()
    return ROLES.intersection(word.removeprefix(TAG) for word in words if word.startswith(TAG))
