"""`python -m bench.doors USER PORT PORT`: an API replica with two more doors, for `bench auth`.

All doors lead to the same routes, in one process, so that they differ in nothing else. The first
(`JOBCAST_HTTP_PORT`) is the product's, gate and all. At the other two everybody is USER: no
credential is read, no rate kept, nothing refused. The second one's answers have the gate's headers
and are counted, the third one's not even that. They exist here alone; the product cannot be told to
open them.
"""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable

import msgspec
import uvicorn
import uvloop
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.app import build, opened, routed
from api.connection import Connection
from api.identity import Identity
from api.limits import Rate
from api.manners import Cors, mannered, manners
from api.serve import COMMON, Server, bound, collect_seldom
from api.settings import Settings, read
from api.stream_routes import routes as routes_of_streams

Counted = Callable[[Scope, int], None]


class Ungated:
    """Lets everybody in as one user. `counted`: None for no headers either."""

    def __init__(self, app: ASGIApp, user: str, counted: Counted | None) -> None:
        self._app = app
        self._identity = Identity(user, ("subscriber",), "token", "")
        self._counted = counted
        self._cors = Cors(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["identity"] = self._identity
        if self._counted is not None:
            scope["request_id"] = secrets.token_hex(8)
            scope["manners"] = manners(scope, Headers(scope=scope), self._cors)
            send = mannered(scope, send, self._counted)
        await self._app(scope, receive, send)


async def serve(settings: Settings, user: str, ports: list[int]) -> None:
    async with opened(settings) as parts, asyncio.TaskGroup() as tasks:
        app = routed(parts, routes_of_streams(parts.streams), Rate(parts.settings.requests_per_s))
        apps: list[ASGIApp] = [
            build(parts),
            Ungated(app, user, parts.streams.figures.request),
            Ungated(app, user, None),
        ]
        servers = [Server(uvicorn.Config(app, http=Connection, **COMMON)) for app in apps]
        for server, port in zip(servers, [settings.http_port, *ports], strict=True):
            listener = bound(msgspec.structs.replace(settings, http_port=port))
            tasks.create_task(server.serve(sockets=[listener]))

        def stop() -> None:
            for server in servers:
                server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)


if __name__ == "__main__":
    collect_seldom()
    uvloop.run(serve(read(os.environ), sys.argv[1], [int(port) for port in sys.argv[2:]]))
