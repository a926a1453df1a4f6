"""An event that cannot be read, as a value, and the attributes that binary mode puts in headers."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct

from jobcast.errors import Refusal

PREFIXES: Final = ("cloudEvents_", "cloudEvents:")
HEADERS_MAX: Final = 16
HEADER_MAX: Final = 1_024
KNOWN: Final = frozenset(
    {"specversion", "id", "source", "type", "subject", "owner"}
    | {"time", "attempt", "sequence", "traceparent"}
)
"""What an event is read from: kept before all others."""


class Malformed(Struct, frozen=True):
    """An event that cannot be read. `message_id` is the same whenever the same bytes come.

    `headers` are its attributes in binary mode, without which the body says little; bounded, so
    that there is room for more.
    """

    reason: str
    detail: str
    body: bytes
    message_id: str
    content_type: str | None = None
    headers: dict[str, Any] = {}


def malformed(
    refusal: Refusal, body: bytes, headers: Mapping[str, Any], content_type: str | None
) -> Malformed:
    """`headers` and `content_type` as the message has them."""
    name = fingerprint(body, headers)
    kept = _kept_headers(headers)
    return Malformed(refusal.reason, refusal.detail, body, name, content_type, kept)


def fingerprint(body: bytes, headers: Mapping[str, Any]) -> str:
    """The same for the same event, however often it is delivered."""
    attributes = sorted(binary_attributes(headers).items(), key=str)
    return sha256(body + repr(attributes).encode("utf-8", "replace")).hexdigest()[:40]


def binary_attributes(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The CloudEvent's attributes in binary mode; none in the other modes."""
    return {
        name[len(PREFIXES[0]) :].lower(): _header(value)
        for name, value in headers.items()
        if name.startswith(PREFIXES)
    }


def _header(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else value


def _kept_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    named = [
        (name, value[:HEADER_MAX] if isinstance(value, str) else value)
        for name, value in headers.items()
        if name.startswith(PREFIXES) and isinstance(value, str | int)
    ]
    named.sort(key=lambda one: one[0][len(PREFIXES[0]) :].lower() not in KNOWN)
    return dict(named[:HEADERS_MAX])
