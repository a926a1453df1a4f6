"""What the streams are measured against: `python -m bench.stock PORT`.

The stock `EventSourceResponse` of sse-starlette with one `asyncio.Queue` per client, as its
documentation shows it, under the same uvicorn settings as the API. `POST /publish` takes a JSON
array of events and puts each into the queues of all clients that it is for.
"""

import asyncio
import logging
import sys
from collections import defaultdict
from collections.abc import AsyncIterator

import msgspec
import uvicorn
import uvloop
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.machine import open_files
from bench.readers import FILES
from deploy.process import LOOPBACK

FEED = ""


class Published(msgspec.Struct):
    """One event, ready to be sent: `data` is text, `job` whom it is about."""

    event: str
    id: str
    job: str
    data: str


_PUBLISHED = msgspec.json.Decoder(list[Published])
_clients: defaultdict[str, set[asyncio.Queue[Published]]] = defaultdict(set)


async def _follow(job: str) -> AsyncIterator[ServerSentEvent]:
    queue: asyncio.Queue[Published] = asyncio.Queue()
    _clients[job].add(queue)
    try:
        yield ServerSentEvent(event="snapshot" if job else "live", data="{}")
        while True:
            published = await queue.get()
            yield ServerSentEvent(event=published.event, id=published.id, data=published.data)
    finally:
        _clients[job].discard(queue)


async def _feed(_: Request) -> Response:
    return EventSourceResponse(_follow(FEED))


async def _job(request: Request) -> Response:
    return EventSourceResponse(_follow(request.path_params["id"]))


async def _publish(request: Request) -> Response:
    for published in _PUBLISHED.decode(await request.body()):
        for name in (FEED, published.job):
            for queue in _clients[name]:
                queue.put_nowait(published)
    return Response(status_code=204)


async def _ready(_: Request) -> Response:
    return Response()


async def serve(port: int) -> None:
    app = Starlette(
        routes=[
            Route("/v1/events", _feed),
            Route("/v1/jobs/{id}/events", _job),
            Route("/publish", _publish, methods=["POST"]),
            Route("/readyz", _ready),
        ]
    )
    config = uvicorn.Config(
        app,
        host=LOOPBACK,
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=4096,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    open_files(FILES)
    uvloop.run(serve(int(sys.argv[1])))
