"""A job as HTTP answers show it: the stored JSON with `links`, and the headers that go with it."""

from typing import Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.conditional import etag
from api.identity import identity_of
from jobcast.job import Status
from notifier.store import Snapshot

JSON: Final = "application/json"
CACHE: Final = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie, Prefer",
}


class Brief(msgspec.Struct):
    """What the headers of an answer need to know of a job."""

    id: str
    owner: str
    status: Status
    created_at: str


BRIEF: Final = msgspec.json.Decoder(Brief)


def linked(body: bytes, acting: str | None = None) -> bytes:
    """The stored JSON with `links` before its last brace; an admin's links keep the owner."""
    path = f"/v1/jobs/{BRIEF.decode(body).id}"
    query = f"?owner={quote(acting, safe='')}" if acting else ""
    links = {
        "self": path + query,
        "events": f"{path}/events{query}",
        "cancel": f"{path}/cancel{query}",
        "records": f"{path}/records{query}",
    }
    return b'%b,"links":%b}' % (body[:-1], msgspec.json.encode(links))


def acting_for(request: Request, owner: str) -> str | None:
    """The owner, where it is not the one who asks."""
    identity = identity_of(request.scope)
    return None if owner == (identity.owner or identity.user) else owner


def accepted(request: Request, owner: str, snapshot: Snapshot) -> Response:
    """202 with the job, after what was asked for."""
    headers = {"ETag": etag(snapshot.version), "Cache-Control": "no-store"}
    body = linked(snapshot.body, acting_for(request, owner))
    return Response(body, 202, headers=headers, media_type=JSON)
