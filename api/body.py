"""Request bodies, bounded while they are read, and JSON objects out of them."""

from typing import Final, TypeVar

import msgspec
from starlette.requests import Request

from api.problems import Problem, invalid
from jobcast.reasons import UNREADABLE, explain
from jobcast.wire import media_type

SMALL: Final = 4 * 1024
"""For a body that holds a few words."""
LINE: Final = 16 * 1024
"""For one that holds a text of 1,024 characters, however they are escaped."""

JSON: Final = frozenset({"", "application/json"})
MERGE_PATCH: Final = JSON | {"application/merge-patch+json"}

T = TypeVar("T")


async def bounded(request: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes. Raises Problem `too-large` as soon as that is known,
    ClientDisconnect."""
    # The rest of a body that is too large stays unread: no further request on this connection.
    too_large = Problem("too-large", headers={"Connection": "close"})
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise too_large
    return bytes(body)


def require_type(request: Request, types: frozenset[str] = JSON) -> None:
    """Raises Problem `unsupported-media-type`."""
    kind = media_type(request.headers.get("content-type"))
    if kind not in types:
        raise Problem("unsupported-media-type", "Content-Type: application/json is wanted")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("unsupported-media-type", "Content-Encoding: none is read here")


async def json_body(
    request: Request, decoder: msgspec.json.Decoder[T], types: frozenset[str] = JSON
) -> T:
    """The body as one of our structs; members that it does not have are ignored.

    Raises Problem, which names the field, and ClientDisconnect.
    """
    require_type(request, types)
    body = await bounded(request, LINE)
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        reason, detail = explain(error, "")
    if reason in {"not-json", "too-deep"}:
        raise Problem("bad-request", "the body: a JSON object is wanted")
    if reason == "not-cloudevent":  # of no field: it is something else altogether
        raise invalid("body", "a JSON object")
    raise Problem("invalid-parameter", detail)
