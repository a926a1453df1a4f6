"""The one door by which HTTP requests change a job: `job.lifecycle`, and the wait for the change.

Owns the order: is there such a job, and does it allow that → listen → publish, confirmed → look
until it shows. Promises: a job that is not the owner's costs what an unknown one costs, and nothing
is published for either; once RabbitMQ has confirmed, the answer is never an error of ours. Never
writes to Redis.
"""

import asyncio
import logging
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import aclosing
from typing import Any, ClassVar, Final, NamedTuple

from api import audit
from api.ingest import messages
from api.waits import Waits
from broker.errors import BrokerUnavailable
from broker.outlet import Outlet
from jobcast.change import reference
from jobcast.events import Event
from jobcast.job import Job
from jobcast.names import is_id
from jobcast.notification import SOURCE
from jobcast.wire import decode_job
from notifier.connection import StoreUnavailable
from notifier.follow import JobGone, JobNotFound
from notifier.looking import Lookout, looking_out
from notifier.reader import Reader
from notifier.store import Gone, Snapshot

WAIT_S: Final = 5.0

log = logging.getLogger(__name__)


class Wish(ABC):
    """What somebody wants of a job.

    `action`: its word in the audit log; `kept`: the event's reference is stored with the job;
    `deletes`: it is the tombstone that shows it.
    """

    action: ClassVar[str]
    kept: ClassVar[bool] = False
    deletes: ClassVar[bool] = False

    @abstractmethod
    def event(self, job: Job) -> Event:
        """Raises Problem where the job does not allow it."""

    @abstractmethod
    def shown(self, job: Job, stored: bool) -> bool:
        """Whether the job shows it. Raises Problem where it never will."""

    def again(self, event: Event, job: Job) -> Event | None:
        """The event to send once more, where the job has moved on so that it will not count."""
        return None


def named(job: Job) -> dict[str, Any]:
    """What every event of the service's own about the job has; each is an event by itself."""
    return {"id": uuid.uuid4().hex, "source": SOURCE, "owner": job.owner, "job_id": job.id}


class Sent(NamedTuple):
    """A wish on its way. `ends`: loop time until which it is waited for."""

    wish: Wish
    event: Event
    ends: float

    @property
    def reference(self) -> str | None:
        """By what the job remembers the event, if it does."""
        return reference(self.event) if self.wish.kept else None


class Door:
    """`user` is the service's own AMQP user: from it alone such events count."""

    def __init__(self, reader: Reader, outlet: Outlet, waits: Waits, user: str) -> None:
        self._reader = reader
        self._outlet = outlet
        self._waits = waits
        self._user = user

    async def carry_out(self, user: str, owner: str, job_id: str, wish: Wish) -> Snapshot | None:
        """The job that shows it, or as it is after `WAIT_S`; None once it is deleted. `user` is
        who wants it.

        Raises Problem, JobNotFound, JobGone, StoreUnavailable, BrokerUnavailable, Refused.
        """
        with self._waits.counted(user):
            before = await self._present(owner, job_id)
            event = wish.event(decode_job(before.body))
            async with looking_out(self._reader, owner, job_id) as lookout:
                ends = asyncio.get_running_loop().time() + WAIT_S
                if not self._outlet.ready:
                    raise BrokerUnavailable("not connected to RabbitMQ")
                # First: the confirm may be lost, and the change be made all the same.
                audit.controlled(user, wish.action, f"{owner}/{job_id}")
                await self._publish(event, ends)
                return await self._until_shown(lookout, Sent(wish, event, ends), before)

    async def _present(self, owner: str, job_id: str) -> Snapshot:
        if not is_id(job_id):
            raise JobNotFound(job_id)
        return there(await self._reader.store.read(owner, job_id), job_id)

    async def _until_shown(self, lookout: Lookout, sent: Sent, before: Snapshot) -> Snapshot | None:
        wish, event, ends = sent
        last = before
        try:
            async with aclosing(lookout.looks(ends, sent.reference)) as looks:
                async for found, stored in looks:
                    if wish.deletes and isinstance(found, Gone) and found.deleted:
                        return None
                    last = there(found, event.job_id)
                    job = decode_job(last.body)
                    if wish.shown(job, stored):
                        break
                    if (again := wish.again(event, job)) is not None:
                        event = again
                        await self._publish(event, ends)
        except StoreUnavailable as error:
            log.warning("%s: it will be applied, and cannot be seen yet: %s", wish.action, error)
        return last

    async def _publish(self, event: Event, ends: float) -> None:
        left_s = max(0.1, ends - asyncio.get_running_loop().time())
        sent = list(messages([event], int(time.time()), self._user))
        await self._outlet.publish(sent, timeout_s=left_s)


def there(found: Snapshot | Gone | None, job_id: str) -> Snapshot:
    """Raises JobNotFound, JobGone."""
    if isinstance(found, Snapshot):
        return found
    raise JobNotFound(job_id) if found is None else JobGone(found.deleted)
