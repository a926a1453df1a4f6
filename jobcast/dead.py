"""The queue of dead letters, for operators: looking at them, and sending them again.

Owns a connection while the block is open. Promises that a letter is removed only after what its
reader has done about it, and that it is confirmed where it was sent again. Never declares.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    DeliveryError,
    ProbableAuthenticationError,
)

from jobcast.cancellation import is_to_end
from jobcast.errors import JobcastError
from jobcast.letter import Letter, original
from jobcast.names import LIFECYCLE
from jobcast.tolerance import UNREADABLE, tolerate_bad_properties
from jobcast.tour import QUIET_S, Pass, Tour, Visit

ANSWER_S: Final = 10.0
CONFIRM_S: Final = 30.0
CLOSE_S: Final = 5.0
ROUTING_KEY: Final = "dead.retry"
UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What pamqp raises for a header that it has read and cannot write."""


class DeadLettersOutOfReach(JobcastError):
    """No connection, no such queue, or no permission; the text says which."""


class NotSentAgain(JobcastError):
    """The broker did not take a letter that was sent again. It is still there."""


class Unwritable(NotSentAgain):
    """Not even sent: its properties or headers are such that they would not arrive as they came."""


@asynccontextmanager
async def opened_dead_letters(
    url: str, *, quiet_s: float = QUIET_S
) -> AsyncIterator["DeadLetters"]:
    """`quiet_s`: when to think that no more letters come. Raises DeadLettersOutOfReach."""
    tolerate_bad_properties()
    with explained():
        async with asyncio.timeout(ANSWER_S):
            connection = await aiormq.connect(url)
    try:
        yield DeadLetters(connection, quiet_s)
    finally:
        with suppress(DeadLettersOutOfReach), explained():
            async with asyncio.timeout(CLOSE_S):
                await connection.close()


class DeadLetters:
    """All methods raise DeadLettersOutOfReach."""

    def __init__(self, connection: AbstractConnection, quiet_s: float) -> None:
        self._connection = connection
        self._quiet_s = quiet_s
        self._sending: AbstractChannel | None = None

    async def look(self, visit: Visit) -> Pass:
        """Shows `visit` each letter that is there now, oldest first."""
        with explained():
            async with asyncio.timeout(ANSWER_S):
                asking = await self._connection.channel(publisher_confirms=False)
            tour = Tour(self._connection, asking, self._quiet_s)
            try:
                return await tour.go(visit)
            finally:
                await tour.end()

    async def send_again(self, letter: Letter) -> None:
        """To `job.lifecycle`, as it came; returns when it is confirmed. Raises NotSentAgain.

        Without the user id: the broker refuses another login's, and with the service's own a
        stranger's event would pass for one of the service.
        """
        content_type, headers = original(letter)
        if content_type == UNREADABLE and not letter.headers:
            raise Unwritable(f"{letter.id}: its properties cannot be read and would be lost")
        properties = aiormq.spec.Basic.Properties(
            content_type=content_type,
            headers=headers,
            correlation_id=letter.correlation_id,
            message_id=letter.message_id or letter.id,
            delivery_mode=2,
        )
        with explained():
            channel = await self._confirming()
            try:
                await channel.basic_publish(
                    letter.body,
                    exchange=LIFECYCLE,
                    routing_key=ROUTING_KEY,
                    properties=properties,
                    mandatory=True,
                    timeout=CONFIRM_S,
                )
            except DeliveryError as error:
                why = "no queue takes it" if _returned(error) else "it refused it"
                raise NotSentAgain(f"{letter.id}: RabbitMQ did not take it: {why}") from error
            except UNWRITABLE as error:
                # aiormq has counted it, the broker has not: their confirms would no longer match.
                self._sending = None
                await channel.close()
                raise Unwritable(f"{letter.id}: its headers cannot be written: {error}") from None

    async def _confirming(self) -> AbstractChannel:
        if self._sending is None or self._sending.is_closed:
            self._sending = await self._connection.channel(on_return_raises=True, timeout=ANSWER_S)
        return self._sending


def _returned(error: DeliveryError) -> bool:
    return isinstance(error.frame, aiormq.spec.Basic.Return)


@contextmanager
def explained() -> Iterator[None]:
    """What AMQP or the network raises, as one line for the operator."""
    try:
        yield
    except asyncio.CancelledError as error:
        # aiormq ends the futures of a lost connection with it; ours is one that was asked for.
        if is_to_end():
            raise
        raise DeadLettersOutOfReach("the connection to RabbitMQ was lost") from error
    except ChannelNotFoundEntity as error:
        text = "the service, which declares it, has not run here yet"
        raise DeadLettersOutOfReach(f"{_said(error)}; {text}") from error
    except (ChannelAccessRefused, ProbableAuthenticationError) as error:
        raise DeadLettersOutOfReach(f"RabbitMQ does not allow it: {_said(error)}") from error
    except TimeoutError as error:
        raise DeadLettersOutOfReach("RabbitMQ does not answer") from error
    except (AMQPError, OSError, RuntimeError, StopAsyncIteration) as error:
        raise DeadLettersOutOfReach(f"RabbitMQ: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """One line, without the URL (it holds a password)."""
    words = [str(argument) for argument in error.args] or [type(error).__name__]
    return " ".join(" ".join(words).split())[:300]
