"""A job as an HTTP resource, and the long poll for it (docs/protocol.md § 7).

Promises: what is sent is what is stored, byte for byte, with `links` spliced in; somebody else's
job and an unknown one get the same answer; a client that leaves ends its wait. Never changes
anything.
"""

import time
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.conditional import Seen, etag, seen_by, wait_of
from api.identity import identity_of, read_owner
from api.presence import ClientGone
from api.problems import unavailable
from api.representation import BRIEF, CACHE, JSON, Brief, acting_for, linked
from api.waits import Waits
from jobcast.job import FINAL, milliseconds
from jobcast.names import is_id
from notifier.follow import JobGone, JobNotFound
from notifier.reader import Reader
from notifier.store import Snapshot
from notifier.wait import wait_job

RETRY_MAX_S: Final = 30


class Jobs:
    """The handlers, on a reader."""

    def __init__(self, reader: Reader, waits: Waits) -> None:
        self._reader = reader
        self._waits = waits

    def routes(self) -> list[Route]:
        return [Route("/v1/jobs/{id}", self.read_job)]

    async def read_job(self, request: Request) -> Response:
        owner = read_owner(request.scope, request.query_params)
        job_id = request.path_params["id"]
        wait = wait_of(request.query_params.get("wait"), request.headers.getlist("prefer"))
        seen = seen_by(request.headers.getlist("if-none-match"))
        if not is_id(job_id):
            raise JobNotFound(job_id)
        try:
            snapshot = await self._find(request, owner, seen, wait.seconds)
        except ClientGone:
            return Response()  # to nobody
        answer = _answer(snapshot, seen, acting_for(request, owner))
        if wait.applied is not None:
            answer.headers["Preference-Applied"] = wait.applied
        return answer

    async def _find(
        self, request: Request, owner: str, seen: Seen | None, wait_s: float
    ) -> Snapshot:
        """The job, waited for if so wished.

        Raises JobNotFound, JobGone, StoreUnavailable, ClientGone, Problem.
        """
        reader, job_id = self._reader, request.path_params["id"]
        if wait_s:
            identity = identity_of(request.scope)
            async with self._waits.entered(identity, request.receive, wait_s) as hold_s:
                found = await wait_job(reader, owner, job_id, seen=seen, timeout_s=hold_s)
        else:
            found = await reader.store.read(owner, job_id)
        if isinstance(found, Snapshot):
            return found
        if found is None and wait_s and reader.hub.draining:
            raise unavailable("shutting down: ask again")  # not that there is no such job
        raise JobNotFound(job_id) if found is None else JobGone(found.deleted)


def _answer(snapshot: Snapshot, seen: Seen | None, acting: str | None) -> Response:
    headers = {"ETag": etag(snapshot.version), **CACHE}
    brief = BRIEF.decode(snapshot.body)
    if brief.status not in FINAL:
        headers["Retry-After"] = str(retry_after_s(brief, time.time()))
    if seen is not None and seen(snapshot.version):
        return Response(status_code=304, headers=headers)
    return Response(linked(snapshot.body, acting), headers=headers, media_type=JSON)


def retry_after_s(brief: Brief, now: float) -> int:
    """A twentieth of the job's age: who polls an old job need not hurry."""
    age_s = now - milliseconds(brief.created_at) / 1000
    return int(min(max(age_s / 20, 1), RETRY_MAX_S))
