"""One notifier and one API replica behind links of the test's own, and what they cost meanwhile.

RabbitMQ and Redis are a test module's own: they are stopped, killed and paused while nobody else
looks on. Everything between them and the two processes passes through `amqp` and `store`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from deploy.process import LOOPBACK
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Replica, Service, Stack
from tests.chaos.link import Link
from tests.integration.rabbit import QUEUES, written
from tests.logins import Logins
from tests.servers import need_servers

TICK_S = 0.1


class Nodes(NamedTuple):
    rabbitmq: RabbitMQNode
    redis: RedisNode

    def start(self) -> None:
        """Again, whatever a test has done to them."""
        for node in self:
            if node.alive:
                node.resume()
            node.start()


@contextmanager
def running_nodes(folder: Path) -> Iterator[Nodes]:
    """Both, for a test module; without them it is skipped, or fails where `CI` is set."""
    need_servers()
    with RabbitMQNode(folder / "rabbitmq") as one, RedisNode(folder / "redis") as other:
        yield Nodes(one, other)


class Rig:
    """`api` and `notifier`, and the links through which they reach the nodes."""

    def __init__(self, nodes: Nodes, stack: Stack, links: tuple[Link, Link]) -> None:
        self.nodes = nodes
        self.stack = stack
        self.amqp, self.store = links

    @property
    def api(self) -> Replica:
        return self.stack.replicas[0]

    @property
    def notifier(self) -> Service:
        return self.stack.notifiers[0]


@asynccontextmanager
async def opened_rig(nodes: Nodes, logins: Logins, folder: Path, **env: str) -> AsyncIterator[Rig]:
    """Both processes are ready within the block; the nodes run again after it."""
    nodes.start()
    async with Link("amqp", nodes.rabbitmq.port) as amqp, Link("redis", nodes.redis.port) as store:
        layout = Layout(
            amqp_url=nodes.rabbitmq.url_at(amqp.port),
            redis_url=f"redis://{LOOPBACK}:{store.port}/0",
            redis_reader_url=nodes.redis.reader_url_at(store.port),
            users_file=logins.users_file,
            folder=folder,
            http_ports=(0,),
            env={"JOBCAST_REQUESTS_PER_S": "100000", **env},
        )
        stack = Stack(layout)
        try:
            await asyncio.to_thread(stack.start)
            await written(nodes.rabbitmq, *QUEUES[:2])
            yield Rig(nodes, stack, (amqp, store))
        finally:
            await asyncio.to_thread(nodes.start)
            await asyncio.to_thread(stack.stop)


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """What a process holds in memory, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


class Look(NamedTuple):
    """One look at a replica: what it said, and how long `/healthz` took to say it."""

    at_s: float
    missing: list[str]
    alive: bool
    took_s: float


class Watchman:
    """Asks a replica how it is, ten times a second; see `watching`."""

    def __init__(self, replica: Replica) -> None:
        self._url = replica.url
        self._pid = replica.pid
        self.looks: list[Look] = []

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        async with httpx.AsyncClient(base_url=self._url, timeout=5) as http:
            while True:
                began = clock()
                alive = await http.get("/healthz")
                took_s = clock() - began
                ready = await http.get("/readyz")
                missing: list[str] = [] if ready.status_code == 200 else ready.json()["missing"]
                assert (ready.status_code == 503) == bool(missing)
                good = alive.status_code == 200
                self.looks.append(Look(clock(), missing, good, took_s))
                await asyncio.sleep(TICK_S)

    async def until(self, wanted: Callable[[list[str]], Any], timeout_s: float) -> float:
        """Seconds from now until a look that begins after it finds what is wanted missing."""
        clock = asyncio.get_running_loop().time
        began, at = clock(), len(self.looks)
        while True:
            for look in self.looks[at + 1 :]:
                if wanted(look.missing):
                    return look.at_s - began
            if clock() - began > timeout_s:
                raise AssertionError(f"after {timeout_s} s: {self.looks[-1:]}")
            await asyncio.sleep(TICK_S)

    @property
    def healthy(self) -> bool:
        """`/healthz` has said 200 every time, and at once."""
        return all(look.alive and look.took_s < 1 for look in self.looks)


@asynccontextmanager
async def watching(replica: Replica) -> AsyncIterator[Watchman]:
    """A watchman for the block; what breaks it breaks the block."""
    watchman = Watchman(replica)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watchman.run())
        yield watchman
        task.cancel()
