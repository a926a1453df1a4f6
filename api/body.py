"""Request bodies, bounded while they are read."""

from typing import Final

from starlette.requests import Request

from api.problems import Problem

SMALL: Final = 4 * 1024
"""For a body that holds a few words."""


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
