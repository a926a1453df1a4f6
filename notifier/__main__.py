"""`python -m notifier`: the state service, which answers queries as well. The composition root:
broker and Redis meet here.

The order of stopping: stop taking → finish the batch in hand → close the channels → close Redis.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

import uvloop
from aiormq.abc import AbstractChannel

from broker.cloudstack_events import told_on
from broker.consumer import Batches, consuming, waiting
from broker.deliveries import Connection
from broker.errors import BrokerUnavailable, TopologyMismatch
from broker.link import connected, keep, opened, user_of
from broker.notices import completion
from broker.publisher import Publisher, publishing
from broker.questions import Questions
from broker.topology import Exchange, declare, keeps_ring, state_queues, topology
from jobcast.errors import BadSetting
from notifier.commit import Committer
from notifier.connection import StoreUnavailable, UnsafePolicy, connect
from notifier.figures import Figures, exporting, process_name
from notifier.folding import LiveJobs
from notifier.letters import AlsoTold, Rules
from notifier.poison import groups
from notifier.query import Answerer
from notifier.service import StateService
from notifier.settings import Settings, read_settings
from notifier.store import Store
from notifier.telling import NoQueue
from notifier.users import Admins
from notifier.watch import Watch, verdict

log = logging.getLogger("notifier")

LIVE_JOBS: Final = 5_000
GRACE_S: Final = 5.0
"""For the batch in hand, after which it is left to whoever gets the queue next."""
EXIT_S: Final = 9.0
WATCH_S: Final = 0.5
DEAF_MS: Final = 5_000
"""Who has not looked for so long was stopped, and has heard nothing meanwhile."""
BACKLOG_MAX: Final = 1_000
SETTLE_S: Final = 15.0
"""After an outage what was said before it is applied first, and executors come back within 10 s: as
long as that nobody is judged, and what is heard counts as said before it."""
VERDICT_TIMEOUT_S: Final = 10.0
QUERY_CONNECTIONS_MAX: Final = 4
"""To Redis, beside those of the state service: queries never make it wait for one."""


def clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Notifier:
    """The process: keeps its connections, and serves every partition's queue when it gets it."""

    def __init__(
        self, settings: Settings, service: StateService, watch: Watch, figures: Figures
    ) -> None:
        self._settings = settings
        self._figures = figures
        self._service = service
        self._watch = watch
        self._serving: set[Batches] = set()
        self._stopping = asyncio.Event()
        self._was_connected = False
        told = settings.cloudstack_exchange
        self._others = () if told is None else (Exchange(told, "topic"),)

    async def run(self) -> None:
        """Until `stop`."""
        await keep("notifier", self._connected)

    def stop(self) -> bool:
        """Take no more; False if there is nothing to finish, because nothing is served."""
        self._stopping.set()
        for batches in self._serving:
            batches.stop()
        return bool(self._serving)

    async def _connected(self) -> None:
        if self._stopping.is_set():
            return
        url = self._settings.amqp_url
        async with (
            connected(url, "jobcast notifier in") as inbound,
            connected(url, "jobcast notifier out") as outbound,
            publishing(outbound) as publisher,
        ):
            queues = state_queues(self._settings.partitions)
            async with opened(outbound, confirms=False) as channel:
                await declare(channel, topology(self._settings.partitions, *self._others))
                since = await self._hearing_since(channel, queues)
            self._was_connected = True
            self._mention(str(inbound.server_properties.get("version", "")))
            try:
                async with asyncio.TaskGroup() as tasks, opened(outbound, confirms=False) as asking:
                    watching = tasks.create_task(self._watched(queues, asking, publisher, since))
                    serving = [
                        tasks.create_task(self._serve(inbound, queue, publisher))
                        for queue in queues
                    ]
                    await asyncio.wait(serving)
                    watching.cancel()
            except* BrokerUnavailable as group:
                raise BrokerUnavailable(str(group.exceptions[0])) from group

    def _mention(self, version: str) -> None:
        """What may be amiss with this RabbitMQ and cannot be seen from here."""
        if self._settings.partitions > 1 and not keeps_ring(version):
            log.info(
                "RabbitMQ %s keeps the order of a job's events over its restart only with the"
                " feature flag khepri_db or with default_worker_pool_size = 1"
                " (docs/operations.md, Partitions)",
                version,
            )

    async def _hearing_since(self, channel: AbstractChannel, queues: Sequence[str]) -> int | None:
        """Since when the service has heard everything; None where it was interrupted, and somebody
        may be at work who cannot be heard yet."""
        waits = await waiting(channel, queues)
        try:
            since = await self._watch.heard_since()
            if since is None and not (self._was_connected or waits or await self._watch.anybody()):
                since = clock()
        except StoreUnavailable:
            return None
        return since

    async def _watched(
        self,
        queues: Sequence[str],
        asking: AbstractChannel,
        publisher: Publisher,
        since: int | None,
    ) -> None:
        """Look after silent jobs as long as this connection lives: what happened before it, and
        while Redis was away, this process did not hear."""
        if since is None:
            await asyncio.sleep(SETTLE_S)
        now = clock()
        since = since or now
        while True:
            before, now = now, clock()
            try:
                if now - before > DEAF_MS or await waiting(asking, queues) > BACKLOG_MAX:
                    since = now
                await self._watch.hears(since)
                for lost in await self._watch.look(now, since):
                    await publisher.publish(
                        [verdict(lost, self._service.user)], timeout_s=VERDICT_TIMEOUT_S
                    )
                    self._figures.lost(1)
            except StoreUnavailable as error:
                log.warning("watch: %s", error)
                since = now = clock()
            await asyncio.sleep(WATCH_S)

    async def _serve(self, inbound: Connection, queue: str, publisher: Publisher) -> None:
        """One partition. Its memory of jobs lives as long as its hold on the queue."""
        live = LiveJobs(LIVE_JOBS)
        async with consuming(inbound, queue) as batches:
            self._serving.add(batches)
            try:
                if self._stopping.is_set():
                    return
                while batch := await batches.take():
                    began = time.perf_counter()
                    self._figures.taken(len(batch))
                    for group in groups(batch):
                        await self._service.process(group, live, publisher)
                        await batches.settle(group)
                        if self._stopping.is_set():
                            break
                    self._figures.settled(time.perf_counter() - began)
            except NoQueue as error:
                raise BrokerUnavailable(str(error)) from error  # declared with the new connection
            finally:
                self._serving.discard(batches)


