"""One open event stream: what is written on it beside the events, and how it is ended from outside.

Promises: a write that is not of the stream's own task is a whole number of blocks, and never waits
for a slow reader.
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import Send

from api.identity import Identity
from api.presence import Presence
from api.sse import frame
from notifier.listener import Item

WARNINGS: Final[set["asyncio.Task[None]"]] = set()
"""Held until they are done: the loop itself keeps no strong reference."""


class Stream:
    """One open stream, as the sweep and the tenure see it."""

    __slots__ = ("_send", "blocked_since", "ending", "identity", "presence", "warned")

    def __init__(self, identity: Identity, presence: Presence, send: Send) -> None:
        self.identity = identity
        self.presence = presence
        self.blocked_since: float | None = None
        self.warned = True  # not before it has begun
        self.ending: str | None = None
        self._send = send

    def warn(self, left_s: int) -> None:
        """Says that the credential ends, between two writes; a reader that is stuck is not told."""
        if self.blocked_since is None:
            self.warned = True
            task = asyncio.create_task(self._say(expiring(left_s)))
            WARNINGS.add(task)
            task.add_done_callback(WARNINGS.discard)

    def end(self, why: str) -> None:
        self.ending = why
        self.presence.cut()

    async def _say(self, chunk: bytes) -> None:
        # Whole blocks, so they may stand between any two others. RuntimeError: the response has
        # ended while this waited.
        with suppress(RuntimeError):
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def write(self, chunk: bytes, *, more: bool = True) -> None:
        """Sends, noting since when, so that the sweep can tell a reader that is stuck."""
        self.blocked_since = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        self.blocked_since = None


def expiring(left_s: float) -> bytes:
    """The block that says for how many more seconds the credential holds."""
    return frame(Item("expiring", b'{"in_s":%d}' % left_s))
