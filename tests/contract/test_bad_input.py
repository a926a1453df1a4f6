"""The bad-input table against the real broker and the real service.

All rows are sent at once, each between two good events of a job of its own, by a client that is
not ours; then once more. What came of it is looked at row by row.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pika
import pytest
from msgspec import Struct
from pika.exceptions import ChannelClosedByBroker

from broker.link import connected, opened
from broker.topology import declare, topology
from deploy.guard import SERVICE
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.job import Job, Status
from jobcast.names import DEAD, LIFECYCLE
from jobcast.wire import decode_job
from notifier.connection import connect
from notifier.store import Snapshot, Store
from tests.contract.bad_input import MERGED, ROWS, cloudevent
from tests.contract.bad_messages import BATCH, STRUCTURED, TOO_LARGE, Row
from tests.eventually import eventually

ROOT: Final = Path(__file__).parents[2]
OWNER: Final = "bad-input"
STOP_S: Final = 15
JOBS: Final = {row.name: f"row-{number}" for number, row in enumerate(ROWS)}


class Letter(Struct, frozen=True):
    """A dead letter as somebody finds it."""

    message_id: str
    reason: str
    detail: str
    body: bytes


class Seen(Struct, frozen=True):
    """What came of the table: dead letters of each round, jobs, and how the service ended."""

    rounds: list[list[Letter]]
    jobs: dict[str, Job]
    exit_code: int
    left: int


def good(type_: str, job_id: str, number: int, **data: Any) -> bytes:
    event = cloudevent(type_, f"good-{number}") | {"data": data}
    body = msgspec.json.encode(event)
    return body.replace(b"OWNER", OWNER.encode()).replace(b"JOB", job_id.encode())


def neighbours(row: Row, job_id: str) -> tuple[bytes, bytes]:
    before = good("job.queued", job_id, 1, group="first")
    if row.before is not None:
        before = good("job.progressed", job_id, 1, **row.before)
    return before, good("job.progressed", job_id, 2, percent=50)


class Stranger:
    """An executor with a client of its own, who also looks into the dead letters."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()

    def close(self) -> None:
        self._connection.close()

    def publish(self, body: bytes, kind: str | None = STRUCTURED, **properties: Any) -> None:
        key = properties.pop("routing_key", "")
        said = pika.BasicProperties(content_type=kind, delivery_mode=2, **properties)
        self.channel.basic_publish(LIFECYCLE, key, body, said)

    def send(self, row: Row) -> None:
        job_id = JOBS[row.name]
        before, after = neighbours(row, job_id)
        bad = row.text(OWNER, job_id)
        user = SERVICE if row.trusted else None
        if not row.alone:
            self.publish(b"[" + b",".join((before, bad, after)) + b"]", BATCH, user_id=user)
            return
        self.publish(before)
        self.publish(bad, row.content_type, headers=dict(row.headers))
        self.publish(after)

    def dead_letters(self) -> Iterator[Letter]:
        while True:
            _, properties, body = self.channel.basic_get(DEAD, auto_ack=True)
            if properties is None:
                return
            said = properties.headers
            yield Letter(
                properties.message_id, said["x-jobcast-reason"], said["x-jobcast-detail"], body
            )

    def left_in(self, queue: str) -> int:
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)


@contextmanager
def running(rabbitmq: RabbitMQNode, redis_server: RedisNode) -> Iterator[subprocess.Popen[bytes]]:
    urls = {"JOBCAST_AMQP_URL": rabbitmq.url, "JOBCAST_REDIS_URL": redis_server.url}
    process = subprocess.Popen([sys.executable, "-m", "notifier"], cwd=ROOT, env=os.environ | urls)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)
    finally:
        process.kill()
        process.wait()


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal: without one it just dies of it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


async def declared(url: str) -> None:
    async with connected(url, "tests") as connection, opened(connection, confirms=False) as channel:
        await declare(channel, topology(1))


async def job_of(store: Store, job_id: str) -> Job | None:
    found = await store.read(OWNER, job_id)
    return decode_job(found.body) if isinstance(found, Snapshot) else None


