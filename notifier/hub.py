"""The hub: hands every change of a job to the streams and waits of this process.

Owns one pub/sub connection, shared by all. Promises: whoever is attached at a cursor is given every
entry of the owner's feed after it, once and in order, or is told that it must read the feed itself.
The stream is the truth, pub/sub only wakes: an entry whose `prev` is not the last one seen, a
reconnect, or silence for a heartbeat makes the hub read the feed from its own cursor. It never
waits for a reader.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from random import uniform
from typing import Final

from redis.asyncio.connection import AbstractConnection

from jobcast.cancellation import ended_by_a_child, is_to_end
from notifier.connection import StoreUnavailable, connect, database, translated
from notifier.feed import Feed, position
from notifier.keys import channel
from notifier.listener import Item, Listener, OwnerListeners, item_of

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 15.0
PINGS: Final = 3
"""In each heartbeat. Hearing nothing for a whole one means that the link is dead."""
DELAY_MAX_S: Final = 2.0


class Hub:
    """`async with opened_hub(url, feed) as hub`; `with hub.listen(owner) as listener`."""

    def __init__(self, url: str, feed: Feed, heartbeat_s: float = HEARTBEAT_S) -> None:
        # One raw connection: redis-py's PubSub does not notice a dead link. RESP2, because there
        # a subscriber's PING is answered among the messages: to hear nothing is an error.
        self._redis = connect(
            url, name="jobcast-hub", connections_max=2, socket_timeout=heartbeat_s, protocol=2
        )
        self.heartbeat_s = heartbeat_s
        self._db = database(self._redis)
        self._feed = feed
        self._owners: dict[str, OwnerListeners] = {}
        self._by_channel: dict[bytes, OwnerListeners] = {}
        self._changed: asyncio.Queue[OwnerListeners] = asyncio.Queue()
        self.ready = False
        self.draining = False

    @contextmanager
    def listen(self, owner: str, job_id: str | None = None) -> Iterator[Listener]:
        """Hear of one job of an owner, or of all of them, for the block."""
        known = self._owners.get(owner)
        if known is None:
            known = self._owners[owner] = OwnerListeners(owner)
            self._by_channel[channel(self._db, owner).encode()] = known
            self._changed.put_nowait(known)
        listener = Listener(known, job_id, lambda: self.draining)
        place = known.feed if job_id is None else known.jobs[job_id]
        place.add(listener)
        try:
            yield listener
        finally:
            place.discard(listener)
            if job_id is not None and not place:
                known.jobs.pop(job_id, None)
            if known.idle:
                self._changed.put_nowait(known)

    def drain(self) -> None:
        """Tell everybody to come to an end."""
        self.draining = True
        for owner in self._owners.values():
            for listener in owner.listeners():
                listener.wake()

    async def run(self) -> None:
        """Keep a connection and the one timer, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._keep())

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                await self._connected()
            except* StoreUnavailable as group:
                log.warning("hub: %s", group.exceptions[0])
            except* ValueError as group:  # on our channel somebody else has spoken
                log.exception("hub: %s", group.exceptions[0])
            if is_to_end():
                raise asyncio.CancelledError
            failures = 0 if self.ready else min(failures + 1, 5)
            self.ready = False
            for owner in self._owners.values():
                owner.subscribed.clear()
            await asyncio.sleep(uniform(0, min(DELAY_MAX_S, 0.1 * 2**failures)))  # noqa: S311 - jitter

    async def _connected(self) -> None:
        pool = self._redis.connection_pool
        with translated():
            # A decorator of redis-py hides the types.
            connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            for owner in self._owners.values():
                self._changed.put_nowait(owner)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection))
                tasks.create_task(self._subscribe(connection))
                tasks.create_task(self._beat(connection))
                self.ready = True
                await ended_by_a_child()
        finally:
            await connection.disconnect(nowait=True)
            await pool.release(connection)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        """Subscribe and unsubscribe in one place, so that the two never cross."""
        while True:
            owner = await self._changed.get()
            name = channel(self._db, owner.name)
            current = self._owners.get(owner.name) is owner
            with translated():
                if not owner.idle:
                    await connection.send_command("SUBSCRIBE", name)
                elif current:
                    del self._owners[owner.name]
                    self._by_channel.pop(name.encode(), None)
                    await connection.send_command("UNSUBSCRIBE", name)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            with translated():
                message = await connection.read_response()
            match message:
                case [b"message", name, data]:
                    owner = self._by_channel.get(name)
                    if owner is not None and owner.subscribed.is_set():
                        await self._heard(owner, data)
                case [b"subscribe", name, _]:
                    owner = self._by_channel.get(name)
                    if owner is not None:
                        await self._subscribed(owner)

    async def _subscribed(self, owner: OwnerListeners) -> None:
        """The channel is heard from now on: where does the feed stand?"""
        if owner.last:
            await self._catch_up(owner)
        else:
            owner.last = await self._feed.tail(owner.name)
        owner.heard = asyncio.get_running_loop().time()
        owner.subscribed.set()

    async def _heard(self, owner: OwnerListeners, data: bytes) -> None:
        head, _, body = data.partition(b"\n")
        cursor, prev, event, version, job_id = head.decode().split(" ")
        owner.heard = asyncio.get_running_loop().time()
        progress = prev == "-"
        if (cursor if progress else prev) != owner.last:
            if position(cursor) <= position(owner.last):
                return  # read from the feed already
            await self._catch_up(owner)
            if not progress or cursor != owner.last:
                return  # read from the feed now, or older than what was
        if not body:
            body = await self._feed.snapshot(owner.name, job_id)
            if not progress and prev != owner.last:
                return  # read from the feed meanwhile
        owner.hand(Item(event, body, cursor, job_id, int(version), position(cursor)))

    async def _catch_up(self, owner: OwnerListeners) -> None:
        """Read what pub/sub did not bring. A feed that has lost the place: everybody reads."""
        while True:
            before = owner.last
            entries = (await self._feed.after(owner.name, before)).entries
            if owner.last != before:
                continue  # another task has been here meanwhile
            if not entries:
                tail = await self._feed.tail(owner.name)
                if position(tail) < position(owner.last):
                    owner.restart(tail)
                return
            if entries[0].prev != before:
                owner.restart(entries[-1].cursor)
                continue
            for entry in entries:
                owner.hand(item_of(entry))

    async def _beat(self, connection: AbstractConnection) -> None:
        """Hear a pong now and then, and look after owners that have been silent."""
        loop = asyncio.get_running_loop()
        while True:
            with translated():
                await connection.send_command("PING")
            await asyncio.sleep(self.heartbeat_s / PINGS)
            for owner in list(self._owners.values()):
                if owner.subscribed.is_set() and loop.time() - owner.heard > self.heartbeat_s:
                    owner.heard = loop.time()
                    await self._catch_up(owner)

    async def _tick(self) -> None:
        """The one timer of all streams: wake those that have something due."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            now = loop.time()
            for owner in list(self._owners.values()):
                for listener in list(owner.listeners()):
                    if listener.due <= now:
                        listener.wake()


@asynccontextmanager
async def opened_hub(url: str, feed: Feed, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[Hub]:
    """A running hub; leaving the block ends it. It reconnects by itself."""
    hub = Hub(url, feed, heartbeat_s)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        hub.drain()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await hub.aclose()
