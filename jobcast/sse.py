"""Reading an event stream as WHATWG HTML § 9.2.6 says, from chunks cut anywhere. No I/O."""

import re
from typing import Final

import msgspec

BUFFER_MAX: Final = 8 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


class StreamTooLong(ValueError):
    """One event is larger than anything that is sent here: not an event stream of ours."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One dispatched event; `last_event_id` is the one in force when it was dispatched."""

    event: str
    data: str
    last_event_id: str | None


class EventStream:
    """Feed it the bytes of one response; it answers the events that they complete.

    `last_event_id` is None until the server has sent an id, and moves with blocks that carry an id
    alone. `retry_ms` is None until the server has said it. What the end of the response cuts off is
    no event. One stream per response.
    """

    def __init__(self) -> None:
        self.last_event_id: str | None = None
        self.retry_ms: int | None = None
        self._buffer = b""
        self._at_start = True
        self._skip_lf = False
        self._size = 0
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Raises StreamTooLong."""
        events = []
        for line in self._lines(chunk):
            self._size += len(line)
            if line:
                self._field(line)
            elif (event := self._dispatched()) is not None:
                events.append(event)
        if self._size + len(self._buffer) > BUFFER_MAX:
            raise StreamTooLong(f"an event of more than {BUFFER_MAX} bytes")
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        if not chunk:
            return []
        if self._skip_lf:
            chunk = chunk.removeprefix(b"\n")
        buffer = self._buffer + chunk
        if self._at_start:
            if len(buffer) < len(BOM) and BOM.startswith(buffer):
                self._buffer = buffer
                return []
            buffer = buffer.removeprefix(BOM)
            self._at_start = False
        self._skip_lf = buffer.endswith(b"\r")  # half of a CRLF, or a line end of its own
        *lines, self._buffer = _LINE_END.split(buffer)
        return lines

    def _field(self, line: bytes) -> None:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value[:9])

    def _dispatched(self) -> ServerSentEvent | None:
        self.last_event_id = self._id
        event, data = self._event or "message", self._data
        self._reset()
        return ServerSentEvent(event, "\n".join(data), self.last_event_id) if data else None

    def _reset(self) -> None:
        self._id = self.last_event_id
        self._event = ""
        self._data = []
        self._size = 0
