"""`GET /metrics`: figures of this process, of every notifier, and how much waits (docs/metrics.md).

Owns putting it all together at a scrape: the notifiers' figures lie in Redis, the lengths of the
queues are asked of RabbitMQ. Promises: an answer within about two seconds whatever is away,
`jobcast_up` says what, and no number is older than a notifier's expiry.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.figures import ApiFigures
from api.identity import require
from api.settings import Settings
from broker.depths import ASK_S, Depths
from broker.outlet import Outlet
from broker.topology import state_queues
from jobcast.names import DEAD
from notifier.connection import StoreUnavailable, connect
from notifier.figures import Exported, Family, read


class Metrics:
    """The handler."""

    def __init__(self, figures: ApiFigures, depths: Depths, redis: Redis) -> None:
        self._figures = figures
        self._depths = depths
        self._redis = redis

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.scrape)]

    async def scrape(self, request: Request) -> Response:
        require(request.scope, "admin")
        notifiers, (depths, rabbitmq) = await asyncio.gather(self._notifiers(), self._depths.ask())
        up = {"rabbitmq": rabbitmq, "redis": notifiers is not None}
        families = [
            *(_plain(metric) for metric in self._figures.registry.collect()),
            _gauges("jobcast_up", "Whether this replica reaches the part", "part", up),
            _gauges("jobcast_queue_ready_messages", "Messages that wait", "queue", depths),
        ]
        if notifiers is not None:
            families += merged(notifiers)
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        headers = {"Content-Type": kind, "Cache-Control": "no-store"}
        return Response(encode(Collected(families)), headers=headers)

    async def _notifiers(self) -> dict[str, Exported] | None:
        try:
            async with asyncio.timeout(ASK_S):
                return await read(self._redis)
        except (StoreUnavailable, TimeoutError):
            return None


class Collected:
    """Families for an encoder, which wants them out of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged(notifiers: Mapping[str, Exported]) -> list[Metric]:
    """Each family once, every sample with the label `notifier`; and how many notifiers live."""
    count = GaugeMetricFamily("jobcast_notifiers", "Notifiers that live", len(notifiers))
    written = {name: one.at for name, one in notifiers.items()}
    text = "When the notifier wrote its figures, by its clock, since 1970"
    at = _gauges("jobcast_notifier_written_timestamp_seconds", text, "notifier", written)
    families: dict[str, Metric] = {}
    for name, one in notifiers.items():
        for family in one.families:
            _add(families.setdefault(family.name, _empty(family)), family, name)
    return [count, at, *families.values()]


def _empty(family: Family) -> Metric:
    return Metric(family.name, family.help, family.kind)


def _add(metric: Metric, family: Family, notifier: str) -> None:
    for sample in family.samples:
        metric.add_sample(sample.name, sample.labels | {"notifier": notifier}, sample.value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        metric.add_metric([value], number)
    return metric


def _plain(metric: Metric) -> Metric:
    metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
    return metric


@asynccontextmanager
async def opened_metrics(
    settings: Settings, figures: ApiFigures, outlet: Outlet
) -> AsyncIterator[Metrics]:
    """The handler for the block; entering waits for nothing."""
    depths = Depths(outlet, (*state_queues(settings.partitions), DEAD))
    redis = connect(settings.redis_url, name="jobcast-metrics", connections_max=2)
    try:
        yield Metrics(figures, depths, redis)
    finally:
        await redis.aclose()
