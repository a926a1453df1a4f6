"""What a message carries beside its body must not stop the reader.

pamqp raises for a routing key or properties that are not what AMQP says (text that is not UTF-8, a
date out of range). aiormq then drops the connection, the broker delivers the message again, and one
message of one stranger would stop the service for good. Here a bad routing key, which nobody reads,
is read with replacement characters; a message with bad properties arrives with none but a content
type that nobody takes, and so becomes a dead letter like any other bad input.
"""

import re
import struct
from typing import Final

from pamqp.commands import Basic
from pamqp.constants import DOMAIN_REGEX
from pamqp.header import ContentHeader

UNREADABLE: Final = "application/x-unreadable-properties"
FIXED: Final = struct.Struct(">HHQ")  # class id, weight, body size
TAG: Final = struct.Struct(">QB")  # delivery tag, redelivered

ANY_NAME: Final = re.compile(r"[^\x00]*", re.DOTALL)

BROKEN: Final = (
    ValueError,
    OverflowError,
    OSError,
    struct.error,
    IndexError,
    TypeError,
    KeyError,
    RecursionError,  # tables in tables: 128 KiB of headers hold 18,000 of them
)
_strict_header = ContentHeader.unmarshal
_strict_deliver = Basic.Deliver.unmarshal


def _header(self: ContentHeader, data: bytes) -> None:
    try:
        _strict_header(self, data)
    except BROKEN:
        self.class_id, self.weight, self.body_size = FIXED.unpack_from(data)
        self.properties = Basic.Properties(content_type=UNREADABLE)


def _deliver(self: Basic.Deliver, data: bytes) -> None:
    try:
        _strict_deliver(self, data)
    except BROKEN:
        self.consumer_tag, at = short_text(data, 0, "replace")
        self.delivery_tag, redelivered = TAG.unpack_from(data, at)
        self.redelivered = bool(redelivered)
        self.exchange, at = short_text(data, at + TAG.size, "replace")
        self.routing_key, _ = short_text(data, at, "replace")


def short_text(data: bytes, at: int, errors: str = "strict") -> tuple[str, int]:
    """AMQP's short string, and where the next value begins. Raises one of `BROKEN`."""
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError("a short string that ends too soon")
    return data[at + 1 : end].decode("utf-8", errors), end


def tolerate_bad_properties() -> None:
    """For this process. The library offers no place to ask for it, so its methods are replaced."""
    # AMQP allows any name; ours hold `%`, which pamqp takes for a mistake.
    DOMAIN_REGEX["queue-name"] = ANY_NAME
    ContentHeader.unmarshal = _header  # type: ignore[method-assign]
    Basic.Deliver.unmarshal = _deliver  # type: ignore[method-assign, assignment]
