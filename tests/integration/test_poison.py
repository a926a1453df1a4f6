"""Events on which our own code fails: alone, a few tries, then a dead letter; the others go on.

What makes it fail here is what might: a key in Redis that holds what is not ours, a snapshot that
cannot be read, a process that dies.
"""

import asyncio
import os
import sys
from typing import Any

import msgspec

from broker.errors import BrokerUnavailable
from broker.topology import state_queues
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Event, Recorded, Started, Succeeded
from jobcast.malformed import fingerprint
from jobcast.message import Incoming, Message
from jobcast.names import DEAD
from jobcast.wire import STRUCTURED, decode
from notifier.poison import BEGUN_MAX, POISON, SUSPECT, TRIES
from tests.eventually import eventually
from tests.integration.lab import Lab, incoming
from tests.integration.rabbit import (
    ROOT,
    bodies,
    channel_to,
    depth,
    notifier,
    report,
    serving,
)


def letters(lab: Lab) -> list[Message]:
    return [message for message in lab.told.messages if message.routing_key == DEAD]


def events_of(letters: list[Message]) -> list[Event]:
    found: list[Event] = []
    for letter in letters:
        assert letter.headers["x-jobcast-reason"] == POISON
        [event] = decode(letter.body, letter.content_type, {}, trusted=True)
        assert isinstance(event, Event)
        found.append(event)
    return found


async def test_a_foreign_key_in_the_place_of_a_job_costs_its_own_events_alone(lab: Lab) -> None:
    await lab.redis.set(lab.keys.job("bad"), "not ours")
    first, second = lab.say(Started, "bad"), lab.say(Succeeded, "bad")
    neighbours = [lab.say(Started, f"j{number}") for number in range(3)]
    await lab.tell(neighbours[0], first, neighbours[1], second, neighbours[2])
    assert [event.id for event in events_of(letters(lab))] == [first.id, second.id]
    assert "WRONGTYPE" in letters(lab)[0].headers["x-jobcast-detail"]
    assert sorted(lab.told.ids) == ["j0/1", "j1/1", "j2/1"]
    assert [(await lab.job(f"j{number}")).version for number in range(3)] == [1, 1, 1]


async def test_a_commit_that_redis_refuses_costs_the_one_event_that_needs_it(lab: Lab) -> None:
    await lab.redis.set(lab.keys.records("j"), "not ours")
    record = lab.say(Recorded, target="t", code=1)
    await lab.tell(lab.say(Started), record, lab.say(Started, "k"), lab.say(Succeeded))
    assert [event.id for event in events_of(letters(lab))] == [record.id]
    assert (await lab.job()).status == "succeeded"
    assert set(lab.told.ids) == {"j/1", "j/2", "k/1"}
    assert await lab.words() == ["started", "started", "succeeded"]


async def test_the_detail_is_the_last_line_of_the_traceback(lab: Lab) -> None:
    await lab.tell(lab.say(Started))
    await lab.redis.hset(lab.keys.job("j"), "snapshot", b'{"id": 5}')
    lab.restart()
    ended = lab.say(Succeeded)
    await lab.tell(ended)
    [letter] = letters(lab)
    assert letter.headers["x-jobcast-detail"].startswith("msgspec.ValidationError: ")
    assert (letter.message_id, letter.correlation_id) == (letters(lab)[0].message_id, "j")
    await lab.redis.delete(lab.keys.job("j"))  # nor can those read it who list all owners' jobs


async def test_it_is_tried_a_bounded_number_of_times(lab: Lab) -> None:
    await lab.redis.set(lab.keys.job("bad"), "not ours")
    await lab.redis.config_resetstat()
    await lab.tell(lab.say(Started, "bad"))
    stats: Any = await lab.redis.info("commandstats")
    assert stats["cmdstat_hgetall"]["calls"] == TRIES + 1


