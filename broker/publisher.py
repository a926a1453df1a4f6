"""Publishing with pipelined confirms.

Owns one channel in confirm mode and what is under way on it. Promises: `publish` answers, for every
message, whether the broker has taken it. Never waits for one confirm before it sends the next: a
batch is one write and one future, and costs about 15 µs a message against 80 µs by `basic_publish`,
which locks, waits for a drain and makes a task for each. The frames are written here, not by pamqp,
whose encoding of properties alone takes longer.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from struct import Struct
from typing import Any, Final, cast

import aiormq
from aiormq.abc import ChannelFrame, ConfirmationFrameType
from aiormq.exceptions import PublishError
from pamqp.commands import Basic
from pamqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_METHOD
from pamqp.constants import FRAME_END_CHAR as FRAME_END
from pamqp.encode import encode_table_value

from broker.errors import BrokerUnavailable
from broker.link import CLOSE_TIMEOUT_S, FOREIGN, opened
from jobcast.message import Message, Outcome

FRAME_OVERHEAD: Final = 8
FRAME_MIN: Final = 4_096
"""What every broker takes."""
PERSISTENT: Final = b"\x02"
PUBLISH: Final = b"\x00\x3c\x00\x28\x00\x00"
"""basic.publish, and a field that AMQP has reserved."""
EMPTY: Final = b"\x00"

FRAME: Final = Struct(">BHI")  # kind, channel, length of the payload
HEADER: Final = Struct(">HHQ")  # class, weight, length of the body
SHORT: Final = Struct(">H")
LONG: Final = Struct(">I")
LONG_LONG: Final = Struct(">Q")


class Publisher:
    """Publishes on one channel that nobody else publishes on."""

    def __init__(self, channel: aiormq.Channel) -> None:
        self._channel = channel
        self._body_max = channel.connection.connection_tune.frame_max - FRAME_OVERHEAD
        self._sending = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        # aiormq's own looks, at each confirm of several messages, through all that are under way,
        # and makes a callback for each: thousands of confirms in one reading fill the memory.
        channel._on_confirm_frame = self._heard  # type: ignore[method-assign]

    async def publish(self, messages: Sequence[Message], *, timeout_s: float) -> list[Outcome]:
        """Send all, then wait for the broker's word on each, `timeout_s` at most."""
        if not messages:
            return []
        pending = await self._send(messages, timeout_s)
        try:
            await asyncio.wait([pending.settled], timeout=timeout_s)
            return pending.result()
        finally:
            self._forget(messages, pending.first)

    def _forget(self, messages: Sequence[Message], first: int) -> None:
        """What came back stands behind all others under its number; an id may be in use again."""
        names, waiting = self._channel.message_id_delivery_tag, self._channel.confirmations
        for tag, message in enumerate(messages, first):
            if message.mandatory:
                waiting.pop(tag, None)
                if names.get(message.message_id) == tag:
                    del names[message.message_id]

    async def _send(self, messages: Sequence[Message], timeout_s: float) -> "_Pending":
        channel = self._channel
        async with self._sending:
            if channel.is_closed:
                raise BrokerUnavailable("the channel is closed")
            number, body_max = channel.number, self._body_max
            data = b"".join([frames(message, number, body_max) for message in messages])
            pending = _Pending(channel.create_future(), channel.delivery_tag + 1, len(messages))
            for at, message in enumerate(messages):
                self._expect(message, _Slot(pending, at))
            try:
                async with asyncio.timeout(timeout_s):
                    await channel.write_queue.put(ChannelFrame(data, False))
            except BaseException as error:
                # Counted but perhaps not sent: from here on our count may differ from the broker's.
                self._closing = asyncio.create_task(self._abandon())
                if isinstance(error, TimeoutError):
                    raise BrokerUnavailable("RabbitMQ does not take what is sent") from error
                raise
        return pending

    async def _heard(self, frame: ConfirmationFrameType) -> None:
        """The broker's word on a message, or on all up to it."""
        waiting, tag = self._channel.confirmations, frame.delivery_tag or 0
        outcome = Outcome.CONFIRMED if isinstance(frame, Basic.Ack) else Outcome.NACKED
        if isinstance(frame, Basic.Reject) or not frame.multiple:
            _settle(waiting.pop(tag, None), outcome)
            return
        while waiting and (first := next(iter(waiting))) <= tag:
            _settle(waiting.pop(first), outcome)

    async def _abandon(self) -> None:
        with suppress(*FOREIGN):
            await self._channel.close(timeout=CLOSE_TIMEOUT_S)

    def _expect(self, message: Message, slot: "_Slot") -> None:
        """Count the message as the channel counts, so that its reader finds our slot."""
        channel = self._channel
        channel.delivery_tag += 1
        channel.confirmations[channel.delivery_tag] = cast("asyncio.Future[Any]", slot)
        if message.mandatory:
            channel.message_id_delivery_tag[message.message_id] = channel.delivery_tag


