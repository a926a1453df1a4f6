"""Publishing too much, in a process of its own: `python -m bench.floods`.

One `Flood` as a line of JSON on standard input, one `Published` on standard output.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, cast
from uuid import uuid4

import aiormq
import msgspec
import uvloop
from aiormq.abc import AbstractChannel, ChannelFrame

from bench import load
from bench.load import Spec
from broker.link import connected, opened
from broker.publisher import Publisher, frames, publishing
from deploy.stack import python_environment
from jobcast.events import Progressed, Queued, Recorded, Started, Succeeded
from jobcast.message import Message, Outcome
from jobcast.reporter import Reporter

AT_ONCE: Final = 500
SENDERS: Final = 2
SLICE_S: Final = 0.05
TIMEOUT_S: Final = 60.0
LAST_PERCENT: Final = 99.99
REPORTER: Final = "reporter"
"""Not published by the bench itself, but through the SDK."""
HOSE: Final = "hose"
"""Published without confirms and without a thought: the same bytes again and again."""
HOSE_AT_ONCE: Final = 1_000
HOSE_EACH: Final = 50
"""Different reports of each job: more than it takes for repeats."""
LABELS: Final = {f"label-{number}": "x" * 256 for number in range(16)}
"""About 4 KB, which every change of a job carries again."""


class Flood(msgspec.Struct):
    """What to publish about which jobs. `per_s`: messages a second, 0 for as fast as it goes;
    `seconds` and `count` say how long where the kind needs it."""

    url: str
    kind: str
    jobs: list[Spec]
    count: int = 0
    seconds: float = 0.0
    per_s: float = 0.0


class Published(msgspec.Struct):
    """How many messages were confirmed, in which time; `ended_at` is monotonic, in seconds."""

    count: int
    seconds: float
    ended_at: float

    def per_s(self, until: float | None = None) -> int:
        """Messages a second from the first one on, until then or until the last confirm."""
        lasted = self.seconds if until is None else until - self.ended_at + self.seconds
        return round(self.count / lasted)


async def flood(given: Flood) -> Published:
    """Has it published by another process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.floods"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=python_environment(),
    )
    try:
        answer, _ = await process.communicate(msgspec.json.encode(given))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError("the flood has failed")
    return msgspec.json.decode(answer, type=Published)


def _named(spec: Spec) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "source": load.SOURCE,
        "owner": spec.owner,
        "job_id": spec.job_id,
    }


def _lives(given: Flood) -> Iterator[Message]:
    """Whole jobs as the other benches have them, about a thousand open at a time."""
    return load.singles(given.jobs, 1_000)


def _begun(given: Flood) -> Iterator[Message]:
    """Jobs with long representations."""
    for spec in given.jobs:
        yield load.single(Started(operation="backup", labels=LABELS, **_named(spec)))


def _queued(given: Flood) -> Iterator[Message]:
    for spec in given.jobs:
        yield load.single(Queued(operation="backup", **_named(spec)))


def _records(given: Flood) -> Iterator[Message]:
    """So many records in turn, each of them a change that is never merged."""
    for number in range(given.count):
        spec = given.jobs[number % len(given.jobs)]
        yield load.single(Recorded(target="vol-17", code=0, message="copied", **_named(spec)))


def _progress(given: Flood) -> Iterator[Message]:
    """The jobs' progress in turn for so many seconds, and a last one that is known by its
    percent."""
    until, number = time.monotonic() + given.seconds, 0
    while time.monotonic() < until:
        number += 1
        percent = number % 9_900 / 100
        yield load.single(_reported(given.jobs[number % len(given.jobs)], number, percent))
    yield load.single(_reported(given.jobs[-1], number + 1, LAST_PERCENT))


def _ends(given: Flood) -> Iterator[Message]:
    for spec in given.jobs:
        yield load.single(Succeeded(**_named(spec)))


def _pairs(given: Flood) -> Iterator[Message]:
    """Each job is started and ends at once."""
    for spec in given.jobs:
        yield load.single(Started(operation="backup", **_named(spec)))
        yield load.single(Succeeded(**_named(spec)))


