"""Getting events to the broker, through any number of connections.

Owns the outbox and the task that empties it. Promises that an accepted event is sent until it is
confirmed, a job's events in their order and under the same ids, and that no job is begun before its
commands can arrive. Never drops; when the buffer is full it lets the caller wait.
"""

import asyncio
import logging
from typing import Never
from urllib.parse import unquote, urlsplit

import aio_pika

from jobcast.backoff import delay_after
from jobcast.cancellation import is_to_end
from jobcast.events import Described, Event
from jobcast.holdings import Holdings
from jobcast.link import Link, LinkLost, Unaccepted, open_link
from jobcast.listening import Listener
from jobcast.outbox import Entry, Lane, Outbox, Parcel

log = logging.getLogger(__name__)


class Dispatcher:
    """`run` sends for ever; cancel it to stop."""

    def __init__(self, url: str, holdings: Holdings, *, events_max: int) -> None:
        self._url = url
        self._holdings = holdings
        self._listener = Listener(_user_of(url), heard=holdings.heard, renewed=self._ask_again)
        self._outbox = Outbox(events_max)
        self._door = asyncio.Lock()  # first come, first served: a job's events must not overtake
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._failures = 0
        self._complained = False

    @property
    def undelivered(self) -> list[Event]:
        return list(self._outbox)

    def listen_for(self, operation: str) -> None:
        """Commands for jobs of this operation are received before its next start is sent."""
        self._listener.want(operation)

    def holds(self, lane: Lane) -> bool:
        """Whether an event of that job is still unconfirmed."""
        return self._outbox.holds(lane)

    async def put(self, entry: Entry) -> None:
        """Takes the event over; waits while the buffer is full."""
        async with self._door:
            while self._outbox.full and not self._outbox.merges(entry):
                self._room.clear()
                await self._room.wait()
            self.put_now(entry)

    def put_now(self, entry: Entry) -> None:
        """As `put`, but beyond the bound: for what comes once per job."""
        self._outbox.add(entry)
        self._empty.clear()
        self._work.set()

    async def deliver(self, entry: Entry) -> None:
        """Takes the event over at once and waits until the broker has confirmed it.

        Cancelling the wait leaves the event where it is: it is still sent.
        """
        confirmed = asyncio.get_running_loop().create_future()
        self._awaited[entry.event.id] = confirmed
        self.put_now(entry)
        try:
            await confirmed
        finally:
            self._awaited.pop(entry.event.id, None)

    async def drained(self) -> None:
        """Waits until nothing is unconfirmed."""
        await self._empty.wait()

    async def run(self) -> Never:
        while True:
            try:
                async with open_link(self._url) as link:
                    await self._serve(link)
            except* LinkLost as group:
                self._failures += 1
                self._complain(group.exceptions[0])
            if is_to_end():
                raise asyncio.CancelledError
            await asyncio.sleep(delay_after(self._failures))

    async def _serve(self, link: Link) -> None:
        """Sends over this link until it is lost."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(link.lost())
                group.create_task(self._listener.run(link))
                await self._listener.ready()
                while True:
                    self._work.clear()
                    while parcel := self._outbox.take():
                        group.create_task(self._send(link, parcel))
                    await self._work.wait()
        finally:
            self._outbox.put_back()

    async def _send(self, link: Link, parcel: Parcel) -> None:
        """Sends until the broker accepts: nobody may have declared the queues yet."""
        if any(isinstance(event, Described) for event in parcel.events):
            await self._listener.ready()
        failures = 0
        while True:
            try:
                await link.publish(_message(parcel), parcel.routing_key)
            except Unaccepted as error:
                failures += 1
                self._complain(error)
                await asyncio.sleep(delay_after(failures))
            else:
                return self._confirmed(parcel)

    def _confirmed(self, parcel: Parcel) -> None:
        self._outbox.confirm(parcel)
        self._failures = 0
        if self._complained:
            self._complained = False
            log.warning("the broker accepts events again")
        for event in parcel.events:
            waiter = self._awaited.get(event.id)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._work.set()
        self._room.set()
        if not len(self._outbox):
            self._empty.set()

    def _ask_again(self) -> None:
        """Commands may have been missed: each job says again that it has started."""
        for start in self._holdings.starts():
            if not self._outbox.waits(start):
                self.put_now(start)

    def _complain(self, error: BaseException) -> None:
        """Once per outage: the tries in between say nothing new."""
        if not self._complained:
            self._complained = True
            log.warning("events cannot be delivered now, they are kept and sent again: %s", error)


def _user_of(url: str) -> str:
    return unquote(urlsplit(url).username or "guest")


def _message(parcel: Parcel) -> aio_pika.Message:
    return aio_pika.Message(
        parcel.body,
        content_type=parcel.content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=parcel.lane[1],
        message_id=parcel.entries[0].event.id,
    )