async def test_what_passes_at_the_second_try_is_no_dead_letter(lab: Lab) -> None:
    await lab.redis.set(lab.keys.job("bad"), "not ours")
    telling = asyncio.create_task(lab.tell(lab.say(Started, "bad")))

    async def tried() -> bool:
        stats: Any = await lab.redis.info("commandstats")
        return "cmdstat_hgetall" in stats

    await lab.redis.config_resetstat()
    await eventually(tried)
    await lab.redis.delete(lab.keys.job("bad"))
    await telling
    assert (letters(lab), lab.told.ids) == ([], ["bad/1"])


def suspected(lab: Lab, event: Event) -> Incoming:
    return msgspec.structs.replace(incoming(event), headers={"x-delivery-count": SUSPECT})


async def test_an_innocent_suspect_is_applied_and_forgotten(lab: Lab) -> None:
    message = suspected(lab, lab.say(Started))
    await lab.process(incoming(lab.say(Started, "k")), message)
    assert lab.told.ids == ["k/1", "j/1"]
    assert await lab.store.begun(fingerprint(message.body, message.headers)) == 1


async def test_a_suspect_in_hand_at_too_many_deaths_is_a_dead_letter(lab: Lab) -> None:
    message = suspected(lab, lab.say(Started))
    for _ in range(BEGUN_MAX):
        await lab.store.begun(fingerprint(message.body, message.headers))
    await lab.process(message)
    [letter] = letters(lab)
    assert (letter.body, letter.content_type) == (message.body, STRUCTURED)
    assert "ended 5 times" in letter.headers["x-jobcast-detail"]
    assert lab.told.ids == []


async def test_an_event_that_ends_the_process_takes_nobody_with_it(
    lab: Lab, spare_rabbitmq: RabbitMQNode, redis_server: RedisNode
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, redis_server.url):
        await serving(url)  # all is declared
    deadly = lab.say(Started, "deadly")
    await report(url, lab.say(Started, "a"), deadly, lab.say(Started, "b"), lab.say(Succeeded, "a"))
    environment = os.environ | {
        "JOBCAST_AMQP_URL": url,
        "JOBCAST_REDIS_URL": redis_server.url,
    }
    deaths = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.dying"), cwd=ROOT, env=environment
        )
        try:
            async with asyncio.timeout(15):
                dying = asyncio.create_task(process.wait())
                dead = asyncio.create_task(eventually(lambda: lettered(url), 15))
                await asyncio.wait({dying, dead}, return_when=asyncio.FIRST_COMPLETED)
                dead.cancel()
            if process.returncode is None:
                break
            deaths += 1
            assert process.returncode == 134
            if deaths > SUSPECT + 1:
                # It is worked on alone: what stood before it is settled, and does not come again.
                await eventually(lambda: waiting_are(url, 3))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    assert deaths <= SUSPECT + BEGUN_MAX + 1
    [body] = await bodies(url, DEAD)
    [event] = decode(body, STRUCTURED, {}, trusted=False)
    assert isinstance(event, Event)
    assert event.id == deadly.id
    async with notifier(url, redis_server.url):
        await serving(url)
    assert (await lab.job("a")).status == "succeeded"
    assert (await lab.job("b")).status == "running"


async def waiting_are(url: str, count: int) -> bool:
    return await depth(url, state_queues(1)[0]) == count


async def lettered(url: str) -> bool:
    return bool(await depth(url, DEAD)) and not await depth(url, state_queues(1)[0])


async def test_a_dead_letter_is_not_lost_for_want_of_its_queue(
    lab: Lab, spare_rabbitmq: RabbitMQNode, redis_server: RedisNode
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, redis_server.url) as process:
        await serving(url)
        async with channel_to(url) as channel:
            await channel.queue_delete(DEAD)
        await report(url, lab.say(Started, "x" * 90), lab.say(Started))
        async with channel_to(url) as channel:
            await channel.basic_publish(
                b"{", exchange="", routing_key=state_queues(1)[0], mandatory=True
            )
        await eventually(lambda: bodies_of(url), 20)
        assert any("no queue" in line for line in process.lines)


async def bodies_of(url: str) -> bool:
    try:
        return await bodies(url, DEAD) == [b"{"]
    except BrokerUnavailable:
        return False  # the queue is not there yet
