"""Deliveries, read out of the bytes of a connection before aiormq sees them.

Owns the transport of a connection. Promises: the deliveries of a channel that has a taker go to
it, in order, put together from their frames; every other byte goes on to aiormq as it came. What a
stranger has put into a message's properties never breaks the connection. Nothing is read while
more than `HELD_MAX` bytes wait to be settled.
"""

import asyncio
from collections.abc import Callable, Iterable
from struct import Struct, error
from typing import Any, Final, SupportsIndex, cast

import aiormq
from aiormq.connection import SSLContextProvider, TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp.decode import field_table
from yarl import URL

from jobcast.message import Incoming
from jobcast.tolerance import UNREADABLE

METHOD: Final = 1
HEADER: Final = 2
KINDS: Final = frozenset((METHOD, HEADER, 3, 8))
"""And pieces of a body, and heartbeats."""
END: Final = 0xCE
DELIVER: Final = b"\x00\x3c\x00\x3c"
STILL_THERE: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
STILL_THERE_S: Final = 1.0
"""aiormq takes a link for dead on which it has seen nothing for a while: beside deliveries the
broker sends no heartbeats, so it is told of them as if they were some."""

HELD_MAX: Final = 33_554_432
"""Bytes of bodies that are not settled yet, over all channels; reading goes on below half of it."""

FRAME: Final = Struct(">BHI")
"""Type, channel, and the size of what follows, less the last byte."""
TAG: Final = Struct(">Q")
CONTENT: Final = Struct(">4xQH")
"""Class and weight, the size of the body, which properties follow."""
LONG: Final = Struct(">I")

CONTENT_TYPE, ENCODING, HEADERS, MODE, PRIORITY, CORRELATION_ID, REPLY_TO = (
    1 << bit for bit in range(15, 8, -1)
)
EXPIRATION, MESSAGE_ID, TIMESTAMP, TYPE, USER_ID = (1 << bit for bit in range(8, 3, -1))
MORE: Final = 1
"""Another word of flags follows: in no message that AMQP 0-9-1 knows."""

BAD: Final = (ValueError, IndexError, KeyError, TypeError, OverflowError, error)

Take = Callable[[Incoming], None]


class _Assembly:
    """The message that is arriving on a channel; between two, `tag` is None."""

    __slots__ = ("body", "header", "held", "missing", "tag", "take")

    def __init__(self, take: Take) -> None:
        self.take = take
        self.held = 0
        self.tag: int | None = None
        self.header = b""
        self.body: list[bytes] = []
        self.missing = 0

    def take_frame(self, kind: int, data: bytes, at: int, end: int) -> bool:
        """Whether the frame with this payload is part of a delivery."""
        if kind == METHOD:
            delivered = data[at : at + 4] == DELIVER
            # None: the channel may be being closed in the middle of a message.
            self.tag = TAG.unpack_from(data, at + 5 + data[at + 4])[0] if delivered else None
            return delivered
        if self.tag is None:
            return False
        if kind == HEADER:
            self.header, self.body = data[at:end], []
            self.missing = CONTENT.unpack_from(self.header)[0]
        else:
            self.body.append(data[at:end])
            self.missing -= end - at
        if self.missing <= 0:
            body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
            tag, self.tag = self.tag, None
            self.held += len(body)
            self.take(incoming(self.header, body, tag))
        return True


