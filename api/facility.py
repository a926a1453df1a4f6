"""The job facility as the dialects use it: who asks, and jobs and records as values, without HTTP.

Owns nothing. Promises what the native routes promise: a foreign job and an unknown one are the same
`JobNotFound` at the same cost; a change goes through the one door and is readable at the return;
limits per user count together with those of the native routes. A dialect needs nothing else: it
touches neither Redis nor RabbitMQ.
"""

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
from msgspec import Struct
from starlette.types import Receive

from api import identity
from api.door import Door, Wish
from api.identity import Credentials, Identity, by_session, session_expiry, session_of
from api.limits import Rate
from api.lists import EVERYONE
from api.logon import Logons
from api.problems import Problem
from api.session import Purposes
from api.settings import Settings
from api.streams import Streams
from api.waits import Waits
from jobcast.change import Record
from jobcast.job import Job
from jobcast.names import is_id
from jobcast.wire import decode_job
from notifier.follow import JobGone, JobNotFound
from notifier.reader import Reader
from notifier.records import Window
from notifier.store import Gone, Snapshot
from notifier.users import User
from notifier.wait import wait_job

LOOKED_AT_MAX: Final = 10_000
"""Jobs of an owner that a search looks at, from the newest on: what is older is not found by it."""
CHUNK: Final = 200
RECORD: Final = msgspec.json.Decoder(Record)


class Listing(Struct, frozen=True):
    """Some jobs of a longer list, and how many there are in it."""

    jobs: list[Job]
    total: int


