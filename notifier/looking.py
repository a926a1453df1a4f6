"""Looking at one job until a request shows in it: what cancel, comment, delete and record wait on.

Promises: a look is read from Redis, the one that every replica reads, so what it shows any later
read shows as well, wherever it is asked. Between two looks nothing is asked of Redis: the hub
wakes. Progress alone is no reason to look again.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from notifier.listener import Listener
from notifier.reader import Reader
from notifier.store import Gone, Snapshot


class Sight(NamedTuple):
    """The job at one moment, and whether the record or comment that is looked for is stored."""

    found: Snapshot | Gone | None
    stored: bool


class Lookout:
    """`look` at one job again and again; it hears of the job from before the first look."""

    def __init__(self, reader: Reader, key: tuple[str, str], listener: Listener) -> None:
        self._reader = reader
        self._owner, self._job_id = key
        self._listener = listener

    async def looks(self, ends: float, reference: str | None) -> AsyncGenerator[Sight, None]:
        """The job now, again whenever something has happened to it, and once more at the end:
        at `ends` (loop time), or when the hub drains.

        `reference` names the event of a record or comment. Raises `StoreUnavailable`.
        """
        more = True
        while more:
            yield await self._look(reference)
            more = await self._news(ends)
        yield await self._look(reference)

    async def _look(self, reference: str | None) -> Sight:
        store = self._reader.store
        if reference is None:
            return Sight(await store.read(self._owner, self._job_id), stored=False)
        found, stored = await store.read_with_reference(self._owner, self._job_id, reference)
        return Sight(found, stored)

    async def _news(self, ends: float) -> bool:
        """Whether something has happened, before the end."""
        listener = self._listener
        try:
            async with asyncio.timeout_at(ends):
                while not self._reader.hub.draining:
                    if listener.lost:
                        listener.attach()  # before the look: nothing falls between
                        return True
                    if any(not item.progress for item in await listener.take(float("inf"))):
                        return True
        except TimeoutError:
            pass
        return False


@asynccontextmanager
async def looking_out(reader: Reader, owner: str, job_id: str) -> AsyncIterator[Lookout]:
    """For the block; what happens to the job after entering is not missed.

    Raises `StoreUnavailable`.
    """
    with reader.hub.listen(owner, job_id) as listener:
        await listener.ready()
        listener.attach()
        yield Lookout(reader, (owner, job_id), listener)
