"""Too much at once: what is merged, what is refused, what waits, and that nobody else suffers."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import uvicorn

from api.app import Parts, build, opened
from api.serve import Server
from api.settings import Settings
from api.streams import STUCK_S
from broker.consumer import PREFETCH
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Progressed, Recorded, Started, Succeeded
from notifier.follow import follow_feed, follow_job
from notifier.reader import Reader
from tests.chaos.link import Link
from tests.contract.test_http.reading import Reading
from tests.eventually import eventually
from tests.integration.lab import Lab, reading, versions_rise
from tests.integration.rabbit import depth, notifier, report, serving
from tests.logins import Login, Logins

STATE = "jobcast.state.0"
FAT = {f"label-{number}": "x" * 256 for number in range(16)}
WIDE = {f"{number:0100}": 0.0 for number in range(80)}
"""Targets: with the labels 13 KB, near the most that an entry of the feed holds itself."""

HELD_MAX = 1024 * 1024
"""What the process may hold of one stream's changes while its client does not read."""

KERNEL_MAX = 8 * 1024 * 1024
"""More than the kernel keeps for a connection whose client does not read."""


async def test_a_flood_of_progress_is_one_change_for_a_late_reader_and_the_last_value_is_right(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started))
    late = follow_job(reader, lab.owner, "j", cursor=None, max_age_s=30)
    prompt = follow_job(reader, lab.owner, "j", cursor=None, max_age_s=30)
    async with aclosing(late), reading(prompt) as told:
        opening = [(await anext(late))[0].event for _ in range(2)]
        first = asyncio.ensure_future(anext(late))
        await told.until("stream", "snapshot")
        await lab.tell(lab.say(Progressed, percent=0.25))
        assert [item.job.percent for item in await first] == [0.25]
        for number in range(1, 101):
            await lab.tell(lab.say(Progressed, percent=number / 2))
        await told.has(lambda told: told.items[-1].job.percent == 50)
        merged = await anext(late)
        await lab.tell(*(lab.say(Progressed, percent=50 + number / 8) for number in range(1, 201)))
        batch = await anext(late)
        await lab.tell(lab.say(Succeeded))
        end = await anext(late)
        await told.over()
    assert opening == ["stream", "snapshot"]
    assert [(item.event, item.job.percent) for item in merged] == [("progressed", 50)]
    assert [(item.event, item.job.percent) for item in batch] == [("progressed", 75)]
    assert [(item.event, item.job.version) for item in end] == [("succeeded", 303)]
    assert told.words.count("progressed") <= 102
    assert versions_rise(told.items)