def frames(message: Message, channel: int, body_max: int = FRAME_MIN - FRAME_OVERHEAD) -> bytes:
    """The frames that publish a message; `body_max` bytes of its body in each."""
    body = message.body
    publish = b"".join(
        (
            PUBLISH,
            _short(message.exchange) or EMPTY,
            _short(message.routing_key) or EMPTY,
            bytes((message.mandatory,)),
        )
    )
    header = HEADER.pack(Basic.frame_id, 0, len(body)) + _properties(message)
    parts = range(0, len(body), body_max)
    return b"".join(
        (
            _frame(FRAME_METHOD, channel, publish),
            _frame(FRAME_HEADER, channel, header),
            *(_frame(FRAME_BODY, channel, body[at : at + body_max]) for at in parts),
        )
    )


class _Pending:
    """The outcomes of messages sent together, and one future for all of them. `first` is the
    delivery tag of the first."""

    __slots__ = ("_left", "_outcomes", "first", "settled")

    def __init__(self, settled: "asyncio.Future[None]", first: int, count: int) -> None:
        self.settled = settled
        self.first = first
        self._outcomes: list[Outcome | None] = [None] * count
        self._left = count

    def settle(self, at: int, outcome: Outcome) -> None:
        self._left -= self._outcomes[at] is None
        self._outcomes[at] = outcome
        if not self._left and not self.settled.done():
            self.settled.set_result(None)

    def result(self) -> list[Outcome]:
        """What is known now. Raises `BrokerUnavailable` if the channel has closed meanwhile."""
        if not self.settled.done():
            self.settled.cancel()
        elif error := self.settled.exception():
            raise BrokerUnavailable("the channel closed before the broker confirmed") from error
        return [outcome or Outcome.UNCONFIRMED for outcome in self._outcomes]


class _Slot:
    """What the channel's reader finds in the place of a future: as much of one as it uses, for a
    message that comes back."""

    __slots__ = ("_at", "_pending")

    def __init__(self, pending: _Pending, at: int) -> None:
        self._pending = pending
        self._at = at

    def settle(self, outcome: Outcome) -> None:
        self._pending.settle(self._at, outcome)

    def set_exception(self, _: PublishError) -> None:
        self.settle(Outcome.RETURNED)


def _settle(waiting: object, outcome: Outcome) -> None:
    """A message that came back is confirmed as well; that says nothing more."""
    if isinstance(waiting, _Slot):
        waiting.settle(outcome)


def _properties(message: Message) -> bytes:
    """The properties as in a content header: flags, then what is set, in the order of the flags."""
    stamp = message.timestamp
    fields = (
        (1 << 15, _short(message.content_type)),
        (1 << 13, _table(message.headers) if message.headers else b""),
        (1 << 12, PERSISTENT),
        (1 << 11, b"" if message.priority is None else bytes((message.priority,))),
        (1 << 10, _short(message.correlation_id)),
        (1 << 7, _short(message.message_id)),
        (1 << 6, b"" if stamp is None else LONG_LONG.pack(stamp)),
        (1 << 5, _short(message.type)),
        (1 << 4, _short(message.user_id)),
        (1 << 3, _short(message.app_id)),
    )
    flags = sum([flag for flag, value in fields if value])
    return SHORT.pack(flags) + b"".join([value for _, value in fields])


def _short(text: str | None) -> bytes:
    """At most 255 bytes, with the length before them; nothing for nothing."""
    if not text:
        return b""
    data = text.encode()
    return bytes((len(data),)) + data


def _table(headers: Mapping[str, Any]) -> bytes:
    parts = []
    for name, value in headers.items():
        parts.append(_short(name))
        if type(value) is str:
            data = value.encode()
            parts += (b"S", LONG.pack(len(data)), data)
        else:
            parts.append(encode_table_value(value))
    table = b"".join(parts)
    return LONG.pack(len(table)) + table


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return b"".join((FRAME.pack(kind, channel, len(payload)), payload, FRAME_END))


@asynccontextmanager
async def publishing(connection: aiormq.abc.AbstractConnection) -> AsyncIterator[Publisher]:
    """A publisher on a channel of its own, for the block."""
    async with opened(connection, confirms=True) as channel:
        yield Publisher(cast("aiormq.Channel", channel))
