"""`GET /v1/jobs`: the jobs of an owner, or for an admin those of all (docs/protocol.md § 7).

Promises: newest first, every job once, whatever comes and goes between two pages; what is sent is
what is stored, byte for byte, with `links` spliced in; per request a bounded number of jobs is
looked at, and an answer has about 4 MiB at most; it waits for its turn (`Reader.turns`). Never
changes anything.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.filters import Filters, filters_of, limit_of
from api.identity import read_owner, require
from api.problems import invalid
from api.representation import BRIEF, CACHE, JSON, acting_for, linked
from jobcast.job import Job, milliseconds
from jobcast.wire import decode_job
from notifier.everyone import Place
from notifier.keys import CREATED_DIGITS, member
from notifier.reader import Reader
from notifier.store import BadPage, Page, Snapshot

LOOKED_AT_MAX: Final = 2_000
CHUNK: Final = 200
PAGE: Final = 50
"""Jobs that are read at once, where all are wanted: one may be 256 KiB long."""
ANSWER_BYTES: Final = 4_194_304
EVERYONE: Final = "*"

Pages = AsyncGenerator[Page, None]
Token = Callable[[Job], str]
"""The page token that continues after a job."""


class Lists:
    """The handler, on a reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def routes(self) -> list[Route]:
        return [Route("/v1/jobs", self.list_jobs)]

    async def list_jobs(self, request: Request) -> Response:
        query = request.query_params
        if query.get("owner") == EVERYONE:
            require(request.scope, "admin")
            acting, owner = None, EVERYONE
        else:
            owner = read_owner(request.scope, query)
            acting = acting_for(request, owner)
        wanted, limit, after = filters_of(query), limit_of(query), query.get("page") or None
        sizes = sizes_of(limit, PAGE if wanted.every else CHUNK)
        if owner == EVERYONE:
            pages, token = self._reader.everyone.pages(wanted.index, after, sizes), _everyones_token
        else:
            after = after or wanted.begin
            pages, token = self._reader.store.pages(owner, wanted.index, after, sizes), _token
        try:
            async with self._reader.turns, aclosing(pages):
                page = await chosen(pages, wanted, limit, token)
        except BadPage:
            raise invalid("page", "the next of an answer before") from None
        jobs = b",".join(
            linked(body, BRIEF.decode(body).owner if owner == EVERYONE else acting)
            for body in (job.body for job in page.jobs)
        )
        answer = b'{"jobs":[%b],"next":%b}' % (jobs, msgspec.json.encode(page.next))
        return Response(answer, headers=CACHE, media_type=JSON)


def sizes_of(limit: int, rest: int) -> list[int]:
    """How many jobs to read at a time: at first as many as may suffice, at most LOOKED_AT_MAX, or
    as many as are asked for."""
    return [min(limit, PAGE), *[rest] * (max(LOOKED_AT_MAX, limit) // rest)]


async def chosen(pages: Pages, wanted: Filters, limit: int, token: Token) -> Page:
    """At most `limit` jobs that are wanted, and about ANSWER_BYTES of them, out of the pages."""
    found: list[Snapshot] = []
    next_, size = None, 0
    async for page in pages:
        for snapshot in page.jobs:
            job = None if wanted.every else decode_job(snapshot.body)
            if job is not None and wanted.too_old(job):
                return Page(found, None)
            if job is None or wanted(job):
                found.append(snapshot)
                size += len(snapshot.body)
                if len(found) == limit or size >= ANSWER_BYTES:
                    last = snapshot is page.jobs[-1]
                    return Page(found, page.next if last else token(decode_job(snapshot.body)))
        next_ = page.next
    return Page(found, next_)


def _token(job: Job) -> str:
    return member(milliseconds(job.created_at), job.id)


def _everyones_token(job: Job) -> str:
    created = _token(job)[:CREATED_DIGITS]
    return Place(created, job.owner, job.id).token