class Deliveries(asyncio.StreamReader):
    """What aiormq reads from, less the deliveries that somebody takes."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = asyncio.get_running_loop().time
        self._pausing: asyncio.TimerHandle | None = None
        self._takers: dict[int, _Assembly] = {}
        self._rest = bytearray()
        self._wanted = FRAME.size
        self._foreign = False
        self._passed_at = self._clock()

    def to(self, channel: int, take: Take) -> None:
        """From now on this channel's deliveries go there."""
        self._takers[channel] = _Assembly(take)

    def settled(self, channel: int, size: int) -> None:
        """So many bytes of this channel's deliveries are done with."""
        if (assembly := self._takers.get(channel)) is not None:
            assembly.held -= size
            self._resume()

    def end(self, channel: int) -> None:
        """Nobody takes this channel's deliveries any more."""
        self._takers.pop(channel, None)
        self._resume()

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        super().set_transport(transport)
        self._socket = cast("asyncio.Transport", transport)

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Called with what has arrived."""
        data = bytes(data)
        if self._foreign:
            super().feed_data(data)
            return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        used = self._frames(data)
        if used < len(data):
            self._rest += data[used:]

    def feed_eof(self) -> None:
        if self._pausing is not None:
            self._pausing.cancel()
        self._foreign = True  # no frame of ours can follow
        if self._rest:
            super().feed_data(bytes(self._rest))
        super().feed_eof()

    def _frames(self, data: bytes) -> int:
        """Deals with the whole frames; how far they go."""
        at = passed = 0  # what stands between the two is aiormq's
        size = len(data)
        self._wanted = FRAME.size
        while size - at >= FRAME.size:
            kind, channel, length = FRAME.unpack_from(data, at)
            end = at + FRAME.size + length
            if end >= size and kind in KINDS:
                self._wanted = end - at + 1
                break
            if kind not in KINDS or data[end] != END:
                self._foreign, at = True, size  # aiormq says what is wrong with it
                break
            assembly = self._takers.get(channel)
            if assembly is not None and assembly.take_frame(kind, data, at + FRAME.size, end):
                if passed < at:
                    self._pass(data[passed:at])
                passed = end + 1
            at = end + 1
        if passed < at:
            self._pass(data[passed:at])
        elif at and self._clock() - self._passed_at > STILL_THERE_S:
            self._pass(STILL_THERE)
        if self._held() > HELD_MAX:
            self._pause()
        return at

    def _held(self) -> int:
        return sum(assembly.held for assembly in self._takers.values())

    def _pause(self) -> None:
        if self._pausing is None and not (self._foreign or self._socket.is_closing()):
            self._socket.pause_reading()
            self._still_there()

    def _resume(self) -> None:
        if self._pausing is not None and self._held() <= HELD_MAX // 2:
            self._pausing.cancel()
            self._pausing = None
            if not self._socket.is_closing():
                self._socket.resume_reading()

    def _still_there(self) -> None:
        """Again and again while nothing is read. A link that has died meanwhile shows when it is
        written to, or afterwards."""
        if not self._socket.is_closing():
            self._pass(STILL_THERE)
            later = asyncio.get_running_loop().call_later
            self._pausing = later(STILL_THERE_S, self._still_there)

    def _pass(self, data: bytes) -> None:
        self._passed_at = self._clock()
        super().feed_data(data)


class Connection(aiormq.Connection):
    """aiormq's, with its deliveries apart."""

    def __init__(self, url: URL) -> None:
        self._transport = _Transport()
        super().__init__(url, transport_factory=self._transport)

    @property
    def deliveries(self) -> Deliveries:
        """Of a connection that is open."""
        return self._transport.deliveries


class _Transport(TransportFactory):
    """Opens TCP or TLS, as the URL says."""

    deliveries: Deliveries

    async def create(
        self, url: URL, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        provider: SSLContextProvider = options.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        self.deliveries = reader = Deliveries()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "", url.port or 0, ssl=context, **options
            )
        except OSError as failed:
            raise AMQPConnectionError(*failed.args) from failed
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def incoming(header: bytes, body: bytes, tag: int) -> Incoming:
    """A message from the payload of its header frame. Properties that cannot be read make one
    with none but a content type that nobody takes: a dead letter, like any other bad input."""
    try:
        return _incoming(header, body, tag)
    except (*BAD, RecursionError):  # tables in tables: 128 KiB of headers hold 18,000 of them
        return Incoming(body=body, content_type=UNREADABLE, tag=tag)


def _incoming(header: bytes, body: bytes, tag: int) -> Incoming:
    flags = CONTENT.unpack_from(header)[1]
    at = CONTENT.size
    if flags & MORE:
        raise ValueError("properties beyond those of AMQP 0-9-1")
    content_type = correlation_id = reply_to = user_id = None
    headers: dict[str, Any] = {}
    if flags & CONTENT_TYPE:
        content_type, at = _text(header, at)
    if flags & ENCODING:
        at += 1 + header[at]
    if flags & HEADERS:
        end = at + LONG.size + LONG.unpack_from(header, at)[0]
        headers = field_table(header[at:end])[1]
        at = end
    at += bool(flags & MODE) + bool(flags & PRIORITY)
    if flags & CORRELATION_ID:
        correlation_id, at = _text(header, at)
    if flags & REPLY_TO:
        reply_to, at = _text(header, at)
    if flags & USER_ID:
        for skipped in (EXPIRATION, MESSAGE_ID):
            at += 1 + header[at] if flags & skipped else 0
        at += 8 if flags & TIMESTAMP else 0
        at += 1 + header[at] if flags & TYPE else 0
        user_id, at = _text(header, at)
    return Incoming(
        body=body,
        content_type=content_type,
        headers=headers,
        correlation_id=correlation_id,
        user_id=user_id,
        reply_to=reply_to,
        tag=tag,
    )


def _text(data: bytes, at: int) -> tuple[str, int]:
    """AMQP's short string, and where the next value begins. Raises IndexError, ValueError."""
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError("a short string that ends too soon")
    return data[at + 1 : end].decode(), end