def words_of(settings: Settings) -> tuple[AlsoTold, ...]:
    """What the dialects say of a change of status."""
    hmc = (completion,) if "hmc" in settings.dialects else ()
    bus = settings.cloudstack_exchange
    return (*hmc, told_on(bus)) if bus else hmc


async def main(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    redis = connect(settings.redis_url, name="jobcast-notifier")
    aside = connect(
        settings.redis_url, name="jobcast-queries", connections_max=QUERY_CONNECTIONS_MAX
    )
    store, user = Store(redis), user_of(settings.amqp_url)
    committer = Committer(redis, retention_s=settings.retention_s, orphan_s=settings.orphan_s)
    rules = Rules(
        retention_s=settings.retention_s,
        user=user,
        partitions=settings.partitions,
        amqp_progress=settings.amqp_progress,
        also=words_of(settings),
    )
    figures = Figures()
    service = StateService(store, committer, rules, clock, figures)
    watch = Watch(redis, store, orphan_s=settings.orphan_s)
    notifier = Notifier(settings, service, watch, figures)
    answerer = Answerer(Store(aside), Admins(settings.users_file, {user}), user, figures)
    questions = Questions(settings.amqp_url, answerer.answer)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(_run(notifier, questions, store))

    def stop() -> None:
        serving = notifier.stop() | questions.stop()
        loop.call_later(GRACE_S if serving else 0, running.cancel)
        # Should closing hang, the process must not: what is not settled comes again.
        loop.call_later(EXIT_S, os._exit, 0)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with exporting(figures, redis, process_name()):
            return await running
    except asyncio.CancelledError:
        log.warning("stopped before all was finished; what is not settled comes again")
        return 0
    finally:
        await redis.aclose()
        await aside.aclose()


async def _run(notifier: Notifier, questions: Questions, store: Store) -> int:
    try:
        await store.check_policy()
    except UnsafePolicy as error:
        log.error("%s", error)
        return 2
    except StoreUnavailable as error:
        log.warning("%s; the policy is checked later", error)
    code = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(notifier.run())
            tasks.create_task(questions.run())
    except* TopologyMismatch as group:
        log.error("%s", group.exceptions[0])
        code = 2
    return code


def cli() -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # What breaks a connection is said once, by `keep`, and without a traceback.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        settings = read_settings(os.environ)
    except BadSetting as error:
        log.error("%s", error)
        return 2
    # What is made for a batch has no cycles and goes with it; looking for them costs a tenth.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    return uvloop.run(main(settings))


if __name__ == "__main__":
    sys.exit(cli())