async def test_while_redis_is_slow_no_more_than_the_prefetch_is_in_hand_and_all_is_applied(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url, count = spare_rabbitmq.url, 6 * PREFETCH // 5
    jobs = [f"j{number}" for number in range(count // 2)]

    async def handed_out() -> int:
        return count - await depth(url, STATE)

    async def stored(index: str) -> int:
        found: int = await lab.redis.zcard(lab.keys.prefix + index)
        return found

    async with (
        Link("slow", redis_server.port) as link,
        notifier(url, f"redis://127.0.0.1:{link.port}/0"),
    ):
        await serving(url)
        link.stall()
        await report(url, *(lab.say(Started, job) for job in jobs))
        await report(url, *(lab.say(Succeeded, job) for job in jobs))

        async def full() -> bool:
            return await handed_out() >= PREFETCH

        await eventually(full)
        assert {await handed_out() for _ in range(20)} == {PREFETCH}
        assert await stored("jobs") == 0
        link.heal()
        link.delay_s = 0.02
        seen = []

        async def all_ended() -> bool:
            seen.append(await handed_out() - await lab.redis.xlen(lab.keys.feed))
            return (await stored("jobs"), await stored("live")) == (len(jobs), 0)

        await eventually(all_ended, 25, every_s=0.05)
        assert max(seen) <= PREFETCH
        words = await lab.words()
        assert (words.count("started"), words.count("succeeded")) == (len(jobs), len(jobs))


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[tuple[Parts, Server, str]]:
    """An API in this process: what it is built on, the server, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with opened(settings) as parts:
            config = uvicorn.Config(
                build(parts), http="httptools", lifespan="off", log_config=None, ws="none"
            )
            server = Server(config)
            serving_ = asyncio.create_task(server.serve(sockets=[listener]))
            await eventually(lambda: server.started)
            try:
                yield parts, server, f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                parts.reader.hub.drain()
                parts.streams.cut_all()
                server.force_exit = server.should_exit = True
                await serving_


def stuck_reader(url: str, login: Login, cursor: str = "") -> socket.socket:
    """A client that asks for its feed and does not read."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    one.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    headers = f"Authorization: Bearer {login.token}\r\nLast-Event-ID: {cursor}\r\n"
    one.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    return one


async def test_a_stuck_reader_delays_nobody_and_is_cut_by_the_sweep(
    lab: Lab, redis_server: RedisNode, rabbitmq: RabbitMQNode, logins: Logins
) -> None:
    login = logins.fresh_subscriber()
    jobs = Lab(lab.redis, login.name)
    await jobs.tell(jobs.say(Started, labels=FAT))
    settings = Settings(
        amqp_url=rabbitmq.url, redis_url=redis_server.url, users_file=logins.users_file
    )
    async with (
        api(settings) as (parts, _, url),
        httpx.AsyncClient(base_url=url, headers=login.headers) as client,
        Reading(client, "/v1/events") as good,
    ):
        await good.until("live")
        with stuck_reader(url, login):
            await eventually(lambda: len(parts.streams) == 2)
            got = 0
            while got < KERNEL_MAX:
                await jobs.tell(*(jobs.say(Recorded, target="t", code=0) for _ in range(200)))
                async with asyncio.timeout(10):
                    got += sum([len(str((await good.next()).data)) for _ in range(200)])
            now = asyncio.get_running_loop().time()
            parts.streams.cut_stuck(now + STUCK_S / 2)
            assert len(parts.streams) == 2
            parts.streams.cut_stuck(now + STUCK_S + 1)
            await eventually(lambda: len(parts.streams) == 1)
            await jobs.tell(jobs.say(Succeeded))
            async with asyncio.timeout(5):
                assert (await good.next()).event == "succeeded"


async def wide_job(jobs: Lab, count: int) -> str:
    """A job with so many records, of 13 KB each in the feed; answers the cursor before them."""
    await jobs.tell(jobs.say(Started, labels=FAT), jobs.say(Progressed, targets=WIDE))
    (entry,) = await jobs.entries()
    for _ in range(0, count, 100):
        await jobs.tell(*(jobs.say(Recorded, target="t", code=0) for _ in range(100)))
    return entry.cursor


async def test_a_resumed_stream_takes_its_feed_in_portions_of_bounded_bytes(
    lab: Lab, reader: Reader
) -> None:
    cursor = await wide_job(lab, 500)
    stream = follow_feed(reader, lab.owner, cursor=cursor, wanted=None, max_age_s=30)
    sizes: list[int] = []
    async with aclosing(stream):
        while sum(sizes) < 500 * 13_000:
            sizes.append(sum(len(item.body) for item in await anext(stream)))
    assert max(sizes) <= HELD_MAX


async def test_what_waits_in_the_process_for_a_reader_that_has_come_back_and_is_stuck_is_bounded(
    lab: Lab, redis_server: RedisNode, rabbitmq: RabbitMQNode, logins: Logins
) -> None:
    login = logins.fresh_subscriber()
    jobs = Lab(lab.redis, login.name)
    cursor = await wide_job(jobs, 1_000)
    settings = Settings(
        amqp_url=rabbitmq.url, redis_url=redis_server.url, users_file=logins.users_file
    )
    async with api(settings) as (_, server, url):

        def waiting() -> int:
            connections = server.server_state.connections
            return max((one.transport.get_write_buffer_size() for one in connections), default=0)

        with stuck_reader(url, login, cursor):
            await eventually(lambda: waiting() > 0)
            assert waiting() <= HELD_MAX
