"""The frames of server-sent events: the one place for their format (docs/protocol.md § 8).

Not sse-starlette's encoder: importing that package replaces uvicorn's signal handler, and it works
on text where ours joins bytes. `data` is JSON, which never holds a raw line break.
"""

from collections.abc import Iterable
from typing import Final

from notifier.listener import Item

QUIET: Final = b":\n\n"
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


def frame(item: Item) -> bytes:
    """The item as one block; encoded once, however many streams it goes to."""
    if item.frame is None:
        item.frame = _encode(item)
    return item.frame


def frames(items: Iterable[Item]) -> bytes:
    return b"".join([item.frame or frame(item) for item in items])


def _encode(item: Item) -> bytes:
    place = b"" if item.cursor is None else b"id: %b\n" % item.cursor.encode()
    if item.event is None:
        return b"%b\n" % place if place else QUIET
    return b"event: %b\n%bdata: %b\n\n" % (item.event.encode(), place, item.body)


def retry(ms: float) -> bytes:
    """A line that tells the client how long to wait before it connects again."""
    return b"retry: %d\n" % ms


def later(ms: float, why: str) -> bytes:
    """A whole stream that says: not now, come again."""
    return b"%b: %b\n\n" % (retry(ms), why.encode())
