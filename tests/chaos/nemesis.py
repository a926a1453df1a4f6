"""Does to the world what the plan says, and puts it right again.

Owns the processes' ups and downs while it runs. Promises: every deed is logged with its time, and
undone; a process that dies without its doing is noticed, told, and started again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from deploy.process import StartFailure
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Service
from tests.chaos.plan import KILLS_AND_PAUSES, Deed
from tests.chaos.world import World

DELAY_S: Final = 0.25
STOP_S: Final = 10.0
"""A SIGTERM is obeyed within this (docs: shutdown)."""
STARTS_MAX: Final = 3
LOOK_EVERY_S: Final = 0.5

Process = Service | RabbitMQNode | RedisNode


class Nemesis:
    """`findings` are what should not have happened: deaths of their own, slow stops."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: Counter[str] = Counter()
        self._locks: dict[str, asyncio.Lock] = {}
        self._began = time.monotonic()
        self.log: list[str] = []
        self.findings: list[str] = []
        self.done: Counter[str] = Counter()

    @property
    def kills_and_pauses(self) -> int:
        return sum(self.done[what] for what in KILLS_AND_PAUSES)

    def say(self, what: str) -> None:
        self.log.append(f"{time.strftime('%H:%M:%S')} {self.now_s:7.2f} {what}")

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began

    async def run(self, deeds: Sequence[Deed], duration_s: float) -> None:
        """Until `duration_s` has passed and everything is put right."""
        self._began = time.monotonic()
        watching = asyncio.create_task(self._watch())
        async with asyncio.TaskGroup() as tasks:
            for deed in deeds:
                for victim in deed.victims:
                    tasks.create_task(self._perform(deed, victim, duration_s))
            tasks.create_task(asyncio.sleep(duration_s))
        for link in self._world.links.values():
            link.heal()
        watching.cancel()
        self.say("quiet: everything is to run again")
        await asyncio.to_thread(self._world.start_all)
        self.say("quiet: everything runs")

    async def _perform(self, deed: Deed, victim: str, duration_s: float) -> None:
        await asyncio.sleep(deed.at_s)
        async with self._locks.setdefault(victim, asyncio.Lock()):
            if self.now_s >= duration_s:
                return  # the one before it took too long
            self.done[deed.what] += 1
            self.say(f"{deed.what} {victim} for {deed.lasts_s:g} s")
            lasts_s = max(0.0, min(deed.lasts_s, duration_s - self.now_s))
            self._held[victim] += 1
            try:
                if victim in self._world.links:
                    await self._disturb(deed.what, victim, lasts_s)
                else:
                    await self._hurt(deed.what, victim, lasts_s)
            finally:
                self._held[victim] -= 1
            self.say(f"{victim} again")

    async def _disturb(self, what: str, victim: str, lasts_s: float) -> None:
        link = self._world.links[victim]
        match what:
            case "cut":
                link.cut()
            case "refuse":
                link.refusing = True
                link.cut()
            case "delay":
                link.delay_s = DELAY_S
            case "stall":
                link.stall()
            case "half-close":
                link.half_close(int(lasts_s * 1000) % 2)
            case _:
                link.lose()
        await asyncio.sleep(lasts_s)
        link.heal()

    async def _hurt(self, what: str, victim: str, lasts_s: float) -> None:
        process = self._process(victim)
        match what:
            case "kill":
                process.kill()
                await asyncio.sleep(lasts_s)
            case "pause":
                process.pause()
                await asyncio.sleep(lasts_s)
                process.resume()
            case _:
                await self._stop(victim, process)
        await self._start(victim, process)

    async def _stop(self, victim: str, process: Process) -> None:
        began = time.monotonic()
        if isinstance(process, Service):
            await asyncio.to_thread(process.stop, STOP_S)
        else:
            await asyncio.to_thread(process.stop)
        took_s = time.monotonic() - began
        self.say(f"{victim} stopped in {took_s:.1f} s")
        if isinstance(process, Service) and took_s >= STOP_S:
            self.findings.append(f"{victim} did not stop within {STOP_S:g} s at {self.now_s:.1f}")

    async def _start(self, victim: str, process: Process) -> None:
        """A service need not be ready at once: what it needs may be away."""
        if isinstance(process, Service):
            process.launch()
            return
        tries = 0
        while not process.alive:
            try:
                await asyncio.to_thread(process.start)
            except StartFailure as error:
                tries += 1
                self.say(f"{victim} does not start: {error}")
                if tries == STARTS_MAX:
                    raise

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for name in (*self._world.services, "rabbitmq", "redis"):
                process = self._process(name)
                if not self._held[name] and not process.alive:
                    self.say(f"{name} has died by itself")
                    self.findings.append(f"{name} died by itself at {self.now_s:.1f}")
                    self._held[name] += 1
                    await self._start(name, process)
                    self._held[name] -= 1

    def _process(self, name: str) -> Process:
        world = self._world
        nodes: dict[str, Process] = {"rabbitmq": world.rabbitmq, "redis": world.redis}
        return nodes.get(name) or world.services[name]
