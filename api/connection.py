"""The bounds of one HTTP connection, which uvicorn and httptools leave open.

Owns how long a request's head and body may be under way, and how large the head may be: as they
come, a URL or a header has no end and a client no haste. Promises: 414, 431 or 408 and a close, at
the price of a number or two per request and one timer for all connections; of answers that nobody
reads, not many more than `UNSENT_MAX` bytes are kept. A body's size is the
business of who reads it (`api.body`); what comes of it after the answer is cut off here.
"""

import asyncio
import logging
import secrets
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.manners import SECURITY
from api.problems import KINDS, MEDIA_TYPE, Problem

URL_MAX: Final = 16 * 1024
HEAD_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 100
HEAD_S: Final = 10.0
BODY_S: Final = 10.0
BODY_PER_S: Final = 4 * 1024
"""Seconds for a head; for a body so many, and one more for so many bytes of it."""
UNREAD_MAX: Final = 64 * 1024
LINGER_S: Final = 1.0
HURRY_S: Final = 1.0
UNSENT_MAX: Final = 256 * 1024 * 1024
"""Bytes of answers of all connections; a list of records alone may have 8 MiB."""

log = logging.getLogger(__name__)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with bounds; `uvicorn.Config(http=Connection)`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since: float | None = None  # when what is under way began
        self._began = False  # the message in hand has, with this piece of data
        self._in_head = False
        self._head = 0  # bytes of the pieces after the one with which it began
        self._lines = 0  # bytes of its complete lines
        self._body = 0
        self._excess: str | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own signature
        super().connection_made(transport)
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._began = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # served as if it had not been asked for; without two lines in the log
        except httptools.HttpParserError:
            self.refuse(self._excess or "bad-request")
        else:
            self._measure(len(data))

    def _measure(self, length: int) -> None:
        """What a head holds beyond its complete lines is seen by its pieces alone."""
        if not self._in_head:
            return
        if not self._began:
            self._head += length
        if self._head > HEAD_MAX and self._excess is None:
            self._excess = "head-too-large"
        if self._excess is not None:
            self.refuse(self._excess)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since = self.loop.time()
        self._began = self._in_head = True
        self._head = self._lines = self._body = 0

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) > URL_MAX:
            self._excess = "url-too-long"
        else:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += len(name) + len(value)
        if self._lines > HEAD_MAX or len(self.headers) >= HEADERS_MAX:
            self._excess = self._excess or "head-too-large"
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._excess is not None:
            self.refuse(self._excess)
        if not self._refused:
            self._in_head = False
            self._since = self.loop.time()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._body += len(body)
        if self.cycle.response_complete and self._body > UNREAD_MAX:
            self._refused = True
            self.transport.close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._since = None
        if not self._refused:
            super().on_message_complete()

    def refuse(self, name: str) -> None:
        """Answers with this problem, if nothing else is being answered, and closes."""
        if self._refused:
            return
        self._refused, self._since = True, None
        if self.transport.is_closing():
            return
        if self._in_hand():
            self.transport.abort()
            return
        self.transport.write(_answer(name))
        # Closed at once, with data unread, the answer would be lost to most clients.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _in_hand(self) -> bool:
        """Whether an answer has begun, or an earlier request is still to be answered."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or self._in_head

    def hurry(self, now: float) -> None:
        """Refuses a request that takes too long to come. `now` by the loop's clock."""
        if self._since is None or self._refused:
            return
        if self.flow.read_paused:
            self._since = now  # it is we who do not read
            return
        began = self._in_head or self.cycle is not None
        allowed = HEAD_S if self._in_head or not began else BODY_S + self._body / BODY_PER_S
        if now - self._since <= allowed:
            return
        if began:
            self.refuse("too-slow")
        else:
            self.transport.close()  # connected, and said nothing


async def hurry(server: uvicorn.Server) -> None:
    """Looks after all connections of the server, for ever."""
    unsent: Mapping[Connection, int] = {}
    while True:
        await asyncio.sleep(HURRY_S)
        now = asyncio.get_running_loop().time()
        connections = [c for c in server.server_state.connections if isinstance(c, Connection)]
        for connection in connections:
            connection.hurry(now)
        unsent = relieve(connections, unsent)


def relieve(
    connections: Collection[Connection], before: Mapping[Connection, int]
) -> Mapping[Connection, int]:
    """Aborts those that read nothing, from the largest on, while all together hold too much.

    Answers what each has unsent; `before` is the last answer.
    """
    unsent = {c: size for c in connections if (size := c.transport.get_write_buffer_size())}
    total, aborted = sum(unsent.values()), 0
    if total > UNSENT_MAX:
        stuck = [(size, c) for c, size in unsent.items() if before.get(c) == size]
        for size, connection in sorted(stuck, key=lambda one: one[0], reverse=True):
            connection.transport.abort()
            total, aborted = total - size, aborted + 1
            if total <= UNSENT_MAX:
                break
        if aborted:
            log.warning("%d connections cut: too much is unsent that nobody reads", aborted)
    return unsent


def _answer(name: str) -> bytes:
    body = bytes(Problem(name).response().body)
    status = KINDS[name].status
    lines = [
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()),
        b"content-type: " + MEDIA_TYPE.encode(),
        b"content-length: %d" % len(body),
        b"connection: close",
        b"cache-control: no-store",
        b"x-request-id: " + secrets.token_hex(8).encode(),
        *(b"%b: %b" % pair for pair in SECURITY),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