async def served(redis_url: str, job_id: str) -> None:
    """Until the job is readable: everything sent before it has been dealt with."""
    async with connect(redis_url, name="tests") as redis:
        store = Store(redis)
        await eventually(lambda: job_of(store, job_id), 40)


async def jobs_of(redis_url: str, names: Sequence[str]) -> dict[str, Job]:
    async with connect(redis_url, name="tests") as redis:
        found = {name: await job_of(Store(redis), JOBS.get(name, name)) for name in names}
    return {name: job for name, job in found.items() if job is not None}


@pytest.fixture(scope="module")
def seen(rabbitmq: RabbitMQNode, redis_server: RedisNode) -> Seen:
    asyncio.run(declared(rabbitmq.url))
    rounds = []
    with closing(Stranger(rabbitmq.url)) as stranger:
        list(stranger.dead_letters())  # of whoever was here before
        with running(rabbitmq, redis_server) as process:
            # Where the suite's own service consumes already, this one stands by.
            asyncio.run(eventually(lambda: heeds(process.pid, signal.SIGTERM), 40))
            for last in ("last-1", "last-2"):
                for row in ROWS:
                    stranger.send(row)
                stranger.publish(good("job.succeeded", last, 1))
                asyncio.run(served(redis_server.url, last))
                rounds.append(list(stranger.dead_letters()))
        left = stranger.left_in("jobcast.state.0")
    jobs = asyncio.run(jobs_of(redis_server.url, [*JOBS, "last-1", "last-2"]))
    return Seen(rounds, jobs, process.returncode, left)


def letters_of(row: Row, letters: Sequence[Letter]) -> list[Letter]:
    job_id = JOBS[row.name]
    if row is MERGED:  # encoded anew
        subject = f'"subject":"{job_id}"'.encode()
        return [letter for letter in letters if subject in letter.body]
    body = row.text(OWNER, job_id)
    return [letter for letter in letters if (letter.body, letter.reason) == (body, row.reason)]


def test_every_row_ends_as_a_dead_letter_that_names_reason_and_field(seen: Seen) -> None:
    for letters in seen.rounds:
        found = {row.name: letters_of(row, letters) for row in ROWS}
        told = {
            row.name
            for row in ROWS
            for letter in found[row.name]
            if letter.reason == row.reason and letter.detail.startswith(f"{row.field}:")
        }
        assert {name: letters for name, letters in found.items() if name not in told} == {}


def test_a_dead_letter_sent_again_has_the_same_message_id(seen: Seen) -> None:
    for row in ROWS:
        once, again = ({x.message_id for x in letters_of(row, some)} for some in seen.rounds)
        assert once == again


def test_the_neighbours_of_every_bad_event_are_applied_and_it_is_not(seen: Seen) -> None:
    wanted = {
        row.name: (Status.RUNNING, 50, None, len(row.before["targets"] if row.before else {}))
        for row in ROWS
    }
    jobs = {name: seen.jobs[name] for name in wanted}
    assert wanted == {
        name: (job.status, job.percent, job.message, len(job.targets)) for name, job in jobs.items()
    }
    queued = {row.name for row in ROWS if row.before is None}
    assert queued == {name for name, job in jobs.items() if job.group == "first"}


def test_every_bad_event_is_a_dead_letter_once(seen: Seen) -> None:
    counted = [Counter(letter.message_id for letter in letters) for letters in seen.rounds]
    assert counted[0] == counted[1]
    assert counted[0].total() == len(ROWS)


def test_the_next_good_message_is_served(seen: Seen) -> None:
    assert seen.jobs["last-1"].status is Status.SUCCEEDED
    assert seen.jobs["last-2"].status is Status.SUCCEEDED


def test_nothing_is_left_to_be_delivered_again_and_the_service_ends_well(seen: Seen) -> None:
    assert (seen.left, seen.exit_code) == (0, 0)


def test_a_message_over_a_mib_is_refused_by_our_broker(rabbitmq: RabbitMQNode) -> None:
    asyncio.run(declared(rabbitmq.url))
    with closing(Stranger(rabbitmq.url)) as stranger:
        stranger.channel.confirm_delivery()
        with pytest.raises(ChannelClosedByBroker, match="PRECONDITION_FAILED"):
            stranger.publish(TOO_LARGE.body)
