"""The IBM Z HMC Web Services API, as far as it is about asynchronous jobs (docs/dialects.md).

Owns what is below `/api` and is no other dialect's. A job is its user's: to all others, and once it
has gone, it is 404,1. Holds no session: `api.logon` says what one is.
"""

import time
from typing import Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from api import audit
from api.body import LINE, bounded
from api.control import Cancel, Delete
from api.dialects.hmc.endpoint import Endpoint, answer
from api.dialects.hmc.mapping import Refusal, job_status
from api.dialects.hmc.stream import Completions
from api.facility import Facility
from api.identity import identity_of
from api.logon import logged_on
from api.stream_routes import StreamRoute
from broker.notices import job_topic, object_topic
from jobcast.reasons import UNREADABLE, explain

VERSION: Final = {"api-major-version": 4, "api-minor-version": 1}
"""That of the HMC 2.16.0."""
ABOUT: Final = VERSION | {"hmc-version": "2.16.0", "hmc-name": "jobcast"}
CONSOLE: Final = {
    "class": "console",
    "object-uri": "/api/console",
    "name": "jobcast",
    "version": "2.16.0",
}
NEVER: Final = -1
REASONS: Final = {"not-json": 9, "too-deep": 9, "missing": 5}
OTHERS: Final = {"netapp": ("/api/v2", "/api/management-server")}
"""What is below `/api` of other dialects."""


class Credentials(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a logon."""

    userid: str
    password: str


CREDENTIALS: Final = msgspec.json.Decoder(Credentials)


def routes(facility: Facility) -> list[BaseRoute]:
    hmc = Hmc(facility)
    spoken = facility.settings.dialects
    others = tuple(path for name in spoken for path in OTHERS.get(name, ()))
    return [
        Route("/api/version", Endpoint(GET=hmc.version)),
        Route("/api/sessions", Endpoint(POST=hmc.logon)),
        Route("/api/sessions/this-session", Endpoint(facility, DELETE=hmc.logoff)),
        Route(
            "/api/sessions/operations/get-notification-topics",
            Endpoint(facility, GET=hmc.topics),
        ),
        Route("/api/jobs/{id}", Endpoint(facility, GET=hmc.query, DELETE=hmc.delete)),
        Route("/api/jobs/{id}/operations/cancel", Endpoint(facility, POST=hmc.cancel)),
        Route("/api/console", Endpoint(facility, GET=hmc.console)),
        StreamRoute("/api/sse", Completions(facility)),
        Rest("/api", others),
        Rest("/api/{rest:path}", others),
    ]


class Rest(Route):
    """Paths at which nothing is served."""

    def __init__(self, path: str, others: tuple[str, ...]) -> None:
        super().__init__(path, Endpoint())
        self._others = others

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = f"{scope['path']}/"
        if any(path.startswith(f"{other}/") for other in self._others):
            return Match.NONE, {}
        return super().matches(scope)


class Hmc:
    """The handlers."""

    def __init__(self, facility: Facility) -> None:
        self._facility = facility

    async def version(self, _: Request) -> Response:
        return answer(ABOUT)

    async def logon(self, request: Request) -> Response:
        """Never 403 with reason 4 or 5: a client would log on again, and again."""
        said = await _credentials(request)
        who = await self._facility.identify(said.userid, said.password)
        if who is None:
            raise Refusal("unauthorized", 403, 0, "The userid or the password is wrong")
        request.scope["identity"] = who
        self._facility.admit(who)
        session_id, credential = logged_on(who, self._facility.credentials.secret, time.time())
        audit.controlled(who.user, "session-open", who.user)
        response = answer(
            {
                "api-session": session_id,
                "notification-topic": object_topic(who.user),
                "job-notification-topic": job_topic(who.user),
                "session-credential": credential,
                "password-expires": NEVER,
                **VERSION,
            }
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    async def logoff(self, request: Request) -> Response:
        who = identity_of(request.scope)
        self._facility.logons.end(who, time.time())
        self._facility.streams.tenure.log_off(who)
        audit.controlled(who.user, "session-close", who.user)
        return Response(status_code=204)

    async def topics(self, request: Request) -> Response:
        user = identity_of(request.scope).user
        topics = {"object-notification": object_topic(user), "job-notification": job_topic(user)}
        told = [{"topic-type": kind, "topic-name": name} for kind, name in topics.items()]
        return answer({"topics": told})

    async def console(self, _: Request) -> Response:
        return answer(CONSOLE)

    async def query(self, request: Request) -> Response:
        who = identity_of(request.scope)
        return answer(job_status(await self._facility.job(who.user, request.path_params["id"])))

    async def delete(self, request: Request) -> Response:
        await self._carry_out(request, Delete())
        return Response(status_code=204)

    async def cancel(self, request: Request) -> Response:
        await self._carry_out(request, Cancel())
        return Response(status_code=202)

    async def _carry_out(self, request: Request, wish: Cancel | Delete) -> None:
        who = identity_of(request.scope)
        await self._facility.carry_out(who, who.user, request.path_params["id"], wish)


async def _credentials(request: Request) -> Credentials:
    """Raises Refusal, which names the field, and Problem."""
    body = await bounded(request, LINE)
    if not body:
        raise Refusal("bad-request", 400, 3, "A body with userid and password is wanted")
    try:
        return CREDENTIALS.decode(body)
    except UNREADABLE as error:
        reason, detail = explain(error, "")
        if "unknown field" in str(error):
            raise Refusal("bad-request", 400, 6, str(error)) from None
    code = REASONS.get(reason, 7)
    detail = "The body: JSON is wanted" if code == REASONS["not-json"] else detail
    raise Refusal("bad-request", 400, code, detail)