KINDS: Final[Mapping[str, Callable[[Flood], Iterator[Message]]]] = {
    "lives": _lives,
    "queued": _queued,
    "begun": _begun,
    "records": _records,
    "progress": _progress,
    "ends": _ends,
    "pairs": _pairs,
}


async def _report(given: Flood) -> Published:
    """The same progress through the SDK, which merges what the broker has not got yet. `count`:
    reports made, not messages."""
    (spec,) = given.jobs
    began = time.monotonic()
    number = 0
    async with Reporter(given.url, owner=spec.owner, source=load.SOURCE) as reporter:
        while time.monotonic() < began + given.seconds:
            number += 1
            await reporter.send(_reported(spec, number, number % 9_900 / 100))
            await asyncio.sleep(0)
        await reporter.send(_reported(spec, number + 1, LAST_PERCENT))
    ended = time.monotonic()
    return Published(number + 1, ended - began, ended)


async def _hose(given: Flood) -> Published:
    """Progress as fast as a process can hand RabbitMQ bytes that it has at hand."""
    jobs = given.jobs
    async with (
        connected(given.url, "bench flood") as connection,
        opened(connection, confirms=False) as channel,
    ):
        reports = (
            _reported(jobs[number % len(jobs)], None, number % 9_900 / 100)
            for number in range(max(HOSE_AT_ONCE, HOSE_EACH * len(jobs)))
        )
        written = (frames(load.single(report), channel.number) for report in reports)
        portions = list(iter(lambda: b"".join(islice(written, HOSE_AT_ONCE)), b""))
        began = time.monotonic()
        count = 0
        while time.monotonic() < began + given.seconds:
            await _written(channel, portions[count // HOSE_AT_ONCE % len(portions)])
            count += HOSE_AT_ONCE
        last = load.single(_reported(jobs[-1], None, LAST_PERCENT))
        await _written(channel, frames(last, channel.number))
        await channel.basic_qos(prefetch_count=1, timeout=TIMEOUT_S)  # answered when it is read
        ended = time.monotonic()
    return Published(count + 1, ended - began, ended)


async def _written(channel: AbstractChannel, data: bytes) -> None:
    sent = asyncio.get_running_loop().create_future()
    await cast("aiormq.Channel", channel).write_queue.put(ChannelFrame(data, False, sent))
    await sent


def _reported(spec: Spec, number: int | None, percent: float) -> Progressed:
    return Progressed(sequence=number, percent=percent, **_named(spec))


async def _publish(given: Flood) -> Published:
    if given.kind == REPORTER:
        return await _report(given)
    if given.kind == HOSE:
        return await _hose(given)
    messages, count = KINDS[given.kind](given), 0
    began = time.monotonic()
    async with connected(given.url, "bench flood") as connection, publishing(connection) as out:
        if given.per_s:
            count = await _paced(given.per_s, messages, out)
        else:
            sent = await asyncio.gather(*(_flat_out(messages, out) for _ in range(SENDERS)))
            count = sum(sent)
    ended = time.monotonic()
    return Published(count, ended - began, ended)


async def _flat_out(messages: Iterator[Message], publisher: Publisher) -> int:
    """Several of these share the messages: while one waits for its confirms, another sends."""
    count = 0
    while some := list(islice(messages, AT_ONCE)):
        count += await _confirmed(some, publisher)
    return count


async def _paced(per_s: float, messages: Iterator[Message], publisher: Publisher) -> int:
    count, began = 0, time.monotonic()
    while some := list(islice(messages, max(1, round(per_s * SLICE_S)))):
        count += await _confirmed(some, publisher)
        await asyncio.sleep(max(0.0, began + count / per_s - time.monotonic()))
    return count


async def _confirmed(some: list[Message], publisher: Publisher) -> int:
    outcomes = await publisher.publish(some, timeout_s=TIMEOUT_S)
    if set(outcomes) != {Outcome.CONFIRMED}:
        raise RuntimeError("RabbitMQ did not take the load")
    return len(some)


if __name__ == "__main__":
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Flood)
    print(msgspec.json.encode(uvloop.run(_publish(wanted))).decode(), flush=True)
