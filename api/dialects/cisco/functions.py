"""The functions of the guide's chapter on asynchronous operations, on the native model.

Promises: every one acts for who asks, and for nobody else; somebody else's job is an unknown one; a
change can be read when it is answered. An operation error is a result; what is raised is none.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import fields, replace

from api import audit
from api.control import Cancel, Comment
from api.dialects.cisco import parameters as given
from api.dialects.cisco.deletion import Deletion
from api.dialects.cisco.objects import (
    ClmJob,
    ClmJobStatus,
    ClmJobStatusItem,
    Code,
    IDStatus,
    PersistentIDStatus,
    PersistentIDStatusPagingInfo,
    ProgressStatus,
    Status,
    UserToken,
    clm_job,
    persistent,
    progress,
    said,
    status,
)
from api.dialects.cisco.tokens import PURPOSES
from api.dialects.cisco.turn import Turn
from api.facility import LOOKED_AT_MAX, Facility
from api.identity import Identity
from api.lists import EVERYONE
from api.problems import Problem
from api.records import Line, Record
from api.settings import CISCO_FINISHED
from jobcast.events import Recorded
from jobcast.job import RECORDS_MAX, Job
from notifier.follow import JobGone, JobNotFound

LIST_BYTES: Final = 8_388_608
NEW_MAX: Final = 100
"""Records among which a new one is looked for."""
ALL: Final = -1
ABSENT: Final = (JobNotFound, JobGone)


class GroupedRecord(Record):
    """A record that says of which group it is."""

    def __init__(self, line: Line, group: str | None) -> None:
        super().__init__(line)
        self._group = group

    def event(self, job: Job) -> Recorded:
        return replace(super().event(job), group=self._group)


class Functions:
    """`functions.of(…)` of the table at the end."""

    def __init__(self, facility: Facility) -> None:
        self._facility = facility
        self._forgets = facility.settings.cisco_finished == CISCO_FINISHED[0]

    async def login(self, turn: Turn, asked: given.Login) -> UserToken:
        turn.by = await self._facility.identify(asked.username, asked.password)
        who = turn.who
        self._facility.admit(who)
        token, timeout = self._facility.open_session(who, PURPOSES)
        audit.controlled(who.user, "session-open", who.user)
        return UserToken(token=token, username=who.user, timeout=timeout, ssl_enabled=turn.tls)

    async def record(self, turn: Turn, asked: given.JobId) -> ClmJob | None:
        try:
            return clm_job(await self._facility.job(turn.who.user, asked.job_id))
        except ABSENT:
            return None

    async def progress(self, turn: Turn, asked: given.TaskId) -> ProgressStatus:
        """The entry is there as long as the job is under way, unless a setting says else."""
        if not asked.task_id:
            return _no_progress(Code.JOB_ID_MISSING, asked.task_id)
        try:
            job = await self._facility.job(turn.who.user, asked.task_id)
        except ABSENT:
            return _no_progress(Code.JOB_ID_NOT_FOUND, asked.task_id)
        if job.ended and self._forgets:
            return _no_progress(Code.JOB_ID_NOT_FOUND, asked.task_id)
        return progress(job)

    async def kill(self, turn: Turn, asked: given.JobId) -> Status:
        who = turn.who
        await self._facility.carry_out(who, who.user, asked.job_id, Cancel())
        return status(Code.SUCCESS)

    async def comment(self, turn: Turn, asked: given.JobComment) -> Status:
        who = turn.who
        await self._facility.carry_out(who, who.user, asked.job_id, Comment(asked.comment))
        return status(Code.SUCCESS)

    async def delete(self, turn: Turn, asked: given.JobIds) -> IDStatus:
        deletion = Deletion(self._facility, turn)
        await deletion.run(asked.job_ids)
        return IDStatus(items=deletion.items(asked.job_ids))

    async def jobs(self, turn: Turn, asked: given.AllUser) -> ClmJobStatus:
        return await self._listed(turn.who, asked.include_all_user, live=False)

    async def running_jobs(self, turn: Turn, asked: given.AllUserOrOwn) -> ClmJobStatus:
        return await self._listed(turn.who, asked.include_all_user, live=True)

    async def _listed(self, who: Identity, everybody: bool, *, live: bool) -> ClmJobStatus:
        """Newest first, as many as an answer holds."""
        owner = EVERYONE if everybody and "admin" in who.roles else who.user
        items, room = list[Raw](), LIST_BYTES
        async with aclosing(self._facility.every(owner, live=live)) as jobs:
            async for job in jobs:
                item = msgspec.json.encode(ClmJobStatusItem(clm_job(job)))
                room -= len(item)
                if room < 0:
                    break
                items.append(Raw(item))
        if room >= 0 and len(items) < LOOKED_AT_MAX:
            return ClmJobStatus(items=items)
        return ClmJobStatus(items=items, error_message=f"only the newest {len(items)} are listed")

    async def records_of_job(self, turn: Turn, asked: given.OfJob) -> PersistentIDStatusPagingInfo:
        return await self._page(turn.who.user, asked.pageinfo, job_id=asked.id)

    async def records_of_group(
        self, turn: Turn, asked: given.OfGroup
    ) -> PersistentIDStatusPagingInfo:
        return await self._page(turn.who.user, asked.pageinfo, group=asked.job_group)

    async def _page(
        self, owner: str, page: given.Pagination, *, job_id: str = "", group: str | None = None
    ) -> PersistentIDStatusPagingInfo:
        offset, limit = page.offset, page.max
        if offset < 0 or limit < ALL:
            return _paged(page, 0, [], Code.INVALID_PAGINATION)
        try:
            found, total = await self._facility.records(
                owner,
                offset=offset,
                limit=None if limit == ALL else limit,
                group=group,
                job_id=job_id,
            )
        except ABSENT:
            return _paged(page, 0, [], Code.JOB_ID_NOT_FOUND)
        return _paged(page, total, [persistent(one) for one in found])

    async def add(self, turn: Turn, asked: given.PidStatus) -> PersistentIDStatus:
        """As it can be read afterwards."""
        who, new = turn.who, asked.pid_status
        before = await self._count(who.user, new.job_id)
        if before >= RECORDS_MAX:
            raise Problem("too-many-records")
        line = Line(new.id, new.error_code, new.error_message)
        record = GroupedRecord(line, new.job_group)
        await self._facility.carry_out(who, who.user, new.job_id, record)
        found, _ = await self._facility.records(
            who.user, offset=before, limit=NEW_MAX, group=None, job_id=new.job_id
        )
        told = (line.target, line.code, line.message)
        for one in found:
            if (one.target, one.code, one.message) == told:
                return persistent(one)
        return PersistentIDStatus(  # sure to be stored, and not to be read yet
            job_id=new.job_id,
            job_group=new.job_group,
            id=line.target,
            error_code=line.code,
            error_message=line.message or "",
            timestamp=None,
        )

    async def _count(self, owner: str, job_id: str) -> int:
        _, total = await self._facility.records(owner, offset=0, limit=0, group=None, job_id=job_id)
        return total


def _no_progress(code: Code, job_id: str | None) -> ProgressStatus:
    return ProgressStatus(job_id=job_id, **said(code))


def _paged(
    page: given.Pagination,
    total: int,
    items: list[PersistentIDStatus],
    code: Code = Code.SUCCESS,
) -> PersistentIDStatusPagingInfo:
    return PersistentIDStatusPagingInfo(
        total=total, offset=page.offset, max=page.max, items=items, **said(code)
    )


class Function(NamedTuple):
    """`is_open`: it takes no token."""

    params: type[Struct]
    run: Callable[[Functions, Turn, Any], Awaitable[object]]
    aliases: Mapping[str, str] = {}
    is_open: bool = False

    @property
    def names(self) -> list[str]:
        """Of the parameters, in order."""
        own = [one.encode_name for one in fields(self.params)]
        return own if self.is_open else ["token", *own]


FUNCTIONS: Final[Mapping[str, Function]] = {
    "login": Function(given.Login, Functions.login, is_open=True),
    "addPersistentIDStatus": Function(given.PidStatus, Functions.add),
    "deleteAsyncOperationJobRecords": Function(given.JobIds, Functions.delete),
    "getAsyncOperationJobRecords": Function(given.JobId, Functions.record),
    "getAsyncOperationStatus": Function(given.TaskId, Functions.progress, {"job_id": "taskID"}),
    "killAsyncOperation": Function(given.JobId, Functions.kill),
    "listAllAsyncOperationJobRecords": Function(given.AllUser, Functions.jobs),
    "listRunningAsyncOperationJobRecords": Function(given.AllUserOrOwn, Functions.running_jobs),
    "listPersistentIDStatus": Function(given.OfJob, Functions.records_of_job),
    "listPersistentIDStatusByGroup": Function(
        given.OfGroup, Functions.records_of_group, {"jobgroup": "jobGroup"}
    ),
    "setAsyncOperationJobComment": Function(given.JobComment, Functions.comment),
}
