"""A notifier that dies by SIGKILL at a chosen step, in a process of its own.

It is the real one: its parts only note where the service is, and end the process there. Where, is
said by the events: one whose source is `source_of(point, …)` arms the process that takes it, once
for all processes. At `answer-lost` it does not die, but is not told what became of a commit.
"""

import asyncio
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Final, TypeVar
from uuid import uuid4

import uvloop
from redis.asyncio import Redis

from broker.link import user_of
from jobcast.message import Incoming, Message, Outcome
from notifier.__main__ import Notifier, clock
from notifier.commit import Committer
from notifier.connection import StoreUnavailable, connect
from notifier.figures import Figures
from notifier.folding import LiveJobs
from notifier.letters import Rules
from notifier.plan import Plan
from notifier.service import StateService
from notifier.settings import Settings
from notifier.store import Store
from notifier.telling import Publish
from notifier.watch import Watch

T = TypeVar("T")

POINTS: Final = ("taken", "committing", "committed", "publishing", "confirmed", "settled")
"""In the order of the steps. At `committing` and `publishing` a part of the commits or messages has
arrived, and of none is known whether it has; at `settled` the acknowledgement is on its way."""
ANSWER_LOST: Final = "answer-lost"
ON_ITS_WAY_S: Final = 0.02
NAME: Final = "mortal-"
"""With the process id, what it is called among Redis's clients."""
SURVIVED: Final = "test:survived"
"""How often an answer was lost, in Redis."""
MARK: Final = re.compile(rb'"/dies/([a-z-]+)/([0-9a-f]+)"')

_processes: Final = multiprocessing.get_context("forkserver")
# What is imported once need not be by every process: each is there in a few milliseconds.
_processes.set_forkserver_preload(["__main__", __name__])


def source_of(point: str) -> str:
    """The source of an event that arms whoever takes it first; never the same twice."""
    return f"/dies/{point}/{uuid4().hex}"


def spawn(settings: Settings) -> ForkServerProcess:
    """Starts one. SIGTERM ends it when its batch is done."""
    process = _processes.Process(target=_run, args=(settings,), daemon=True)
    process.start()
    return process


class Fate:
    """Where this process is to die, once it is armed."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.point = ""

    async def read(self, batch: Sequence[Incoming]) -> None:
        for message in batch:
            for point, name in MARK.findall(message.body):
                if await self._redis.set(b"test:mortal:" + name, 1, nx=True, ex=600):
                    self.point = point.decode()

    def meet(self, point: str) -> None:
        if self.point == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def survive(self) -> None:
        self.point = ""
        await self._redis.incr(SURVIVED)


class MortalPublisher:
    def __init__(self, publisher: Publish, fate: Fate) -> None:
        self._publisher = publisher
        self._fate = fate

    async def publish(self, messages: Sequence[Message], *, timeout_s: float) -> Sequence[Outcome]:
        if messages and self._fate.point == "publishing":
            await self._publisher.publish(_some(messages), timeout_s=timeout_s)
            self._fate.meet("publishing")
        return await self._publisher.publish(messages, timeout_s=timeout_s)


class MortalCommitter(Committer):
    fate: Fate

    async def commit(
        self, plans: Sequence[Plan], now: int, renew: frozenset[str]
    ) -> list[list[str] | None]:
        if self.fate.point in {"committing", ANSWER_LOST}:
            await super().commit(_some(plans), now, renew)
            self.fate.meet("committing")
            await self.fate.survive()
            raise StoreUnavailable("nobody knows what became of the commits")
        answers = await super().commit(plans, now, renew)
        self.fate.meet("committed")
        return answers


class MortalService(StateService):
    fate: Fate

    async def process(self, batch: Sequence[Incoming], live: LiveJobs, publisher: Publish) -> None:
        await self.fate.read(batch)
        self.fate.meet("taken")
        await super().process(batch, live, MortalPublisher(publisher, self.fate))
        self.fate.meet("confirmed")


class MortalFigures(Figures):
    fate: Fate

    def settled(self, seconds: float) -> None:
        super().settled(seconds)
        asyncio.get_running_loop().call_later(ON_ITS_WAY_S, self.fate.meet, "settled")


def _some(values: Sequence[T]) -> Sequence[T]:
    return values[: max(1, len(values) // 2)]


def _run(settings: Settings) -> None:
    uvloop.run(_main(settings))


async def _main(settings: Settings) -> None:
    redis = connect(settings.redis_url, name=f"{NAME}{os.getpid()}")
    store = Store(redis)
    committer = MortalCommitter(redis, retention_s=settings.retention_s, orphan_s=settings.orphan_s)
    rules = Rules(
        retention_s=settings.retention_s,
        user=user_of(settings.amqp_url),
        partitions=settings.partitions,
    )
    figures = MortalFigures()
    service = MortalService(store, committer, rules, clock, figures)
    committer.fate = service.fate = figures.fate = Fate(redis)
    watch = Watch(redis, store, orphan_s=settings.orphan_s)
    notifier = Notifier(settings, service, watch, figures)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, notifier.stop)
    await notifier.run()


@contextmanager
def living(settings: Settings) -> Iterator[ForkServerProcess]:
    """One that nobody tells to die, killed at the end of the block."""
    process = spawn(settings)
    try:
        yield process
    finally:
        process.kill()
        process.join(10)
