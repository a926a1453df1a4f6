"""`POST` and `DELETE /v1/session`: the cookie for browsers, whose streams carry no header."""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.identity import identity_of
from api.problems import Problem
from api.session import COOKIE, SESSION_S, seal
from jobcast.job import timestamp


async def open_session(request: Request) -> Response:
    """A token becomes a cookie. A cookie does not become another one: sessions end."""
    identity = identity_of(request.scope)
    if identity.by == "cookie":
        headers = {"WWW-Authenticate": 'Bearer realm="jobcast"'}
        raise Problem("unauthorized", "Authorization: a token is wanted", headers=headers)
    expires = int(time.time()) + SESSION_S
    body = {
        "user": identity.user,
        "roles": list(identity.roles),
        "expires_at": timestamp(expires * 1000),
    }
    response = JSONResponse(body, headers={"Cache-Control": "no-store"})
    response.set_cookie(
        COOKIE,
        seal(identity.user, identity.token_sha256, expires),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=_tls(request),
    )
    return response


async def close_session(request: Request) -> Response:
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_tls(request))
    return response


def _tls(request: Request) -> bool:
    # A proxy in front of us may speak TLS for us. Who lies about it harms only their own cookie.
    return "https" in {request.url.scheme, request.headers.get("x-forwarded-proto")}


def routes() -> list[Route]:
    return [
        Route("/v1/session", _session, methods=["POST", "DELETE"]),
    ]


async def _session(request: Request) -> Response:
    return await (open_session if request.method == "POST" else close_session)(request)
