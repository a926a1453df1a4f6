"""Executors that know nothing of the SDK: pika in a thread, with a reconnect loop of its own.

Promises what docs/protocol.md asks of a publisher: persistent, mandatory, confirmed; what is not
confirmed is published again, the same bytes under the same ids, before anything later.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgspec
import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, NackError, UnroutableError

from jobcast.events import Event
from jobcast.names import LIFECYCLE, lifecycle_key
from jobcast.wire import BATCH, STRUCTURED, encode_batch, encode_event
from tests.chaos.book import Book
from tests.chaos.life import Life, Lives

OPEN: Final = 24
JOBS_PER_BATCH: Final = 8
RETRY_S: Final = 0.3
AWAY: Final = (AMQPError, AMQPConnectorException, OSError)
"""What pika raises for a broker that is away; its time-out of the whole is of a kind of its own."""


class Parcel(msgspec.Struct):
    """One message, and what is confirmed with it."""

    body: bytes
    key: str
    properties: Any
    holds: list[tuple[Life, Sequence[Event]]]


class ForeignWriter(threading.Thread):
    """`batches`: every message speaks of several jobs; else each speaks of one event of one."""

    def __init__(self, url: str, book: Book, lives: Lives, *, per_s: float, batches: bool) -> None:
        super().__init__(name=f"pika-{'batches' if batches else 'single'}", daemon=True)
        self._parameters = pika.URLParameters(
            f"{url}?heartbeat=10&blocked_connection_timeout=15&socket_timeout=5"
            "&stack_timeout=8&connection_attempts=1"
        )
        self._book = book
        self._lives = lives
        self._step_s = 1 / per_s
        self._batches = batches
        self._chance = Random(self.name)
        self._open: list[tuple[Life, list[Event]]] = []
        self._pending: Parcel | None = None
        self._stopping = False
        self._abandoned = False
        self.reconnects = -1
        self.broken: Exception | None = None

    def stop(self) -> None:
        """Begin no more jobs; the thread ends when all that was begun is confirmed."""
        self._stopping = True

    def abandon(self) -> None:
        """End as soon as the library lets us."""
        self._stopping = self._abandoned = True

    def run(self) -> None:
        try:
            while not self._finished:
                self.reconnects += 1
                with contextlib.suppress(*AWAY):
                    self._serve()
                time.sleep(self._chance.uniform(0, RETRY_S))
        except Exception as error:
            self.broken = error
            raise

    @property
    def _finished(self) -> bool:
        return self._abandoned or (self._stopping and not self._open and self._pending is None)

    def _serve(self) -> None:
        connection = pika.BlockingConnection(self._parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            while not self._finished:
                self._pending = self._pending or self._next()
                if self._pending is None:
                    return
                began = time.monotonic()
                if not self._published(channel, self._pending):
                    connection.sleep(RETRY_S)
                    continue
                count = 0
                for life, events in self._pending.holds:
                    self._book.confirm(life, events)
                    count += len(events)
                self._pending = None
                connection.sleep(max(0.0, began + count * self._step_s - time.monotonic()))
        finally:
            with contextlib.suppress(*AWAY):
                connection.close()

    @staticmethod
    def _published(channel: Any, parcel: Parcel) -> bool:
        """Whether the broker has taken it; raises when the connection is lost."""
        try:
            channel.basic_publish(
                LIFECYCLE, parcel.key, parcel.body, parcel.properties, mandatory=True
            )
        except (UnroutableError, NackError):
            return False
        return True

    def _next(self) -> Parcel | None:
        while not self._stopping and len(self._open) < OPEN:
            life = self._lives.next()
            self._book.open(life)
            self._open.append((life, list(life.events)))
        if not self._open:
            return None
        holds = self._batch() if self._batches else [self._single()]
        self._open = [(life, left) for life, left in self._open if left]
        if self._batches:
            return _batched(holds)
        return _alone(*holds[0], binary=self._chance.random() < 0.5)

    def _single(self) -> tuple[Life, Sequence[Event]]:
        life, left = self._chance.choice(self._open)
        return life, [left.pop(0)]

    def _batch(self) -> list[tuple[Life, Sequence[Event]]]:
        chosen = self._chance.sample(self._open, min(len(self._open), JOBS_PER_BATCH))
        holds: list[tuple[Life, Sequence[Event]]] = []
        for life, left in chosen:
            count = self._chance.randrange(1, 4)
            holds.append((life, left[:count]))
            del left[:count]
        return holds


def _batched(holds: list[tuple[Life, Sequence[Event]]]) -> Parcel:
    body = encode_batch([event for _, events in holds for event in events])
    life, events = holds[0]
    # One name for all batches of this writer: they stay in order, whatever the partitions.
    return Parcel(body, _key(life, events), _properties(BATCH, "batches", {}), holds)


def _alone(life: Life, events: Sequence[Event], *, binary: bool) -> Parcel:
    body, content_type = encode_event(events[0]), STRUCTURED
    headers: dict[str, str] = {}
    if binary:
        body, headers = _binary(body)
        content_type = "application/json"
    properties = _properties(content_type, life.key[1], headers)
    return Parcel(body, _key(life, events), properties, [(life, events)])


def _key(life: Life, events: Sequence[Event]) -> str:
    return lifecycle_key(life.operation, events[-1].type)


def _properties(content_type: str, correlation_id: str, headers: dict[str, str]) -> Any:
    return pika.BasicProperties(
        content_type=content_type, correlation_id=correlation_id, delivery_mode=2, headers=headers
    )


def _binary(structured: bytes) -> tuple[bytes, dict[str, str]]:
    attributes: dict[str, Any] = msgspec.json.decode(structured)
    data = msgspec.json.encode(attributes.pop("data", {}))
    return data, {f"cloudEvents_{name}": str(value) for name, value in attributes.items()}
