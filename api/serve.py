"""Running the app under uvicorn, beside it RabbitMQ's authority, and stopping both.

Owns the listening sockets, the signals and the order of stopping: take no more connections → tell
streams and long polls (they end, and are resumed elsewhere) → cut who does not read → stop being
asked by RabbitMQ (others may still log in until then) → close the parts. Promises: exit within
10 s, whatever the clients do. uvicorn's own signal handling is off: it would wait for streams that
nobody has told.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import uvicorn
import uvloop
from starlette.types import ASGIApp

from api.app import Parts, build, opened
from api.authority import Authority, asked, vhost_of
from api.connection import Connection, hurry
from api.deadlines import Deadlines
from api.management import opened_management
from api.revocation import revoking
from api.settings import Settings
from jobcast.errors import BadSetting

STREAMS_GRACE_S: Final = 3.0
LAST_S: Final = 1.5
REQUESTS_GRACE_S: Final = 5
CLOSE_TIMEOUT_S: Final = 9.0
ANSWERS_GRACE_S: Final = 1.5
REAP_S: Final = 60.0
UNREAD_MS: Final = 60_000
UNSENT_BYTES: Final = 64 * 1024
"""What the kernel takes of a connection beyond what the peer's window lets it send. Its own bound
is megabytes, which hundreds of readers that have stopped would fill at everybody's cost."""
IDLE_S: Final = 65  # longer than the 60 s of common proxies, so that they close first
BACKLOG: Final = 4096
COLLECT_AFTER: Final = 10_000
"""Objects that are more than at the last collection of the young."""

COMMON: Final[dict[str, Any]] = {
    "ws": "none",
    "lifespan": "off",
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,
    "server_header": False,
    "backlog": BACKLOG,
    "timeout_keep_alive": IDLE_S,
}
"""What both of uvicorn's servers are told."""

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound(settings: Settings) -> socket.socket:
    """The listening socket. Raises BadSetting for an address or port that cannot be used."""
    return _bound("HTTP", settings.http_host, settings.http_port)


def bound_authority(settings: Settings) -> socket.socket | None:
    """The socket on which RabbitMQ asks, if it is to. Raises BadSetting."""
    if settings.authority_port is None:
        return None
    return _bound("AUTHORITY", settings.authority_host, settings.authority_port)


def _bound(what: str, host: str, port: int) -> socket.socket:
    """`what` names the variables: JOBCAST_<what>_HOST and _PORT."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise BadSetting(f"JOBCAST_{what}_HOST={host}: an address is wanted ({error})") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Handed down to connections. A peer that is dead, or has not read for so long, is cut.
        for name, value in (("TCP_USER_TIMEOUT", UNREAD_MS), ("TCP_NOTSENT_LOWAT", UNSENT_BYTES)):
            if hasattr(socket, name):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            why = "in use" if error.errno == errno.EADDRINUSE else "not allowed"
            raise BadSetting(
                f"JOBCAST_{what}_PORT={port}: a free port is wanted, this is {why}"
            ) from None
        raise BadSetting(f"JOBCAST_{what}_HOST={host}: {error.strerror}") from None
    return listener


def collect_seldom() -> None:
    """What is loaded by now stays, and a request leaves no cycles: to look for them again and again
    would cost a request a tenth more, and hold up everybody for 40 ms now and then."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises BadSetting, BadUsersFile."""
    collect_seldom()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(bound(settings)))
        asking = bound_authority(settings)
        if asking is not None:
            stack.enter_context(contextlib.closing(asking))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(serve(settings, listener, asking))


async def serve(
    settings: Settings, listener: socket.socket, asking: socket.socket | None = None
) -> None:
    """`asking`: where RabbitMQ asks, see `bound_authority`."""
    async with opened(settings) as parts, answering(parts, asking):
        server = Server(_config(settings, parts))
        scheme = "https" if settings.tls_cert else "http"
        log.info("serving %s://%s", scheme, _address(listener))
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.serve(sockets=[listener]))
            watching = [tasks.create_task(reap(server)), tasks.create_task(hurry(server))]
            await stopping.wait()
            log.info("stopping: %d streams open", len(parts.streams))
            # Should anything below hang, the process must not: there is nothing left to lose.
            loop.call_later(CLOSE_TIMEOUT_S, os._exit, 0)
            await stop(server, parts, running)
            for task in watching:
                task.cancel()


@contextlib.asynccontextmanager
async def answering(parts: Parts, asking: socket.socket | None) -> AsyncIterator[None]:
    """Answers RabbitMQ for the block, and takes away at RabbitMQ what users no longer have."""
    settings, deadlines = parts.settings, Deadlines()
    async with (
        opened_management(settings, vhost_of(settings.amqp_url)) as management,
        revoking(settings, parts.logons, deadlines, management),
    ):
        if asking is None:
            yield
            return
        authority = Authority(settings, parts.logons, deadlines, management)
        server = Server(_authority_config(settings, asked(authority, settings.authority_secret)))
        scheme = "https" if settings.authority_tls else "http"
        log.info("answering RabbitMQ on %s://%s", scheme, _address(asking))
        running = asyncio.create_task(server.serve(sockets=[asking]))
        try:
            yield
        finally:
            server.should_exit = True
            for connection in list(server.server_state.connections):
                connection.shutdown()
            # `serve` comes back within a tick and the questions in hand, which are short.
            await asyncio.wait({running}, timeout=ANSWERS_GRACE_S)
            running.cancel()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def stop(server: uvicorn.Server, parts: Parts, running: "asyncio.Task[None]") -> None:
    """Returns when nobody is served any more."""
    if server.started:
        for listening in server.servers:
            listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()  # closes idle ones, and others after their answer
    parts.reader.hub.drain()
    server.should_exit = True
    await asyncio.wait({running}, timeout=STREAMS_GRACE_S)
    parts.streams.cut_all()
    for connection in list(server.server_state.connections):
        if connection.transport.is_closing():
            connection.transport.abort()  # closed, but its client does not read what is left
    await asyncio.wait({running}, timeout=LAST_S)
    for connection in list(server.server_state.connections):
        connection.transport.abort()  # before uvicorn cancels its request and says 500 for it


async def reap(server: uvicorn.Server) -> None:
    """Aborts, for ever, connections that have been closing for REAP_S: nobody reads there."""
    before: set[object] = set()
    while True:
        await asyncio.sleep(REAP_S)
        connections = list(server.server_state.connections)
        closing = {one for one in connections if one.transport.is_closing()}
        for connection in closing & before:
            connection.transport.abort()
        before = set(closing)


def _authority_config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    return _loaded(
        settings,
        uvicorn.Config(
            app,
            http="httptools",
            date_header=False,
            ssl_certfile=settings.tls_cert if settings.authority_tls else None,
            ssl_keyfile=settings.tls_key if settings.authority_tls else None,
            timeout_graceful_shutdown=1,
            **COMMON,
        ),
    )


def _config(settings: Settings, parts: Parts) -> uvicorn.Config:
    return _loaded(
        settings,
        uvicorn.Config(
            build(parts),
            http=Connection,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            timeout_graceful_shutdown=REQUESTS_GRACE_S,
            **COMMON,
        ),
    )


def _loaded(settings: Settings, config: uvicorn.Config) -> uvicorn.Config:
    """Raises BadSetting where the certificate is no good."""
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise BadSetting(
            f"JOBCAST_TLS_CERT={settings.tls_cert}: a certificate with its key is wanted"
            f" ({error.strerror or error})"
        ) from None
    return config
