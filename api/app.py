"""The composition root of the HTTP process: opens the parts, and builds the app on them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from api import dialects
from api.bearer import Terms
from api.control import Control
from api.door import Door
from api.facility import Facility
from api.figures import ApiFigures
from api.gate import Gate, Rules
from api.health import Health
from api.identity import Credentials
from api.ingest import Ingest
from api.issuer import Issuer
from api.jobs import Jobs
from api.limits import Rate
from api.lists import Lists
from api.logon import Logons
from api.manners import Cors
from api.metrics import Metrics, opened_metrics
from api.problems import HANDLERS
from api.records import Records
from api.secret import Secret
from api.sessions import Sessions
from api.settings import Settings
from api.stream_routes import StreamRoute, find_stream
from api.stream_routes import routes as routes_of_streams
from api.streams import Streams
from api.tenure import Tenure
from api.tickets import Tickets
from api.waits import Waits
from broker.outlet import Outlet, opened_outlet
from notifier.connection import connect
from notifier.reader import Reader, opened_reader
from notifier.users import Users


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the app is built on."""

    settings: Settings
    credentials: Credentials
    logons: Logons
    tenure: Tenure
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
        opened_credentials(settings, users) as credentials,
        opened_reader(settings.redis_url) as reader,
        opened_outlet(settings.amqp_url, "jobcast api") as outlet,
        opened_metrics(settings, figures, outlet) as metrics,
    ):
        tenure = Tenure(users)
        open_streams = Streams(reader, settings, figures, tenure)
        async with running(open_streams.sweep(), tenure.keep()):
            yield Parts(
                settings=settings,
                credentials=credentials,
                logons=Logons(credentials),
                tenure=tenure,
                reader=reader,
                outlet=outlet,
                streams=open_streams,
                metrics=metrics,
            )


@asynccontextmanager
async def opened_credentials(settings: Settings, users: Users) -> AsyncIterator[Credentials]:
    """With an issuer, its keys and the service's own are kept for the block. Raises BadSetting."""
    async with AsyncExitStack() as stack:
        redis = connect(settings.redis_url, name="jobcast-secret", connections_max=1)
        stack.push_async_callback(redis.aclose)
        secret, issuer = Secret(redis), None
        if settings.jwt_issuer and settings.jwt_audience and settings.jwt_jwks:
            terms = Terms(settings.jwt_issuer, settings.jwt_audience)
            issuer = Issuer(terms, settings.jwt_jwks, users.may_be_called)
            await stack.enter_async_context(running(secret.keep(), issuer.keep()))
        yield Credentials(users, secret, issuer)


@asynccontextmanager
async def running(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Loops without an end, for the block."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def build(parts: Parts) -> ASGIApp:
    """The app as a value; it owns nothing that has to be closed."""
    settings = parts.settings
    stream_routes = routes_of_streams(parts.streams)
    rate = Rate(settings.requests_per_s)
    return Gate(
        routed(parts, stream_routes, rate),
        streams=lambda scope: find_stream(scope, stream_routes),
        counted=parts.streams.figures.request,
        rules=Rules(
            by=parts.credentials,
            rate=rate,
            cors=Cors(settings.cors_origins),
        ),
    )


def routed(parts: Parts, stream_routes: list[Route], rate: Rate) -> ASGIApp:
    """What stands behind the gate: every request that comes here has an `Identity`. Adds the
    streams of the dialects to the routes of streams."""
    settings, secret = parts.settings, parts.credentials.secret
    waits = Waits(parts.tenure, settings.waits_per_user)
    door = Door(parts.reader, parts.outlet, waits, settings.service_user)
    jobs = Jobs(parts.reader, waits).routes()
    for route in jobs:
        route.app = parts.streams.figures.polled(route.app)
    app = Starlette(
        routes=[
            *Health(parts.reader, parts.outlet).routes(),
            *Lists(parts.reader).routes(),
            *jobs,
            *Control(door).routes(),
            *Records(parts.reader, door).routes(),
            *stream_routes,
            *Ingest(parts.outlet).routes(),
            *Sessions(secret).routes(),
            *Tickets(secret).routes(),
            *parts.metrics.routes(),
        ],
        exception_handlers=HANDLERS,
    )
    facility = Facility(
        settings=settings,
        reader=parts.reader,
        door=door,
        waits=waits,
        credentials=parts.credentials,
        rate=rate,
        streams=parts.streams,
        logons=parts.logons,
    )
    spoken = dialects.routes(settings.dialects, facility)
    app.router.routes.extend(spoken)
    stream_routes += [route for route in spoken if isinstance(route, StreamRoute)]
    app.router.redirect_slashes = False  # a redirect would name our address
    return app
