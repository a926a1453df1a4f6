"""The composition root of the HTTP process: opens the parts, and builds the app on them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
from starlette.applications import Starlette
from starlette.types import ASGIApp

from api import sessions, streams
from api.figures import ApiFigures
from api.health import Health
from api.identity import Gate
from api.ingest import Ingest
from api.jobs import Jobs
from api.limits import Rate
from api.metrics import Metrics, opened_metrics
from api.problems import HANDLERS
from api.settings import Settings
from api.streams import Streams
from api.users import Users
from broker.outlet import Outlet, opened_outlet
from notifier.reader import Reader, opened_reader


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the app is built on."""

    settings: Settings
    users: Users
    reader: Reader
    outlet: Outlet
    streams: Streams
    metrics: Metrics


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Parts]:
    """The parts for the block; RabbitMQ and Redis may be away, then readiness says so.

    Order of stopping: the server has taken its last request and the streams are told and gone
    (`api.serve`) before this block is left; then sweep, broker, hub, Redis. Raises BadUsersFile.
    """
    users = Users(settings.users_file, {settings.service_user})
    figures = ApiFigures(settings.streams_max)
    async with (
        opened_reader(settings.redis_url) as reader,
        opened_outlet(settings.amqp_url, "jobcast api") as outlet,
        opened_metrics(settings, figures, outlet) as metrics,
    ):
        open_streams = Streams(reader, settings, figures)
        sweep = asyncio.create_task(open_streams.sweep())
        try:
            yield Parts(
                settings=settings,
                users=users,
                reader=reader,
                outlet=outlet,
                streams=open_streams,
                metrics=metrics,
            )
        finally:
            sweep.cancel()
            with suppress(asyncio.CancelledError):
                await sweep


def build(parts: Parts) -> ASGIApp:
    """The app as a value; it owns nothing that has to be closed."""
    stream_routes = streams.routes(parts.streams)
    figures = parts.streams.figures
    jobs = Jobs(parts.reader).routes()
    for route in jobs:
        route.app = figures.polled(route.app)
    app = Starlette(
        routes=[
            *Health(parts.reader, parts.outlet).routes(),
            *jobs,
            *stream_routes,
            *Ingest(parts.outlet).routes(),
            *sessions.routes(),
            *parts.metrics.routes(),
        ],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False  # a redirect would name our address
    return Gate(
        app,
        streams=lambda scope: streams.find_stream(scope, stream_routes),
        counted=figures.counted,
        users=parts.users,
        rate=Rate(parts.settings.requests_per_s),
    )
