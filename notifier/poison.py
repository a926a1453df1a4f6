"""Poison: events on which our own code fails. Each becomes a dead letter, alone, after a few tries.

Two kinds. One raises an exception: the service takes its batch apart until the event stands alone
(`notifier.service`). The other ends the process (memory, a fault in a C library): RabbitMQ delivers
it again, with what else was under way; so what has come again often is worked on alone, and how
often that was begun is counted in Redis, not by the broker, whose count takes every innocent
neighbour and every restart of ours for a failure. Pure.
"""

import traceback
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from jobcast.elements import elements
from jobcast.errors import Refusal
from jobcast.events import Event
from jobcast.malformed import Malformed, binary_attributes, malformed
from jobcast.message import Incoming
from jobcast.wire import BATCH, JSON, STRUCTURED, media_type
from notifier.folding import Rejected

POISON: Final = "poison"
TRIES: Final = 3
"""For an event that raises."""
SUSPECT: Final = 5
"""Deliveries after which a message is worked on alone."""
BEGUN_MAX: Final = 5
"""For a suspect: so often it was in hand, alone, when the process ended."""
COUNTS: Final = ("x-delivery-count", "x-acquired-count")


def last_line(error: BaseException | None) -> str:
    """The last line of the traceback: what was raised, and what it said."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines() if error else []
    return lines[-1] if lines else type(error).__name__


def poisoned(event: Event, error: BaseException | None) -> Rejected:
    return Rejected(event, Refusal(POISON, last_line(error)))


def unreadable(message: Incoming, why: str) -> Malformed:
    """A message, as it came, that our own code cannot get through."""
    return malformed(Refusal(POISON, why), message.body, message.headers, message.content_type)


def suspect(message: Incoming) -> bool:
    """Whether the message has come again so often that it may be what ends the process."""
    if not message.headers:
        return False
    return any(_count(message.headers.get(name)) >= SUSPECT for name in COUNTS)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def groups(batch: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
    """The batch in its order: what may be worked on together, and every suspect alone."""
    if not any(suspect(message) for message in batch):
        yield batch
        return
    together: list[Incoming] = []
    for message in batch:
        if not suspect(message):
            together.append(message)
            continue
        if together:
            yield together
            together = []
        yield (message,)
    if together:
        yield together


def parts(message: Incoming) -> list[Incoming]:
    """Each event of a batch as a message of its own; any other message as it is."""
    one = media_type(message.content_type) not in {BATCH, JSON, ""}
    if one or binary_attributes(message.headers):
        return [message]
    found = elements(message.body)
    return [replace(message, body=body, content_type=STRUCTURED) for body in found] or [message]
