"""A ward: an owner's jobs under the eyes of notifiers, with all that is said and told of them.

What the tests of leases share. `hearing` and `passed` wait for notifiers, `executor` keeps a job
alive; `verdicts` and `told` read queues that keep what they hold.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from broker.topology import declare, topology
from jobcast.events import Event, Heartbeat, Lost, Started, Succeeded
from jobcast.job import Job
from jobcast.message import Message
from jobcast.names import DEAD, EVENTS, LIFECYCLE
from jobcast.notification import decode_notification
from jobcast.wire import decode
from notifier.connection import connect
from notifier.keys import HEARING, LEASES
from notifier.leases import GRACE_MS
from notifier.settings import Settings
from notifier.watch import CLAIM_MS, Watch
from tests.eventually import eventually
from tests.integration.lab import ORPHAN_S, Lab
from tests.integration.mortal import NAME
from tests.integration.rabbit import bodies, channel_to, depth, publish, report

LEASE_S: Final = 1.0
STATE: Final = "jobcast.state.0"
DATABASE: Final = 7
"""Ours alone: who shares the marks of the leases shares the work of watching them."""


class Ward:
    """See the module; `settings` are those of its notifiers."""

    def __init__(self, settings: Settings, lab: Lab) -> None:
        self.settings = settings
        self.url = settings.amqp_url
        self.lab = lab

    async def report(self, *events: Event) -> None:
        """As executors do."""
        await report(self.url, *events)

    async def publish(self, *messages: Message) -> None:
        await publish(self.url, *messages)

    async def hearing(self, count: int = 1) -> None:
        """Waits until so many notifiers watch; the first of them has the queue."""

        async def watch() -> bool:
            clients: Any = await self.lab.redis.client_list()
            names = {client["name"] for client in clients if client["name"].startswith(NAME)}
            return len(names) == count

        await eventually(watch, 20)

    async def passed(self) -> None:
        """Waits until all that was said before is done with."""
        marker = self.lab.say(Succeeded, f"marker-{time.monotonic_ns()}")
        await self.report(marker)
        await eventually(lambda: self.lab.job(marker.job_id), 20)

    async def verdicts(self) -> list[str]:
        """The jobs on which a verdict was sent, as often as it was."""
        found = []
        for body in await bodies(self.url, f"{self.lab.owner}-said"):
            for event in decode(body, None, {}, trusted=True):
                if isinstance(event, Lost) and event.owner == self.lab.owner:
                    found.append(event.job_id)
        return found

    async def told(self, word: str) -> list[str]:
        """The message ids of the notifications of one event, less the owner, sorted."""
        found = []
        for body in await bodies(self.url, f"{self.lab.owner}-told"):
            read = decode_notification(body)
            if read.event == word:
                found.append(read.message_id.partition("/")[2])
        return sorted(found)

    async def dead(self) -> int:
        return await depth(self.url, DEAD)

    async def lost(self, job_id: str = "j", timeout_s: float = 10) -> Job:
        """Waits for the lost verdict."""

        async def found() -> Job | None:
            job = await self.lab.job(job_id)
            return job if job.error is not None and job.error.code == "lost" else None

        job = await eventually(found, timeout_s)
        assert (job.status, job.outcome) == ("failed", "error")
        return job

    async def judged(self, rounds: int = 1) -> list[Lost]:
        """The verdicts of a watch that looks when every lease is long over, claim after claim."""
        watch = Watch(self.lab.redis, self.lab.store, orphan_s=ORPHAN_S)
        now = self.lab.now() + 2 * GRACE_MS
        found: list[Lost] = []
        for number in range(rounds):
            found += await watch.look(now + number * (CLAIM_MS + 1), 0)
        return found

    @asynccontextmanager
    async def executor(self, job_id: str = "j") -> AsyncIterator[None]:
        """Starts a job and says three times per lease that it lives; leaving is sudden death."""

        async def live() -> None:
            while True:
                await self.report(self.lab.say(Heartbeat, job_id))
                await asyncio.sleep(LEASE_S / 3)

        await self.report(self.lab.say(Started, job_id, lease_s=LEASE_S))
        living = asyncio.create_task(live())
        try:
            yield
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)


@asynccontextmanager
async def opened_ward(amqp_url: str, redis_url: str, owner: str) -> AsyncIterator[Ward]:
    """Everything declared, and two queues: what is said of the jobs, what subscribers are told."""
    settings = Settings(amqp_url, f"{redis_url.rpartition('/')[0]}/{DATABASE}")
    redis = connect(settings.redis_url, name="jobcast-test")
    await redis.delete(LEASES, HEARING)
    taps = {f"{owner}-said": LIFECYCLE, f"{owner}-told": EVENTS}
    async with channel_to(amqp_url) as channel:
        await declare(channel, topology(1))
        for name, exchange in taps.items():
            await channel.queue_declare(name, durable=True)
            await channel.queue_bind(name, exchange, "#")
    yield Ward(settings, Lab(redis, owner))
    async with channel_to(amqp_url) as channel:
        for name in taps:
            await channel.queue_delete(name)
    await redis.aclose()


async def after(seconds: float) -> None:
    """Silence is what these tests are about: it takes its time."""
    until = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() > until, seconds + 10)
