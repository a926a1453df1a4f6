"""The events that the broker has not confirmed yet, as a pure structure: no I/O, no clock.

Each job has a lane of its own. A lane has at most one message in flight, and what waits behind it
goes out together as the next one: order within a job survives refusals and reconnects, and under
load events travel in batches by themselves.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Final

import msgspec

from jobcast.bounds import TARGETS_MAX
from jobcast.errors import JobcastError
from jobcast.events import Event, Heartbeat, Progressed
from jobcast.malformed import Malformed
from jobcast.names import lifecycle_key
from jobcast.wire import (
    BATCH,
    BATCH_MAX,
    MESSAGE_MAX,
    STRUCTURED,
    decode,
    encode_batch,
    encode_event,
)

IN_FLIGHT_MAX: Final = 200

Lane = tuple[str, str]
"""Owner and job id."""


class InvalidEvent(JobcastError, ValueError):
    """The service would not accept this event; the text names the field."""


class Entry(msgspec.Struct, frozen=True):
    """An event with what its message needs; `size` is its encoded length in bytes."""

    event: Event
    operation: str
    size: int

    @property
    def lane(self) -> Lane:
        return self.event.owner, self.event.job_id


def checked(event: Event, operation: str) -> Entry:
    """Reads the event as the service will. Raises InvalidEvent for what would be a dead letter."""
    try:
        body = encode_event(event)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise InvalidEvent(f"{event.type}: {error}") from error
    (read,) = decode(body, STRUCTURED, {}, trusted=False)
    if isinstance(read, Malformed):
        raise InvalidEvent(f"{event.type}: {read.detail}")
    return Entry(event, operation, len(body))


class Parcel(msgspec.Struct, frozen=True):
    """Events of one job that travel as one message."""

    entries: tuple[Entry, ...]

    @property
    def lane(self) -> Lane:
        return self.entries[0].lane

    @property
    def events(self) -> list[Event]:
        return [entry.event for entry in self.entries]

    @property
    def content_type(self) -> str:
        return STRUCTURED if len(self.entries) == 1 else BATCH

    @property
    def body(self) -> bytes:
        return encode_event(self.events[0]) if len(self.entries) == 1 else encode_batch(self.events)

    @property
    def routing_key(self) -> str:
        last = self.entries[-1]
        return lifecycle_key(last.operation, last.event.type)


class Outbox:
    """Unconfirmed events in order. The caller keeps to `full`; `add` itself never refuses."""

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self._count = 0
        self._waiting: dict[Lane, deque[Entry]] = {}
        self._in_flight: dict[Lane, Parcel] = {}
        self._ready: dict[
            Lane, None
        ] = {}  # lanes with something to send, the longest waiting first

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Event]:
        """Every unconfirmed event, a job's in their order."""
        flying = chain.from_iterable(parcel.events for parcel in self._in_flight.values())
        waiting = (entry.event for lane in self._waiting.values() for entry in lane)
        return chain(flying, waiting)

    @property
    def full(self) -> bool:
        return self._count >= self._events_max

    def holds(self, lane: Lane) -> bool:
        return lane in self._waiting or lane in self._in_flight

    def waits(self, entry: Entry) -> bool:
        """Whether this very event is still to be sent."""
        waiting = self._waiting.get(entry.lane, ())
        return any(other.event.id == entry.event.id for other in waiting)

    def merges(self, entry: Entry) -> bool:
        """Whether `entry` would replace what waits instead of taking room of its own."""
        waiting = self._waiting.get(entry.lane)
        return waiting is not None and _merged(waiting[-1], entry) is not None

    def add(self, entry: Entry) -> None:
        waiting = self._waiting.setdefault(entry.lane, deque())
        merged = _merged(waiting[-1], entry) if waiting else None
        if merged is not None:
            waiting[-1] = merged
            return
        waiting.append(entry)
        self._count += 1
        if entry.lane not in self._in_flight:
            self._ready.setdefault(entry.lane)

    def take(self) -> Parcel | None:
        """The next message to send, now in flight; None if none may go."""
        if not self._ready or len(self._in_flight) >= IN_FLIGHT_MAX:
            return None
        lane = next(iter(self._ready))
        del self._ready[lane]
        parcel = Parcel(_cut(self._waiting[lane]))
        if not self._waiting[lane]:
            del self._waiting[lane]
        self._in_flight[lane] = parcel
        return parcel

    def confirm(self, parcel: Parcel) -> None:
        del self._in_flight[parcel.lane]
        self._count -= len(parcel.entries)
        if parcel.lane in self._waiting:
            self._ready[parcel.lane] = None

    def put_back(self) -> None:
        """Nothing is in flight any more: all of it waits again, before what came later."""
        for lane, parcel in self._in_flight.items():
            self._waiting.setdefault(lane, deque()).extendleft(reversed(parcel.entries))
        returned = dict.fromkeys(self._in_flight)
        self._in_flight.clear()
        self._ready = returned | self._ready


def _cut(waiting: deque[Entry]) -> tuple[Entry, ...]:
    """Takes from the front as many events as fit into one message, at least one."""
    taken, size = [waiting.popleft()], 2  # the brackets
    size += taken[0].size
    while waiting and len(taken) < BATCH_MAX and size + 1 + waiting[0].size <= MESSAGE_MAX:
        taken.append(waiting.popleft())
        size += 1 + taken[-1].size
    return tuple(taken)


def _merged(last: Entry, entry: Entry) -> Entry | None:
    """One entry that says what both say, or None: only unsent progress and heartbeats merge."""
    before, after = last.event, entry.event
    if before.attempt != after.attempt:
        return None
    if isinstance(before, Heartbeat) and isinstance(after, Heartbeat):
        return entry
    if not (isinstance(before, Progressed) and isinstance(after, Progressed)):
        return None
    targets = {**(before.targets or {}), **(after.targets or {})}
    if len(targets) > TARGETS_MAX:
        return None
    event = msgspec.structs.replace(
        after,
        percent=before.percent if after.percent is None else after.percent,
        targets=targets or None,
        message=before.message if after.message is None else after.message,
    )
    return Entry(event, entry.operation, len(encode_event(event)))
