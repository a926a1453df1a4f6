"""The job API of NetApp Active IQ Unified Manager: lists of jobs, one job, and waiting for its end.

Promises: whatever is asked for under its paths is answered in JSON, errors in its own form; all is
read, nothing is ever changed. Who asks is told by HTTP Basic, with a token as the password.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.conditional import NUMBER
from api.dialects.answering import Handler, answering
from api.dialects.netapp.search import Search, ordered, search_of
from api.dialects.netapp.shape import Form, facts, guide, product, shown
from api.facility import Facility
from api.identity import Identity, basic_logins, read_owner, require
from api.lists import EVERYONE
from api.problems import KINDS, Problem, invalid, unauthorized
from jobcast.job import Job

PRODUCT: Final = "/api"
GUIDE: Final = "/netapp-guide/api"
JOBS: Final = "/management-server/jobs"
TIMEOUT_MAX_S: Final = 120
HELD_MAX_S: Final = 60
BASIC: Final = 'Basic realm="jobcast", charset="UTF-8"'
METHODS: Final = ("GET", "HEAD")
STATUSES: Final = {410: 404, 422: 400}
"""Where the product has another status than we."""
TARGETS: Final = {"job-not-found": "key", "job-expired": "key", "job-deleted": "key"}
PARAMETER: Final = re.compile(r"([a-z_]+): ")


def routes(facility: Facility) -> Sequence[BaseRoute]:
    """Both forms, each under two bases, and what lies beside them."""
    found: list[BaseRoute] = []
    for base, form in ((PRODUCT, product), (GUIDE, guide)):
        jobs = NetApp(facility, form, base)
        for under in (f"{base}/v2", base):
            found += [
                _route(f"{under}{JOBS}", jobs.list_jobs),
                _route(f"{under}{JOBS}/{{key}}", jobs.read_job),
            ]
        found += [
            _route(f"{base}/v2/{{rest:path}}", jobs.nothing),
            _route(f"{base}/management-server/{{rest:path}}", jobs.nothing),
        ]
    return found


def _route(path: str, handler: Handler) -> Route:
    route = Route(path, answering(handler, error))
    route.methods = None  # the others too are answered in this form
    return route


class Listing(Struct, frozen=True):
    """What a list shows, and how many there are in all."""

    jobs: Sequence[Job]
    total: int


class NetApp:
    """The handlers of one form. `base`: where the links lead."""

    def __init__(self, facility: Facility, form: Form, base: str) -> None:
        self._facility = facility
        self._form = form
        self._jobs = f"{base}{JOBS}"

    async def read_job(self, request: Request) -> Response:
        who = await self._entered(request)
        owner = read_owner(request.scope, request.query_params)
        key, hold_s = request.path_params["key"], held_s(request.query_params)
        if hold_s:
            job = await self._facility.ended(who, key, hold_s, request.receive, owner=owner)
        else:
            job = await self._facility.job(owner, key)
        return _answer(self._shown(job, who))

    async def list_jobs(self, request: Request) -> Response:
        who = await self._entered(request)
        query = request.query_params
        search = search_of(query)
        if query.get("owner") == EVERYONE:
            require(request.scope, "admin")
            listing = await self._searched(EVERYONE, search)
        else:
            listing = await self._listed(read_owner(request.scope, query), search)
        links = {"self": {"href": self._href(query.multi_items())}}
        after = search.offset + search.limit
        if after < listing.total:
            kept = [pair for pair in query.multi_items() if pair[0] != "offset"]
            links["next"] = {"href": self._href([*kept, ("offset", str(after))])}
        return _answer(
            {
                "records": [self._shown(job, who) for job in listing.jobs],
                "num_records": len(listing.jobs),
                "total_records": listing.total,
                "_links": links,
            }
        )

    async def nothing(self, request: Request) -> Response:
        await self._entered(request)
        raise Problem("not-found")

    async def _entered(self, request: Request) -> Identity:
        """Who asks. Raises Problem, CannotTell."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        logins = basic_logins(credential.strip()) if scheme.lower() == "basic" else []
        for name, token in logins:
            who = await self._facility.identify(name, token)
            if who is not None:
                request.scope["identity"] = who
                self._facility.admit(who)
                if request.method not in METHODS:
                    raise Problem("method-not-allowed", headers={"Allow": ", ".join(METHODS)})
                return who
        raise unauthorized(challenge=BASIC)

    async def _listed(self, owner: str, search: Search) -> Listing:
        oldest_first = search.by_creation
        if oldest_first is None:
            return await self._searched(owner, search)
        offset, limit = search.offset, search.limit
        found = await self._facility.listed(
            owner, offset=offset, limit=limit, oldest_first=oldest_first
        )
        return Listing(found.jobs, found.total)

    async def _searched(self, owner: str, search: Search) -> Listing:
        """Keeps names alone, a job may be long, and reads the few that are shown again: those
        that do not belong any more are left out."""
        say = partial(facts, form=self._form)
        rows = [
            (search.row(told), (job.owner, job.id))
            async for job in self._facility.every(owner)
            if search(told := say(job))
        ]
        names = ordered(rows, search)[search.offset : search.offset + search.limit]
        jobs = [job for job in await self._facility.jobs(names) if search(say(job))]
        return Listing(jobs, len(rows))

    def _shown(self, job: Job, who: Identity) -> dict[str, Any]:
        acting = "" if job.owner == who.user else f"?owner={quote(job.owner, safe='')}"
        return shown(job, self._form, f"{self._jobs}/{job.id}{acting}")

    def _href(self, query: Sequence[tuple[str, str]]) -> str:
        return f"{self._jobs}?{urlencode(query)}" if query else self._jobs


def error(_: Request, problem: Problem) -> Response:
    """The product's error body, of three strings."""
    status, title = KINDS[problem.name]
    named = PARAMETER.match(problem.detail or "")
    target = named[1] if named else TARGETS.get(problem.name, "")
    told = {"code": problem.name, "message": problem.detail or title, "target": target}
    return Response(
        msgspec.json.encode({"error": told}),
        STATUSES.get(status, status),
        {"Cache-Control": "no-store", **problem.headers},
        "application/json",
    )


def _answer(body: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
    return Response(msgspec.json.encode(body), headers=headers, media_type="application/json")


def held_s(query: QueryParams) -> float:
    """How long an answer may be held back, in seconds; 0 for not at all. Raises Problem."""
    text = query.get("return_timeout") or "0"
    if NUMBER.fullmatch(text) and float(text) <= TIMEOUT_MAX_S:
        return min(float(text), HELD_MAX_S)
    raise invalid("return_timeout", f"a number of seconds from 0 to {TIMEOUT_MAX_S}")
