"""`POST /v1/tickets`: a short-lived right to read and follow one job, for a URL."""

import time
from typing import Annotated, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import audit
from api.body import SMALL, bounded
from api.identity import Identity, identity_of, read_owner
from api.problems import Problem, invalid
from api.secret import Secret
from api.ticket import TTL_MAX_S, Right
from jobcast.job import timestamp
from jobcast.names import is_id

TTL_S: Final = 300


class Wish(msgspec.Struct):
    """What is asked for. Not to be decoded strictly at once: errors name the field."""

    job: str
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=TTL_MAX_S)] = TTL_S


WISH: Final = msgspec.json.Decoder(Wish)


class Tickets:
    """The handler."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def routes(self) -> list[Route]:
        return [Route("/v1/tickets", self.make, methods=["POST"])]

    async def make(self, request: Request) -> Response:
        """The job need not be known yet: a client may be faster than its first event. An admin adds
        `owner=` as elsewhere. A ticket never outlives the credential that has made it."""
        owner = read_owner(request.scope, request.query_params)
        identity = identity_of(request.scope)
        try:
            wish = _wish(await bounded(request, SMALL))
        except ClientDisconnect:
            return Response()  # to nobody
        until = identity.expires_at or float("inf")
        expires = int(min(time.time() + wish.ttl_s, until))
        said = Right(wish.job, owner, identity.user, issued=not identity.token_sha256)
        ticket = said.ticket(self._key(identity), expires)
        audit.controlled(identity.user, "ticket", f"{owner}/{wish.job}")
        body = {"ticket": ticket, "expires_at": timestamp(expires * 1000)}
        return JSONResponse(body, 201, headers={"Cache-Control": "no-store"})

    def _key(self, identity: Identity) -> bytes:
        """Raises CannotTell."""
        hexes = identity.token_sha256
        return bytes.fromhex(hexes) if hexes else self._secret.value


def _wish(body: bytes) -> Wish:
    """Raises Problem, naming the field."""
    try:
        wish = WISH.decode(body)
    except msgspec.ValidationError as error:
        if "ttl_s" in str(error):
            raise invalid("ttl_s", f"a whole number of seconds from 1 to {TTL_MAX_S}") from None
        wish = Wish("")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Problem("bad-request", "the body: a JSON object is wanted") from None
    if not is_id(wish.job):
        raise invalid("job", "the id of a job")
    return wish
