"""AMQP messages as values: what is published, what has arrived, what became of it."""

from enum import Enum, auto
from typing import Any

from msgspec import Struct


class Message(Struct, frozen=True, kw_only=True):
    """One message to publish. `timestamp` in seconds since 1970; always persistent.

    `message_id` must be unique among those under way on a channel if it is mandatory: the broker's
    return is told apart by it.
    """

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    content_type: str
    correlation_id: str | None = None
    type: str | None = None
    timestamp: int | None = None
    headers: dict[str, Any] = {}
    priority: int | None = None
    app_id: str | None = None
    user_id: str | None = None
    mandatory: bool = False


class Incoming(Struct, frozen=True, kw_only=True):
    """One message as it came. `user_id` is validated by the broker where it is set; `size`: about
    the bytes of memory that it takes."""

    body: bytes
    content_type: str | None = None
    headers: dict[str, Any] = {}
    correlation_id: str | None = None
    user_id: str | None = None
    reply_to: str | None = None
    tag: int = 0
    size: int = 0


class Reply(Struct, frozen=True, kw_only=True):
    """An answer to a question: `to` is a queue's name, or one that RabbitMQ takes for one."""

    to: str
    body: bytes
    type: str
    correlation_id: str | None = None


class Outcome(Enum):
    """What became of a published message."""

    CONFIRMED = auto()
    NACKED = auto()
    RETURNED = auto()
    UNCONFIRMED = auto()
