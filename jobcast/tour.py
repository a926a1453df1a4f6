"""One pass over the queue of dead letters, which leaves it as it was.

Promises: loses nothing; what is not removed keeps its order; ends with what was there when it
began, so it never follows a letter that comes back meanwhile.

A quorum queue hands out what was returned to it before all else, and puts what is returned behind
what was returned before. So a pass takes all that was ever returned (`redelivered` tells), even
where its reader wants no more, keeps it unacknowledged, and gives it back by closing channels: then
RabbitMQ returns what a consumer held in its order (a `basic.nack` of many does not, on 3.10), and
the consumers of one channel by their tags as long as there are at most 32. What is held stays on
the broker's disk. Only what is under way takes memory, there and here: a window of letters, for
which a consumer is opened with just that prefetch, and which have all come before the next one is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final

from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError
from msgspec import Struct

from jobcast.letter import Letter
from jobcast.names import DEAD

WINDOW: Final = 50
CONSUMERS: Final = 30
"""Of one channel."""
ANSWER_S: Final = 10.0
CLOSE_S: Final = 5.0
RECOVERY_S: Final = 30.0
"""A long queue takes a while after a restart of the broker."""
QUIET_S: Final = 5.0
"""Without a letter for so long: somebody else holds what is missing."""
BACK_S: Final = 2.0
FIRST_S: Final = 1.0
"""Without a letter for so long, where none was counted: there is none."""
OTHERS: Final = {
    "type": "message_type",
    **dict.fromkeys(("app_id", "user_id", "reply_to", "content_encoding", "expiration")),
}


class Verdict(Enum):
    """What is to become of a letter: it stays, it goes, it stays and nobody looks any further."""

    KEEP = auto()
    REMOVE = auto()
    ENOUGH = auto()


class Pass(Struct, frozen=True):
    """How a pass went: letters that nobody held when it began, and whether somebody else was
    looking at them as well, so that some were not to be seen."""

    total: int
    company: bool


Visit = Callable[[Letter], Awaitable[Verdict]]


class Tour:
    """One pass: the channels that hold what it has taken. Raises what aiormq raises."""

    def __init__(
        self, connection: AbstractConnection, asking: AbstractChannel, quiet_s: float
    ) -> None:
        self._company = False
        self._taken = 0
        self._connection = connection
        self._asking = asking
        self._quiet_s = quiet_s
        self._held: list[tuple[AbstractChannel, int]] = []
        self._opened = 0
        self._arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()

    async def go(self, visit: Visit) -> Pass:
        answer = await self._asking.queue_declare(DEAD, passive=True, timeout=ANSWER_S)
        total = answer.message_count or 0
        self._company = bool(answer.consumer_count)  # counts whoever holds some
        window: list[DeliveredMessage] = []
        if not total and not self._company:
            # So it says of a queue, too, that is being recovered; a consumer waits for that.
            window = await self._window(1, FIRST_S)
            total = len(window) + (await self._ready() if window else 0)
        await self._go(visit, total, window)
        return Pass(total, self._company)

    async def _go(self, visit: Visit, total: int, window: list[DeliveredMessage]) -> None:
        wanted, size = True, len(window)
        while size or self._taken < total:
            if not size:
                size = min(WINDOW, total - self._taken)
                window = await self._window(size, self._quiet_s)
            for message in window:
                wanted = wanted and await self._shown(message, visit)
            if len(window) < size:
                self._company = True
                return
            if not wanted and not window[-1].redelivered:
                return
            size = 0

    async def end(self) -> None:
        """Everything goes back, channel after channel, each when the one before is back."""
        for channel, held in self._held:
            with suppress(AMQPError, OSError, RuntimeError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    expected = await self._ready() + held
                    await channel.close()
                    await self._back(expected)
        with suppress(AMQPError, OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._asking.close()

    async def _back(self, expected: int) -> None:
        """Closing is answered before the queue has heard of it. Somebody else may take them at
        once, so this is no more than patience."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BACK_S):
                while await self._ready() < expected:  # noqa: ASYNC110 - only the broker knows
                    await asyncio.sleep(0.01)

    async def _ready(self) -> int:
        answer = await self._asking.queue_declare(DEAD, passive=True, timeout=ANSWER_S)
        return answer.message_count or 0

    async def _shown(self, message: DeliveredMessage, visit: Visit) -> bool:
        verdict = await visit(letter_of(message))
        if verdict is Verdict.REMOVE:
            channel, held = self._held[-1]
            await channel.basic_ack(message.delivery_tag or 0)
            self._held[-1] = channel, held - 1
        return verdict is not Verdict.ENOUGH

    async def _window(self, size: int, quiet_s: float) -> list[DeliveredMessage]:
        """The next `size` letters, or fewer when no more come; held by a consumer of their own
        that is given no more."""
        channel = await self._channel()
        tag = f"dead-{self._opened:06}"
        await channel.basic_qos(prefetch_count=size, timeout=ANSWER_S)
        await channel.basic_consume(DEAD, self._put, consumer_tag=tag, timeout=RECOVERY_S)
        window: list[DeliveredMessage] = []
        with suppress(TimeoutError):
            while len(window) < size:
                async with asyncio.timeout(quiet_s):
                    window.append(await self._arrived.get())
        await channel.basic_cancel(tag, timeout=ANSWER_S)
        if len(window) < size:
            await self._ready()  # an answer later, what came before the last one is put there
        while not self._arrived.empty():
            window.append(self._arrived.get_nowait())
        self._taken += len(window)
        self._held[-1] = channel, self._held[-1][1] + len(window)
        return window

    async def _channel(self) -> AbstractChannel:
        if self._opened % CONSUMERS == 0:
            channel = await self._connection.channel(publisher_confirms=False, timeout=ANSWER_S)
            self._held.append((channel, 0))
        self._opened += 1
        return self._held[-1][0]

    async def _put(self, message: DeliveredMessage) -> None:
        self._arrived.put_nowait(message)


def letter_of(message: DeliveredMessage) -> Letter:
    properties = message.header.properties
    others: dict[str, Any] = {
        name: getattr(properties, other or name) for name, other in OTHERS.items()
    }
    return Letter(
        body=message.body,
        message_id=properties.message_id,
        content_type=properties.content_type,
        correlation_id=properties.correlation_id,
        timestamp=properties.timestamp,
        headers=dict(properties.headers or {}),
        properties={name: value for name, value in others.items() if value is not None},
    )
