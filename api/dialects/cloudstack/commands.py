"""The commands of CloudStack's API that ask for asynchronous jobs: `queryAsyncJobResult` and
`listAsyncJobs`, at `/client/api` (docs/dialects.md).

Who asks has signed the request with the keys of a user, or brings a token. Promises: nothing is
looked up before that is known; one may ask for one's own jobs, an admin for everybody's; another's
job and one that is not there are answered alike.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.dialects.answering import answering
from api.dialects.cloudstack.answers import (
    ACCOUNT,
    UNSUPPORTED,
    Members,
    answer,
    job_members,
    listed,
    refused,
)
from api.dialects.cloudstack.parameters import PAGE_SIZE, Parameters, Window, of_query, of_request
from api.dialects.cloudstack.signature import has_expired, is_signed
from api.facility import Facility
from api.identity import Identity, by_keys
from api.lists import EVERYONE
from api.problems import Problem, invalid
from broker.cloudstack import DOMAIN_ID
from jobcast.job import Job, milliseconds
from jobcast.names import is_owner

PARAMETERS: Final = "cloudstack"
SERVED: Final = ("GET", "HEAD", "POST")
METHODS: Final = [*SERVED, "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
NOBODY: Final = "unable to verify user credentials and/or request signature"
NO_COMMAND: Final = "command: queryAsyncJobResult or listAsyncJobs is wanted"

Command = Callable[[Identity, Parameters], Awaitable[Members]]


def routes(facility: Facility) -> Sequence[BaseRoute]:
    handler = answering(Commands(facility).handle, _refused)
    return [Route("/client/api", handler, methods=METHODS)]


def _refused(request: Request, problem: Problem) -> Response:
    return refused(request.scope.get(PARAMETERS) or Parameters({}), problem)


class Commands:
    """The commands by their names."""

    def __init__(self, facility: Facility) -> None:
        self._facility = facility
        self._by_name: dict[str, Command] = {
            "queryAsyncJobResult": self._query,
            "listAsyncJobs": self._list,
        }

    async def handle(self, request: Request) -> Response:
        request.scope[PARAMETERS] = of_query(request)  # a form too long is answered as it asks
        if request.method not in SERVED:
            raise Problem("method-not-allowed", headers={"Allow": ", ".join(SERVED)})
        parameters = request.scope[PARAMETERS] = await of_request(request)
        who = request.scope["identity"] = await self._identify(request, parameters)
        self._facility.admit(who)
        command = self._by_name.get(parameters.command)
        if command is None:
            # What CloudStack says to who has signed, and to who has logged in.
            if who.by == "key" or not parameters.command:
                raise Problem("unauthorized", NO_COMMAND)
            raise Problem("bad-request", NO_COMMAND, members={"errorcode": UNSUPPORTED})
        return answer(parameters, await command(who, parameters))

    async def _identify(self, request: Request, parameters: Parameters) -> Identity:
        """Raises Problem `unauthorized`, CannotTell."""
        key, signature = parameters.get("apikey"), parameters.get("signature")
        if key is None and signature is None:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            bearer = scheme.lower() == "bearer"
            who = await self._facility.identify(None, token.strip()) if bearer else None
        else:
            who = self._signer(parameters, key or "", signature or "")
        if who is None:
            raise Problem("unauthorized", NOBODY)
        return who

    def _signer(self, parameters: Parameters, key: str, signature: str) -> Identity | None:
        user = self._facility.user_of_key(key)
        keys = user.cloudstack if user is not None else None
        # The same work for a key that nobody has.
        signed = is_signed(parameters.given, signature, keys.secret_key if keys else "")
        if user is None or keys is None or not signed:
            return None
        version, expires = parameters.get("signatureversion"), parameters.get("expires")
        if has_expired(version, expires, time.time()):
            raise Problem("unauthorized", "expires: a time that has not passed is wanted")
        return by_keys(user)

    async def _query(self, who: Identity, parameters: Parameters) -> Members:
        job_id, owner = parameters.wanted("jobid"), _account(who, parameters)
        job = await self._facility.job(owner or who.user, job_id)
        return job_members(job, json=parameters.json)

    async def _list(self, who: Identity, parameters: Parameters) -> Members:
        """Jobs that have not ended, oldest first."""
        if parameters.get("managementserverid") is not None:
            raise invalid("managementserverid", "none: there are no management servers here")
        window, since = parameters.window(), parameters.since("startdate")
        keyword = (parameters.get("keyword") or "").lower()
        owner = _owner(who, parameters)
        if owner != EVERYONE and not keyword and since is None:
            return await self._pages(owner, window, json=parameters.json)

        def is_wanted(job: Job) -> bool:
            young = since is None or milliseconds(job.created_at) >= since * 1000
            return young and keyword in job.operation.lower()

        found = [
            job_members(job, json=parameters.json)
            async for job in self._facility.every(owner, live=True)
            if is_wanted(job)
        ]
        found.reverse()
        return listed(found[window.offset : window.offset + window.limit], len(found))

    async def _pages(self, owner: str, window: Window, *, json: bool) -> Members:
        """Without looking at what is not asked for."""
        told: list[Any] = []
        total, at, end = 0, window.offset, window.offset + window.limit
        while at < end:
            size = min(PAGE_SIZE, end - at)
            part = await self._facility.listed(
                owner, offset=at, limit=size, oldest_first=True, live=True
            )
            told += [job_members(job, json=json) for job in part.jobs]
            total, at = part.total, at + size
            if at >= total:
                break
        return listed(told, total)


def _account(who: Identity, parameters: Parameters) -> str | None:
    """The account that is named, if there is one. Raises Problem, also where one may not ask for
    its jobs: the same for an account that there is not."""
    account, domain = parameters.get("account"), parameters.get("domainid")
    if domain is not None and domain.lower() != DOMAIN_ID:
        raise invalid("domainid", f"the one domain, {DOMAIN_ID},")
    if account is None:
        return None
    if domain is None:
        raise invalid("domainid", "the domain of the account")
    if account != who.user and "admin" not in who.roles:
        text = "account: the role admin is wanted for another account"
        raise Problem("forbidden", text, members={"errorcode": ACCOUNT})
    if not is_owner(account):
        raise invalid("account", "the name of an account")
    return account


def _owner(who: Identity, parameters: Parameters) -> str:
    """Whose jobs are listed: `*` for those of all."""
    account = _account(who, parameters)
    if account is not None:
        return account
    wide = parameters.flag("listall") or parameters.get("domainid") is not None
    return EVERYONE if wide and "admin" in who.roles else who.user
