"""The Reporter's queue of commands is lost, and comes back; or may not be had."""

import asyncio
import os
import re

import pytest

from deploy.rabbitmq import RabbitMQNode
from jobcast.events import Event, Progressed, Started, Succeeded
from jobcast.reporter import Reporter
from tests.chaos.link import Link
from tests.eventually import eventually
from tests.integration.commander import Commander, command_queues, control, forever, uncancelled


def once(events: list[Event]) -> list[Event]:
    return list({event.id: event for event in events}.values())


async def test_after_a_reconnect_a_job_asks_again_and_is_told(
    commander: Commander, spare_rabbitmq: RabbitMQNode
) -> None:
    async with Link("amqp", spare_rabbitmq.port) as link:
        url = spare_rabbitmq.url_at(link.port)
        async with (
            Reporter(url, owner=commander.owner) as reporter,
            reporter.job("j", operation="backup", grace_s=None) as job,
        ):
            await eventually(lambda: commander.starts("j"))
            link.cut()
            async with commander.answering() as routed:
                await asyncio.wait_for(job.cancel_requested.wait(), 20)
                await eventually(lambda: routed == [True])


async def test_a_start_told_again_is_the_same_event(
    commander: Commander, spare_rabbitmq: RabbitMQNode
) -> None:
    async with Link("amqp", spare_rabbitmq.port) as link:
        url = spare_rabbitmq.url_at(link.port)
        async with Reporter(url, owner=commander.owner) as reporter, reporter.job("j") as job:
            await job.progress(10)
            await eventually(lambda: not reporter.undelivered)
            link.cut()

            async def again() -> bool:
                return len(await commander.starts("j")) == 2

            await eventually(again, 20)
            await job.progress(20)
    first, second = await commander.starts("j")
    assert first == second
    kinds = [type(event) for event in once(await commander.arrived())]
    assert kinds == [Started, Progressed, Progressed, Succeeded]


async def test_a_half_open_link_does_not_lock_the_next_one_out(
    commander: Commander, spare_rabbitmq: RabbitMQNode
) -> None:
    async with Link("amqp", spare_rabbitmq.port) as link:
        url = f"{spare_rabbitmq.url_at(link.port)}?heartbeat=1"
        async with Reporter(url, owner=commander.owner) as reporter:
            async with reporter.job("j"):
                await eventually(lambda: not reporter.undelivered)
                link.lose()
                link.heal()  # for new connections: the old one is dead for good
                async with commander.answering() as routed:
                    await asyncio.wait_for(forever(), 30)
            assert routed[-1] is True


async def test_after_a_restart_of_the_broker_commands_arrive_again(
    commander: Commander, spare_rabbitmq: RabbitMQNode
) -> None:
    async with Reporter(commander.url, owner=commander.owner) as reporter:
        async with reporter.job("j"):
            await eventually(lambda: not reporter.undelivered)
            await asyncio.to_thread(spare_rabbitmq.kill)
            await asyncio.to_thread(spare_rabbitmq.start)
            async with commander.answering():
                await asyncio.wait_for(forever(), 30)
        assert uncancelled()


async def test_a_deleted_queue_is_replaced_and_the_job_asks_again(
    commander: Commander, spare_rabbitmq: RabbitMQNode
) -> None:
    async with Reporter(commander.url, owner=commander.owner) as reporter, reporter.job("j"):
        await eventually(lambda: commander.starts("j"))
        (queue,) = await command_queues(spare_rabbitmq)
        assert re.fullmatch(r"cmd\.jobcast\.[0-9a-f]{32}", queue)
        async with commander.answering():
            await control(spare_rabbitmq, "eval", _deletion(queue))
            await asyncio.wait_for(forever(), 30)


def _deletion(queue: str) -> str:
    name = f'rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)'
    return (
        f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), "
        'rabbit_amqqueue:delete(Q, false, false, <<"test">>).'
    )


async def test_without_the_right_events_go_out_and_with_it_commands_come(
    commander: Commander, spare_rabbitmq: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"limited-{os.getpid()}"
    add = f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"sesame">>, <<"test">>)'
    await control(spare_rabbitmq, "eval", f"{add}, {_rights(user, '^$')}")
    url = spare_rabbitmq.url_of(user, "sesame")
    async with Reporter(url, owner=commander.owner) as reporter:
        async with reporter.job("j", operation="backup"):
            await eventually(lambda: commander.starts("j"))
            await eventually(lambda: "ACCESS_REFUSED" in caplog.text)
            async with reporter.job("k", operation="backup"):
                pass
            assert isinstance(await commander.end("k"), Succeeded)
            async with commander.answering():
                await control(spare_rabbitmq, "eval", f"{_rights(user, '^cmd.*')}")
                await asyncio.wait_for(forever(), 50)
        assert "commands are received again" in caplog.text
    assert caplog.text.count("jobs do not learn") == 1


def _rights(user: str, own: str) -> str:
    """May publish events; `own` is what it may do with queues."""
    write, read = f"^job.lifecycle$|{own}", f"^job.commands$|{own}"
    return (
        f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"/">>, '
        f'<<"{own}">>, <<"{write}">>, <<"{read}">>, <<"test">>).'
    )
