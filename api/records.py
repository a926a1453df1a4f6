"""Records over HTTP: those of a job, those of a group, and one more (docs/protocol.md § 7).

Promises: `total` is right wherever the answer begins; somebody else's job and an unknown one get
the same answer. A record that is sent goes the way of all events, with the job's current attempt.
"""

import re
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.body import json_body
from api.door import Door, Wish, named
from api.identity import identity_of, may_read, read_owner, reported_owner
from api.problems import Problem, invalid
from api.representation import CACHE, JSON, accepted
from jobcast.bounds import Integer, Target, Text
from jobcast.events import Event, Recorded
from jobcast.job import RECORDS_MAX, Job
from jobcast.names import is_id
from notifier.follow import JobGone, JobNotFound
from notifier.reader import Reader
from notifier.records import Window

MAX: Final = 100
ALL: Final = -1
GROUP_MAX: Final = 128


class Line(Struct):
    """The body of a POST."""

    target: Target
    code: Integer
    message: Text | None = None


LINE: Final = msgspec.json.Decoder(Line)


class Record(Wish):
    """Shown by its reference. An attempt that has begun meanwhile makes it too old to count."""

    action = "record"
    kept = True

    def __init__(self, line: Line) -> None:
        self._line = line

    def event(self, job: Job) -> Recorded:
        line = self._line
        said = named(job) | {"target": line.target, "code": line.code, "message": line.message}
        return Recorded(**said, attempt=job.attempt)

    def shown(self, job: Job, stored: bool) -> bool:
        return stored

    def again(self, event: Event, job: Job) -> Event | None:
        return replace(event, attempt=job.attempt) if job.attempt > event.attempt else None


class Records:
    """The handlers."""

    def __init__(self, reader: Reader, door: Door) -> None:
        self._records = reader.records
        self._turns = reader.turns
        self._door = door

    def routes(self) -> list[Route]:
        return [
            Route("/v1/records", self.of_group),
            Route("/v1/jobs/{id}/records", self.of_job),
            Route("/v1/jobs/{id}/records", self.add, methods=["POST"]),
        ]

    async def of_job(self, request: Request) -> Response:
        owner = read_owner(request.scope, request.query_params)
        window = window_of(request.query_params)
        job_id = request.path_params["id"]
        async with self._turns:
            await self._records.of_job(owner, job_id, await self._count(owner, job_id), window)
        return _listed(window)

    async def of_group(self, request: Request) -> Response:
        owner = read_owner(request.scope, request.query_params)
        window = window_of(request.query_params)
        groups = request.query_params.getlist("group")
        if len(groups) != 1 or not 1 <= len(groups[0]) <= GROUP_MAX:
            raise invalid("group", "the name of one group")
        async with self._turns:
            await self._records.of_group(owner, groups[0], window)
        return _listed(window)

    async def add(self, request: Request) -> Response:
        owner = reported_owner(request.scope, request.query_params)
        try:
            line = await json_body(request, LINE)
        except ClientDisconnect:
            return Response()  # to nobody
        if await self._count(owner, request.path_params["id"]) >= RECORDS_MAX:
            raise Problem("too-many-records")
        user, job_id = identity_of(request.scope).user, request.path_params["id"]
        after = await self._door.carry_out(user, owner, job_id, Record(line))
        if after is None or not may_read(request.scope, owner):
            return JSONResponse({"accepted": 1}, 202)
        return accepted(request, owner, after)

    async def _count(self, owner: str, job_id: str) -> int:
        """Raises JobNotFound, JobGone, StoreUnavailable."""
        found = await self._records.count(owner, job_id) if is_id(job_id) else None
        if isinstance(found, int):
            return found
        raise JobNotFound(job_id) if found is None else JobGone(found.deleted)


def _listed(window: Window) -> Response:
    body = b'{"records":[%b],"total":%d}' % (b",".join(window.records), window.total)
    return Response(body, headers=CACHE, media_type=JSON)


def window_of(query: QueryParams) -> Window:
    """Raises Problem."""
    offset, limit = query.get("offset", "0"), query.get("max", str(MAX))
    if not re.fullmatch(r"[0-9]{1,9}", offset):
        raise invalid("offset", "an integer from 0 to 999999999")
    if not re.fullmatch(r"-1|[0-9]{1,9}", limit):
        raise invalid("max", "an integer from 0 to 999999999, or -1 for all,")
    return Window(int(offset), None if int(limit) == ALL else int(limit))
