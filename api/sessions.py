"""`POST` and `DELETE /v1/session`: the cookie for browsers, whose streams carry no header."""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import audit
from api.identity import identity_of, session_expiry, session_of
from api.manners import under_tls
from api.problems import unauthorized
from api.secret import Secret
from api.session import COOKIE
from jobcast.job import timestamp

NO_STORE = {"Cache-Control": "no-store"}


class Sessions:
    """The handlers."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def routes(self) -> list[Route]:
        return [
            Route("/v1/session", self.session, methods=["POST", "DELETE"]),
        ]

    async def session(self, request: Request) -> Response:
        return self.open(request) if request.method == "POST" else self.close(request)

    def open(self, request: Request) -> Response:
        """A token becomes a cookie that does not outlive it. A cookie does not become another one:
        sessions end. Raises CannotTell."""
        identity = identity_of(request.scope)
        if identity.by == "cookie":
            raise unauthorized("Authorization: a token is wanted")
        now = time.time()
        expires = session_expiry(identity, now)
        body = {
            "user": identity.user,
            "roles": list(identity.roles),
            "expires_at": timestamp(expires * 1000),
        }
        response = JSONResponse(body, headers=NO_STORE)
        response.set_cookie(
            COOKIE,
            session_of(identity, self._secret, expires),
            max_age=max(0, expires - int(now)),
            httponly=True,
            samesite="strict",
            secure=under_tls(request.scope, request.headers),
        )
        audit.controlled(identity.user, "session-open", identity.user)
        return response

    def close(self, request: Request) -> Response:
        response = Response(status_code=204, headers=NO_STORE)
        secure = under_tls(request.scope, request.headers)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
        user = identity_of(request.scope).user
        audit.controlled(user, "session-close", user)
        return response
