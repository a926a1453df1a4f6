"""A dead letter as a value: why it is here, what it says, what is sent again of it. Pure.

Whatever stands in a letter was written by a stranger, so what is shown of it is made of printable
characters only: an escape sequence in it never reaches a terminal.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct

from jobcast.malformed import binary_attributes
from jobcast.reasons import UNREADABLE

OCTETS: Final = "application/octet-stream"
REFUSED_TYPE: Final = "unsupported-content-type"
UNKNOWN: Final = "unknown"
WORD_MAX: Final = 100
DETAIL_MAX: Final = 500
BODY_SHOWN_MAX: Final = 65_536

# What the service and RabbitMQ have noted on the letter, not its sender.
NOTES: Final = re.compile(
    r"x-(jobcast-.*|death|(first|last)-death-.*|delivery-count|acquired-count)\Z", re.DOTALL
)


class Letter(Struct, frozen=True, kw_only=True):
    """One message of `jobcast.dead`, as it came. `properties`: the other AMQP properties."""

    body: bytes
    message_id: str | None = None
    content_type: str | None = None
    correlation_id: str | None = None
    timestamp: datetime | None = None
    headers: dict[str, Any] = {}
    properties: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """What the commands take: the message id; a hash of the body for one that came without."""
        if not self.message_id:
            return sha256(self.body).hexdigest()[:40]
        return printable(self.message_id)

    @property
    def reason(self) -> str:
        """The service's code, or RabbitMQ's word where it was RabbitMQ that gave the message up."""
        death = self._death
        known = self.headers.get("x-first-death-reason") or death.get("reason")
        return _word(known or self.headers.get("x-jobcast-reason")) or UNKNOWN

    @property
    def detail(self) -> str:
        death = self._death
        if not death:
            return _word(self.headers.get("x-jobcast-detail"), DETAIL_MAX)
        queue = self.headers.get("x-first-death-queue") or death.get("queue")
        return f"RabbitMQ gave it up in {_word(queue) or 'a queue'}"

    @property
    def at(self) -> datetime | None:
        """When it was given up, or else sent, as far as it is known."""
        died = self._death.get("time")
        return died if isinstance(died, datetime) else self.timestamp

    @property
    def _death(self) -> Mapping[str, Any]:
        deaths = self.headers.get("x-death")
        newest = deaths[0] if isinstance(deaths, list) and deaths else None
        return newest if isinstance(newest, dict) else {}


class Outline(Struct):
    """As much of an event as a list shows; of any type, because it is not a good one."""

    type: Any = None
    subject: Any = None
    owner: Any = None


class Row(Struct, frozen=True, kw_only=True):
    """A line of the list: a few hundred bytes, however long the letter. `size` in bytes."""

    id: str
    reason: str
    detail: str
    type: str
    subject: str
    owner: str
    size: int
    at: str | None


OUTLINE: Final = msgspec.json.Decoder(Outline)
OUTLINES: Final = msgspec.json.Decoder(list[Outline])


def row_of(letter: Letter) -> Row:
    outline, more = outline_of(letter)
    return Row(
        id=letter.id,
        reason=letter.reason,
        detail=letter.detail,
        type=_word(outline.type) + (f" (+{more})" if more else ""),
        subject=_word(outline.subject),
        owner=_word(outline.owner),
        size=len(letter.body),
        at=moment(letter.at),
    )


def outline_of(letter: Letter) -> tuple[Outline, int]:
    """The first event of the letter, and how many more there are; empty if it cannot be read."""
    attributes = binary_attributes(letter.headers)
    if attributes:
        return Outline(*(attributes.get(name) for name in Outline.__struct_fields__)), 0
    try:
        if letter.body.lstrip()[:1] != b"[":
            return OUTLINE.decode(letter.body), 0
        first, *others = OUTLINES.decode(letter.body) or [Outline()]
        return first, len(others)
    except UNREADABLE:
        return Outline(), 0


def original(letter: Letter) -> tuple[str | None, dict[str, Any]]:
    """Content type and headers as its sender gave them.

    A letter needs a content type, so one that had none says `application/octet-stream`. One that
    really was of that type is here for just that reason.
    """
    headers = {name: value for name, value in letter.headers.items() if not NOTES.match(name)}
    ours = "x-jobcast-reason" in letter.headers and not letter._death
    if ours and letter.content_type == OCTETS and letter.reason != REFUSED_TYPE:
        return None, headers
    return letter.content_type, headers


def described(letter: Letter) -> dict[str, str]:
    """All that is known of it beside the body, in the order of its telling."""
    row = row_of(letter)
    named = {
        "id": row.id,
        "reason": row.reason,
        "detail": row.detail,
        "at": row.at or "",
        "type": row.type,
        "subject": row.subject,
        "owner": row.owner,
        "content_type": letter.content_type,
        "correlation_id": letter.correlation_id,
        **letter.properties,
    }
    told = {name: _shown(value) for name, value in named.items() if value not in (None, "")}
    headers = {printable(name): _shown(value) for name, value in letter.headers.items()}
    return told | {f"header {name}": value for name, value in headers.items()}


def body_shown(body: bytes) -> tuple[str, int]:
    """The body for a terminal, JSON laid out; and how many of its characters are left out."""
    try:
        text = msgspec.json.format(body, indent=2).decode()
    except UNREADABLE:
        text = body.decode("utf-8", "backslashreplace")
    shown = "\n".join(printable(line) for line in text[:BODY_SHOWN_MAX].split("\n"))
    return shown, max(0, len(text) - BODY_SHOWN_MAX)


def printable(text: str) -> str:
    """Every character that a terminal may obey, or hide, as an escape."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def _word(value: object, limit: int = WORD_MAX) -> str:
    """A stranger's value on one line, bounded; nothing for what is no text."""
    return _cut(printable(value[: limit + 1]), limit) if isinstance(value, str) else ""


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value) or ""
    return _cut(printable(value if isinstance(value, str) else repr(value)), DETAIL_MAX)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
