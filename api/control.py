"""Cancel, comment, delete: what a job's owner may do to it (docs/protocol.md § 7).

Promises: what the job does not allow is refused before anything is published; the answer comes when
the change can be read at every replica, at most `WAIT_S` after it was sent. Never changes anything
itself: a request becomes an event of the service's own, which goes the way of all others.
"""

from typing import Final

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from api.body import MERGE_PATCH, json_body
from api.door import Door, Wish, named
from api.identity import identity_of, read_owner
from api.problems import Problem
from api.representation import accepted
from jobcast.bounds import Text
from jobcast.events import CancelRequested, Commented, Deleted
from jobcast.job import Job, Status


class Patch(Struct):
    """The body of a PATCH."""

    comment: Text | None


PATCH: Final = msgspec.json.Decoder(Patch)


class Cancel(Wish):
    """Shown by any status that has no way on to `cancel-pending`."""

    action = "cancel"

    def event(self, job: Job) -> CancelRequested:
        if job.ended:
            raise Problem("already-ended")
        if job.status is Status.CANCEL_PENDING:
            raise Problem("cancel-pending")
        if not job.cancelable:
            raise Problem("not-cancelable")
        return CancelRequested(**named(job))

    def shown(self, job: Job, stored: bool) -> bool:
        if job.ended or job.status is Status.CANCEL_PENDING:
            return True
        if not job.cancelable:  # said late, by the executor: the request comes to nothing
            raise Problem("not-cancelable")
        return False


class Comment(Wish):
    """A comment that was there already makes no version, and is not stored again."""

    action = "comment"
    kept = True

    def __init__(self, text: str | None) -> None:
        self._text = text

    def event(self, job: Job) -> Commented:
        return Commented(**named(job), comment=self._text)

    def shown(self, job: Job, stored: bool) -> bool:
        return stored or job.comment == self._text


class Delete(Wish):
    """Shown by the tombstone alone."""

    action = "delete"
    deletes = True

    def event(self, job: Job) -> Deleted:
        if not job.ended:
            raise Problem("not-ended")
        return Deleted(**named(job))

    def shown(self, job: Job, stored: bool) -> bool:
        return False


class Control:
    """The handlers, on the one door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def routes(self) -> list[Route]:
        return [
            Route("/v1/jobs/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/jobs/{id}", self.comment, methods=["PATCH"]),
            Route("/v1/jobs/{id}", self.delete, methods=["DELETE"]),
        ]

    async def cancel(self, request: Request) -> Response:
        return await self._carry_out(request, Cancel())

    async def comment(self, request: Request) -> Response:
        read_owner(request.scope, request.query_params)  # before the body
        try:
            patch = await json_body(request, PATCH, MERGE_PATCH)
        except ClientDisconnect:
            return Response()  # to nobody
        return await self._carry_out(request, Comment(patch.comment))

    async def delete(self, request: Request) -> Response:
        return await self._carry_out(request, Delete())

    async def _carry_out(self, request: Request, wish: Wish) -> Response:
        owner = read_owner(request.scope, request.query_params)
        user, job_id = identity_of(request.scope).user, request.path_params["id"]
        after = await self._door.carry_out(user, owner, job_id, wish)
        return Response(status_code=204) if after is None else accepted(request, owner, after)
