"""Deliveries, read out of the bytes of a connection before aiormq sees them.

Owns the transport of a connection. Promises: the deliveries of a channel that has a taker go to
it, in order, put together from their frames; every other byte goes on to aiormq as it came. What a
stranger has put into a message's properties never breaks the connection. Nothing is read while
more than `HELD_MAX` bytes wait to be settled.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Any, Final, SupportsIndex, cast

import aiormq
from aiormq.connection import SSLContextProvider, TransportFactory
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

from broker.properties import CONTENT, incoming
from jobcast.message import Incoming

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
"""Bytes of messages that are not settled yet, over all channels; reading goes on below half."""

FRAME: Final = Struct(">BHI")
"""Type, channel, and the size of what follows, less the last byte."""
TAG: Final = Struct(">Q")
Take = Callable[[Incoming], None]


class Taker:
    """Who takes the deliveries of a channel, and the message that is arriving for him; between two,
    `tag` is None. `held`: the size of what is not settled."""

    __slots__ = ("body", "header", "held", "missing", "tag", "take")

    def __init__(self, take: Take) -> None:
        self.take: Take | None = take
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
            if self.take is not None:
                message = incoming(self.header, body, tag)
                self.held += message.size
                self.take(message)
        return True


class Deliveries(asyncio.StreamReader):
    """What aiormq reads from, less the deliveries that somebody takes."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = asyncio.get_running_loop().time
        self._pausing: asyncio.TimerHandle | None = None
        self._takers: dict[int, Taker] = {}
        self._asking = 0
        self._rest = bytearray()
        self._wanted = FRAME.size
        self._foreign = False
        self._passed_at = self._clock()

    def to(self, channel: int, take: Take) -> Taker:
        """From now on this channel's deliveries go there."""
        taker = self._takers[channel] = Taker(take)
        return taker

    def settled(self, taker: Taker, size: int) -> None:
        """So much of what it has taken is done with."""
        if taker.take is not None:
            taker.held -= size
            self._resume()

    def drop(self, taker: Taker) -> None:
        """What still comes for it is thrown away: its channel is about to be closed."""
        taker.take, taker.held = None, 0
        self._resume()

    def end(self, channel: int, taker: Taker) -> None:
        """Its channel is closed; the number may be another's by now."""
        if self._takers.get(channel) is taker:
            del self._takers[channel]

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Everything is read for the block, however much is held: an answer may stand behind it."""
        self._asking += 1
        self._resume()
        try:
            yield
        finally:
            self._asking -= 1
            self._pause()

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
        rest, self._rest = bytes(self._rest), bytearray()  # it is called again for the same end
        if rest:
            super().feed_data(rest)
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
            taker = self._takers.get(channel)
            if taker is not None and taker.take_frame(kind, data, at + FRAME.size, end):
                if passed < at:
                    self._pass(data[passed:at])
                passed = end + 1
            at = end + 1
        if passed < at:
            self._pass(data[passed:at])
        elif at and self._clock() - self._passed_at > STILL_THERE_S:
            self._pass(STILL_THERE)
        self._pause()
        return at

    @property
    def held(self) -> int:
        """The size of what is not settled, over all channels."""
        return sum(taker.held for taker in self._takers.values())

    def _pause(self) -> None:
        if self.held <= HELD_MAX or self._asking or self._foreign or self._socket.is_closing():
            return
        self._socket.pause_reading()  # again: aiormq's own bound may have ended the last pause
        if self._pausing is None:
            self._still_there()

    def _resume(self) -> None:
        if self._pausing is None or (self.held > HELD_MAX // 2 and not self._asking):
            return
        self._pausing.cancel()
        self._pausing = None
        # `_paused`: by StreamReader, which has more for aiormq than it should.
        if not (self._socket.is_closing() or self._paused):  # type: ignore[attr-defined]
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
