"""Publishing with patience: what may be given up, and what the batch depends on.

Promises: `tell` returns when every notification is confirmed or was refused three times;
`insist` returns only when every message is confirmed.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final, Protocol

from jobcast.errors import JobcastError
from jobcast.message import Message, Outcome
from notifier.figures import Figures
from notifier.letters import Telling, reason_of

log = logging.getLogger(__name__)

CONFIRM_TIMEOUT_S: Final = 30.0
TRIES: Final = 3
INSIST_MAX_S: Final = 2.0


class NoQueue(JobcastError):
    """RabbitMQ has no queue for a message that must not be lost: the topology is not whole."""


class Publish(Protocol):
    """What the service needs of a broker."""

    async def publish(self, messages: Sequence[Message], *, timeout_s: float) -> Sequence[Outcome]:
        """The outcome of each; raises when the connection is lost, which ends the batch."""


async def tell(tellings: Sequence[Telling], publisher: Publish, figures: Figures) -> None:
    """Publish notifications; what is refused is tried three times, then given up and said so.

    A confirm needs every bound queue: one subscriber's full queue must not hold up all others.
    """
    messages = [message for telling in tellings for message in telling.messages]
    for _ in range(TRIES):
        if not messages:
            break
        began = time.perf_counter()
        refused = await _refused(messages, publisher)
        figures.notified(len(messages) - len(refused), time.perf_counter() - began)
        if refused:
            figures.refused(len(refused))
        messages = refused
    for message in messages:
        log.error("gave up notification %s: refused %d times", message.message_id, TRIES)
    if messages:
        figures.given_up(len(messages))
    for telling in tellings:
        if telling.owed is not None:
            telling.owed.settled = True


async def insist(messages: Sequence[Message], publisher: Publish, figures: Figures) -> None:
    """Publish until every message is confirmed. Raises NoQueue for what cannot be routed."""
    delay = 0.05
    left = messages
    while left:
        left = await _refused(left, publisher)
        if left:
            log.warning("%d messages for %s refused", len(left), left[0].routing_key)
            await asyncio.sleep(delay)
            delay = min(INSIST_MAX_S, delay * 2)
    for message in messages:
        if reason := reason_of(message):
            figures.dead_lettered(reason)


async def _refused(messages: Sequence[Message], publisher: Publish) -> list[Message]:
    """Publish, and answer what is not confirmed."""
    outcomes = await publisher.publish(messages, timeout_s=CONFIRM_TIMEOUT_S)
    if Outcome.RETURNED in outcomes:
        astray = messages[list(outcomes).index(Outcome.RETURNED)]
        where = astray.exchange or astray.routing_key
        raise NoQueue(f"RabbitMQ has no queue for what is sent to {where}")
    return [
        message
        for message, outcome in zip(messages, outcomes, strict=True)
        if outcome is not Outcome.CONFIRMED
    ]
