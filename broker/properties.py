"""A message out of the payload of its header frame: as much of its properties as is read here."""

from struct import Struct
from typing import Any, Final

from pamqp.decode import field_table

from jobcast.message import Incoming
from jobcast.tolerance import BROKEN, UNREADABLE, short_text

CONTENT: Final = Struct(">4xQ")
"""Class and weight, the size of the body."""
FLAGS: Final = Struct(">H")
LONG: Final = Struct(">I")

CONTENT_TYPE, ENCODING, HEADERS, MODE, PRIORITY, CORRELATION_ID, REPLY_TO = (
    1 << bit for bit in range(15, 8, -1)
)
EXPIRATION, MESSAGE_ID, TIMESTAMP, TYPE, USER_ID = (1 << bit for bit in range(8, 3, -1))
MORE: Final = 1
"""Another word of flags follows: in no message that AMQP 0-9-1 knows."""

KEPT: Final = ("cloudEvents", "x-")
"""How the names of the headers begin that somebody reads here."""
MESSAGE_BYTES: Final = 512
"""What a message takes beside its bytes, about."""


def incoming(header: bytes, body: bytes, tag: int) -> Incoming:
    """A message from the payload of its header frame. Properties that cannot be read make one
    with none but a content type that nobody takes: a dead letter, like any other bad input."""
    size = len(header) + len(body) + MESSAGE_BYTES
    try:
        return _incoming(header, body, tag, size)
    except BROKEN:
        return Incoming(body=body, content_type=UNREADABLE, tag=tag, size=size)


def _incoming(header: bytes, body: bytes, tag: int, size: int) -> Incoming:
    (flags,) = FLAGS.unpack_from(header, CONTENT.size)
    at = CONTENT.size + FLAGS.size
    if flags & MORE:
        raise ValueError("properties beyond those of AMQP 0-9-1")
    content_type = correlation_id = reply_to = user_id = None
    headers: dict[str, Any] = {}
    if flags & CONTENT_TYPE:
        content_type, at = short_text(header, at)
    if flags & ENCODING:
        at += 1 + header[at]
    if flags & HEADERS:
        end = at + LONG.size + LONG.unpack_from(header, at)[0]
        table = field_table(header[at:end])[1]
        headers = {name: value for name, value in table.items() if name.startswith(KEPT)}
        at = end
    at += bool(flags & MODE) + bool(flags & PRIORITY)
    if flags & CORRELATION_ID:
        correlation_id, at = short_text(header, at)
    if flags & REPLY_TO:
        reply_to, at = short_text(header, at)
    if flags & USER_ID:
        for skipped in (EXPIRATION, MESSAGE_ID):
            at += 1 + header[at] if flags & skipped else 0
        at += 8 if flags & TIMESTAMP else 0
        at += 1 + header[at] if flags & TYPE else 0
        user_id, at = short_text(header, at)
    return Incoming(
        body=body,
        content_type=content_type,
        headers=headers,
        correlation_id=correlation_id,
        user_id=user_id,
        reply_to=reply_to,
        tag=tag,
        size=size,
    )