class Facility:
    """One for all dialects. `streams` for those that follow, `logons` for those with sessions."""

    def __init__(  # noqa: PLR0913 - the parts, named
        self,
        *,
        settings: Settings,
        reader: Reader,
        door: Door,
        waits: Waits,
        credentials: Credentials,
        rate: Rate,
        streams: Streams,
        logons: Logons,
    ) -> None:
        self.settings = settings
        self.logons = logons
        self.streams = streams
        self.credentials = credentials
        self._reader = reader
        self._door = door
        self._waits = waits
        self._rate = rate

    async def identify(self, name: str | None, token: str) -> Identity | None:
        """Whose token (or JWT) this is; with a name, only if it is theirs. Raises CannotTell."""
        by, now = self.credentials, time.time()
        found = self._identified(name, token, now)
        if found is None and by.issuer is not None and await by.issuer.settled():
            found = self._identified(name, token, now)
        return found

    def _identified(self, name: str | None, token: str, now: float) -> Identity | None:
        if name is None:
            return identity.by_token(token, self.credentials, now)
        return identity.by_password(name, token, self.credentials, now)

    def open_session(self, who: Identity, purposes: Purposes) -> tuple[str, int]:
        """A value by which `in_session` knows who asks, and for how many seconds: it ends after 12
        hours, with its credential, and when that is revoked. Raises CannotTell."""
        now = time.time()
        expires = session_expiry(who, now)
        return session_of(who, self.credentials.secret, expires, purposes), int(expires - now)

    def in_session(self, value: str, purposes: Purposes) -> Identity | None:
        """Who has opened it, for the same purposes. Raises CannotTell."""
        return by_session(value, self.credentials, time.time(), purposes)

    def user_of_key(self, api_key: str) -> User | None:
        """The user with this `cloudstack.api_key`, whose `secret_key` signs requests."""
        return self.credentials.users.by_api_key(api_key)

    def admit(self, who: Identity) -> None:
        """What every request asks first. Raises Problem `forbidden`, `too-many-requests`."""
        if not who.has("subscriber"):
            raise Problem("forbidden", "the role subscriber is wanted")
        if delay := self._rate.delay(who.user):
            headers = {"Retry-After": str(max(1, math.ceil(delay)))}
            raise Problem("too-many-requests", headers=headers)

    async def job(self, owner: str, job_id: str) -> Job:
        """Raises JobNotFound, JobGone, StoreUnavailable."""
        found = await self._reader.store.read(owner, job_id) if is_id(job_id) else None
        return _there(found, job_id)

    async def jobs(self, names: Sequence[tuple[str, str]]) -> list[Job]:
        """Those of (owner, id) pairs that are there, in one round trip. Raises StoreUnavailable."""
        return [decode_job(one.body) for one in await self._reader.everyone.snapshots(names)]

    async def ended(
        self, who: Identity, job_id: str, wait_s: float, receive: Receive, *, owner: str = ""
    ) -> Job:
        """The job as soon as it has ended, or as it is after `wait_s`; the owner is by default who
        asks.

        Raises JobNotFound, JobGone, StoreUnavailable, ClientGone, and Problem at the user's limit
        of waits or when the credential is revoked.
        """
        if not is_id(job_id):
            raise JobNotFound(job_id)
        reader, owner = self._reader, owner or who.user
        _there(await reader.store.read(owner, job_id), job_id)  # an unknown one: at once
        async with self._waits.entered(who, receive, wait_s) as hold_s:
            found = await wait_job(reader, owner, job_id, seen=None, timeout_s=hold_s)
        return _there(found, job_id)

    async def listed(
        self,
        owner: str,
        *,
        offset: int,
        limit: int,
        oldest_first: bool = False,
        live: bool = False,
    ) -> Listing:
        """By place in the order of creation; costs the same wherever it begins. `live`: of those
        that have not ended. `total` may count a few that have just expired. Raises
        StoreUnavailable."""
        found, total = await self._reader.store.slice(
            owner, _index(live), offset=offset, limit=limit, oldest_first=oldest_first
        )
        return Listing([decode_job(one.body) for one in found], total)

    async def every(self, owner: str, *, live: bool = False) -> AsyncGenerator[Job, None]:
        """The owner's jobs (`*`: those of all owners, for admins), newest first, at most
        LOOKED_AT_MAX; `live`: those alone that have not ended. Keep what is needed of each, a job
        may be 256 KiB long. Raises StoreUnavailable."""
        reader, sizes = self._reader, [CHUNK] * (LOOKED_AT_MAX // CHUNK)
        index = _index(live)
        if owner == EVERYONE:
            pages = reader.everyone.pages(index, None, sizes)
        else:
            pages = reader.store.pages(owner, index, None, sizes)
        async with aclosing(pages):
            while True:
                async with reader.turns:
                    page = await anext(pages, None)
                    if page is None:
                        return
                    for one in page.jobs:
                        yield decode_job(one.body)

    async def carry_out(self, who: Identity, owner: str, job_id: str, wish: Wish) -> Job | None:
        """See `Door.carry_out`; the wishes are `Cancel`, `Comment`, `Delete` (api.control) and
        `Record` (api.records)."""
        after = await self._door.carry_out(who.user, owner, job_id, wish)
        return None if after is None else decode_job(after.body)

    async def records(
        self, owner: str, *, offset: int, limit: int | None, group: str | None, job_id: str = ""
    ) -> tuple[list[Record], int]:
        """Records of a group, or else of a job, from `offset` on (limit None: all), and how many
        there are. Raises JobNotFound, JobGone, StoreUnavailable."""
        window = Window(offset, limit)
        records = self._reader.records
        async with self._reader.turns:
            if group is not None:
                await records.of_group(owner, group, window)
            else:
                count = await records.count(owner, job_id) if is_id(job_id) else None
                if not isinstance(count, int):
                    raise JobNotFound(job_id) if count is None else JobGone(count.deleted)
                await records.of_job(owner, job_id, count, window)
        return [RECORD.decode(one) for one in window.records], window.total


def _index(live: bool) -> str:
    return "live" if live else "jobs"


def _there(found: Snapshot | Gone | None, job_id: str) -> Job:
    if isinstance(found, Snapshot):
        return decode_job(found.body)
    raise JobNotFound(job_id) if found is None else JobGone(found.deleted)
