"""Durable subscriptions of the SDK, on a running service."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Basic

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast.client import Client
from jobcast.events import Failed, Queued, Started, Succeeded
from jobcast.inlet import ARGUMENTS
from jobcast.message import Message
from jobcast.notification import Notice, Notification, notification
from jobcast.problems import Forbidden, Rejected, Unavailable
from jobcast.watch import Patience
from tests.integration.place import CLIENT_ID, TIMEOUT_S, Place
from tests.integration.proxy import proxying
from tests.integration.rabbit import channel_to, publish
from tests.logins import Login, Logins


@pytest.fixture
async def place(
    rabbitmq: RabbitMQNode, session_stack: Stack, subscriber: Login
) -> AsyncIterator[Place]:
    place = Place(rabbitmq, session_stack, subscriber)
    yield place
    async with channel_to(rabbitmq.url) as channel:
        await channel.queue_delete(place.queue)


def words(found: list[Notification]) -> list[str]:
    return [one.event for one in found]


async def take(client: Client, count: int, **filters: Any) -> list[Notification]:
    """So many, all handled."""
    found: list[Notification] = []
    async with asyncio.timeout(TIMEOUT_S), client.subscribe("ends", **filters) as notifications:
        async for one in notifications:
            found.append(one)
            if len(found) == count:
                break
    return found


async def test_what_came_while_the_client_was_away_is_told_in_order(place: Place) -> None:
    await place.subscribe()
    await place.report(Queued, Started, operation="backup")
    await place.report(Failed)
    async with place.client() as client:
        found = await take(client, 3)
        shown = await client.get("j")
    assert words(found) == ["queued", "started", "failed"]
    last = found[-1]
    assert last.job == shown
    assert (last.owner, last.version) == (place.login.name, shown.version)
    assert last.message_id == f"{place.login.name}/j/{shown.version}"
    assert last.cursor
    assert last.timestamp.isoformat(timespec="milliseconds")[:23] == shown.updated_at[:23]
    await place.emptied()


async def test_the_queue_is_one_that_keeps_order_and_loses_nothing(place: Place) -> None:
    await place.subscribe()
    async with channel_to(place.node.url) as channel:
        await channel.queue_declare(place.queue, durable=True, arguments=ARGUMENTS)
    assert ARGUMENTS["x-queue-type"] == "quorum"
    assert ARGUMENTS["x-single-active-consumer"] is True


async def test_a_handler_that_fails_gets_its_notification_again(place: Place) -> None:
    await place.subscribe()
    await place.report(Started, Succeeded)
    seen: list[str] = []

    async def work() -> None:
        async with asyncio.timeout(TIMEOUT_S), place.client() as client:
            async for one in client.subscribe("ends"):
                seen.append(one.event)
                if one.event == "succeeded":
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert seen == ["started", "succeeded"]
    async with place.client() as client:
        assert words(await take(client, 1)) == ["succeeded"]
    await place.emptied()


async def test_after_a_failure_the_same_subscription_goes_on_with_what_failed(
    place: Place,
) -> None:
    await place.subscribe()
    await place.report(Started, Succeeded)
    seen: list[str] = []
    async with asyncio.timeout(TIMEOUT_S), place.client() as client:
        subscription = client.subscribe("ends")
        while len(seen) < 3:
            try:
                async for one in subscription:
                    seen.append(one.event)
                    if len(seen) == 3:
                        break
                    assert len(seen) != 1, "the first one fails"
            except AssertionError:
                pass
    assert seen == ["started", "started", "succeeded"]
    await place.emptied()


async def test_a_cancelled_handler_gets_its_notification_again(place: Place) -> None:
    await place.subscribe()
    await place.report(Started)
    working = asyncio.Event()

    async def work() -> None:
        async with place.client() as client:
            async for _ in client.subscribe("ends"):
                working.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    async with asyncio.timeout(TIMEOUT_S):
        await working.wait()
    task.cancel()
    await asyncio.wait([task])
    async with place.client() as client:
        assert words(await take(client, 1)) == ["started"]


async def test_a_loop_that_is_left_normally_has_handled_its_last_one(place: Place) -> None:
    await place.subscribe()
    await place.report(Started, Succeeded)
    async with asyncio.timeout(TIMEOUT_S), place.client() as client:
        async for one in client.subscribe("ends"):
            assert one.event == "started"
            break
    async with place.client() as client:
        assert words(await take(client, 1)) == ["succeeded"]
    await place.emptied()


async def test_subscribing_anew_takes_over_from_a_loop_that_was_left(place: Place) -> None:
    """Nobody can tell how: what it had not acknowledged comes again."""
    await place.subscribe()
    await place.report(Started, Succeeded)
    async with asyncio.timeout(TIMEOUT_S), place.client() as client:
        async for _ in client.subscribe("ends"):
            break
        assert words(await take(client, 2)) == ["started", "succeeded"]
    await place.emptied()


async def test_filters_choose_by_event_operation_and_job(place: Place) -> None:
    filters = {"event": ["succeeded", "failed"], "operation": "backup", "job": ["a", "b.c"]}
    async with place.client() as client, client.subscribe("ends", **filters) as chosen:
        first = asyncio.create_task(anext(chosen))
        await place.consumed()
        await place.report(Started, Succeeded, job="other", operation="backup")
        await place.report(Started, Failed, job="b.c", operation="backup")
        await place.report(Started, Succeeded, job="b", operation="backup")
        await place.report(Started, Succeeded, job="a", operation="backup")
        async with asyncio.timeout(TIMEOUT_S):
            found = [await first, await anext(chosen)]
        assert [(one.event, one.job.id) for one in found] == [("failed", "b.c"), ("succeeded", "a")]
        assert chosen.unwanted == 0  # the bindings have chosen, not the client


async def test_after_another_choice_the_earlier_bindings_tell_nothing(place: Place) -> None:
    await place.subscribe()
    async with place.client() as client, client.subscribe("ends", event="failed") as chosen:
        taking = asyncio.create_task(anext(chosen))
        await place.report(Started, Succeeded, job="a")
        await place.report(Started, Failed, job="b")
        async with asyncio.timeout(TIMEOUT_S):
            found = await taking
        assert (found.event, found.job.id) == ("failed", "b")
        assert chosen.unwanted == 3
    await place.emptied()


async def test_a_repeat_is_dropped(place: Place) -> None:
    await place.subscribe()
    await place.report(Started, Succeeded)
    async with place.client() as client, asyncio.timeout(TIMEOUT_S):
        chosen = client.subscribe("ends")
        first, second = await anext(chosen), await anext(chosen)
        again = [as_sent(one) for one in (first, second)]
        await publish(place.node.url, *again)
        await place.report(Started, job="k")
        assert (await anext(chosen)).job.id == "k"
        assert chosen.repeated == 2
    await place.emptied()


def as_sent(one: Notification) -> Message:
    notice = Notice(
        job=one.job,
        snapshot=msgspec.json.encode(one.job),
        event=one.event,
        cursor=one.cursor or "",
    )
    return notification(notice)


async def test_what_is_no_notification_is_passed_over(place: Place) -> None:
    await place.subscribe()
    async with channel_to(place.node.url) as channel:
        for body in (b"", b"not json", b"{}", b"[" * 100_000, b'{"error":{"status":404}}'):
            await channel.basic_publish(body, routing_key=place.queue)
        strange = Basic.Properties(headers={"cursor": 7})
        await channel.basic_publish(b"\xff", routing_key=place.queue, properties=strange)
    await place.report(Started)
    async with place.client() as client, client.subscribe("ends") as chosen:
        async with asyncio.timeout(TIMEOUT_S):
            assert (await anext(chosen)).event == "started"
        assert chosen.misunderstood == 6
    await place.emptied()


async def test_connections_may_break_at_any_time(place: Place) -> None:
    await place.subscribe()
    found: list[tuple[str, int]] = []
    async with asyncio.timeout(60), proxying(place.node.port) as proxy:
        url = place.node.url_at(proxy.port, place.login.name, place.login.token)
        async with place.client(amqp_url=url) as client, asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(_report_many(place))
            async for one in client.subscribe("ends"):
                found.append((one.job.id, one.version))
                if len(found) % 7 == 0:
                    proxy.cut()
                if len(found) == 40:
                    break
            await reporting
    # Whether the queue is empty is not said: RabbitMQ does not confirm an acknowledgement, and one
    # that went into a dead connection lets what was handled come again to the next process.
    assert found == [(f"j{number}", version) for number in range(20) for version in (1, 2)]


async def _report_many(place: Place) -> None:
    for number in range(20):
        await place.report(Started, Succeeded, job=f"j{number}")


async def test_a_queue_that_is_deleted_is_declared_again(place: Place) -> None:
    async with place.client() as client, client.subscribe("ends") as chosen:
        taking = asyncio.create_task(anext(chosen))
        await place.consumed()
        async with channel_to(place.node.url) as channel:
            await channel.queue_delete(place.queue)
        await place.consumed()
        await place.report(Started)
        async with asyncio.timeout(TIMEOUT_S):
            assert (await taking).event == "started"


async def test_one_of_two_consumers_is_active_and_the_other_goes_on(place: Place) -> None:
    await place.subscribe()
    async with place.client() as one, place.client() as other, asyncio.timeout(TIMEOUT_S):
        first = one.subscribe("ends")
        await place.report(Started, Queued, job="a")
        assert (await anext(first)).job.id == "a"
        waiting = asyncio.create_task(anext(other.subscribe("ends")))
        await place.report(Succeeded, job="b")
        assert (await anext(first)).job.id == "b"
        assert not waiting.done()
        await place.report(Succeeded, job="c")
        await first.aclose(handled=False)  # as if it had died
        assert (await waiting).job.id == "b"


async def test_a_queue_of_another_kind_is_an_error_that_names_it(place: Place) -> None:
    async with channel_to(place.node.url) as channel:
        await channel.queue_declare(place.queue, durable=True)
    async with place.client() as client:
        with pytest.raises(Rejected, match=place.queue):
            await anext(client.subscribe("ends"))


# aiormq leaves the transport of a login that fails to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_refusal_that_lasts_is_an_error_that_names_the_queue(
    place: Place, logins: Logins
) -> None:
    patience = Patience(refused_s=0.5)
    wrong = place.node.url_of(place.login.name, "wrong")
    async with place.client(amqp_url=wrong, patience=patience) as client:
        with pytest.raises(Forbidden, match=place.queue):
            await anext(client.subscribe("ends"))
    async with place.client(patience=patience) as client:
        with pytest.raises(Forbidden, match=place.queue):
            await anext(client.subscribe("ends", owner=logins.alice.name))
    executor = place.node.url_of(logins.executor.name, logins.executor.token)
    async with place.client(amqp_url=executor, patience=patience) as client:
        with pytest.raises(Forbidden, match=f"sub.{logins.executor.name}"):
            await anext(client.subscribe("ends"))
        with pytest.raises(Forbidden, match=f"sub.{logins.executor.name}"):
            await client.unsubscribe("ends")


async def test_unsubscribing_deletes_the_queue(place: Place) -> None:
    await place.subscribe()
    await place.report(Started)
    async with place.client() as client:
        await client.unsubscribe("ends")
        await client.unsubscribe("ends")  # nothing is there, and that is well
        taking = asyncio.create_task(anext(client.subscribe("ends")))
        await place.consumed()
        await place.report(Succeeded)
        async with asyncio.timeout(TIMEOUT_S):
            assert (await taking).event == "succeeded"
        await client.unsubscribe("ends")
        async with channel_to(place.node.url) as channel:
            with pytest.raises(ChannelNotFoundEntity):
                await channel.queue_declare(place.queue, passive=True)


async def test_the_token_is_the_password_where_the_url_has_none(place: Place) -> None:
    tokens = iter(["wrong", place.login.token, place.login.token])
    url = f"amqp://{place.login.name}@127.0.0.1:{place.node.port}/"
    async with Client(
        place.http_url, lambda: next(tokens), amqp_url=url, client_id=CLIENT_ID
    ) as client:
        taking = asyncio.create_task(anext(client.subscribe("ends")))
        await place.consumed()
        await place.report(Started)
        async with asyncio.timeout(TIMEOUT_S):
            assert (await taking).event == "started"


async def test_leaving_the_client_ends_a_loop_in_another_task(place: Place) -> None:
    found: list[Notification] = []

    async def hear(client: Client) -> None:
        async for one in client.subscribe("ends"):
            found.append(one)

    async with place.client() as client:
        task = asyncio.create_task(hear(client))
        await place.consumed()
    async with asyncio.timeout(TIMEOUT_S):
        await task
    assert found == []


async def test_without_a_broker_it_is_tried_for_ever_and_unsubscribing_says_so() -> None:
    url = "amqp://alice:x@127.0.0.1:1/"
    async with Client("http://127.0.0.1:1", amqp_url=url, client_id=CLIENT_ID) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await anext(client.subscribe("ends"))
        with pytest.raises(Unavailable):
            await client.unsubscribe("ends")
