"""Dead letters on a real broker: looking wears nothing out, retrying loses nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.dead import (
    DeadLettersOutOfReach,
    NotSentAgain,
    Unwritable,
    opened_dead_letters,
)
from jobcast.errors import Refusal
from jobcast.events import Event, Started
from jobcast.letter import Letter
from jobcast.malformed import Malformed, malformed
from jobcast.message import Incoming, Message
from jobcast.names import DEAD, LIFECYCLE
from jobcast.tour import CONSUMERS, WINDOW, Pass, Verdict
from jobcast.wire import BATCH, JSON, STRUCTURED, decode, encode_batch, encode_event
from notifier.letters import dead_letter, rejected_letter
from notifier.poison import poisoned
from tests.eventually import eventually
from tests.integration.dead_letters import (
    STATE,
    binary,
    declared,
    deep_headers,
    first,
    letters,
    names,
    put,
    retried,
    seen,
    taken,
)
from tests.integration.lab import Lab, incoming
from tests.integration.proxy import proxying
from tests.integration.rabbit import channel_to, depth, notifier, serving


@pytest.fixture
async def url(spare_rabbitmq: RabbitMQNode) -> str:
    return await declared(spare_rabbitmq.url)


async def test_looking_fifty_times_leaves_count_and_order(url: str) -> None:
    ids = names(3 * WINDOW + 7)
    await put(url, letters(ids))
    for _ in range(50):
        assert await seen(url) == ids
    assert await depth(url, DEAD) == len(ids)


async def test_a_reader_that_wants_no_more_leaves_the_order_as_well(url: str) -> None:
    ids = names(3 * WINDOW)
    await put(url, letters(ids))
    for at_most in (3, 2 * WINDOW + 1, 1, WINDOW, 3):
        assert await seen(url, at_most=at_most) == ids[:at_most]
        assert await seen(url) == ids


async def test_the_first_letters_of_a_long_queue_are_seen_without_the_rest(url: str) -> None:
    ids = names(4 * WINDOW)
    await put(url, letters(ids))
    async with channel_to(url) as channel:
        assert await seen(url, at_most=3) == ids[:3]
        found = [await channel.basic_get(DEAD) for _ in ids]
    fresh = [message.delivery.redelivered for message in found].count(False)  # type: ignore[union-attr]
    assert fresh == len(ids) - WINDOW


async def test_a_pass_over_more_than_one_channel_holds_keeps_the_order(url: str) -> None:
    ids = names(2 * WINDOW * CONSUMERS + WINDOW + 1)
    await put(url, letters(ids))
    for _ in range(3):
        assert await seen(url) == ids


async def test_letters_survive_restarts_of_the_broker(
    rabbitmq: RabbitMQNode, tmp_path: Path
) -> None:
    """On a node of its own: 3.10 does not always get over queues that are declared anew on it."""
    ids = names(WINDOW + 5)
    with RabbitMQNode(tmp_path) as node:
        await put(await declared(node.url), letters(ids))
        assert await seen(node.url) == ids
        await asyncio.to_thread(node.restart)
        assert await seen(node.url) == ids
        node.kill()
        await asyncio.to_thread(node.start)
        assert await seen(node.url) == ids  # at once, though a queue being recovered counts 0


async def test_one_in_the_middle_is_sent_again_and_the_others_stay(url: str) -> None:
    ids = names(2 * WINDOW)
    await put(url, letters(ids))
    assert await retried(url, ids[70]) == 1
    [message] = await taken(url, 1)
    assert (message.body, message.content_type, message.user_id) == (b"m0070", JSON, None)
    assert await seen(url) == ids[:70] + ids[71:]


async def test_what_comes_meanwhile_is_not_followed(url: str) -> None:
    ids = names(WINDOW)
    await put(url, letters(ids))
    async with opened_dead_letters(url) as dead:

        async def visit(letter: Letter) -> Verdict:
            await put(url, letters([f"again-{letter.id}"]))
            return Verdict.REMOVE

        assert await dead.look(visit) == Pass(WINDOW, company=False)
    assert await seen(url) == [f"again-{id}" for id in ids]


async def test_a_connection_cut_between_confirm_and_removal_loses_nothing(
    url: str, spare_rabbitmq: RabbitMQNode
) -> None:
    ids = names(5)
    await put(url, letters(ids))
    async with proxying(spare_rabbitmq.port) as proxy:
        far = spare_rabbitmq.url_at(proxy.port)

        async def cut_off() -> None:
            async with opened_dead_letters(far) as dead:

                async def visit(letter: Letter) -> Verdict:
                    await dead.send_again(letter)
                    if letter.id == ids[2]:
                        proxy.cut()
                    return Verdict.REMOVE

                await dead.look(visit)

        with pytest.raises(DeadLettersOutOfReach):
            await cut_off()
    left = await eventually(lambda: seen(url))
    assert left[-3:] == ids[2:]
    assert await retried(url) == len(left)
    bodies = [message.body.decode() for message in await taken(url, 3 + len(left))]
    assert set(bodies) == set(ids)
    assert await seen(url) == []


async def test_without_a_queue_to_go_to_a_letter_stays(url: str) -> None:
    await put(url, letters(names(2)))
    async with channel_to(url) as channel:
        await channel.queue_unbind(STATE, LIFECYCLE)
    with pytest.raises(NotSentAgain, match="no queue takes it"):
        await retried(url)
    assert await seen(url) == names(2)


GOOD = Started(id="e1", source="/x", owner="alice", job_id="j", operation="build")


def in_batch(event: Event) -> Incoming:
    return Incoming(body=encode_batch([event]), content_type=BATCH)


def untyped(event: Event) -> Incoming:
    return Incoming(body=encode_event(event), content_type=None)


@pytest.mark.parametrize("form", [incoming, in_batch, untyped, binary])
async def test_a_letter_that_is_fine_by_now_is_read_by_the_service(url: str, form: Any) -> None:
    message: Incoming = form(GOOD)
    refusal = Refusal("unknown-type", "type: an older service did not know it")
    bad = malformed(refusal, message.body, message.headers, message.content_type)
    await put(url, [dead_letter(bad)])
    assert await retried(url) == 1
    [again] = await taken(url, 1)
    assert decode(again.body, again.content_type, again.headers, trusted=False) == [GOOD]


async def test_attributes_in_headers_are_kept_whole(url: str) -> None:
    event = replace(GOOD, source="/x" * 512)
    message = binary(event)
    extensions = {f"cloudEvents_own{number}": "x" for number in range(40)}
    bad = malformed(Refusal("x", "x"), message.body, extensions | message.headers, JSON)
    await put(url, [dead_letter(bad)])
    assert await retried(url) == 1
    [again] = await taken(url, 1)
    assert decode(again.body, again.content_type, again.headers, trusted=False) == [event]


async def test_the_bad_member_of_a_batch_is_sent_again_alone(url: str) -> None:
    body = b'[{"type":"job.new"},' + encode_event(GOOD) + b"]"
    said = decode(body, BATCH, {}, trusted=False)
    bad = [one for one in said if isinstance(one, Malformed)]
    await put(url, [dead_letter(one) for one in bad])
    assert await retried(url) == 1
    [again] = await taken(url, 1)
    assert (again.body, again.content_type) == (b'{"type":"job.new"}', STRUCTURED)


async def test_poison_that_is_none_any_more_is_applied(url: str, lab: Lab) -> None:
    await put(url, [rejected_letter(poisoned(lab.say(Started), ZeroDivisionError("x")))])
    assert await retried(url) == 1
    [again] = await taken(url, 1)
    assert again.correlation_id == "j"
    await lab.process(again)
    assert (await lab.job()).status == "running"


async def test_a_letter_of_the_broker_s_own_is_told_of_and_sent_again(url: str) -> None:
    """One that is given up at the delivery limit, in a queue with a low one."""
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD,
    }
    event = binary(GOOD)
    message = Message(
        exchange=LIFECYCLE,
        routing_key="x",
        body=event.body,
        message_id="of-the-executor",
        content_type=JSON,
        headers=event.headers,
    )
    async with channel_to(url) as channel:
        await channel.queue_delete("low")
        await channel.queue_declare("low", durable=True, arguments=arguments)
        await channel.queue_bind("low", LIFECYCLE)
        await put(url, [message])
        for _ in range(2):
            await eventually(lambda: _rejected(channel))
        await channel.queue_delete("low")
    await taken(url, 1)

    async def told() -> Letter | None:
        return await first(url)

    letter = await eventually(told)
    assert (letter.id, letter.reason) == ("of-the-executor", "delivery_limit")
    assert letter.detail == "RabbitMQ gave it up in low"
    assert letter.at is not None
    assert await retried(url) == 1
    [again] = await taken(url, 1)
    assert again.headers == message.headers
    assert decode(again.body, again.content_type, again.headers, trusted=False) == [GOOD]


async def _rejected(channel: Any) -> bool:
    message = await channel.basic_get("low")
    if message.delivery_tag is None:
        return False
    await channel.basic_nack(message.delivery_tag, requeue=True)
    return True


async def test_properties_that_cannot_be_read_stop_nobody_and_are_not_lost(url: str) -> None:
    await put(url, letters(["before"]))
    await deep_headers(url, "", DEAD)
    await put(url, letters(["after"]))
    before, unreadable, after = await seen(url)
    assert (before, after) == ("before", "after")
    with pytest.raises(Unwritable, match="cannot be read"):
        await retried(url, unreadable)
    assert await seen(url) == [before, unreadable, after]


async def test_two_who_look_at_once_lose_nothing_and_are_told_of_each_other(url: str) -> None:
    ids = names(2 * WINDOW)
    await put(url, letters(ids))
    async with opened_dead_letters(url) as dead, opened_dead_letters(url, quiet_s=0.3) as other:
        theirs: list[str] = []

        async def visit_too(letter: Letter) -> Verdict:
            theirs.append(letter.id)
            return Verdict.KEEP

        async def visit(letter: Letter) -> Verdict:
            if letter.id == ids[0]:
                assert await other.look(visit_too) == Pass(WINDOW, company=True)
            return Verdict.KEEP

        assert (await dead.look(visit)).total == len(ids)
    assert theirs == ids[WINDOW:]
    assert sorted(await seen(url)) == ids


async def test_headers_too_deep_to_read_do_not_stop_the_service(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, redis_server.url):
        await serving(url)
        await deep_headers(url, LIFECYCLE, "x")
        letter = await eventually(lambda: first(url))
    assert letter.reason == "unsupported-content-type"
